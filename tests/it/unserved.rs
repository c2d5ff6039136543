//! What the contract has and this release does not serve: refused, never ignored.

use bytes::Bytes;
use jet_session::proto::api as pb;

use crate::support::call::{Call, call};
use crate::support::{MAIN, Refusal, THREAD_A, TestServer};

#[tokio::test]
async fn a_feature_that_is_not_served_is_refused_by_its_name_and_nothing_is_done() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let id = || "018f5e0c-7d3a-7cc2-9d0a-000000000001".to_owned();
    let create = pb::CreateInstanceRequest {
        instance_id: "pool".to_owned(),
        request_id: id(),
        ..Default::default()
    };
    let (name, request_id) = (MAIN.to_owned(), id());
    let stop = pb::StopInstanceRequest { name, resume: false, request_id };
    let (name, request_id) = (MAIN.to_owned(), id());
    let terminate = pb::TerminateInstanceRequest { name, request_id, ..Default::default() };
    for call in [
        call("InstanceService/CreateInstance", &create),
        call("InstanceService/StopInstance", &stop),
        call("InstanceService/TerminateInstance", &terminate),
    ] {
        let refusal = server.ask(&call).await.unwrap_err();
        refusal.is_unserved("request_id");
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_method_that_is_not_served_says_so() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;
    for method in ["SessionService/PipelineSessionContexts"] {
        let call = Call { method, message: Bytes::new() };
        let refusal = server.ask(&call).await.unwrap_err();
        refusal.is_unserved(method.rsplit('/').next().unwrap());
    }
    assert_eq!(server.picture().await, before);
}
