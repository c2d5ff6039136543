//! Exact retries of calls on instances: also when the instance is gone, or another one has its name.

use bytes::Bytes;
use jet_session::config::StoreKind;
use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::server::Ending;
use tonic::{Code, Status};

use crate::support::call::{Call, call};
use crate::support::taking::stores;
use crate::support::{MAIN, Refusal, TestServer};

const POOL: &str = "instances/pool";

fn create(id: &str, max_sessions: i32) -> Call {
    let request = pb::CreateInstanceRequest {
        instance_id: "pool".to_owned(),
        max_sessions,
        request_id: id.to_owned(),
        ..Default::default()
    };
    call("InstanceService/CreateInstance", &request)
}

fn initialize(id: &str) -> Call {
    let (name, request_id) = (POOL.to_owned(), id.to_owned());
    let request = pb::InitializeInstanceRequest { name, request_id };
    call("InstanceService/InitializeInstance", &request)
}

fn stop(id: &str, resume: bool) -> Call {
    let (name, request_id) = (POOL.to_owned(), id.to_owned());
    let request = pb::StopInstanceRequest { name, resume, request_id };
    call("InstanceService/StopInstance", &request)
}

fn terminate(id: &str, mode: pb::TerminateMode) -> Call {
    let (name, request_id) = (POOL.to_owned(), id.to_owned());
    let request = pb::TerminateInstanceRequest { name, mode: mode.into(), request_id };
    call("InstanceService/TerminateInstance", &request)
}

fn delete(id: &str) -> Call {
    let (name, request_id) = (POOL.to_owned(), id.to_owned());
    call("InstanceService/DeleteInstance", &pb::DeleteInstanceRequest { name, request_id })
}

/// The life of an instance, each call with an id of its own.
fn life() -> [Call; 5] {
    [
        create("create", 7),
        initialize("initialize"),
        stop("stop", false),
        stop("resume", true),
        terminate("terminate", pb::TerminateMode::Complete),
    ]
}

/// Asserts that another call had this request id, and that it is said what to do.
#[track_caller]
fn is_reused(answer: Result<Bytes, Status>, what: &Call) {
    let refusal = answer.expect_err(what.method);
    assert_eq!(refusal.code(), Code::InvalidArgument, "{what:?}: {refusal:?}");
    assert_eq!(refusal.reason(), "REQUEST_ID_REUSED");
    assert_eq!(refusal.bad_fields(), ["request_id"]);
}

/// Asserts that these are answered as they were, and do nothing.
async fn are_repeated(server: &TestServer, calls: &[(Call, Bytes)]) {
    let before = server.picture().await;
    for (call, answer) in calls {
        assert_eq!(server.ask(call).await.as_ref().ok(), Some(answer), "{call:?}");
    }
    assert_eq!(server.picture().await, before);
}

/// Asserts that these are refused, and do nothing.
async fn are_reused(server: &TestServer, calls: impl IntoIterator<Item = Call>) {
    let before = server.picture().await;
    for call in calls {
        is_reused(server.ask(&call).await, &call);
    }
    assert_eq!(server.picture().await, before);
}

/// A server on this store: another one, if it had one before and the store outlives it.
async fn started(store: &StoreKind, before: Option<TestServer>) -> TestServer {
    match (store, before) {
        (StoreKind::Memory, Some(server)) => server,
        (_, before) => {
            if let Some(mut server) = before {
                server.order_to_end().await;
                assert_eq!(server.ending().await, Ending::Graceful);
            }
            let server = TestServer::start_with(|config| config.store = store.clone()).await;
            server.until(MAIN, State::Ready).await;
            server
        }
    }
}

#[tokio::test]
async fn what_moves_an_instance_is_answered_as_it_was_when_it_comes_again() {
    for (store, _dir) in stores() {
        let server = started(&store, None).await;
        let mut first = Vec::new();
        for call in life() {
            let answer = server.ask(&call).await.unwrap_or_else(|no| panic!("{call:?}: {no:?}"));
            first.push((call, answer));
        }
        are_repeated(&server, &first).await;
        // Each of them would have an effect now.
        server.initialize(POOL).await.unwrap();
        server.begin(POOL).await.unwrap();
        are_repeated(&server, &first).await;

        let server = started(&store, Some(server)).await;
        server.until(POOL, State::Ready).await;
        are_repeated(&server, &first).await;
        are_reused(
            &server,
            [
                create("create", 8),
                initialize("create"),
                initialize("stop"),
                stop("initialize", false),
                stop("stop", true),
                terminate("terminate", pb::TerminateMode::Abrupt),
                terminate("resume", pb::TerminateMode::Complete),
            ],
        )
        .await;
        server.terminate(POOL, pb::TerminateMode::Complete).await.unwrap();
        are_reused(&server, ["create", "terminate"].map(delete)).await;
    }
}

#[tokio::test]
async fn a_delete_that_comes_again_deletes_no_other_instance_of_that_name() {
    for (store, _dir) in stores() {
        let mut server = started(&store, None).await;
        let mut first = Vec::new();
        for call in [create("create", 7), delete("delete")] {
            let answer = server.ask(&call).await.unwrap_or_else(|no| panic!("{call:?}: {no:?}"));
            first.push((call, answer));
        }
        let others = || [create("create", 8), create("delete", 7), delete("create")];
        for _ in 0..2 {
            are_repeated(&server, &first).await;
            are_reused(&server, others()).await;
            server = started(&store, Some(server)).await;
        }
        let refusal = server.ask(&delete("late")).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.jet_err().code()), (Code::NotFound, -1115));

        server.create("pool").await.unwrap();
        let uid = server.instance(POOL).await.unwrap().uid;
        for _ in 0..2 {
            are_repeated(&server, &first).await;
            are_reused(&server, others()).await;
            server = started(&store, Some(server)).await;
        }
        assert_eq!(server.instance(POOL).await.unwrap().uid, uid);
        server.ask(&delete("late")).await.unwrap();
        server.instance(POOL).await.unwrap_err();
    }
}
