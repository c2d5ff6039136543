//! Watching sessions, by the library and by hand.

use jet_session::proto::api::session_event::Cause;

use super::main;
use super::network::{cli, client, direct};
use super::proxy::Proxy;
use crate::support::{TestServer, within};

#[tokio::test]
async fn a_watch_tells_all_in_order_across_broken_connections() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.address()).await;
    let here = direct(&server).await;
    let session = here.begin_session(&main()).await.unwrap();
    let mut watch = client(proxy.uri()).await.watch_sessions(&main());
    let first = within("the snapshot", watch.next()).await.unwrap();
    assert_eq!(
        (first.cause(), first.session.unwrap().name),
        (Cause::Snapshot, session.to_string())
    );
    assert!(within("its end", watch.next()).await.unwrap().session.is_none());
    let thread = here.thread("worker-1").unwrap();

    for _ in 0..10 {
        proxy.lose_an_answer();
        let guard = thread.bind(&session, 7).await.unwrap();
        let token = guard.token();
        let revision = guard.release().await.unwrap();
        let set = within("the set", watch.next()).await.unwrap();
        let reset = within("the reset", watch.next()).await.unwrap();
        assert_eq!((set.cause(), set.revision), (Cause::Set, token));
        assert_eq!((reset.cause(), reset.revision), (Cause::Reset, revision));
    }
}

#[tokio::test]
async fn a_watch_by_hand_says_what_happened() {
    let server = TestServer::start().await;
    let ask = |args: &[&str]| {
        let (code, stdout, stderr) = cli(&server, args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout.trim_end().to_owned()
    };
    ask(&["session", "begin", "--count", "2"]);
    let claimed = ask(&["session", "claim", "7", "--thread", "a"]);
    let (name, token) = claimed.split_once(' ').unwrap();
    let handed = ask(&["session", "transfer", name, "b", "--token", token, "--thread", "a"]);
    ask(&["session", "force-reset", name, "--token", &handed, "--reason", "a test"]);
    ask(&["session", "set", name, "7", "--thread", "b"]);
    ask(&["session", "reset", name, "--thread", "b"]);

    let watched = ask(&["--timeout", "1s", "session", "watch", "--from", "1"]);
    let cause = |line: &str| line.split_whitespace().nth(2).map(str::to_owned);
    let causes: Vec<String> = watched.lines().filter_map(cause).collect();
    assert_eq!(causes, ["began", "began", "set", "transferred", "forced", "set", "reset"]);
    assert!(watched.contains("because: a test"), "{watched}");
    let json = ask(&["--timeout", "1s", "--json", "session", "watch", "main"]);
    assert_eq!(json.lines().count(), 3, "two sessions and the end of the snapshot: {json}");
    for line in json.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["event"]["cause"], "CAUSE_SNAPSHOT", "{line}");
    }
}
