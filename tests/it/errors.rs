//! What a refusal looks like on the wire: every one of them, as bytes and as text.

mod gather;
mod render;

use std::collections::BTreeMap;

use expect_test::expect_file;
use jet_session::config::Config;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use prost::Message;
use tonic::{Code, Status};

use crate::support::call::{call, on_instance, on_session, on_sessions_of};
use crate::support::{Refusal, TestServer};
use gather::{Told, gather};

/// The most that the details of a status may take, before base64.
const DETAILS_BYTES: usize = 2 * 1024;

/// The most that gRPC implementations take as headers by default.
const HEADER_BYTES: usize = 8 * 1024;

#[tokio::test]
async fn every_refusal_is_told_as_the_snapshot_shows() {
    let all = gather().await;
    expect_file!["snapshots/refusals.txt"].assert_eq(&render::page(&all));
}

#[tokio::test]
async fn one_jet_code_is_one_grpc_code() {
    let mut codes = BTreeMap::new();
    for Told { title, status } in gather().await {
        let reason = status.reason();
        assert!(!reason.is_empty(), "{title} has no reason");
        if !status.metadata().contains_key("jet-error") {
            assert!(
                matches!(
                    status.code(),
                    Code::Unimplemented | Code::ResourceExhausted | Code::DeadlineExceeded
                ) || reason == "REQUEST_ID_REUSED",
                "{title}"
            );
            continue;
        }
        let jet = status.jet_err();
        if reason == "STALE_FENCING_TOKEN" {
            // The one exception.
            assert_eq!(status.code(), Code::Aborted);
            assert_eq!(jet, JetErr::SessionContextNotSetByThisThread);
            continue;
        }
        assert_eq!(reason, jet.reason(), "{title}");
        assert_eq!(*codes.entry(jet).or_insert(status.code()), status.code(), "{title}");
    }
    let expected = [
        (JetErr::InvalidParameter, Code::InvalidArgument),
        (JetErr::NotInitialized, Code::Unavailable),
        (JetErr::AlreadyInitialized, Code::FailedPrecondition),
        (JetErr::NotInTransaction, Code::FailedPrecondition),
        (JetErr::TooManyActiveUsers, Code::FailedPrecondition),
        (JetErr::InstanceNameInUse, Code::AlreadyExists),
        (JetErr::OutOfSessions, Code::ResourceExhausted),
        (JetErr::TransTooDeep, Code::FailedPrecondition),
        (JetErr::InvalidSesid, Code::NotFound),
        (JetErr::InvalidInstance, Code::NotFound),
        (JetErr::TooManyInstances, Code::ResourceExhausted),
        (JetErr::ClientRequestToStopJetService, Code::Unavailable),
        (JetErr::SessionSharingViolation, Code::Aborted),
        (JetErr::SessionContextAlreadySet, Code::FailedPrecondition),
        (JetErr::SessionContextNotSetByThisThread, Code::FailedPrecondition),
        (JetErr::SessionInUse, Code::FailedPrecondition),
    ];
    assert_eq!(codes, BTreeMap::from(expected));
}

#[tokio::test]
async fn each_kind_of_detail_stands_where_the_api_promises_it() {
    use JetErr::{
        ClientRequestToStopJetService, InvalidInstance, InvalidParameter, InvalidSesid,
        NotInitialized, OutOfSessions, SessionContextAlreadySet, SessionContextNotSetByThisThread,
        SessionInUse, TooManyActiveUsers, TooManyInstances,
    };
    for Told { title, status } in gather().await {
        let told = status.told();
        let info = told.error_info().unwrap_or_else(|| panic!("{title} has no ErrorInfo"));
        assert_eq!(info.domain, "jet.session.v1", "{title}");
        assert!(status.details().len() <= DETAILS_BYTES, "{title}");
        // Whoever reads the details finds code and message there too.
        let whole = tonic_types::pb::Status::decode(status.details()).unwrap();
        assert_eq!((whole.code, &*whole.message), (status.code().into(), status.message()));
        let tells = |name: &str| whole.details.iter().any(|any| any.type_url.ends_with(name));

        let jet = status.metadata().contains_key("jet-error").then(|| status.jet_err());
        let is = |codes: &[JetErr]| jet.is_some_and(|jet| codes.contains(&jet));
        assert_eq!(tells("jet.session.v1.JetError"), jet.is_some(), "{title}");
        let resource = [
            InvalidSesid,
            InvalidInstance,
            SessionContextAlreadySet,
            SessionContextNotSetByThisThread,
        ];
        assert_eq!(told.resource_info().is_some(), is(&resource), "{title}");
        let phase = [NotInitialized, ClientRequestToStopJetService];
        let binding = [SessionContextAlreadySet, SessionContextNotSetByThisThread, SessionInUse];
        if is(&phase) || is(&binding) || is(&[TooManyActiveUsers]) {
            assert!(told.precondition_failure().is_some(), "{title}");
        }
        assert_eq!(
            told.quota_failure().is_some(),
            is(&[OutOfSessions, TooManyInstances]),
            "{title}"
        );
        let names_fields = is(&[InvalidParameter]) || info.reason == "REQUEST_ID_REUSED";
        assert_eq!(told.bad_request().is_some(), names_fields, "{title}");
        let passes = title.contains("draining") || info.metadata.contains_key("lease_remaining");
        assert_eq!(told.retry_info().is_some(), passes, "{title}");
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        let unavailable = status.code() == Code::Unavailable;
        assert_eq!(pushback.is_some(), unavailable && !passes, "{title}");
        let request_id = status.metadata().get("x-request-id");
        assert_eq!(told.request_info().is_some(), request_id.is_some(), "{title}");
    }
}

#[tokio::test]
async fn the_row_of_the_table_comes_with_the_refusal() {
    for Told { title, status } in gather().await {
        let whole = tonic_types::pb::Status::decode(status.details()).unwrap();
        let row = whole.details.iter().find(|any| any.type_url.ends_with(".JetError"));
        let Some(row) = row else { continue };
        let row = pb::JetError::decode(&*row.value).unwrap();
        let jet = status.jet_err();
        assert_eq!((row.code, &*row.name), (jet.code(), jet.name()), "{title}");
        assert_eq!(row.category, jet.category().path(), "{title}");
        assert_eq!(row.message, jet.message(), "{title}");
        assert_eq!(row.grpc_code, jet.kind().grpc_name(), "{title}");
        assert_eq!(status.fact("jet_category"), row.category, "{title}");
        assert!(status.message().ends_with(jet.message()) || jet == JetErr::InvalidParameter);
    }
}

/// Asserts that a status keeps within what clients take.
#[track_caller]
fn fits(status: &Status) {
    assert!(status.details().len() <= DETAILS_BYTES, "{}: {status:?}", status.details().len());
    // Base64, and some of the message percent-encoded.
    let headers = status.details().len() * 4 / 3 + status.message().len() * 2;
    assert!(headers <= HEADER_BYTES, "{headers}");
    assert!(status.told().error_info().is_some());
}

#[tokio::test]
async fn the_longest_names_leave_room_for_all_that_is_told() {
    let server = TestServer::start_with(|config: &mut Config| config.max_sessions = 13).await;
    let (a, b, id) = ("a".repeat(128), "b".repeat(128), "i".repeat(128));
    let long = server.create(&"n".repeat(63)).await.unwrap();
    let unknown = format!("{long}/sessions/{}", u64::MAX);
    for call in on_session(&unknown, &a).iter().chain(&on_sessions_of(&long)) {
        fits(&server.ask_as(&id, call).await.unwrap_err());
    }
    server.initialize(&long).await.unwrap();
    for call in on_session(&unknown, &a) {
        fits(&server.ask_as(&id, &call).await.unwrap_err());
    }
    let mut last = None;
    for _ in 0..12 {
        let session = server.begin(&long).await.unwrap();
        session.begin_transaction(&a).await.unwrap();
        last = Some(session);
    }
    let last = last.unwrap();
    last.set_context(&a, 7).await.unwrap();
    let mut told = Vec::new();
    for call in on_session(last.name(), &b) {
        if let Err(refusal) = server.ask_as(&id, &call).await {
            fits(&refusal);
            told.push(refusal.jet_err().code());
        }
    }
    for expected in [-1912, -1913, -1910, -1914] {
        assert!(told.contains(&expected), "{told:?}");
    }
    let stale = pb::ResetSessionContextRequest {
        session: last.name().to_owned(),
        thread_id: b.clone(),
        fencing_token: u64::MAX,
        ..Default::default()
    };
    let stale = call("SessionService/ResetSessionContext", &stale);
    fits(&server.ask_as(&id, &stale).await.unwrap_err());
    // The longest that can be told of a loss: how, by whom, why, and who has it now.
    let token = last.look().await.unwrap().binding.unwrap().fencing_token;
    last.force_reset(token, &"ř".repeat(128)).await.unwrap();
    last.set_leased(&b, 3_600).await.unwrap();
    for token in [0, u64::MAX] {
        let reset = pb::ResetSessionContextRequest {
            session: last.name().to_owned(),
            thread_id: a.clone(),
            fencing_token: token,
            ..Default::default()
        };
        let reset = call("SessionService/ResetSessionContext", &reset);
        let refusal = server.ask_as(&id, &reset).await.unwrap_err();
        fits(&refusal);
        assert_eq!(refusal.fact("cause"), "forced");
        assert_eq!(refusal.fact("holder_thread_id"), b);
        assert_eq!(refusal.fact("reason"), format!("{}…", "ř".repeat(32)));
        assert!(refusal.message().ends_with('…'), "{}", refusal.message());
    }
    let full = &on_sessions_of(&long)[0];
    fits(&server.ask_as(&id, full).await.unwrap_err());

    // Here the list has to be shortened, and says so.
    let terminate = &on_instance(&long)[2];
    let refusal = server.ask_as(&id, terminate).await.unwrap_err();
    fits(&refusal);
    assert_eq!(refusal.jet_err(), JetErr::TooManyActiveUsers);
    assert_eq!(refusal.fact("truncated"), "true");
    let named = refusal.told().precondition_failure().unwrap().violations.len();
    assert!((1..10).contains(&named), "{named}");
}

#[tokio::test]
async fn a_thousand_bad_fields_are_cut_short_and_it_is_said() {
    let server = TestServer::start().await;
    for count in [30, 1_000, 20_000] {
        let request = pb::WatchInstancesRequest { names: vec!["x".to_owned(); count] };
        let refusal = server.instances().watch_instances(request).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{count}: {refusal:?}");
        fits(&refusal);
        assert_eq!(refusal.jet_err(), JetErr::InvalidParameter);
        assert_eq!(refusal.fact("truncated"), "true");
        assert_eq!(refusal.bad_fields()[0], "names[0]");
    }
}
