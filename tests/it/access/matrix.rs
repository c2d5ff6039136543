//! Every method × everybody who may call it or may not.

use bytes::Bytes;
use jet_session::domain::access::Role;
use jet_session::proto::api as pb;
use jet_session::rpc::method::{Access, METHODS, Method};
use prost::Message;
use prost_types::Duration;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{Whole, whole};
use crate::support::call::first;
use crate::support::ruled::rule;
use crate::support::{Refusal, TestServer};

/// A request of the method that is about the instance of this id, and about nothing that is there.
fn about(method: &Method, id: &str) -> Bytes {
    let instance = || format!("instances/{id}");
    let session = || format!("instances/{id}/sessions/9");
    let thread_id = || "t".to_owned();
    let set = || pb::SetSessionContextRequest {
        session: session(),
        thread_id: thread_id(),
        context: 7,
        ..Default::default()
    };
    let bytes = match method.name {
        "Check" | "Watch" => HealthCheckRequest::default().encode_to_vec(),
        "ServerReflectionInfo" => ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        }
        .encode_to_vec(),
        "GetError" => {
            let key = Some(pb::get_error_request::Key::Code(-1913));
            pb::GetErrorRequest { key }.encode_to_vec()
        }
        "ListErrors" => pb::ListErrorsRequest::default().encode_to_vec(),
        "BackupInstance" => pb::BackupInstanceRequest { name: instance() }.encode_to_vec(),
        "CreateInstance" => {
            let instance_id = id.to_owned();
            pb::CreateInstanceRequest { instance_id, ..Default::default() }.encode_to_vec()
        }
        "DeleteInstance" => {
            pb::DeleteInstanceRequest { name: instance(), ..Default::default() }.encode_to_vec()
        }
        "GetInstance" => pb::GetInstanceRequest { name: instance() }.encode_to_vec(),
        "GetServerInfo" => pb::GetServerInfoRequest {}.encode_to_vec(),
        "InitializeInstance" => {
            pb::InitializeInstanceRequest { name: instance(), ..Default::default() }.encode_to_vec()
        }
        "ListInstances" => pb::ListInstancesRequest::default().encode_to_vec(),
        "RestoreInstance" => {
            let payload = Some(pb::restore_instance_request::Payload::Name(instance()));
            pb::RestoreInstanceRequest { payload }.encode_to_vec()
        }
        "StopInstance" => {
            let (name, resume) = (instance(), true);
            pb::StopInstanceRequest { name, resume, ..Default::default() }.encode_to_vec()
        }
        "TerminateInstance" => {
            pb::TerminateInstanceRequest { name: instance(), ..Default::default() }.encode_to_vec()
        }
        "WatchInstances" => pb::WatchInstancesRequest::default().encode_to_vec(),
        "BatchBeginSessions" => {
            let (instance, count) = (instance(), 1);
            pb::BatchBeginSessionsRequest { instance, count, ..Default::default() }.encode_to_vec()
        }
        "BeginSession" => {
            pb::BeginSessionRequest { instance: instance(), ..Default::default() }.encode_to_vec()
        }
        "BeginTransaction" => {
            let (session, thread_id) = (session(), thread_id());
            pb::BeginTransactionRequest { session, thread_id, ..Default::default() }.encode_to_vec()
        }
        "CheckSessionContext" => {
            let (session, thread_id) = (session(), thread_id());
            pb::CheckSessionContextRequest { session, thread_id, fencing_token: 1 }.encode_to_vec()
        }
        "ClaimSessionContext" => pb::ClaimSessionContextRequest {
            parent: instance(),
            thread_id: thread_id(),
            context: 7,
            ..Default::default()
        }
        .encode_to_vec(),
        "CommitTransaction" => {
            let (session, thread_id) = (session(), thread_id());
            pb::CommitTransactionRequest { session, thread_id, ..Default::default() }
                .encode_to_vec()
        }
        "DuplicateSession" => {
            let session = session();
            pb::DuplicateSessionRequest { session, ..Default::default() }.encode_to_vec()
        }
        "EndSession" => {
            let (session, thread_id) = (session(), thread_id());
            pb::EndSessionRequest { session, thread_id, ..Default::default() }.encode_to_vec()
        }
        "ForceResetSessionContext" => pb::ForceResetSessionContextRequest {
            session: session(),
            fencing_token: 1,
            reason: "its host is gone".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "GetSession" => pb::GetSessionRequest { name: session() }.encode_to_vec(),
        "ListSessions" => {
            pb::ListSessionsRequest { parent: instance(), ..Default::default() }.encode_to_vec()
        }
        "PipelineSessionContexts" => {
            let operation = Some(pb::pipeline_operation::Operation::Set(set()));
            let operations = vec![pb::PipelineOperation { id: 1, operation }];
            pb::PipelineSessionContextsRequest { operations }.encode_to_vec()
        }
        "ResetSessionContext" => {
            let (session, thread_id) = (session(), thread_id());
            pb::ResetSessionContextRequest { session, thread_id, ..Default::default() }
                .encode_to_vec()
        }
        "RollbackTransaction" => {
            let (session, thread_id) = (session(), thread_id());
            pb::RollbackTransactionRequest { session, thread_id, ..Default::default() }
                .encode_to_vec()
        }
        "SetSessionContext" => set().encode_to_vec(),
        "TransferSessionContext" => pb::TransferSessionContextRequest {
            session: session(),
            thread_id: thread_id(),
            to_thread_id: "u".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        "WatchSessions" => {
            pb::WatchSessionsRequest { parent: instance(), ..Default::default() }.encode_to_vec()
        }
        "EndThreads" => pb::EndThreadsRequest { thread_ids: vec![thread_id()] }.encode_to_vec(),
        "GetThread" => pb::GetThreadRequest { thread_id: thread_id() }.encode_to_vec(),
        "KeepThreadsAlive" => pb::KeepThreadsAliveRequest {
            thread_ids: vec![thread_id()],
            lease_ttl: Some(Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        }
        .encode_to_vec(),
        "ListThreads" => pb::ListThreadsRequest::default().encode_to_vec(),
        new => panic!("{new} is new: who may call it, and what is a request of it?"),
    };
    bytes.into()
}

/// Calls a method as somebody, or as nobody. What comes later than the first message is not waited for.
async fn ask(
    server: &TestServer,
    who: Option<&str>,
    method: &Method,
    id: &str,
) -> Result<Option<Bytes>, Status> {
    let mut request = Request::new(about(method, id));
    if let Some(who) = who {
        let token = format!("Bearer {who}").parse().expect("a name fit for metadata");
        request.metadata_mut().insert("authorization", token);
    }
    first(server.channel(), &format!("/{}/{}", method.service, method.name), request).await
}

/// Whether the answer is that somebody may not; whatever else it is, they may.
fn denied(method: &Method, answer: &Result<Option<Bytes>, Status>) -> bool {
    match answer {
        Err(status) => {
            let code = status.code();
            assert_ne!(code, Code::Unauthenticated, "{}: {status}", method.name);
            assert_ne!(code, Code::InvalidArgument, "{}: {status}", method.name);
            code == Code::PermissionDenied
        }
        Ok(Some(message)) if method.name == "PipelineSessionContexts" => {
            let message = pb::PipelineSessionContextsResponse::decode(message.clone());
            let results = message.expect("results").results;
            match &results[0].result {
                Some(pb::pipeline_result::Result::Error(status)) => {
                    status.code == Code::PermissionDenied as i32
                }
                other => panic!("there is no such session: {other:?}"),
            }
        }
        Ok(_) => false,
    }
}

/// The roles that do not include this one.
fn others(role: Role) -> &'static [&'static str] {
    match role {
        Role::Observe => &["use"],
        Role::Use => &["operate"],
        Role::Operate => &["use", "observe"],
        Role::Admin => &["operate", "use"],
    }
}

#[tokio::test]
async fn every_method_is_for_those_its_row_says() {
    let mut rules = vec![rule(&["known"], &["unrelated"], &["observe"])];
    let mut principals = vec!["known".to_owned()];
    for role in Role::ALL {
        for (who, instance, roles) in [
            (format!("{role}-here"), "main", &[role.as_str()][..]),
            (format!("{role}-elsewhere"), "other", &[role.as_str()]),
            (format!("not-{role}"), "*", others(role)),
        ] {
            rules.push(rule(&[&who], &[instance], roles));
            principals.push(who);
        }
    }
    let principals: Vec<_> = principals.iter().map(String::as_str).collect();
    let server = TestServer::ruled(&rules, &principals).await;
    // So that a watch of what is elsewhere has something to show.
    server.by("admin-elsewhere").create("other").await;

    for method in &METHODS {
        let nobody = ask(&server, None, method, "main").await;
        if method.access == Access::Open {
            assert!(nobody.is_ok(), "{} is for everybody", method.name);
            continue;
        }
        let stranger = nobody.expect_err("who is it?");
        assert_eq!(stranger.code(), Code::Unauthenticated, "{}", method.name);
        assert_eq!(stranger.reason(), "CREDENTIALS_MISSING", "{}", method.name);
        let role = match method.access {
            Access::Open | Access::Known => {
                let known = ask(&server, Some("known"), method, "main").await;
                assert!(known.is_ok(), "{}: {known:?}", method.name);
                continue;
            }
            Access::Somewhere(role) | Access::There(role) | Access::ThereAs(role, _) => role,
        };
        // Operations of a pipeline are told apart by themselves.
        let spans = matches!(method.access, Access::Somewhere(_))
            && method.name != "PipelineSessionContexts";
        for (who, may) in [
            (format!("not-{role}"), false),
            (format!("{role}-elsewhere"), spans),
            (format!("{role}-here"), true),
        ] {
            let answer = ask(&server, Some(&who), method, "main").await;
            assert_eq!(!denied(method, &answer), may, "{} by {who}: {answer:?}", method.name);
        }
    }
}

/// The entries of a map go onto the wire in any order, which is a matter of chance and tells nothing.
fn sorted((code, message, mut bytes, metadata): Whole) -> Whole {
    bytes.sort_unstable();
    (code, message, bytes, metadata)
}

/// The status with `main` where it says `none`.
fn renamed(status: &Status) -> Whole {
    let (code, message, mut bytes, metadata) = whole(status);
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..].starts_with(b"none") {
            bytes[at..at + 4].copy_from_slice(b"main");
        }
    }
    (code, message.replace("none", "main"), bytes, metadata)
}

#[tokio::test]
async fn whoever_may_not_is_told_the_same_whether_it_exists_or_not() {
    // Who has the role somewhere gets as far as one can.
    let all = ["observe", "use", "operate", "admin"];
    let rules = [rule(&["alice"], &["elsewhere"], &all)];
    let server = TestServer::ruled(&rules, &["alice"]).await;
    let named = METHODS
        .iter()
        .filter(|method| matches!(method.access, Access::There(_) | Access::ThereAs(..)));
    let mut count = 0;
    for method in named {
        let [here, nowhere] = ["main", "none"].map(|id| ask(&server, Some("alice"), method, id));
        let (here, nowhere) = (here.await.unwrap_err(), nowhere.await.unwrap_err());
        assert_eq!(here.reason(), "ROLE_MISSING", "{}", method.name);
        assert_eq!(here.fact("instance"), "instances/main", "as it was called");
        assert_eq!(here.fact("principal"), "alice");
        assert!(here.message().contains("on instances/main (or it might not exist)"), "{here}");
        // The names are as long as each other, so that nothing but them differs.
        assert_eq!(sorted(renamed(&nowhere)), sorted(whole(&here)), "{}", method.name);
        count += 1;
    }
    assert!(count > 20, "{count}");
}
