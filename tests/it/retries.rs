//! Exact retries: the same request gets the same answer, and has one effect.

use bytes::Bytes;
use jet_session::config::StoreKind;
use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::server::Ending;
use prost::Message;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::call::{Call, call, path};
use crate::support::raw::{Raw, framed};
use crate::support::taking::{answered, seconds, stores};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, TestSession, holds, within};

const SESSION: &str = "SessionService";

/// Asserts that another call had this request id, and that it is said what to do.
#[track_caller]
fn is_reused(refusal: &Status) {
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    assert_eq!(refusal.reason(), "REQUEST_ID_REUSED");
    assert_eq!(refusal.bad_fields(), ["request_id"]);
}

fn set(session: &TestSession, thread: &str, id: &str) -> pb::SetSessionContextRequest {
    pb::SetSessionContextRequest { request_id: id.to_owned(), ..session.set_request(thread) }
}

fn reset(session: &TestSession, thread: &str, id: &str) -> pb::ResetSessionContextRequest {
    pb::ResetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: thread.to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    }
}

/// Every mutation there is, each with an id of its own: in this order each has an effect.
fn mutations(one: &TestSession, two: &TestSession) -> Vec<(&'static str, Call)> {
    let session = |session: &TestSession| session.name().to_owned();
    let (a, b) = (|| THREAD_A.to_owned(), || THREAD_B.to_owned());
    let begin = pb::BeginSessionRequest {
        instance: MAIN.to_owned(),
        request_id: "begin".to_owned(),
        ..Default::default()
    };
    let batch = pb::BatchBeginSessionsRequest {
        instance: MAIN.to_owned(),
        count: 3,
        request_id: "batch".to_owned(),
        ..Default::default()
    };
    let duplicate =
        pb::DuplicateSessionRequest { session: session(one), request_id: "duplicate".to_owned() };
    let claim = pb::ClaimSessionContextRequest {
        parent: MAIN.to_owned(),
        thread_id: b(),
        context: 9,
        request_id: "claim".to_owned(),
        ..Default::default()
    };
    let transaction = |id: &str| (session(one), a(), id.to_owned());
    let (session_, thread_id, request_id) = transaction("transaction");
    let transact = pb::BeginTransactionRequest { session: session_, thread_id, request_id };
    let (session_, thread_id, request_id) = transaction("deeper");
    let deeper = pb::BeginTransactionRequest { session: session_, thread_id, request_id };
    let (session_, thread_id, request_id) = transaction("commit");
    let commit = pb::CommitTransactionRequest { session: session_, thread_id, request_id };
    let (session_, thread_id, request_id) = transaction("rollback");
    let rollback = pb::RollbackTransactionRequest {
        session: session_,
        thread_id,
        request_id,
        all_levels: true,
    };
    let transfer = pb::TransferSessionContextRequest {
        session: session(one),
        thread_id: a(),
        to_thread_id: b(),
        request_id: "transfer".to_owned(),
        ..Default::default()
    };
    let end = pb::EndSessionRequest {
        session: session(one),
        thread_id: a(),
        request_id: "end".to_owned(),
        ..Default::default()
    };
    vec![
        ("begin", call("SessionService/BeginSession", &begin)),
        ("batch", call("SessionService/BatchBeginSessions", &batch)),
        ("duplicate", call("SessionService/DuplicateSession", &duplicate)),
        ("set", call("SessionService/SetSessionContext", &set(one, THREAD_A, "set"))),
        ("transaction", call("SessionService/BeginTransaction", &transact)),
        ("deeper", call("SessionService/BeginTransaction", &deeper)),
        ("commit", call("SessionService/CommitTransaction", &commit)),
        ("rollback", call("SessionService/RollbackTransaction", &rollback)),
        ("transfer", call("SessionService/TransferSessionContext", &transfer)),
        ("reset", call("SessionService/ResetSessionContext", &reset(one, THREAD_B, "reset"))),
        ("set two", call("SessionService/SetSessionContext", &set(two, THREAD_A, "set-two"))),
        ("claim", call("SessionService/ClaimSessionContext", &claim)),
        ("end", call("SessionService/EndSession", &end)),
    ]
}

#[tokio::test]
async fn every_mutation_that_comes_again_gets_the_same_answer_and_does_nothing() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let (one, two) = (server.session().await, server.session().await);
        let spare = server.session().await;
        let mut first = Vec::new();
        for (what, call) in mutations(&one, &two) {
            // What a claim would take is in use, but for the session that it is to get.
            let answer = server.ask(&call).await.unwrap_or_else(|no| panic!("{what}: {no:?}"));
            first.push((what, call, answer));
        }
        spare.look().await.unwrap();
        let before = server.picture().await;

        for (what, call, answer) in &first {
            // Most of it has been undone since.
            assert_eq!(&server.ask(call).await.unwrap(), answer, "{what}");
        }
        assert_eq!(server.picture().await, before);
    }
}

#[tokio::test]
async fn answers_are_remembered_by_a_server_that_was_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = || StoreKind::Log(dir.path().join("data"));
    let mut server = TestServer::start_with(|config| config.store = store()).await;
    let (one, two) = (server.session().await, server.session().await);
    server.session().await;
    let mut first = Vec::new();
    for (what, call) in mutations(&one, &two) {
        first.push((what, call.clone(), server.ask(&call).await.unwrap()));
    }
    server.order_to_end().await;
    assert_eq!(server.ending().await, Ending::Graceful);
    drop(server);

    let server = TestServer::start_with(|config| config.store = store()).await;
    server.until(MAIN, State::Ready).await;
    let before = server.picture().await;
    for (what, call, answer) in &first {
        assert_eq!(&server.ask(call).await.unwrap(), answer, "{what}");
    }
    assert_eq!(server.picture().await, before);
    let other = set(&two.at(&server), THREAD_B, "set");
    is_reused(&server.sessions().set_session_context(other).await.unwrap_err());
}

#[tokio::test]
async fn another_call_with_the_same_id_is_refused_and_nothing_is_done() {
    let server = TestServer::start().await;
    let (session, other) = (server.session().await, server.session().await);
    let first = set(&session, THREAD_A, "r-1");
    let granted = answered(session.send(first.clone())).await.unwrap();
    let before = server.picture().await;

    for body in [
        pb::SetSessionContextRequest { context: 8, ..first.clone() },
        pb::SetSessionContextRequest { thread_id: THREAD_B.to_owned(), ..first.clone() },
        pb::SetSessionContextRequest { session: other.name().to_owned(), ..first.clone() },
        pb::SetSessionContextRequest { lease_ttl: seconds(60), ..first.clone() },
    ] {
        is_reused(&answered(session.send(body)).await.unwrap_err());
    }
    let method = reset(&session, THREAD_A, "r-1");
    is_reused(&session.client().reset_session_context(method).await.unwrap_err());
    assert_eq!(server.picture().await, before);

    // How long to wait is not what is asked.
    let patient = pb::SetSessionContextRequest { wait_timeout: seconds(60), ..first.clone() };
    assert_eq!(answered(session.send(patient)).await.unwrap(), granted);
    // Another instance knows nothing of it.
    let pool = server.create("pool").await.unwrap();
    server.initialize(&pool).await.unwrap();
    let there = server.begin(&pool).await.unwrap();
    answered(there.send(set(&there, THREAD_A, "r-1"))).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_is_decided_afresh_when_it_comes_again() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let request = set(&session, THREAD_B, "r-1");
    answered(session.send(request.clone())).await.unwrap_err();
    session.reset_context(THREAD_A).await.unwrap();

    answered(session.send(request)).await.unwrap();

    assert_eq!(session.binding().await, holds(THREAD_B, 7));
}

#[tokio::test]
async fn an_answer_stands_although_its_effect_has_been_undone() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let request = set(&session, THREAD_A, "r-1");
    let granted = answered(session.send(request.clone())).await.unwrap();
    session.reset_context(THREAD_A).await.unwrap();
    session.set_context(THREAD_B, 7).await.unwrap();
    let before = server.picture().await;

    let again = answered(session.send(request)).await.unwrap();

    assert_eq!(again, granted);
    assert_eq!(server.picture().await, before);
    // The token of then is worth nothing now.
    let token = granted.fencing_token;
    let refusal = session.reset_context_with(THREAD_A, token).await.unwrap_err();
    assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
}

#[tokio::test]
async fn two_calls_with_one_id_that_wait_have_one_effect_and_both_get_its_answer() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let session = server.session().await;
        session.set_context(THREAD_A, 7).await.unwrap();
        let request = pb::SetSessionContextRequest {
            request_id: "r-1".to_owned(),
            ..session.waiting_request(THREAD_B)
        };
        let first = session.send(request.clone());
        session.has_waiters(1).await;
        let raw = Raw::connect(server.address()).await;
        let leaves = raw.ask(&path("SessionService/SetSessionContext"), &[], &request).await;
        session.has_waiters(2).await;
        let last = session.send(request.clone());
        session.has_waiters(3).await;
        // One that leaves does not end the others.
        leaves.cancel();
        session.has_waiters(2).await;

        session.reset_context(THREAD_A).await.unwrap();

        let granted = answered(first).await.unwrap();
        assert_eq!(answered(last).await.unwrap(), granted);
        assert_eq!(answered(session.send(request)).await.unwrap(), granted);
        let after = session.look().await.unwrap();
        assert_eq!((after.waiters, after.revision), (0, granted.fencing_token));
    }
}

#[tokio::test]
async fn a_stopped_instance_and_a_draining_server_still_answer_what_was_answered() {
    let mut server = TestServer::start().await;
    let session = server.session().await;
    let request = set(&session, THREAD_A, "r-1");
    let granted = answered(session.send(request.clone())).await.unwrap();
    server.stop(MAIN).await.unwrap();
    assert_eq!(answered(session.send(request.clone())).await.unwrap(), granted);
    let refusal = answered(session.send(set(&session, THREAD_A, "r-2"))).await.unwrap_err();
    assert_eq!(refusal.jet_err().code(), -1329);
    server.resume(MAIN).await.unwrap();

    // These have begun when the server is told to end, and say what they are afterwards.
    let raw = Raw::connect(server.address()).await;
    let method = path(&format!("{SESSION}/SetSessionContext"));
    let mut again = raw.begin(&method, &[]).await;
    let mut reused = raw.begin(&method, &[]).await;
    let mut new = raw.begin(&method, &[]).await;
    raw.settle().await;
    let health = HealthCheckRequest { service: String::new() };
    let mut health = server.health().watch(health).await.unwrap().into_inner();
    server.order_to_end().await;
    within("the server drains", async {
        while health.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    })
    .await;

    let framed =
        |request: &pb::SetSessionContextRequest| -> Bytes { framed(&request.encode_to_vec()) };
    again.send(framed(&request), true);
    assert_eq!(again.answer().await.message::<pb::SetSessionContextResponse>(), granted);
    reused.send(framed(&pb::SetSessionContextRequest { context: 8, ..request }), true);
    is_reused(&reused.answer().await.status());
    new.send(framed(&set(&session, THREAD_A, "r-3")), true);
    let refusal = new.answer().await.status();
    assert_eq!(refusal.jet_err().code(), -1329);
    assert!(refusal.told().retry_info().is_some(), "another server may answer");
    assert_eq!(server.ending().await, Ending::Graceful);
}
