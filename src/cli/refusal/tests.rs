use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;

fn info(reason: &str, jet: JetErr, facts: &[(&str, &str)]) -> ErrorDetails {
    let (code, name) = (jet.code().to_string(), jet.name());
    let known = [
        ("jet_error", code.as_str()),
        ("jet_error_name", name),
        ("jet_category", jet.category().path()),
    ];
    let metadata = known.iter().chain(facts);
    let metadata = metadata.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    ErrorDetails::with_error_info(reason, "jet.session.v1", metadata.collect::<HashMap<_, _>>())
}

fn already_set() -> Status {
    let mut details = info(
        "SESSION_CONTEXT_ALREADY_SET",
        JetErr::SessionContextAlreadySet,
        &[
            ("session", "instances/main/sessions/1"),
            ("holder_thread_id", "worker-3"),
            ("held_for", "42s"),
            ("fencing_token", "17"),
            ("pool_size", "3"),
        ],
    );
    details.set_retry_info(Some(Duration::from_millis(2_500)));
    let code = Code::FailedPrecondition;
    Status::with_error_details(code, "A context is set.", details)
}

#[test]
fn a_refusal_names_the_code_and_then_the_facts() {
    expect_test::expect![[r#"
        error: JET_errSessionContextAlreadySet (-1912): A context is set.
          session      instances/main/sessions/1
          held by      worker-3
          held for     42s
          token        17
          pool size    3
          retry after  2.5s"#]]
    .assert_eq(&Refusal::from(&already_set()).text());
}

#[test]
fn programs_get_the_details_as_proto3_json() {
    let json = Refusal::from(&already_set()).json();
    assert_eq!(json["code"], 9);
    assert_eq!(json["grpc_code"], "FAILED_PRECONDITION");
    assert_eq!(json["jet_error"], -1912);
    assert_eq!(json["jet_error_name"], "JET_errSessionContextAlreadySet");
    assert_eq!(json["reason"], "SESSION_CONTEXT_ALREADY_SET");
    let details = json["details"].as_array().unwrap();
    let metadata = details.iter().find_map(|detail| detail.get("metadata"));
    assert_eq!(metadata.unwrap()["holder_thread_id"], "worker-3");
    let delay = details.iter().find_map(|detail| detail.get("retryDelay"));
    assert_eq!(delay.unwrap(), "2.500s");
}

#[test]
fn every_bad_field_is_named() {
    let mut details = info("INVALID_PARAMETER", JetErr::InvalidParameter, &[]);
    details.add_bad_request_violation("thread_id", "must not be empty");
    details.add_bad_request_violation("context", "must not be 0");
    let status = Status::with_error_details(Code::InvalidArgument, "No.", details);
    expect_test::expect![[r#"
        error: JET_errInvalidParameter (-1003): No.
          field  thread_id: must not be empty
          field  context: must not be 0"#]]
    .assert_eq(&Refusal::from(&status).text());
}

#[test]
fn a_stale_token_is_somebody_elses_session() {
    let nearest = JetErr::SessionContextNotSetByThisThread;
    let details = info("STALE_FENCING_TOKEN", nearest, &[]);
    let status = Status::with_error_details(Code::Aborted, "The token is old.", details);
    assert_eq!(Refusal::from(&status).exit(), Exit::Taken);
}

#[test]
fn a_name_is_not_said_twice() {
    let err = JetErr::InvalidSesid;
    let message = format!("{err}: it ended.");
    let details = info(&err.reason(), err, &[]);
    let status = Status::with_error_details(Code::NotFound, message, details);
    let text = "error: JET_errInvalidSesid (-1104): it ended.";
    assert_eq!(Refusal::from(&status).text(), text);
}

#[test]
fn what_is_in_the_way_is_named_unless_the_facts_do() {
    let blocked = |facts: &[(&str, &str)]| {
        let mut details = info("X", JetErr::TooManyActiveUsers, facts);
        details.add_precondition_failure_violation(
            "OPEN_TRANSACTION",
            "instances/a/sessions/1",
            "",
        );
        let status = Status::with_error_details(Code::FailedPrecondition, "No.", details);
        Refusal::from(&status).text()
    };
    expect_test::expect![[r#"
        error: JET_errTooManyActiveUsers (-1059): No.
          instance    instances/a
          in the way  instances/a/sessions/1"#]]
    .assert_eq(&blocked(&[("instance", "instances/a")]));
    expect_test::expect![[r#"
        error: JET_errTooManyActiveUsers (-1059): No.
          state  READY"#]]
    .assert_eq(&blocked(&[("instance_state", "READY")]));
}

#[test]
fn trailers_do_when_the_details_are_lost() {
    let mut trailers = MetadataMap::new();
    trailers.insert("jet-error", "-1104".parse().unwrap());
    let status = Status::with_metadata(Code::NotFound, "No session.", trailers);
    let refusal = Refusal::from(&status);
    assert_eq!(refusal.exit(), Exit::Missing);
    let text = "error: JET_errInvalidSesid (-1104): No session.";
    assert_eq!(refusal.text(), text);
}

#[test]
fn exit_codes_follow_the_jet_error_before_the_grpc_code() {
    use JetErr::*;
    for (err, code, exit) in [
        (SessionContextAlreadySet, Code::FailedPrecondition, Exit::Taken),
        (SessionContextNotSetByThisThread, Code::FailedPrecondition, Exit::Taken),
        (SessionSharingViolation, Code::Aborted, Exit::Taken),
        (SessionInUse, Code::FailedPrecondition, Exit::Taken),
        (InvalidInstance, Code::NotFound, Exit::Missing),
        (InvalidSesid, Code::NotFound, Exit::Missing),
        (NotInitialized, Code::Unavailable, Exit::NotReady),
        (TermInProgress, Code::Unavailable, Exit::NotReady),
        (InstanceUnavailable, Code::FailedPrecondition, Exit::Refused),
        (OutOfSessions, Code::ResourceExhausted, Exit::Refused),
    ] {
        let status = Status::with_error_details(code, "", info(&err.reason(), err, &[]));
        assert_eq!(Refusal::from(&status).exit(), exit, "{err}");
    }
    let plain = |code| Refusal::from(&Status::new(code, "")).exit();
    assert_eq!(plain(Code::DeadlineExceeded), Exit::NotReady);
    assert_eq!(plain(Code::PermissionDenied), Exit::Denied);
    assert_eq!(plain(Code::Unauthenticated), Exit::Denied);
    assert_eq!(plain(Code::NotFound), Exit::Missing);
}
