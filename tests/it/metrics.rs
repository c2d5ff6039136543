//! What a server tells monitors of calls and of what there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jet_session::proto::api as pb;
use tonic::{Code, Request};

use crate::support::call::ask as call;
use crate::support::metrics::{Page, get, start};
use crate::support::{MAIN, THREAD_A, THREAD_B, TestServer, within};

/// The page, once it is as wanted.
async fn once(server: &TestServer, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
    within(what, async {
        loop {
            let page = Page::read(server.metrics()).await;
            if wanted(&page) {
                return page;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The labels of a method of SessionService.
fn of(method: &str) -> String {
    format!("grpc_method=\"{method}\"")
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let server = start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    session.set_context(THREAD_B, 7).await.unwrap_err();
    session.reset_context(THREAD_B).await.unwrap_err();
    session.reset_context(THREAD_A).await.unwrap();
    let unknown = Request::new(bytes::Bytes::new());
    let refused = call(server.channel(), "/no.such.Service/Method", unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);

    // A client has its answer a moment before the body that carried it is gone.
    let page = once(&server, "all calls are handled", |page| {
        page.sum("grpc_server_handled_total", &[]) >= 6.0
    })
    .await;

    for (method, code, count) in [
        ("BeginSession", "OK", 1.0),
        ("SetSessionContext", "OK", 1.0),
        ("SetSessionContext", "FailedPrecondition", 1.0),
        ("ResetSessionContext", "OK", 1.0),
        ("ResetSessionContext", "FailedPrecondition", 1.0),
        ("unknown", "Unimplemented", 1.0),
        ("GetSession", "OK", 0.0),
    ] {
        let labels = [&*of(method), &*format!("grpc_code=\"{code}\"")];
        assert_eq!(page.sum("grpc_server_handled_total", &labels), count, "{method} {code}");
    }
    for name in ["grpc_server_started_total", "grpc_server_handling_seconds_count"] {
        assert_eq!(page.sum(name, &[&*of("SetSessionContext")]), 2.0, "{name}");
    }
    let refusals =
        |code: &str| page.sum("jet_refusals_total", &[&*format!("jet_error=\"{code}\"")]);
    assert_eq!(refusals("-1912"), 1.0);
    assert_eq!(refusals("-1913"), 1.0);
    assert_eq!(page.sum("jet_refusals_total", &[]), 2.0);
    assert_eq!(page.value("jet_panics_total"), 0.0);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_counts_as_cancelled() {
    let server = start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let wait = pb::SetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_B.to_owned(),
        context: 7,
        wait_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let mut client = session.client();
    let waiting = tokio::spawn(async move { client.set_session_context(wait).await });
    once(&server, "a call waits", |page| page.value("jet_waiters") == 1.0).await;

    waiting.abort();

    let cancelled = [&*of("SetSessionContext"), "grpc_code=\"Canceled\""];
    let page = once(&server, "nobody waits", |page| {
        page.sum("grpc_server_handled_total", &cancelled) == 1.0 && page.value("jet_waiters") == 0.0
    })
    .await;
    assert_eq!(page.sum("grpc_server_handling_seconds_count", &cancelled[..1]), 2.0);
}

#[tokio::test]
async fn streams_are_counted_when_they_end_and_their_refusals_when_they_are_told() {
    let server = start().await;
    let session = server.session().await;
    let watch = pb::WatchSessionsRequest { parent: MAIN.to_owned(), ..Default::default() };
    let mut watch = server.sessions().watch_sessions(watch).await.unwrap().into_inner();
    watch.message().await.unwrap();
    let reset = pb::ResetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        ..Default::default()
    };
    let operation = pb::PipelineOperation {
        id: 1,
        operation: Some(pb::pipeline_operation::Operation::Reset(reset)),
    };
    let operations = pb::PipelineSessionContextsRequest { operations: vec![operation; 3] };
    let requests = tokio_stream::iter([operations]);
    let results = server.sessions().pipeline_session_contexts(requests).await.unwrap();
    let mut results = results.into_inner();
    while results.message().await.unwrap().is_some() {}

    let piped = [&*of("PipelineSessionContexts"), "bidi_stream", "grpc_code=\"OK\""];
    let page = once(&server, "the pipeline has ended", |page| {
        page.sum("grpc_server_handled_total", &piped) == 1.0
    })
    .await;
    assert_eq!(page.sum("jet_refusals_total", &["jet_error=\"-1913\""]), 3.0);
    assert_eq!(page.value("jet_watchers"), 1.0);
    let watched = [&*of("WatchSessions"), "server_stream"];
    assert_eq!(page.sum("grpc_server_started_total", &watched), 1.0);
    assert_eq!(page.sum("grpc_server_handled_total", &watched), 0.0, "it goes on");
    assert_eq!(page.sum("grpc_server_handling_seconds_count", &watched), 0.0, "nor is it timed");

    drop(watch);

    once(&server, "the watch has ended", |page| {
        page.value("jet_watchers") == 0.0 && page.sum("grpc_server_handled_total", &watched) == 1.0
    })
    .await;
}

#[tokio::test]
async fn what_there_is_and_what_happens_is_told() {
    let server = start().await;
    server.create("resting").await.unwrap();
    let [kept, _free] = [server.session().await, server.session().await];
    kept.set_context(THREAD_A, 7).await.unwrap();
    let lost = server.session().await;
    let set = pb::SetSessionContextRequest {
        session: lost.name().to_owned(),
        thread_id: THREAD_B.to_owned(),
        context: 7,
        lease_ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        request_id: "a-request".to_owned(),
        ..Default::default()
    };
    server.sessions().set_session_context(set).await.unwrap();

    let page = Page::read(server.metrics()).await;
    assert_eq!(page.value("jet_instances{state=\"READY\"}"), 1.0);
    assert_eq!(page.value("jet_instances{state=\"CREATED\"}"), 1.0);
    assert_eq!(page.value("jet_instances{state=\"FAILED\"}"), 0.0);
    assert_eq!(page.sum("jet_instances", &[]), 2.0);
    assert_eq!(page.value("jet_sessions"), 3.0);
    assert_eq!(page.value("jet_bindings"), 2.0);
    assert_eq!(page.value("jet_threads_with_lease"), 1.0);
    assert_eq!(page.value("jet_events_total{cause=\"began\"}"), 3.0);
    assert_eq!(page.value("jet_events_total{cause=\"set\"}"), 2.0);
    assert!(page.value("jet_connections") >= 1.0);

    let page = once(&server, "the lease ends", |page| {
        page.value("jet_events_total{cause=\"lease_expired\"}") == 1.0
            && page.value("jet_threads_with_lease") == 0.0
    })
    .await;
    assert_eq!(page.value("jet_bindings"), 1.0);
    // A lease lives a second, so the answer is as old by now.
    assert!(page.value("jet_retry_memory_oldest_age_seconds") >= 1.0);
    let commits = page.value("jet_commit_seconds_count");
    assert!(commits >= 6.0, "{commits}");
    assert_eq!(page.value("jet_batch_changes_count"), commits);
    let events = page.sum("jet_events_total", &[]);
    assert!(page.value("jet_batch_changes_sum") > events, "leases are changes and no events");
    assert_eq!(page.value("jet_connections"), page.value("jet_connections_total"));
}

#[tokio::test]
async fn no_label_holds_what_a_client_says() {
    let server = start().await;
    server.create("secret-instance").await.unwrap();
    let session = server.session().await;
    session.set_context("secret-thread", 4_711_147).await.unwrap();
    let unknown = Request::new(bytes::Bytes::new());
    call(server.channel(), "/secret.Service/SecretMethod", unknown).await.unwrap_err();
    let text = get(server.metrics(), "/metrics").await.body;
    assert!(!text.to_lowercase().contains("secret"), "{text}");

    let labels: BTreeSet<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(['{', ',']).filter_map(|part| part.split_once("=\"")))
        .map(|(label, _)| label)
        .collect();
    let known = BTreeSet::from([
        "cause",
        "commit",
        "grpc_code",
        "grpc_method",
        "grpc_service",
        "grpc_type",
        "jet_error",
        "le",
        "name",
        "result",
        "state",
        "version",
    ]);
    assert_eq!(labels, known.intersection(&labels).copied().collect());
}

#[tokio::test]
async fn a_page_that_is_read_under_load_agrees_with_itself() {
    const CLIENTS: usize = 8;
    let server = start().await;
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (session, done) = (server.session().await, Arc::clone(&done));
        clients.push(tokio::spawn(async move {
            let thread = format!("client/{number}");
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                session.set_context(&thread, 7).await.unwrap();
                session.set_context("another", 7).await.unwrap_err();
                session.reset_context(&thread).await.unwrap();
                calls += 3;
            }
            calls
        }));
    }
    let methods = ["SetSessionContext", "ResetSessionContext"].map(of);
    let mut before = Page::default();
    for _ in 0..50 {
        let page = Page::read(server.metrics()).await;
        for method in &methods {
            let sum = |name, page: &Page| page.sum(name, &[method]);
            let handled = sum("grpc_server_handled_total", &page);
            let timed = sum("grpc_server_handling_seconds_count", &page);
            let started = sum("grpc_server_started_total", &page);
            assert!(handled <= timed && timed <= started, "{handled} {timed} {started}");
            let last = page.sum("grpc_server_handling_seconds_bucket", &[method, "le=\"+Inf\""]);
            assert_eq!(last, timed, "the buckets are all there is");
        }
        for (series, value) in &before.series {
            let rises = series.contains("_total") || series.contains("_bucket");
            assert!(!rises || page.value(series) >= *value, "{series} sank");
        }
        before = page;
    }
    done.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for client in clients {
        calls += within("the client ends", client).await.unwrap();
    }

    let total = |name: &str, page: &Page| -> f64 {
        methods.iter().map(|method| page.sum(name, &[method])).sum()
    };
    let page = once(&server, "nothing is in flight", |page| {
        total("grpc_server_handled_total", page) == f64::from(calls)
    })
    .await;
    assert_eq!(total("grpc_server_started_total", &page), f64::from(calls));
    assert_eq!(total("grpc_server_handling_seconds_count", &page), f64::from(calls));
}
