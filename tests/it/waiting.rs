//! Sets that wait for their session: who is next, and how the others stop waiting.

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::Force;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::call::path;
use crate::support::raw::Raw;
use crate::support::taking::{answered, seconds, stores};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, TestSession, holds};

const SET: &str = "SessionService/SetSessionContext";

/// Calls of one connection that may wait.
const WAITING_PER_CONNECTION: usize = 992;

/// Calls that may wait for one session.
const WAITING_PER_SESSION: usize = 1_024;

/// A session that thread A holds, and its token.
async fn held(server: &TestServer) -> (TestSession, u64) {
    let session = server.session().await;
    let token = session.set_context(THREAD_A, 7).await.expect("the session is free");
    (session, token)
}

/// Asserts that one too many calls wait here.
#[track_caller]
fn is_full(refusal: &Status, bound: &str, max: usize) {
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert_eq!(refusal.reason(), "WAIT_QUEUE_FULL");
    let told = refusal.told();
    let violations = &told.quota_failure().expect("a QuotaFailure").violations;
    assert!(violations[0].description.contains(&format!("{bound} is {max}")), "{violations:?}");
    assert!(told.retry_info().is_some(), "another call may stop waiting soon");
}

#[tokio::test]
async fn who_came_first_is_first_and_nobody_overtakes() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let (session, mut last) = held(&server).await;
        let threads = ["first", "second", "third", "fourth"];
        let mut waiting = Vec::new();
        for (nth, thread) in (1..).zip(threads) {
            waiting.push((thread, session.wait_as_nth(thread, nth).await));
        }
        let seen = session.look().await.unwrap();
        assert_eq!(seen.waiters, 4);

        let mut holder = THREAD_A;
        for (thread, set) in waiting {
            session.reset_context_with(holder, last).await.unwrap();
            // The one who comes now finds the session held already.
            let refusal = session.set_context(THREAD_B, 7).await.unwrap_err();
            assert_eq!(refusal.fact("holder_thread_id"), thread);
            let granted = answered(set).await.unwrap();
            assert!(granted.fencing_token > last);
            assert_eq!(session.binding().await, holds(thread, 7));
            (holder, last) = (thread, granted.fencing_token);
        }
        session.reset_context(holder).await.unwrap();
        assert_eq!(session.binding().await, None);
    }
}

#[tokio::test]
async fn a_set_that_can_have_its_session_does_not_wait() {
    let server = TestServer::start().await;
    let session = server.session().await;

    let granted = answered(session.send(session.waiting_request(THREAD_A))).await.unwrap();

    assert_eq!(session.binding().await, holds(THREAD_A, 7));
    session.reset_context_with(THREAD_A, granted.fencing_token).await.unwrap();
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_who_holds_the_session() {
    let server = TestServer::start().await;
    let (session, token) = held(&server).await;
    let other = session.wait_as_nth("patient", 1).await;
    let before = session.look().await.unwrap();
    let wait_timeout = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    let request = pb::SetSessionContextRequest { wait_timeout, ..session.set_request(THREAD_B) };

    let refusal = answered(session.send(request)).await.unwrap_err();

    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert_eq!(refusal.jet_err(), JetErr::SessionContextAlreadySet);
    assert_eq!(refusal.fact("holder_thread_id"), THREAD_A);
    assert_eq!(refusal.fact("fencing_token"), token.to_string());
    assert_eq!(refusal.fact("queue_length"), "1");
    assert_eq!(session.look().await.unwrap(), before);
    other.abort();
}

#[tokio::test]
async fn at_the_deadline_it_is_certain_that_nothing_was_set() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let (session, token) = held(&server).await;
        let raw = Raw::connect(server.address()).await;
        // With a timer of its own a client would not hear what the server says.
        for timeout in ["100m", "1m", "20000u"] {
            let headers = [("grpc-timeout", timeout)];
            let request = session.waiting_request(THREAD_B);
            let refusal = raw.call(&path(SET), &headers, &request).await.status();

            assert_eq!(refusal.code(), Code::DeadlineExceeded, "{refusal:?}");
            assert_eq!(refusal.reason(), "NOT_SET", "{timeout}");
            assert_eq!(refusal.told().error_info().unwrap().domain, "jet.session.v1");
        }
        // Nobody is left who could be granted anything.
        assert_eq!(session.look().await.unwrap().waiters, 0);
        let revision = session.reset_context_with(THREAD_A, token).await.unwrap();
        let after = session.look().await.unwrap();
        assert_eq!((after.binding, after.revision), (None, revision));
    }
}

#[tokio::test]
async fn who_cancels_or_disconnects_leaves_at_once_and_is_never_granted_anything() {
    let server = TestServer::start().await;
    let (session, token) = held(&server).await;
    let (stays, goes) =
        (Raw::connect(server.address()).await, Raw::connect(server.address()).await);
    let cancelled = stays.ask(&path(SET), &[], &session.waiting_request("cancels")).await;
    session.has_waiters(1).await;
    let lost = goes.ask(&path(SET), &[], &session.waiting_request("disconnects")).await;
    session.has_waiters(2).await;
    let patient = session.wait_as_nth("patient", 3).await;

    cancelled.cancel();
    session.has_waiters(2).await;
    drop((lost, goes));
    session.has_waiters(1).await;

    session.reset_context_with(THREAD_A, token).await.unwrap();
    let granted = answered(patient).await.unwrap();
    assert_eq!(session.binding().await, holds("patient", 7));
    let revision = session.reset_context_with("patient", granted.fencing_token).await.unwrap();
    let after = session.look().await.unwrap();
    assert_eq!((after.binding, after.revision), (None, revision));
}

#[tokio::test]
async fn one_release_wakes_one() {
    let server = TestServer::start().await;
    let (session, token) = held(&server).await;
    let first = session.wait_as_nth("first", 1).await;
    let second = session.wait_as_nth("second", 2).await;

    session.reset_context_with(THREAD_A, token).await.unwrap();

    answered(first).await.unwrap();
    let seen = session.look().await.unwrap();
    assert_eq!((seen.waiters, seen.binding.unwrap().thread_id), (1, "first".to_owned()));
    assert!(!second.is_finished());
    second.abort();
}

#[tokio::test]
async fn what_ends_the_wait_for_all_is_told_to_all_at_once() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    server.initialize(&pool).await.unwrap();
    let session = server.begin(&pool).await.unwrap();
    session.set_context(THREAD_A, 7).await.unwrap();

    let waiting = [session.wait_as_nth("a", 1).await, session.wait_as_nth("b", 2).await];
    server.stop(&pool).await.unwrap();
    for set in waiting {
        let refusal = answered(set).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
    }
    server.resume(&pool).await.unwrap();

    let waiting = [session.wait_as_nth("a", 1).await, session.wait_as_nth("b", 2).await];
    session.end_by_force("its host is gone").await.unwrap();
    for set in waiting {
        let refusal = answered(set).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::InvalidSesid);
        assert_eq!(refusal.fact("cause"), "ended");
    }

    let session = server.begin(&pool).await.unwrap();
    session.set_context(THREAD_A, 7).await.unwrap();
    let waiting = session.wait_as_nth("a", 1).await;
    server.terminate(&pool, Force).await.unwrap();
    let refusal = answered(waiting).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::TermInProgress);
}

#[tokio::test]
async fn a_draining_server_sends_those_who_wait_elsewhere() {
    let mut server = TestServer::start().await;
    let (session, _) = held(&server).await;
    let waiting = session.wait_as_nth(THREAD_B, 1).await;

    server.order_to_end().await;

    let refusal = answered(waiting).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
    assert!(refusal.told().retry_info().is_some(), "another server may answer");
    assert_eq!(server.ending().await, jet_session::server::Ending::Graceful);
}

#[tokio::test]
async fn calls_that_wait_leave_room_for_those_that_end_the_wait() {
    let server = TestServer::start().await;
    let (session, token) = held(&server).await;
    let raw = Raw::connect(server.address()).await;
    let mut waiting = Vec::new();
    for nth in 0..WAITING_PER_CONNECTION {
        let request = session.waiting_request(&format!("waiter-{nth}"));
        waiting.push(raw.ask(&path(SET), &[], &request).await);
    }
    session.has_waiters(992).await;

    // One more would leave less room than must be left.
    let request = session.waiting_request("one-too-many");
    let refusal = raw.call(&path(SET), &[], &request).await.status();
    is_full(&refusal, "waiters_per_connection", WAITING_PER_CONNECTION);
    // It could have the session at once, if there were one.
    let free = server.session().await;
    let answer = raw.call(&path(SET), &[], &free.waiting_request("at-once")).await;
    assert_eq!(answer.status().code(), Code::Ok);

    // On another connection there is room until the session has enough of them.
    let second = Raw::connect(server.address()).await;
    for nth in WAITING_PER_CONNECTION..WAITING_PER_SESSION {
        let request = session.waiting_request(&format!("waiter-{nth}"));
        waiting.push(second.ask(&path(SET), &[], &request).await);
    }
    session.has_waiters(1_024).await;
    let refusal = second.call(&path(SET), &[], &request).await.status();
    is_full(&refusal, "waiters_per_session", WAITING_PER_SESSION);

    // On the connection that is full of them, whatever ends the wait is answered.
    let keep = pb::KeepThreadsAliveRequest {
        thread_ids: vec![THREAD_A.to_owned()],
        lease_ttl: seconds(60),
        include_held: false,
    };
    let kept = raw.call(&path("ThreadService/KeepThreadsAlive"), &[], &keep).await;
    assert_eq!(kept.message::<pb::KeepThreadsAliveResponse>().threads[0].held_count, 1);
    let check = pb::CheckSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        fencing_token: token,
    };
    let checked = raw.call(&path("SessionService/CheckSessionContext"), &[], &check).await;
    assert_eq!(checked.status().code(), Code::Ok);
    let health = HealthCheckRequest { service: String::new() };
    let health = raw.call("/grpc.health.v1.Health/Check", &[], &health).await;
    assert_eq!(health.message::<HealthCheckResponse>().status, 1);
    let reset = pb::ResetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        fencing_token: token,
        ..Default::default()
    };
    let reset = raw.call(&path("SessionService/ResetSessionContext"), &[], &reset).await;
    assert_eq!(reset.status().code(), Code::Ok);
    assert_eq!(session.binding().await, holds("waiter-0", 7));
    session.has_waiters(1_023).await;
    assert_eq!(server.instance(MAIN).await.unwrap().bound_count, 2);
}
