//! What a server tells before it serves, and that it says nothing of calls while nobody asks it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::{Layer, ServiceExt};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::endpoint::Answers;
use super::page::{Format, Page};
use super::*;
use crate::proto::api as pb;
use crate::rpc::access::{Access, Guard};
use crate::rpc::layers::{CallLayer, Calls};
use crate::server::environment::System;
use crate::server::{engine, services};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Observer::new(Arc::new(System::new()), None), None))
}

#[tokio::test]
async fn a_server_that_starts_lives_and_is_not_ready() {
    let metrics = metrics();
    let answers = Answers::new(metrics);
    for (path, status) in [
        ("/healthz", StatusCode::OK),
        ("/readyz", StatusCode::SERVICE_UNAVAILABLE),
        ("/metrics", StatusCode::OK),
    ] {
        let request = Request::get(path).body(()).unwrap();
        let answer = answers.to(&request).await;
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        match path {
            "/readyz" => assert_eq!(text, "the server starts\n"),
            // How many sessions there are is not known yet, which is not none.
            "/metrics" => assert!(!text.contains("\njet_sessions "), "{text}"),
            _ => {}
        }
    }
}

#[test]
fn connections_and_reloads_are_counted_by_those_who_see_them() {
    let metrics = metrics();
    let page = Page::new(Arc::clone(&metrics));
    let told = |series: &str| {
        let text = page.told(Format::Text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(str::to_owned)
    };
    assert_eq!(told("jet_tls_certificate_expiry_timestamp_seconds"), None);
    let open = metrics.connections.admit(1);
    assert!(metrics.connections.admit(1).is_none());
    metrics.connections.failed();
    metrics.reloads.reloaded(true);
    metrics.reloads.reloaded(false);
    metrics.reloads.reloaded(false);
    for (series, value) in [
        ("jet_connections", "1"),
        ("jet_connections_total", "2"),
        ("jet_connections_refused_total", "1"),
        ("jet_tls_handshake_failures_total", "1"),
        ("jet_config_reloads_total{result=\"success\"}", "1"),
        ("jet_config_reloads_total{result=\"failure\"}", "2"),
    ] {
        assert_eq!(told(series).as_deref(), Some(value), "{series}");
    }
    drop(open);
    assert_eq!(told("jet_connections").as_deref(), Some("0"));
}

/// Counts what it is asked to note at a level.
struct Counting {
    level: LevelFilter,
    noted: Arc<AtomicUsize>,
}

impl Counting {
    fn note(&self) {
        self.noted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.note();
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {
        self.note();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.note();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A call through everything that a connection leads to.
async fn call<R: Message + Default>(
    services: &Calls<Routes>,
    method: &str,
    message: &impl Message,
) -> Option<R> {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut framed).unwrap();
    let request = Request::post(format!("/jet.session.v1.SessionService/{method}"))
        .header("content-type", "application/grpc")
        .header("x-request-id", "a-request")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .body(Body::new(Full::new(framed.freeze())))
        .unwrap();
    let answer = services.clone().oneshot(request).await.unwrap();
    let body: Bytes = answer.into_body().collect().await.unwrap().to_bytes();
    body.get(5..).map(|message| R::decode(message).unwrap())
}

/// What is noted of 300 calls, a third of them refused.
async fn noted(level: LevelFilter) -> usize {
    let noted = Arc::new(AtomicUsize::new(0));
    // One thread: owners and handlers are all seen.
    let counting = Counting { level, noted: Arc::clone(&noted) };
    let _guard = tracing::subscriber::set_default(counting);
    let config = Config::new(([127, 0, 0, 1], 0).into());
    let (metrics, system) = (metrics(), Arc::new(System::new()));
    let engine = engine(&config, system, &metrics).await.unwrap();
    let guard = Guard::new(Access::Open);
    let services = services(&engine, &guard, HealthReporter::new(), 0).await;
    let layer = CallLayer::new(metrics.panics.clone(), metrics.observer.clone(), guard);
    let services = layer.layer(services);
    let instance = "instances/main".to_owned();
    let begin = pb::BeginSessionRequest { instance, ..Default::default() };
    let begun: pb::BeginSessionResponse = call(&services, "BeginSession", &begin).await.unwrap();
    let session = begun.session.unwrap().name;
    let before = noted.load(Ordering::Relaxed);
    for _ in 0..100 {
        let set = |thread: &str| pb::SetSessionContextRequest {
            session: session.clone(),
            thread_id: thread.to_owned(),
            context: 7,
            ..Default::default()
        };
        type Set = pb::SetSessionContextResponse;
        let (session, thread_id) = (session.clone(), "a".to_owned());
        let reset = pb::ResetSessionContextRequest { session, thread_id, ..Default::default() };
        assert!(call::<Set>(&services, "SetSessionContext", &set("a")).await.is_some());
        assert!(call::<Set>(&services, "SetSessionContext", &set("b")).await.is_none());
        let reset =
            call::<pb::ResetSessionContextResponse>(&services, "ResetSessionContext", &reset);
        assert!(reset.await.is_some());
    }
    let calls: u64 =
        metrics.observer.tally().calls().map(|of| of.handled.iter().sum::<u64>()).sum();
    assert_eq!(calls, 301, "they were counted all the same");
    noted.load(Ordering::Relaxed) - before
}

#[tokio::test]
async fn a_quiet_server_says_nothing_of_calls() {
    assert_eq!(noted(LevelFilter::INFO).await, 0);
    let aloud = noted(LevelFilter::DEBUG).await;
    assert!(aloud >= 300, "at the level debug each call is noted: {aloud}");
}
