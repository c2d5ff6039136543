//! What the contract has and this release does not serve: refused, never ignored.

use bytes::Bytes;
use jet_session::proto::api as pb;
use prost_types::Duration;

use crate::support::call::{Call, call};
use crate::support::{MAIN, Refusal, THREAD_A, TestServer};

#[tokio::test]
async fn a_feature_that_is_not_served_is_refused_by_its_name_and_nothing_is_done() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let bound = server.session().await;
    bound.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;
    let name = || session.name().to_owned();
    let second = Some(Duration { seconds: 1, nanos: 0 });
    let set = pb::SetSessionContextRequest {
        session: name(),
        thread_id: THREAD_A.to_owned(),
        context: 7,
        ..Default::default()
    };
    let (waits, leased) = (
        pb::SetSessionContextRequest { wait_timeout: second, ..set.clone() },
        pb::SetSessionContextRequest { lease_ttl: second, ..set.clone() },
    );
    for (request, field) in [(waits, "wait_timeout"), (leased, "lease_ttl")] {
        let refusal = server.sessions().set_session_context(request).await.unwrap_err();
        refusal.is_unserved(field);
    }
    for call in with_request_id(session.name(), bound.name()) {
        let refusal = server.ask(&call).await.unwrap_err();
        refusal.is_unserved("request_id");
    }
    assert_eq!(server.picture().await, before);
}

/// Calls that would succeed, each with a request id.
fn with_request_id(free: &str, bound: &str) -> Vec<Call> {
    let id = || "018f5e0c-7d3a-7cc2-9d0a-000000000001".to_owned();
    let (main, thread_id) = (|| MAIN.to_owned(), || THREAD_A.to_owned());
    let session = || free.to_owned();
    let set = pb::SetSessionContextRequest {
        session: session(),
        thread_id: thread_id(),
        context: 7,
        request_id: id(),
        ..Default::default()
    };
    let reset = pb::ResetSessionContextRequest {
        session: bound.to_owned(),
        thread_id: thread_id(),
        request_id: id(),
        ..Default::default()
    };
    let end = pb::EndSessionRequest {
        session: session(),
        thread_id: thread_id(),
        request_id: id(),
        ..Default::default()
    };
    let begin = pb::BeginTransactionRequest {
        session: session(),
        thread_id: thread_id(),
        request_id: id(),
    };
    let begun =
        pb::BeginSessionRequest { instance: main(), request_id: id(), ..Default::default() };
    let duplicate = pb::DuplicateSessionRequest { session: session(), request_id: id() };
    let create = pb::CreateInstanceRequest {
        instance_id: "pool".to_owned(),
        request_id: id(),
        ..Default::default()
    };
    let stop = pb::StopInstanceRequest { name: main(), resume: false, request_id: id() };
    let terminate =
        pb::TerminateInstanceRequest { name: main(), request_id: id(), ..Default::default() };
    vec![
        call("SessionService/SetSessionContext", &set),
        call("SessionService/ResetSessionContext", &reset),
        call("SessionService/EndSession", &end),
        call("SessionService/BeginTransaction", &begin),
        call("SessionService/BeginSession", &begun),
        call("SessionService/DuplicateSession", &duplicate),
        call("InstanceService/CreateInstance", &create),
        call("InstanceService/StopInstance", &stop),
        call("InstanceService/TerminateInstance", &terminate),
    ]
}

#[tokio::test]
async fn a_method_that_is_not_served_says_so() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;
    for method in [
        "SessionService/BatchBeginSessions",
        "SessionService/ClaimSessionContext",
        "SessionService/TransferSessionContext",
        "SessionService/CheckSessionContext",
        "SessionService/ForceResetSessionContext",
        "SessionService/PipelineSessionContexts",
        "ThreadService/KeepThreadsAlive",
        "ThreadService/GetThread",
        "ThreadService/ListThreads",
        "ThreadService/EndThreads",
    ] {
        let call = Call { method, message: Bytes::new() };
        let refusal = server.ask(&call).await.unwrap_err();
        refusal.is_unserved(method.rsplit('/').next().unwrap());
    }
    assert_eq!(server.picture().await, before);
}
