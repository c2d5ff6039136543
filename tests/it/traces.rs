//! Spans of calls, as a collector gets them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jet_session::config::{Config, Otlp, Secret};
use jet_session::server::{self, Ending, Orders, ServerError};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::support::call::{ask, on_session, path};
use crate::support::{THREAD_A, TestServer, TestSession, within};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector, as long as the test's runtime.
struct Collector {
    address: SocketAddr,
    spans: mpsc::Receiver<Span>,
}

/// What a collector takes.
struct Taking(mpsc::Sender<Span>);

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        assert_eq!(
            request.metadata().get("x-tenant").map(MetadataValue::as_bytes),
            Some(&b"ours"[..])
        );
        for resource in request.into_inner().resource_spans {
            let of = resource.resource.expect("a resource").attributes;
            let name = of.iter().find(|attribute| attribute.key == "service.name");
            let name = name.and_then(|name| name.value.clone()?.value);
            assert_eq!(name, Some(Value::StringValue("jet-session".to_owned())));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.send(span).await.expect("the test waits for spans");
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (sender, spans) = mpsc::channel(1_000);
        let taking = TraceServiceServer::new(Taking(sender));
        let serving = Server::builder().add_service(taking);
        tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        Self { address, spans }
    }

    /// Every span of a server that ends now, by method.
    async fn all(mut self, mut server: TestServer) -> BTreeMap<String, Vec<Span>> {
        server.order_to_end().await;
        assert_eq!(server.ending().await, Ending::Graceful);
        let mut spans: BTreeMap<_, Vec<_>> = BTreeMap::new();
        // What was to be told was told before the end.
        while let Ok(span) = self.spans.try_recv() {
            spans.entry(text(&span, "rpc.method")).or_default().push(span);
        }
        spans
    }
}

/// A server that tells a collector.
async fn telling(address: SocketAddr, sample_ratio: f64) -> TestServer {
    TestServer::start_with(|config| config.otlp = Some(otlp(address, sample_ratio))).await
}

fn otlp(address: SocketAddr, sample_ratio: f64) -> Otlp {
    let headers = vec![("x-tenant".to_owned(), Secret::new("ours"))];
    Otlp { endpoint: format!("http://{address}"), headers, sample_ratio }
}

fn value(span: &Span, name: &str) -> Option<Value> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    attribute.value.clone()?.value
}

fn text(span: &Span, name: &str) -> String {
    match value(span, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sets a context as part of a trace.
async fn set(server: &TestServer, session: &TestSession, parent: &str) -> Result<(), Status> {
    let call = on_session(session.name(), THREAD_A)
        .into_iter()
        .find(|call| call.method == "SessionService/SetSessionContext")
        .expect("it is among them");
    let mut request = Request::new(call.message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", MetadataValue::try_from(parent).expect("it is ASCII"));
    metadata.insert("tracestate", MetadataValue::from_static("vendor=1"));
    ask(server.channel(), &path(call.method), request).await.map(drop)
}

#[tokio::test]
async fn a_call_is_a_span_below_that_of_its_caller() {
    let collector = Collector::start().await;
    let server = telling(collector.address, 0.0).await;
    let session = server.session().await;
    set(&server, &session, &format!("00-{TRACE}-{PARENT}-01")).await.unwrap();
    set(&server, &session, &format!("00-{TRACE}-{PARENT}-01")).await.unwrap_err();

    let mut spans = collector.all(server).await;

    let sets = spans.remove("SetSessionContext").unwrap();
    assert_eq!(spans, BTreeMap::new(), "of traces that begin here, none is told");
    assert_eq!(sets.len(), 2);
    for (span, (code, jet)) in sets.iter().zip([(0, None), (9, Some(-1912))]) {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), PARENT);
        assert_eq!(span.trace_state, "vendor=1");
        assert_eq!(span.name, "jet.session.v1.SessionService/SetSessionContext");
        assert_eq!(span.kind(), SpanKind::Server);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(text(span, "rpc.system"), "grpc");
        assert_eq!(text(span, "rpc.service"), "jet.session.v1.SessionService");
        assert_eq!(value(span, "rpc.grpc.status_code"), Some(Value::IntValue(code)));
        assert_eq!(value(span, "jet.error"), jet.map(Value::IntValue));
        assert_eq!(text(span, "jet.instance"), "main");
        assert_eq!(text(span, "jet.session"), session.sesid().to_string());
        assert_eq!(text(span, "jet.thread_id"), THREAD_A);
        // A refusal is no error of the server's.
        assert_eq!(span.status.clone().unwrap_or_default().code(), StatusCode::Unset);
    }
    assert_ne!(sets[0].span_id, sets[1].span_id);
}

#[tokio::test]
async fn what_the_caller_does_not_tell_is_not_told() {
    let collector = Collector::start().await;
    let server = telling(collector.address, 1.0).await;
    let session = server.session().await;
    set(&server, &session, &format!("00-{TRACE}-{PARENT}-00")).await.unwrap();
    // Malformed, so it is a trace of its own.
    set(&server, &session, &format!("00-{TRACE}-0000000000000000-00")).await.unwrap_err();

    let spans = collector.all(server).await;

    assert_eq!(spans["BeginSession"].len(), 1);
    let [own] = &spans["SetSessionContext"][..] else { panic!("{spans:?}") };
    assert_ne!(hex(&own.trace_id), TRACE);
    assert_eq!(own.parent_span_id, [0_u8; 0]);
    assert_eq!(value(own, "jet.error"), Some(Value::IntValue(-1912)));
}

#[tokio::test]
async fn a_collector_that_does_not_answer_harms_nobody() {
    // Connections come about and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // And here nobody listens.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let mut server = telling(address, 1.0).await;
        let session = server.session().await;
        for _ in 0..1_000 {
            session.set_context(THREAD_A, 7).await.unwrap();
            session.reset_context(THREAD_A).await.unwrap();
        }
        server.order_to_end().await;
        assert_eq!(within("the server ends", server.ending()).await, Ending::Graceful);
    }
}

#[tokio::test]
async fn a_collector_that_wants_tls_is_refused_at_the_start() {
    let mut config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let endpoint = "https://collector.example:4317".to_owned();
    config.otlp = Some(Otlp { endpoint, headers: Vec::new(), sample_ratio: 1.0 });

    let refused = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("it must not start"))
    });

    match refused.await.unwrap() {
        Err(ServerError::Configuration(mistakes)) => {
            assert_eq!(mistakes.0.len(), 1);
            assert_eq!(mistakes.0[0].source, "otlp.endpoint");
        }
        other => panic!("{other:?}"),
    }
}
