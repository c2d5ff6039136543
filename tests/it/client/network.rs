//! Ownership that survives a network: lost answers, vanished owners, waiting, handing over.

use std::process::{Command, Stdio};
use std::time::Duration;

use jet_session::client::{Client, ErrorKind, LossCause};
use jet_session::domain::jet_err::JetErr;

use super::main;
use super::proxy::Proxy;
use crate::support::{TestServer, within};

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn client(uri: String) -> Client {
    within("a connection", Client::connect(uri)).await.expect("the server accepts connections")
}

pub(super) async fn direct(server: &TestServer) -> Client {
    client(format!("http://{}", server.address())).await
}

#[tokio::test]
async fn a_lost_answer_costs_time_and_nothing_else() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.address()).await;
    let client = client(proxy.uri()).await;
    proxy.lose_an_answer();
    let session = client.begin_session(&main()).await.unwrap();
    let thread = client.thread("worker-1").unwrap();

    let mut last = 0;
    for _ in 0..20 {
        proxy.lose_an_answer();
        let guard = thread.bind(&session, 7).await.unwrap();
        assert!(!proxy.is_to_lose(), "no answer was lost");
        let seen = client.get_session(&session).await.unwrap();
        assert_eq!(seen.binding.unwrap().fencing_token, guard.token());
        assert_eq!(seen.revision, guard.token(), "it was set once and no more");
        assert!(guard.token() > last);
        proxy.lose_an_answer();
        last = guard.release().await.unwrap();
        assert_eq!(client.get_session(&session).await.unwrap().revision, last);
    }
    let mut all = client.list_sessions(&main());
    assert_eq!(all.next_page().await.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn a_waiter_gets_the_session_when_its_turn_comes() {
    let server = TestServer::start().await;
    let client = direct(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let first = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let token = first.token();
    let other = client.thread("worker-2").unwrap();

    let denied = other.bind(&session, 8).wait(60 * SECOND).timeout(SECOND).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::NotSet, "{denied:?}");
    let over = other.bind(&session, 8).wait(SECOND / 10).await.unwrap_err();
    assert_eq!(over.jet_err(), Some(JetErr::SessionContextAlreadySet));
    assert_eq!(over.holder().unwrap().fencing_token, Some(token));

    let waiting = tokio::spawn(other.bind(&session, 8).wait(60 * SECOND).into_future());
    while client.get_session(&session).await.unwrap().waiters == 0 {}
    first.release().await.unwrap();
    let second = within("the waiter's turn", waiting).await.unwrap().unwrap();
    assert!(second.token() > token);
    second.check().await.unwrap();
}

#[tokio::test]
async fn a_bind_that_is_given_up_leaves_nothing_set() {
    let server = TestServer::start().await;
    let client = direct(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let first = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let other = client.thread("worker-2").unwrap();

    let waiting = tokio::spawn(other.bind(&session, 8).wait(60 * SECOND).into_future());
    while client.get_session(&session).await.unwrap().waiters == 0 {}
    waiting.abort();
    first.release().await.unwrap();
    waiting.await.unwrap_err();
    assert!(client.settle().await);

    let seen = client.get_session(&session).await.unwrap();
    assert_eq!((seen.binding, seen.waiters), (None, 0));
}

#[tokio::test]
async fn a_vanished_owner_is_followed_by_the_next_and_knows_it_first() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.address()).await;
    let builder = Client::builder(proxy.uri()).lease_ttl(SECOND);
    let owner = within("a connection", builder.connect()).await.unwrap();
    let session = owner.begin_session(&main()).await.unwrap();
    let guard = owner.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    // Three times its life: the heartbeat keeps it.
    let early = tokio::time::timeout(3 * SECOND, guard.lost()).await;
    assert!(early.is_err(), "{early:?}");
    let successor = direct(&server).await.thread("worker-2").unwrap();
    let waiting = tokio::spawn(successor.bind(&session, 7).wait(20 * SECOND).into_future());

    proxy.close();
    let next = within("the successor's turn", waiting).await.unwrap().unwrap();
    // By the clock alone, whatever task has run meanwhile.
    let loss = guard.loss().expect("two believe to hold the session");

    assert_eq!(loss.cause, LossCause::NotRenewed);
    assert_eq!(within("the loss is told", guard.lost()).await, loss);
    assert!(next.token() > guard.token());
    assert!(next.abandoned());
}

#[tokio::test]
async fn a_victim_learns_by_whom_and_why() {
    let server = TestServer::start().await;
    let uri = format!("http://{}", server.address());
    let builder = Client::builder(uri).lease_ttl(2 * SECOND);
    let owner = within("a connection", builder.connect()).await.unwrap();
    let session = owner.begin_session(&main()).await.unwrap();
    let guard = owner.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let operator = direct(&server).await;

    operator.force_reset(&session, guard.token(), "hung for an hour").await.unwrap();

    let loss = within("the heartbeat tells", guard.lost()).await;
    assert_eq!(loss.cause, LossCause::Forced);
    assert_eq!(loss.by_principal.as_deref(), Some("anonymous"));
    assert_eq!(loss.reason.as_deref(), Some("hung for an hour"));
    assert!(guard.release().await.unwrap_err().is_stale_token());
}

#[tokio::test]
async fn a_session_is_handed_over_without_a_free_moment() {
    let server = TestServer::start().await;
    let client = direct(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let first = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let successor = client.thread("worker-2").unwrap();

    let token = first.transfer_to(successor.id()).await.unwrap();
    let second = successor.adopt(&session, token).await.unwrap();

    assert!(token > first.token());
    assert_eq!(second.context(), 7);
    assert!(first.check().await.unwrap_err().is_stale_token());
    drop(first);
    assert!(client.settle().await);
    second.check().await.unwrap();
    second.release().await.unwrap();
}

#[tokio::test]
async fn a_pool_gives_each_session_to_one() {
    let server = TestServer::start().await;
    let client = direct(&server).await;
    let pool = client.begin_sessions(&main(), 2).label("pool", "a").await.unwrap();
    let thread = client.thread("worker-1").unwrap();
    let claim = || thread.claim(&main(), 7).labels([("pool", "a")]);

    let (one, two) = (claim().await.unwrap(), claim().await.unwrap());
    let none = claim().await.unwrap_err();

    let mut claimed = [one.session().clone(), two.session().clone()];
    claimed.sort();
    assert_eq!(claimed, pool[..]);
    assert_eq!(none.jet_err(), Some(JetErr::SessionContextAlreadySet));
    let waiting = tokio::spawn(claim().wait(30 * SECOND).into_future());
    let freed = one.session().clone();
    drop(one);
    let third = within("a session is free", waiting).await.unwrap().unwrap();
    assert_eq!(third.session(), &freed);
    thread.clone().end().await.unwrap();
    assert_eq!(client.get_session(two.session()).await.unwrap().binding, None);
}

/// Runs the program against a server and answers its exit code and what it printed.
pub(super) fn cli(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jet-session"))
        .env_remove("JET_SESSION_SERVER")
        .stdin(Stdio::null())
        .args(["--server", &server.address().to_string()])
        .args(args)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    let code = output.status.code().expect("no signal ends it");
    (code, text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn everything_can_be_done_by_hand() {
    let server = TestServer::start().await;
    let ask = |args: &[&str]| {
        let (code, stdout, stderr) = cli(&server, args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout.trim_end().to_owned()
    };

    let begun = ask(&["session", "begin", "--count", "2", "--label", "pool=a"]);
    assert_eq!(begun.lines().count(), 2);
    let claimed = ask(&["session", "claim", "7", "--label", "pool=a", "--thread", "a"]);
    let (name, token) = claimed.split_once(' ').unwrap();
    let taken = cli(&server, &["session", "set", name, "7", "--thread", "b", "--wait", "50ms"]);
    assert_eq!(taken.0, 3, "{}", taken.2);
    let checked = ask(&["session", "check", name, "--token", token, "--thread", "a"]);
    assert!(checked.contains("held by            a"), "{checked}");
    let handed = ask(&["session", "transfer", name, "b", "--token", token, "--thread", "a"]);
    let stale = cli(&server, &["session", "check", name, "--token", token, "--thread", "a"]);
    assert_eq!(stale.0, 3, "{}", stale.2);
    let kept = ask(&["thread", "keep-alive", "b", "--lease", "1m"]);
    assert!(kept.lines().nth(1).unwrap().starts_with("b "), "{kept}");
    let listed = ask(&["thread", "list"]);
    assert!(listed.contains("anonymous") && listed.contains("60s"), "{listed}");
    assert!(ask(&["thread", "show", "b"]).contains(name));
    ask(&["session", "force-reset", name, "--token", &handed, "--reason", "a test"]);
    ask(&["session", "set", name, "7", "--thread", "b", "--lease", "30s"]);
    ask(&["thread", "end", "b"]);
}
