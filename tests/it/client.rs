//! The Rust client and a real server: what both mean by the same words.

mod network;
mod proxy;
mod watch;

use std::time::Duration;

use jet_session::client::fence::{Gate, Refused};
use jet_session::client::{Client, Error, ErrorKind, LossCause};
use jet_session::domain::id::InstanceId;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api::{ResetSessionContextRequest, SessionFilter};

use crate::support::{TestServer, within};

/// A client that sends each call once.
async fn once(server: &TestServer) -> Client {
    let uri = format!("http://{}", server.address());
    let client = Client::builder(uri).without_retries().connect();
    within("a connection", client).await.expect("the server accepts connections")
}

fn main() -> InstanceId {
    "main".parse().expect("an instance")
}

#[tokio::test]
async fn a_session_is_begun_bound_released_and_ended() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).label("pool", "a").await.unwrap();
    let thread = client.thread("worker-1").unwrap();

    let guard = thread.bind(&session, 7).await.unwrap();

    let seen = client.get_session(&session).await.unwrap();
    let binding = seen.binding.unwrap();
    assert_eq!((binding.thread_id.as_str(), binding.context), ("worker-1", 7));
    assert_eq!(binding.fencing_token, guard.token());
    assert_eq!(seen.labels["pool"], "a");
    assert!(!guard.abandoned());
    assert_eq!(guard.begin_transaction().await.unwrap(), 1);
    assert_eq!(guard.begin_transaction().await.unwrap(), 2);
    assert_eq!(guard.commit_transaction().await.unwrap(), 1);
    assert_eq!(guard.rollback_transaction(true).await.unwrap(), 0);
    let token = guard.token();
    assert!(guard.release().await.unwrap() > token);
    thread.end_session(&session).await.unwrap();
    let gone = client.get_session(&session).await.unwrap_err();
    assert_eq!((gone.jet_err(), gone.cause()), (Some(JetErr::InvalidSesid), Some("ended")));
}

#[tokio::test]
async fn a_refusal_says_who_holds_the_session() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let guard = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let before = server.picture().await;

    let other = client.thread("worker-2").unwrap();
    let refused = other.bind(&session, 8).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(refused.jet_err(), Some(JetErr::SessionContextAlreadySet));
    assert_eq!(refused.reason(), Some("SESSION_CONTEXT_ALREADY_SET"));
    let holder = refused.holder().unwrap();
    assert_eq!(holder.thread_id, "worker-1");
    assert_eq!(holder.fencing_token, Some(guard.token()));
    assert!(holder.held_for.unwrap() < Duration::from_secs(30));
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_dropped_guard_lets_go() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let thread = client.thread("worker-1").unwrap();

    drop(thread.bind(&session, 7).await.unwrap());
    assert!(client.settle().await);

    assert_eq!(client.get_session(&session).await.unwrap().binding, None);
}

#[tokio::test]
async fn a_guard_whose_session_went_to_a_later_holder_leaves_it_alone() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let thread = client.thread("worker-1").unwrap();
    let first = thread.bind(&session, 7).await.unwrap();
    // Somebody resets behind the guard's back, and the same thread takes the session again.
    let behind = ResetSessionContextRequest {
        session: session.to_string(),
        thread_id: "worker-1".to_owned(),
        ..Default::default()
    };
    server.sessions().reset_session_context(behind).await.unwrap();
    let second = thread.bind(&session, 7).await.unwrap();
    let lost = first.lost();

    let error = first.release().await.unwrap_err();

    assert!(error.is_stale_token());
    assert_eq!(within("the loss is told", lost).await.cause, LossCause::Superseded);
    let binding = client.get_session(&session).await.unwrap().binding.unwrap();
    assert_eq!(binding.fencing_token, second.token());
}

#[tokio::test]
async fn a_session_that_is_gone_is_a_loss() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let guard = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let lost = guard.lost();
    client.force_end_session(&session, "maintenance").await.unwrap();

    guard.release().await.unwrap_err();

    assert_eq!(within("the loss is told", lost).await.cause, LossCause::Ended);
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let server = TestServer::start_with(|config| config.max_sessions = 2_000).await;
    let client = once(&server).await;
    let mut begun = Vec::new();
    for n in 0..1_001 {
        begun.push(client.begin_session(&main()).label("odd", (n % 2).to_string()).await.unwrap());
    }
    let labels = [("odd".to_owned(), "0".to_owned())].into();
    let filter = SessionFilter { labels, ..SessionFilter::default() };

    let mut all = client.list_sessions(&main());
    let mut pages = Vec::new();
    while let Some(page) = all.next_page().await.unwrap() {
        pages.push(page.into_iter().map(|session| session.name).collect::<Vec<_>>());
    }
    let mut even = client.list_sessions(&main()).filter(filter);
    let even = even.next_page().await.unwrap().unwrap();

    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1]);
    let names: Vec<String> = begun.iter().map(ToString::to_string).collect();
    assert_eq!(pages.concat(), names);
    assert_eq!(even.len(), 501);
}

#[tokio::test]
async fn a_paused_owner_is_refused_by_what_its_session_guards() {
    let server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    let owner = client.thread("worker-1").unwrap().bind(&session, 7).await.unwrap();
    let paused = owner.ticket().await.unwrap();
    // While it is paused its session goes to another, who writes.
    owner.release().await.unwrap();
    let successor = client.thread("worker-2").unwrap().bind(&session, 7).await.unwrap();
    let ticket = successor.ticket().await.unwrap();
    let mut gate = Gate::new();
    gate.admit(&paused).unwrap();
    gate.admit(&ticket).unwrap();

    let refused = gate.admit(&paused);

    let (shown, newest) = (paused.token(), successor.token());
    assert_eq!(refused, Err(Refused::Stale { shown, newest }));
    assert_eq!(gate.newest(), Some(&ticket));
}

#[tokio::test]
async fn nobody_at_the_address_is_told_from_a_lost_answer() {
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let refused: Error = Client::connect(format!("http://{nobody}")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable, "{refused}");

    let mut server = TestServer::start().await;
    let client = once(&server).await;
    let session = client.begin_session(&main()).await.unwrap();
    for _ in 0..2 {
        server.order_to_end().await;
    }
    server.ending().await;
    let thread = client.thread("worker-1").unwrap();
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(thread.bind(&session, 7).await.unwrap_err().kind());
    }
    // The first may still meet the old connection.
    assert_eq!(kinds[1..], [ErrorKind::Unreachable; 2]);
}
