//! Holding a session and letting it go.

use std::time::Duration;

use super::Scene;
use super::fake::Fault;
use crate::client::{Loss, LossCause};
use crate::domain::limits::CLEAN_UPS_AT_ONCE;

#[tokio::test(start_paused = true)]
async fn a_released_session_is_free() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    let (token, lost) = (guard.token(), guard.lost());

    let revision = guard.release().await.unwrap();

    assert!(revision > token);
    assert_eq!(scene.holder(), None);
    assert_eq!(lost.await, Loss::of(LossCause::Released));
    scene.settle().await;
    assert_eq!(scene.fake.calls("ResetSessionContext").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_lets_go_in_the_background() {
    let scene = Scene::plain().await;
    scene.fake.script("ResetSessionContext", [Fault::LoseRequest, Fault::LoseReply]);

    drop(scene.bound().await);

    scene.settle().await;
    assert_eq!(scene.holder(), None);
    assert_eq!(scene.fake.calls("ResetSessionContext").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_given_up_lets_go_in_the_background() {
    let scene = Scene::plain().await;
    scene.fake.script("ResetSessionContext", [Fault::LoseRequest]);
    let guard = scene.bound().await;

    let limit = Duration::from_millis(10);
    assert!(tokio::time::timeout(limit, guard.release()).await.is_err());

    scene.settle().await;
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_guard_frees_only_what_its_own_token_holds() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    scene.fake.force(&scene.session, "ada", "hung");
    // The same thread takes it again: without its token the old guard would free the new one's.
    let again = scene.bound().await;

    drop(guard);

    scene.settle().await;
    assert_eq!(scene.fake.calls("ResetSessionContext").len(), 1);
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), again.token())));
    assert!(again.abandoned());

    scene.fake.force(&scene.session, "ada", "hung");
    let third = scene.bound().await;
    assert!(again.release().await.unwrap_err().is_stale_token());
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), third.token())));
}

#[tokio::test(start_paused = true)]
async fn without_a_runtime_a_dropped_guard_is_left_to_its_lease() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    let token = guard.token();

    std::thread::spawn(move || drop(guard)).join().expect("it does not panic");

    scene.settle().await;
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), token)));
    assert!(scene.fake.calls("ResetSessionContext").is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_dropped_guards_do_not_take_the_whole_connection() {
    let scene = Scene::plain().await;
    let main = "main".parse().unwrap();
    let mut guards = Vec::new();
    let sessions = scene.client.begin_sessions(&main, 200).await.unwrap();
    for session in &sessions {
        guards.push(scene.thread.bind(session, 7).await.unwrap());
    }
    scene.fake.script("ResetSessionContext", vec![Fault::Delay(Duration::from_secs(1)); 200]);

    drop(guards);

    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(scene.fake.calls("ResetSessionContext").len(), CLEAN_UPS_AT_ONCE);
    scene.settle().await;
    assert!(sessions.iter().all(|session| scene.fake.holder(session).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_handed_over_is_the_successors() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    let successor = scene.client.thread("worker-2").unwrap();

    let token = guard.transfer_to(successor.id()).await.unwrap();
    assert_eq!(guard.loss().unwrap().cause, LossCause::Transferred);
    drop(guard);
    let taken = successor.adopt(&scene.session, token).await.unwrap();

    scene.settle().await;
    assert!(scene.fake.calls("ResetSessionContext").is_empty());
    assert_eq!((taken.token(), taken.context()), (token, 7));
    assert_eq!(scene.holder(), Some(("worker-2".to_owned(), token)));
    let stale = successor.adopt(&scene.session, token - 1).await.unwrap_err();
    assert!(stale.is_stale_token());
    taken.release().await.unwrap();
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_hand_over_leaves_the_guard_as_it_is() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    let to = "worker-2".parse().unwrap();
    let refusal = tonic::Status::permission_denied("");
    scene.fake.script("TransferSessionContext", [Fault::Refuse(refusal)]);

    guard.transfer_to(&to).await.unwrap_err();

    assert_eq!(guard.loss(), None);
    guard.check().await.unwrap();
    guard.release().await.unwrap();
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_holder_learns_by_its_next_call_who_took_its_session_and_why() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;
    let lost = tokio::spawn(guard.lost());
    guard.check().await.unwrap();
    scene.fake.force(&scene.session, "ada", "hung for an hour");

    let error = guard.check().await.unwrap_err();

    assert!(error.is_stale_token());
    assert_eq!(error.cause(), Some("forced"));
    let loss = lost.await.unwrap();
    assert_eq!(loss.cause, LossCause::Forced);
    assert_eq!(loss.by_principal.as_deref(), Some("ada"));
    assert_eq!(loss.reason.as_deref(), Some("hung for an hour"));
    drop(guard);
    scene.settle().await;
    assert!(scene.fake.calls("ResetSessionContext").is_empty(), "there is nothing to let go");
}

#[tokio::test(start_paused = true)]
async fn a_thread_that_ends_holds_nothing() {
    let scene = Scene::plain().await;
    let guard = scene.bound().await;

    scene.thread.clone().end().await.unwrap();

    assert_eq!(scene.holder(), None);
    assert_eq!(guard.loss(), Some(Loss::of(LossCause::Released)));
    drop(guard);
    scene.settle().await;
    assert!(scene.fake.calls("ResetSessionContext").is_empty(), "there is nothing to let go");
}
