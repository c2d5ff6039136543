//! Taking a session: waiting, giving up, claiming.

use std::time::Duration;

use tokio::time::timeout;

use super::Scene;
use super::fake::Fault;
use crate::client::ErrorKind;
use crate::client::clock::now;
use crate::domain::jet_err::JetErr;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_the_session_when_its_turn_comes() {
    let scene = Scene::plain().await;
    let first = scene.bound().await;
    let token = first.token();
    let other = scene.client.thread("worker-2").unwrap();
    let waiting = tokio::spawn(other.bind(&scene.session, 8).wait(60 * SECOND).into_future());
    // Longer than a call that does not wait may take.
    tokio::time::sleep(30 * SECOND).await;

    first.release().await.unwrap();

    let second = waiting.await.unwrap().unwrap();
    assert!(second.token() > token);
    assert_eq!(second.session(), &scene.session);
    assert_eq!(scene.holder(), Some(("worker-2".to_owned(), second.token())));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_says_who_holds_the_session() {
    let scene = Scene::plain().await;
    let first = scene.bound().await;
    let other = scene.client.thread("worker-2").unwrap();

    let error = other.bind(&scene.session, 8).wait(5 * SECOND).await.unwrap_err();

    assert_eq!(error.jet_err(), Some(JetErr::SessionContextAlreadySet));
    assert_eq!(error.holder().unwrap().fencing_token, Some(first.token()));
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_only_for_what_is_left() {
    let scene = Scene::plain().await;
    scene.fake.script("SetSessionContext", [Fault::LoseRequest]);

    let guard = scene.thread.bind(&scene.session, 7).wait(5 * SECOND).await.unwrap();

    let calls = scene.fake.calls("SetSessionContext");
    let [first, second] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(first.wait_timeout, Some(5 * SECOND));
    let left = 5 * SECOND - (second.at - first.at);
    assert!(second.wait_timeout.unwrap() <= left, "{:?}", second.wait_timeout);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn the_servers_word_that_nothing_was_set_is_proof() {
    let scene = Scene::plain().await;
    let first = scene.bound().await;
    let other = scene.client.thread("worker-2").unwrap();

    let bind = other.bind(&scene.session, 8).wait(60 * SECOND).timeout(2 * SECOND);
    let error = bind.await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NotSet);
    scene.settle().await;
    assert_eq!(scene.fake.calls("SetSessionContext").len(), 2, "a proof needs no asking");
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), first.token())));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_answer_set_is_reset_in_the_background() {
    let scene = Scene::plain().await;
    scene.fake.script("SetSessionContext", [Fault::Hang]);

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unknown);
    scene.settle().await;
    let calls = scene.fake.calls("SetSessionContext");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].request_id, calls[1].request_id, "the token is learned by asking again");
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_bind_that_is_given_up_leaves_nothing_set() {
    let scene = Scene::plain().await;
    for fault in [Fault::Hang, Fault::LoseReply, Fault::LoseRequest, Fault::Delay(3 * SECOND)] {
        scene.fake.script("SetSessionContext", [fault.clone(), Fault::Delay(2 * SECOND)]);

        let bind = scene.thread.bind(&scene.session, 7).into_future();
        assert!(timeout(SECOND, bind).await.is_err(), "{fault:?}");

        scene.settle().await;
        assert_eq!(scene.holder(), None, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bind_that_was_refused_owes_nothing() {
    let scene = Scene::plain().await;
    let first = scene.bound().await;

    scene.thread.bind(&scene.session, 7).await.unwrap_err();

    scene.settle().await;
    assert_eq!(scene.fake.calls("SetSessionContext").len(), 2);
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), first.token())));
}

#[tokio::test(start_paused = true)]
async fn a_claim_takes_a_session_of_its_pool() {
    let scene = Scene::plain().await;
    let main = "main".parse().unwrap();
    let pool = scene.client.begin_sessions(&main, 2).label("pool", "a").await.unwrap();
    scene.fake.script("ClaimSessionContext", [Fault::LoseReply]);

    let labels = [("pool", "a")];
    let one = scene.thread.claim(&main, 7).labels(labels).await.unwrap();
    let two = scene.thread.claim(&main, 7).labels(labels).await.unwrap();
    let none = scene.thread.claim(&main, 7).labels(labels).await.unwrap_err();

    assert_eq!([one.session(), two.session()], [&pool[0], &pool[1]]);
    assert_eq!(none.jet_err(), Some(JetErr::SessionContextAlreadySet));
    let calls = scene.fake.calls("ClaimSessionContext");
    assert_eq!(calls[0].request_id, calls[1].request_id);
    one.release().await.unwrap();
    assert_eq!(scene.fake.holder(&pool[0]), None);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_up_leaves_nothing_set() {
    let scene = Scene::plain().await;
    let main = "main".parse().unwrap();
    scene.fake.script("ClaimSessionContext", [Fault::Hang]);
    let begun = now();

    let claim = scene.thread.claim(&main, 7).into_future();
    assert!(timeout(SECOND, claim).await.is_err());

    scene.settle().await;
    assert!(now() - begun < 2 * SECOND);
    assert_eq!(scene.fake.calls("ClaimSessionContext").len(), 2);
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_bad_name_is_refused_before_it_is_sent() {
    let scene = Scene::plain().await;
    for bad in ["", "two words", "t\u{e4}", &"x".repeat(129)] {
        assert_eq!(scene.client.thread(bad).unwrap_err().kind(), ErrorKind::Malformed, "{bad}");
    }
}
