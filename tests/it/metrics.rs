//! What a server tells monitors: the page, the probes, and that neither holds anybody up.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jet_session::config::{Config, Listen};
use jet_session::domain::limits::METRICS_CONNECTIONS_MAX;
use jet_session::proto::api as pb;
use jet_session::server::{self, Ending, Orders, ServerError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::support::call::{ask as call, on_sessions_of, path};
use crate::support::metrics::{Page, ask, get};
use crate::support::raw::Raw;
use crate::support::{MAIN, THREAD_A, THREAD_B, TestServer, within};

/// A server that tells metrics.
async fn start() -> TestServer {
    TestServer::start_with(tells).await
}

fn tells(config: &mut Config) {
    config.metrics_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
}

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

#[tokio::test]
async fn probes_hear_how_far_the_server_is() {
    const FOR_EVER: Duration = Duration::from_secs(3_600);
    let mut server = TestServer::start_with(|config| {
        tells(config);
        config.drain = FOR_EVER;
    })
    .await;
    let at = server.metrics();
    let ready = get(at, "/readyz").await;
    assert_eq!((ready.status, &*ready.body), (200, "the server serves\n"));
    assert_eq!(get(at, "/healthz").await.status, 200);
    let raw = Raw::connect(server.address()).await;
    let mut held = Vec::new();
    for call in on_sessions_of(MAIN) {
        held.push(raw.begin(&path(call.method), &[]).await);
    }
    raw.settle().await;

    server.order_to_end().await;

    let drains = within("the server drains", async {
        loop {
            let told = get(at, "/readyz").await;
            if told.status != 200 {
                return told;
            }
        }
    })
    .await;
    assert_eq!((drains.status, &*drains.body), (503, "the server drains and will end\n"));
    assert_eq!(get(at, "/healthz").await.status, 200, "it is no reason to kill it");
    let page = Page::read(at).await;
    assert!(page.sum("grpc_server_started_total", &[]) >= held.len() as f64);
    drop((held, raw));
    assert_eq!(server.ending().await, Ending::Graceful);
    TcpStream::connect(at).await.unwrap_err();
}

#[tokio::test]
async fn other_paths_and_other_methods_are_refused() {
    let server = start().await;
    let at = server.metrics();
    for path in ["/", "/metrics/", "/metricsx", "/readyz/x", "//metrics"] {
        assert_eq!(get(at, path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let told = ask(at, &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(told.status, 405, "{method}");
        assert!(told.head.contains("allow: get, head"), "{}", told.head);
    }
    let told = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((told.status, &*told.body), (200, ""));
    // HTTP/1.0, and a query as some scrapers send it.
    assert_eq!(ask(at, "GET /metrics?x=1 HTTP/1.0\r\n\r\n").await.status, 200);
    // Too much to be a request.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    assert!(ask(at, &long).await.status >= 400);
}

#[tokio::test]
async fn scrapers_get_the_format_that_they_accept() {
    let server = start().await;
    let accepting = |types: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {types}\r\n\r\n");
        let at = server.metrics();
        async move { ask(at, &request).await }
    };
    // What Prometheus 2.50 says.
    let open = accepting(
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
         q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    )
    .await;
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("# TYPE grpc_server_started counter\n"));
    let text = accepting("text/plain").await;
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"));
    assert!(!text.body.contains("# EOF"));
    assert!(text.body.contains("# TYPE grpc_server_started_total counter\n"));
}

#[tokio::test]
async fn scrapers_that_say_nothing_hold_nobody_up() {
    let server = start().await;
    let mut silent = Vec::new();
    for _ in 0..METRICS_CONNECTIONS_MAX {
        silent.push(TcpStream::connect(server.metrics()).await.unwrap());
    }

    let mut one_more = TcpStream::connect(server.metrics()).await.unwrap();

    let read = within("it is closed", one_more.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    drop(silent);
    within("there is room again", async {
        while TcpStream::connect(server.metrics()).await.is_err()
            || tokio::spawn(get(server.metrics(), "/healthz")).await.is_err()
        {}
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be_taken() {
    let server = start().await;
    let taken = server.metrics();
    let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.metrics_listen = Some(taken);

    let refused = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("two servers on one port"))
    });

    match refused.await.unwrap() {
        Err(ServerError::Listen { place, source }) => {
            assert_eq!(place, Listen::Tcp(taken));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}

/// Every name that is told, as Prometheus keeps it.
async fn names() -> BTreeSet<String> {
    let server = start().await;
    let page = Page::read(server.metrics()).await;
    page.families.into_keys().collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_no_other() {
    let told = names().await;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md"));
    let text = text.unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let prefixes = ["grpc_", "jet_", "process_"];
    let documented = rows
        .map(|(name, _)| name.to_owned())
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    assert_eq!(documented.collect::<BTreeSet<_>>(), told);
}

/// Names of metrics in an expression, as Prometheus keeps them.
fn named(expression: &str) -> BTreeSet<String> {
    const LABELS: [&str; 5] =
        ["grpc_code", "grpc_method", "grpc_service", "grpc_type", "jet_error"];
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = |word: &&str| {
        ["grpc_", "jet_", "process_"].iter().any(|prefix| word.starts_with(prefix))
            && !LABELS.contains(word)
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// The family that a name belongs to: a histogram has three series.
fn family(name: &str, told: &BTreeSet<String>) -> Option<String> {
    let parts = ["", "_bucket", "_sum", "_count"];
    parts.iter().find_map(|part| told.get(name.strip_suffix(part)?)).cloned()
}

/// Every expression in a dashboard.
fn expressions(of: &serde_json::Value, found: &mut Vec<String>) {
    match of {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&&**name) => {
                        found.push(text.to_owned());
                    }
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn deployed(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path);
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn the_dashboard_shows_what_is_told_and_all_of_it() {
    let told = names().await;
    let dashboard: serde_json::Value =
        serde_json::from_str(&deployed("grafana/jet-session.json")).unwrap();
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    let mut missing = told.clone();
    // Memory that was asked for says little, and shows where something else is looked into.
    missing.remove("process_virtual_memory_bytes");
    for name in found.iter().flat_map(|text| named(text)) {
        let family = family(&name, &told).unwrap_or_else(|| panic!("{name} is not told"));
        missing.remove(&family);
    }
    assert_eq!(missing, BTreeSet::new(), "they are told and not shown");

    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} comes twice", panel["id"]);
        let place = &panel["gridPos"];
        let [x, width] = ["x", "w"].map(|side| place[side].as_u64().unwrap());
        assert!(x + width <= 24, "{} is off the page", panel["title"]);
    }
}

#[tokio::test]
async fn alerts_ask_for_what_is_told() {
    let told = names().await;
    // Sentences for people are not asked of Prometheus. That the rest is YAML, and fires when it should, is
    // asked by tests/prometheus.
    let asked = deployed("prometheus/alerts.yaml");
    let asked = asked.lines().map(str::trim).filter(|line| {
        !["#", "summary:", "description:", "- name:"].iter().any(|of| line.starts_with(of))
    });
    let names: BTreeSet<String> = asked.flat_map(named).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(family(&name, &told).is_some(), "{name} is not told");
    }
}
