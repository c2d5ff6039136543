//! Requests that can be refused without looking at any state.

use std::collections::BTreeMap;

use jet_session::proto::api as pb;
use prost_types::Duration;

use crate::support::call::{call, on_instance, on_session, on_sessions_of};
use crate::support::{MAIN, Refusal, THREAD_A, TestServer};

fn labels(count: usize, key: usize, value: usize) -> BTreeMap<String, String> {
    let key = |i: usize| format!("{i}{}", "k".repeat(key.saturating_sub(1)));
    (0..count).map(|i| (key(i), "v".repeat(value))).collect()
}

#[tokio::test]
async fn a_malformed_name_of_a_session_is_refused_by_every_call() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let before = server.picture().await;
    let good = session.name().to_owned();
    let too_long = format!("instances/{}/sessions/1", "m".repeat(64));
    for bad in [
        "",
        "1",
        "main/sessions/1",
        "instances/main",
        "instances/main/sessions",
        "instances/main/sessions/",
        "instances/main/sessions/0",
        "instances/main/sessions/00",
        "instances/main/sessions/01",
        "instances/main/sessions/+1",
        "instances/main/sessions/-1",
        "instances/main/sessions/1x",
        "instances/main/sessions/0x1",
        "instances/main/sessions/١",
        "instances/main/sessions/18446744073709551616",
        "instances/Main/sessions/1",
        "instances//sessions/1",
        "instances/-main/sessions/1",
        "instances/main-/sessions/1",
        "instances/main/sessions/sessions/1",
        &too_long,
        &format!("{good}/"),
        &format!(" {good}"),
        &format!("{good}\0"),
        &format!("//{good}"),
    ] {
        for call in on_session(bad, THREAD_A) {
            let refusal = server.ask(&call).await.unwrap_err();
            let is_get = call.method == "SessionService/GetSession";
            refusal.is_about_fields(&[if is_get { "name" } else { "session" }]);
        }
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_malformed_name_of_an_instance_is_refused_by_every_call() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let too_long = format!("instances/{}", "m".repeat(64));
    for bad in
        ["", "main", "instances/", "instances/Main", "instances/1st", "instances/a/b", &too_long]
    {
        for call in on_instance(bad) {
            server.ask(&call).await.unwrap_err().is_about_fields(&["name"]);
        }
        for call in on_sessions_of(bad) {
            let field = match call.method {
                "SessionService/ListSessions" | "SessionService/ClaimSessionContext" => "parent",
                _ => "instance",
            };
            server.ask(&call).await.unwrap_err().is_about_fields(&[field]);
        }
        let create =
            pb::CreateInstanceRequest { instance_id: bad.to_owned(), ..Default::default() };
        if bad != "main" {
            let refusal = server.instances().create_instance(create).await.unwrap_err();
            refusal.is_about_fields(&["instance_id"]);
        }
        let names = vec![MAIN.to_owned(), bad.to_owned()];
        let watch = pb::WatchInstancesRequest { names };
        let refusal = server.instances().watch_instances(watch).await.unwrap_err();
        refusal.is_about_fields(&["names[1]"]);
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_malformed_thread_id_is_refused_by_every_call_that_has_one() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let before = server.picture().await;
    for bad in ["", "a b", "tür", "a\tb", "a\0", "a\u{7f}", &"x".repeat(129)] {
        for call in on_session(session.name(), bad) {
            if ![
                "SessionService/GetSession",
                "SessionService/DuplicateSession",
                "SessionService/ForceResetSessionContext",
            ]
            .contains(&call.method)
            {
                server.ask(&call).await.unwrap_err().is_about_fields(&["thread_id"]);
            }
        }
        if !bad.is_empty() {
            let force = pb::EndSessionRequest {
                session: session.name().to_owned(),
                thread_id: bad.to_owned(),
                force: true,
                reason: "its host is gone".to_owned(),
                ..Default::default()
            };
            let refusal = server.sessions().end_session(force).await.unwrap_err();
            refusal.is_about_fields(&["thread_id"]);
            let filter = pb::SessionFilter { thread_id: bad.to_owned(), ..Default::default() };
            let list = pb::ListSessionsRequest {
                parent: MAIN.to_owned(),
                filter: Some(filter),
                ..Default::default()
            };
            let refusal = server.sessions().list_sessions(list).await.unwrap_err();
            refusal.is_about_fields(&["filter.thread_id"]);
        }
    }
    assert_eq!(server.picture().await, before);
    session.set_context(&"x".repeat(128), 7).await.unwrap();
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let name = session.name().to_owned();
    let before = server.picture().await;
    let negative = Some(Duration { seconds: -1, nanos: 0 });
    let request_id = "r".repeat(65);
    for (call, fields) in [
        (
            call(
                "SessionService/SetSessionContext",
                &pb::SetSessionContextRequest {
                    request_id: request_id.clone(),
                    wait_timeout: negative,
                    lease_ttl: Some(Duration { seconds: 0, nanos: 5 }),
                    ..Default::default()
                },
            ),
            &["session", "thread_id", "context", "request_id", "wait_timeout", "lease_ttl"][..],
        ),
        (
            // A bad word alone waits for the session; in company it is named.
            call(
                "SessionService/SetSessionContext",
                &pb::SetSessionContextRequest {
                    session: name.clone(),
                    context: u64::MAX,
                    ..Default::default()
                },
            ),
            &["thread_id", "context"],
        ),
        (
            call(
                "SessionService/EndSession",
                &pb::EndSessionRequest {
                    force: true,
                    thread_id: "a b".to_owned(),
                    request_id,
                    ..Default::default()
                },
            ),
            &["session", "thread_id", "request_id", "reason"],
        ),
        (
            call(
                "SessionService/EndSession",
                &pb::EndSessionRequest { reason: "because".to_owned(), ..Default::default() },
            ),
            &["session", "thread_id", "reason"],
        ),
        (
            call(
                "SessionService/ClaimSessionContext",
                &pb::ClaimSessionContextRequest {
                    labels: labels(9, 1, 1),
                    request_id: "two words".to_owned(),
                    wait_timeout: negative,
                    lease_ttl: negative,
                    ..Default::default()
                },
            ),
            &[
                "parent",
                "labels",
                "thread_id",
                "context",
                "request_id",
                "wait_timeout",
                "lease_ttl",
            ],
        ),
        (
            call(
                "SessionService/TransferSessionContext",
                &pb::TransferSessionContextRequest {
                    request_id: "two words".to_owned(),
                    to_principal: "p".repeat(257),
                    ..Default::default()
                },
            ),
            &["session", "thread_id", "to_thread_id", "request_id", "to_principal"],
        ),
        (
            call("SessionService/CheckSessionContext", &pb::CheckSessionContextRequest::default()),
            &["session", "thread_id", "fencing_token"],
        ),
        (
            call(
                "SessionService/ForceResetSessionContext",
                &pb::ForceResetSessionContextRequest::default(),
            ),
            &["session", "fencing_token", "reason"],
        ),
        (
            call(
                "SessionService/BatchBeginSessions",
                &pb::BatchBeginSessionsRequest {
                    count: 1_001,
                    labels: labels(9, 1, 1),
                    request_id: "two words".to_owned(),
                    ..Default::default()
                },
            ),
            &["instance", "count", "labels", "request_id"],
        ),
        (
            call("ThreadService/KeepThreadsAlive", &pb::KeepThreadsAliveRequest::default()),
            &["thread_ids", "lease_ttl"],
        ),
        (
            call(
                "ThreadService/KeepThreadsAlive",
                &pb::KeepThreadsAliveRequest {
                    thread_ids: ["good", "", "a b", "good"].map(str::to_owned).into(),
                    lease_ttl: negative,
                    ..Default::default()
                },
            ),
            &["thread_ids[1]", "thread_ids[2]", "lease_ttl"],
        ),
        (
            call(
                "ThreadService/EndThreads",
                &pb::EndThreadsRequest { thread_ids: vec!["t".to_owned(); 401] },
            ),
            &["thread_ids"],
        ),
        (call("ThreadService/GetThread", &pb::GetThreadRequest::default()), &["thread_id"]),
        (
            call(
                "ThreadService/ListThreads",
                &pb::ListThreadsRequest { page_size: -1, page_token: "x".to_owned() },
            ),
            &["page_size", "page_token"],
        ),
        (
            call(
                "SessionService/ListSessions",
                &pb::ListSessionsRequest {
                    page_size: -1,
                    page_token: "x".to_owned(),
                    filter: Some(pb::SessionFilter {
                        thread_id: "a b".to_owned(),
                        labels: labels(9, 1, 1),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ),
            &["parent", "page_size", "page_token", "filter.thread_id", "filter.labels"],
        ),
        (
            call(
                "InstanceService/CreateInstance",
                &pb::CreateInstanceRequest {
                    labels: labels(9, 1, 1),
                    max_sessions: -1,
                    durability: 7,
                    request_id: "two words".to_owned(),
                    ..Default::default()
                },
            ),
            &["instance_id", "labels", "max_sessions", "durability", "request_id"],
        ),
        (
            call(
                "InstanceService/TerminateInstance",
                &pb::TerminateInstanceRequest { mode: 9, ..Default::default() },
            ),
            &["name", "mode"],
        ),
    ] {
        let refusal = server.ask(&call).await.unwrap_err();
        refusal.is_about_fields(fields);
        // The sentence for people names a few.
        assert!(refusal.message().contains(&refusal.bad_fields()[0]), "{}", refusal.message());
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn numbers_enums_and_labels_are_checked_one_by_one() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let of = |max_sessions, durability, labels| pb::CreateInstanceRequest {
        instance_id: "pool".to_owned(),
        max_sessions,
        durability,
        labels,
        ..Default::default()
    };
    let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    for (request, field) in [
        (of(-1, 0, labels(0, 0, 0)), "max_sessions"),
        (of(10_000_001, 0, labels(0, 0, 0)), "max_sessions"),
        (of(i32::MIN, 0, labels(0, 0, 0)), "max_sessions"),
        (of(0, 3, labels(0, 0, 0)), "durability"),
        (of(0, -1, labels(0, 0, 0)), "durability"),
        (of(0, 0, labels(9, 5, 5)), "labels"),
        (of(0, 0, labels(1, 64, 5)), "labels"),
        (of(0, 0, labels(1, 5, 64)), "labels"),
        (of(0, 0, one("", "v")), "labels"),
        (of(0, 0, one("schlüssel", "v")), "labels"),
        (of(0, 0, one("k", "wört")), "labels"),
        (of(0, 0, one("k", "two\nlines")), "labels"),
    ] {
        let refusal = server.instances().create_instance(request.clone()).await.unwrap_err();
        refusal.is_about_fields(&[field]);
        if field == "labels" {
            let (instance, labels) = (MAIN.to_owned(), request.labels);
            let begin = pb::BeginSessionRequest { instance, labels, ..Default::default() };
            let refusal = server.sessions().begin_session(begin).await.unwrap_err();
            refusal.is_about_fields(&["labels"]);
        }
    }
    for mode in [4, -1, i32::MAX] {
        let name = MAIN.to_owned();
        let request = pb::TerminateInstanceRequest { name, mode, ..Default::default() };
        let refusal = server.instances().terminate_instance(request).await.unwrap_err();
        refusal.is_about_fields(&["mode"]);
    }
    assert_eq!(server.picture().await, before);
    server.instances().create_instance(of(10_000_000, 2, labels(8, 63, 63))).await.unwrap();
}

#[tokio::test]
async fn a_lease_is_from_a_second_to_a_day_and_a_batch_from_one_to_a_thousand() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let before = server.picture().await;
    let day = 24 * 60 * 60;
    for ttl in [(0, 0), (0, 999_999_999), (-1, 0), (day, 1), (day + 1, 0), (i64::MAX, 0)] {
        let lease_ttl = Some(Duration { seconds: ttl.0, nanos: ttl.1 });
        let thread_ids = vec![THREAD_A.to_owned()];
        let keep = pb::KeepThreadsAliveRequest { thread_ids, lease_ttl, include_held: false };
        let refusal = server.threads().keep_threads_alive(keep).await.unwrap_err();
        refusal.is_about_fields(&["lease_ttl"]);
        let set = pb::SetSessionContextRequest {
            session: session.name().to_owned(),
            thread_id: THREAD_A.to_owned(),
            context: 7,
            lease_ttl,
            ..Default::default()
        };
        let refusal = server.sessions().set_session_context(set).await.unwrap_err();
        refusal.is_about_fields(&["lease_ttl"]);
    }
    for count in [0, -1, 1_001, i32::MIN, i32::MAX] {
        let instance = MAIN.to_owned();
        let batch = pb::BatchBeginSessionsRequest { instance, count, ..Default::default() };
        let refusal = server.sessions().batch_begin_sessions(batch).await.unwrap_err();
        refusal.is_about_fields(&["count"]);
    }
    assert_eq!(server.picture().await, before);
    for seconds in [1, day] {
        let lease_ttl = Some(Duration { seconds, nanos: 0 });
        let thread_ids = vec![THREAD_A.to_owned()];
        let keep = pb::KeepThreadsAliveRequest { thread_ids, lease_ttl, include_held: false };
        server.threads().keep_threads_alive(keep).await.unwrap();
    }
}

#[tokio::test]
async fn as_many_threads_as_a_call_takes_fit_into_a_message_with_the_longest_ids() {
    let server = TestServer::start().await;
    let info = server.instances().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    let limits = info.into_inner().limits.unwrap();
    let max = usize::try_from(limits.max_threads_per_call).unwrap();
    let thread_ids: Vec<_> = (0..max).map(|i| format!("{i:0>128}")).collect();
    let keep = pb::KeepThreadsAliveRequest {
        thread_ids: thread_ids.clone(),
        lease_ttl: Some(Duration { seconds: 60, nanos: 999_999_999 }),
        include_held: true,
    };

    let kept = server.threads().keep_threads_alive(keep).await.unwrap().into_inner().threads;

    assert_eq!(kept.len(), max);
    server.threads().end_threads(pb::EndThreadsRequest { thread_ids }).await.unwrap();
}
