//! What is sent again, when, with which id, and what an error may claim.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::{Code, Status};

use super::Scene;
use super::fake::{Call, Fault, refused};
use crate::client::ErrorKind;
use crate::client::clock::now;
use crate::domain::jet_err::JetErr;

fn phase(jet: JetErr, after: Option<Duration>) -> Fault {
    Fault::Refuse(refused(Code::Unavailable, jet, &jet.reason(), &[], after))
}

fn ids(calls: &[Call]) -> BTreeSet<&str> {
    calls.iter().map(|call| call.request_id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_costs_time_and_nothing_else() {
    let scene = Scene::plain().await;
    scene.fake.script("SetSessionContext", [Fault::LoseReply, Fault::LoseReply]);

    let guard = scene.bound().await;

    let calls = scene.fake.calls("SetSessionContext");
    assert_eq!(calls.len(), 3);
    assert_eq!(ids(&calls).len(), 1, "a retry has an id of its own");
    assert_eq!(scene.holder(), Some(("worker-1".to_owned(), guard.token())));
    assert_eq!(scene.fake.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn every_change_has_an_id_of_its_own_and_keeps_it() {
    let scene = Scene::plain().await;
    let lost = || [Fault::LoseReply];
    let methods = ["SetSessionContext", "TransferSessionContext", "ResetSessionContext"];
    let transactions = ["BeginTransaction", "CommitTransaction"];
    for method in methods.iter().chain(&transactions).chain(&["BeginSession", "EndSession"]) {
        scene.fake.script(method, lost());
    }

    let other = scene.client.begin_session(&"main".parse().unwrap()).await.unwrap();
    let guard = scene.bound().await;
    assert_eq!(guard.begin_transaction().await.unwrap(), 1);
    assert_eq!(guard.commit_transaction().await.unwrap(), 0);
    let token = guard.transfer_to(&"worker-1".parse().unwrap()).await.unwrap();
    let guard = scene.thread.adopt(&scene.session, token).await.unwrap();
    guard.release().await.unwrap();
    scene.thread.end_session(&other).await.unwrap();

    let mut all = BTreeSet::new();
    for method in methods.iter().chain(&transactions).chain(&["EndSession"]) {
        let calls = scene.fake.calls(method);
        assert_eq!((calls.len(), ids(&calls).len()), (2, 1), "{method}");
        assert!(all.insert(calls[0].request_id.clone()), "{method} shares its id");
        assert_eq!(calls[0].request_id.len(), 36, "{method} has no UUID");
    }
    assert_eq!(scene.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn what_asks_not_to_be_retried_is_not() {
    let scene = Scene::plain().await;
    scene.fake.script("SetSessionContext", [phase(JetErr::NotInitialized, None)]);

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert_eq!(scene.fake.calls("SetSessionContext").len(), 1);
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Refused, 1));
    assert_eq!(error.jet_err(), Some(JetErr::NotInitialized));
    assert_eq!(scene.holder(), None);

    // A push-back outdoes everything else that speaks for another try.
    let mut trailers = tonic::metadata::MetadataMap::new();
    trailers.insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
    let pushed_back = Status::with_metadata(Code::Unavailable, "overloaded", trailers);
    scene.fake.script("SetSessionContext", [Fault::Refuse(pushed_back)]);
    scene.thread.bind(&scene.session, 7).await.unwrap_err();
    assert_eq!(scene.fake.calls("SetSessionContext").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn advice_on_when_to_come_back_is_followed() {
    let scene = Scene::plain().await;
    let second = Duration::from_secs(1);
    let advised = phase(JetErr::InitInProgress, Some(second));
    scene.fake.script("SetSessionContext", [advised.clone(), advised]);

    scene.bound().await.release().await.unwrap();

    let calls = scene.fake.calls("SetSessionContext");
    assert_eq!((calls.len(), ids(&calls).len()), (3, 1));
    for pair in calls.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause.abs_diff(second) <= second / 5 + Duration::from_millis(2), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_taken_session_is_an_answer_although_the_end_of_the_lease_is_known() {
    let scene = Scene::plain().await;
    let jet = JetErr::SessionContextAlreadySet;
    let facts = [("holder_thread_id", "other"), ("fencing_token", "9"), ("held_for", "4.000s")];
    let after = Some(Duration::from_secs(3));
    let taken = refused(Code::FailedPrecondition, jet, &jet.reason(), &facts, after);
    scene.fake.script("SetSessionContext", [Fault::Refuse(taken)]);

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert_eq!(scene.fake.calls("SetSessionContext").len(), 1);
    assert_eq!(error.jet_err(), Some(jet));
    assert_eq!(error.reason(), Some("SESSION_CONTEXT_ALREADY_SET"));
    assert_eq!(error.retry_after(), after);
    let holder = error.holder().unwrap();
    assert_eq!((holder.thread_id.as_str(), holder.fencing_token), ("other", Some(9)));
    assert_eq!(holder.held_for, Some(Duration::from_secs(4)));
}

#[tokio::test(start_paused = true)]
async fn all_tries_share_one_deadline() {
    let scene = Scene::with(|builder| builder.timeout(Duration::from_secs(3))).await;
    scene.fake.script("SetSessionContext", vec![Fault::LoseRequest; 100]);
    let begun = now();

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    let took = now() - begun;
    assert!(took <= Duration::from_secs(3), "{took:?}");
    let calls = scene.fake.calls("SetSessionContext");
    assert!(calls.len() > 4, "{}", calls.len());
    for call in &calls {
        let left = begun + Duration::from_secs(3) - call.at;
        let told = call.timeout.unwrap();
        assert!(told.abs_diff(left) <= Duration::from_millis(5), "{told:?} of {left:?}");
    }
    assert_eq!(error.kind(), ErrorKind::Unknown, "a request that went out may have been done");
    assert!(error.may_have_been_done());
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_not_perhaps_done() {
    let scene = Scene::plain().await;
    scene.fake.vanish();

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert!(error.attempts() > 1);
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Unknown), "{error:?}");
    assert_eq!(scene.fake.calls("SetSessionContext").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_clock_proves_nothing() {
    let scene = Scene::plain().await;
    scene.fake.script("SetSessionContext", [Fault::Hang]);
    let begun = now();

    let error = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert!((10..=11).contains(&(now() - begun).as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_phase_does_not_deny_what_an_earlier_try_may_have_done() {
    let scene = Scene::plain().await;
    let refusal = phase(JetErr::TermInProgress, None);
    scene.fake.script("BeginTransaction", [Fault::LoseReply, refusal.clone()]);

    let error = scene.thread.begin_transaction(&scene.session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert_eq!(error.jet_err(), Some(JetErr::TermInProgress));

    scene.fake.script("BeginTransaction", [refusal]);
    let error = scene.thread.begin_transaction(&scene.session).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_retries_gets_none_and_no_ids() {
    let scene = Scene::with(|builder| builder.without_retries()).await;
    let advised = phase(JetErr::InitInProgress, Some(Duration::from_secs(1)));
    scene.fake.script("SetSessionContext", [advised, Fault::LoseReply]);

    let refused = scene.thread.bind(&scene.session, 7).await.unwrap_err();
    let lost = scene.thread.bind(&scene.session, 7).await.unwrap_err();

    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert_eq!(lost.kind(), ErrorKind::Unknown);
    let calls = scene.fake.calls("SetSessionContext");
    assert_eq!((calls.len(), ids(&calls)), (2, BTreeSet::from([""])));
}

#[tokio::test(start_paused = true)]
async fn a_broken_server_is_not_hammered() {
    let scene = Scene::plain().await;
    scene.fake.script("GetSession", vec![Fault::Refuse(Status::unavailable("")); 10_000]);

    let mut attempts = Vec::new();
    for _ in 0..40 {
        let error = scene.client.get_session(&scene.session).await.unwrap_err();
        attempts.push(error.attempts());
    }

    assert!(attempts[0] > 5, "{attempts:?}");
    assert!(attempts[30..].iter().all(|n| *n == 1), "{attempts:?}");
    assert!(attempts.iter().sum::<u32>() < 100, "{attempts:?}");
}
