//! The worked example of docs/fencing.md, as it stands there.

use crate::support::taking::answered;
use crate::support::{Refusal, THREAD_A, THREAD_B, TestServer};

/// A file, a row, a device: whatever the holder of a session may write.
#[derive(Default)]
struct Guarded {
    newest: u64,
    written: Vec<&'static str>,
}

/// The writer holds the session no longer. It should stop, and not try again.
#[derive(Debug, PartialEq)]
struct Stale;

impl Guarded {
    fn write(&mut self, token: u64, text: &'static str) -> Result<(), Stale> {
        if token < self.newest {
            return Err(Stale);
        }
        self.newest = token;
        self.written.push(text);
        Ok(())
    }
}

#[test]
fn the_document_shows_what_is_tested() {
    let document = include_str!("../../docs/fencing.md");
    let (_, block) = document.split_once("```rust\n").expect("a block in Rust");
    let (shown, _) = block.split_once("```").expect("an end of it");
    assert!(include_str!("fencing.rs").contains(shown), "{shown}");
}

#[tokio::test]
async fn a_paused_owner_is_refused_by_what_it_writes_to() {
    let server = TestServer::start().await;
    let (session, mut guarded) = (server.session().await, Guarded::default());
    let old = session.set_leased(THREAD_A, 1).await.unwrap();
    guarded.write(old, "a, in time").unwrap();

    // The owner is paused: it renews nothing. The next one waits for the end of its lease.
    let next = answered(session.wait_as_nth(THREAD_B, 1).await).await.unwrap();
    assert!(next.abandoned);
    guarded.write(next.fencing_token, "b").unwrap();

    // It goes on, and believes that nothing has happened.
    assert_eq!(guarded.write(old, "a, too late"), Err(Stale));
    assert_eq!(guarded.written, ["a, in time", "b"]);
    let refusal = session.check(THREAD_A, old).await.unwrap_err();
    assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
    let refusal = session.reset_context_with(THREAD_A, old).await.unwrap_err();
    assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
    guarded.write(next.fencing_token, "b again").unwrap();
    session.reset_context_with(THREAD_B, next.fencing_token).await.unwrap();
}
