//! What the tests have in common.
//!
//! - `server`: a real server in a thread of its own
//! - `session`: one session and the calls on it, as a client library would have them
//! - `authority`: certificates, and clients that show them
//! - `backup`: backups as a client takes them and sends them
//! - `call`: any call as bytes, for tables of calls and for bytes that are no message
//! - `raw`: HTTP/2 by hand, for calls that begin now and go on later
//! - `front`: a server in front of a real one, which carries pipelines
//! - `metrics`: what a server tells monitors, asked by hand
//! - `secured`: a guard in front of a real one, with TLS and tokens
//! - `certificates`: authorities, and what they sign
//! - `ruled`: servers that tell their callers apart, and clients with a token
//! - `refusal`: what a refused client is told
//! - `taking`: taking sessions with all that a client can ask for

#[allow(dead_code, reason = "the tests of the files themselves use more of it")]
#[path = "../../../src/server/tls/tests/authority.rs"]
pub(crate) mod authority;
pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod certificates;
pub(crate) mod front;
pub(crate) mod metrics;
pub(crate) mod raw;
pub(crate) mod refusal;
pub(crate) mod ruled;
pub(crate) mod secured;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod taking;

use std::time::Duration;

pub(crate) use refusal::Refusal;
pub(crate) use server::TestServer;
pub(crate) use session::{TestSession, holds};

/// Two threads that compete.
pub(crate) const THREAD_A: &str = "worker-a/4711/1";
pub(crate) const THREAD_B: &str = "worker-b/4712/9";

/// The instance that every server has.
pub(crate) const MAIN: &str = "instances/main";

/// Longer than anything here takes on the slowest machine.
const LONG: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("this never happened: {what}"),
    }
}
