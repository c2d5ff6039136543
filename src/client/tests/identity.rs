//! Who asks: what is shown with every call, and what becomes of those that are denied.

use std::fs;
use std::time::Duration;

use tokio::time::sleep;
use tonic::{Code, Status};

use super::Scene;
use super::fake::Fault;
use crate::client::clock::now;
use crate::client::{Client, ErrorKind, LossCause};
use crate::proto::api::ListSessionsRequest;

const TTL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn every_call_shows_the_token_heartbeats_and_watches_too() {
    let scene = Scene::with(|builder| builder.lease_ttl(TTL).token("s3cret")).await;
    let guard = scene.bound().await;
    sleep(2 * TTL).await;
    scene.fake.watched(Vec::new(), Status::failed_precondition("it ends"));
    scene.client.watch_sessions(&"main".parse().unwrap()).next().await.unwrap_err();
    drop(guard);
    scene.settle().await;

    let methods = ["BeginSession", "SetSessionContext", "KeepThreadsAlive", "ResetSessionContext"];
    let calls = methods.map(|method| scene.fake.calls(method).len());
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    let shown = scene.fake.shown();
    assert_eq!(shown.len(), calls.iter().sum::<usize>() + scene.fake.watched_from().len());
    assert!(shown.iter().all(|shown| shown.as_deref() == Some("Bearer s3cret")), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_shown_and_a_call_may_have_one_of_its_own() {
    let scene = Scene::plain().await;
    assert_eq!(scene.fake.shown(), [None]);

    let scene = Scene::with(|builder| builder.token("s3cret")).await;
    let mut request = tonic::Request::new(ListSessionsRequest::default());
    request.metadata_mut().insert("authorization", "Bearer other".parse().unwrap());
    // Whatever the fake makes of it.
    scene.client.raw_sessions().list_sessions(request).await.ok();

    assert_eq!(scene.fake.shown()[1].as_deref(), Some("Bearer other"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_rotates_is_shown_as_it_is_now() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "first\n").unwrap();
    let scene = Scene::with(|builder| builder.token_file(&file)).await;
    let ask = || async { scene.client.get_session(&scene.session).await.unwrap() };

    fs::write(&file, "second\n").unwrap();
    ask().await;
    sleep(Duration::from_secs(3_600)).await;
    // All of them at once: none goes out with what was shown an hour ago.
    tokio::join!(ask(), ask(), ask());

    let wanted = ["first", "first", "second", "second", "second"];
    let wanted = wanted.map(|token| Some(format!("Bearer {token}")));
    assert_eq!(scene.fake.shown(), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_a_kind_of_its_own_and_final() {
    for (code, kind) in [
        (Code::Unauthenticated, ErrorKind::Unauthenticated),
        (Code::PermissionDenied, ErrorKind::NotAllowed),
    ] {
        let scene = Scene::plain().await;
        scene.fake.script("SetSessionContext", [Fault::Refuse(Status::new(code, "no"))]);

        let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{error:?}");
        assert!(!error.may_have_been_done());
        assert_eq!(scene.fake.calls("SetSessionContext").len(), 1);

        // After a try whose answer was lost nobody knows.
        let denied = Fault::Refuse(Status::new(code, "no"));
        scene.fake.script("SetSessionContext", [Fault::LoseReply, denied]);
        let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unknown, 2), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_a_denial() {
    let scene = Scene::plain().await;
    scene.fake.watched(Vec::new(), Status::permission_denied("no"));

    let error = scene.client.watch_sessions(&"main".parse().unwrap()).next().await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NotAllowed);
    assert_eq!(scene.fake.watched_from().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_denied_heartbeat_loses_a_session_only_with_its_lease() {
    let scene = Scene::with(|builder| builder.lease_ttl(TTL)).await;
    let denied = || Fault::Refuse(Status::unauthenticated("the token is over"));
    // Whatever renewed it before has been by then.
    let guard = scene.bound().await;
    let beats = || scene.fake.calls("KeepThreadsAlive").len();

    // Twice denied, and renewed in time: nothing is lost, and nothing was hurried.
    let before = beats();
    scene.fake.script("KeepThreadsAlive", [denied(), denied()]);
    sleep(TTL).await;
    assert_eq!(guard.loss(), None);
    assert!((3..=4).contains(&(beats() - before)), "{} beats", beats() - before);

    let renewed = scene.fake.calls("KeepThreadsAlive").last().unwrap().at;
    scene.fake.script("KeepThreadsAlive", (0..10).map(|_| denied()));
    let loss = guard.lost().await;
    assert_eq!(loss.cause, LossCause::NotRenewed);
    assert!(now() - renewed >= TTL - Duration::from_millis(5), "{:?}", now() - renewed);
}

#[tokio::test]
async fn a_token_goes_to_another_machine_in_plaintext_only_if_that_is_allowed() {
    // Nobody is asked: it is refused before.
    for uri in ["http://192.0.2.1:1", "http://localhost.example:1", "http://0.0.0.0:1"] {
        let error = Client::builder(uri).token("s3cret").connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{uri}: {error}");
        assert!(error.to_string().contains("in plaintext"), "{error}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let allowed = [
        Client::builder(format!("http://0.0.0.0:{port}")).token("s3cret").plaintext_token(),
        Client::builder(format!("http://127.0.0.1:{port}")).token("s3cret"),
        Client::builder("unix:/there/is/no/socket").token("s3cret"),
    ];
    for builder in allowed {
        assert!(!format!("{builder:?}").contains("s3cret"), "{builder:?}");
        let error = builder.connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
}
