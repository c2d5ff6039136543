//! Spans of calls, told to a collector (OpenTelemetry protocol over gRPC).
//!
//! Off unless an endpoint is configured, and then nothing of it is on the way of a call. Otherwise a call
//! that is sampled makes a span, which waits in a queue that has a bound until a thread of its own sends it
//! off. A collector that does not answer costs spans and nothing else.
//!
//! The names are those of OpenTelemetry's semantic conventions for RPC.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId as OtelTraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span,
};
use tonic::metadata::{MetadataKey, MetadataMap};

use crate::config::{Config, Mistake, Otlp};
use crate::domain::limits::{
    TRACES_BATCH_MAX, TRACES_EVERY_MS, TRACES_EXPORT_SECONDS_MAX, TRACES_FLUSH_MS_MAX,
    TRACES_QUEUE_MAX,
};
use crate::telemetry::context::{TraceContext, TraceId, tracestate};

/// Where spans go.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Traces {
    /// Begins to send spans to the collector that is configured, if one is. The connection is made when there
    /// is something to send, on the runtime that this is called on.
    pub fn load(config: &Config, version: &'static str) -> Result<Option<Self>, Vec<Mistake>> {
        let Some(otlp) = &config.otlp else {
            return Ok(None);
        };
        let exporter = exporter(otlp)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(TRACES_QUEUE_MAX)
            .with_max_export_batch_size(TRACES_BATCH_MAX)
            .with_scheduled_delay(Duration::from_millis(TRACES_EVERY_MS))
            .build();
        let resource = Resource::builder_empty()
            .with_service_name("jet-session")
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        let ours = Sampler::TraceIdRatioBased(otlp.sample_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(exporter).with_batch_config(batches).build(),
            )
            .with_sampler(Sampler::ParentBased(Box::new(ours)))
            .with_resource(resource)
            .build();
        // Whoever drops the last one waits for the collector, without a bound of ours. Here only `flush` does,
        // and the end of the process.
        std::mem::forget(provider.clone());
        let tracer = provider.tracer("jet_session");
        Ok(Some(Self { provider, tracer }))
    }

    /// Begins the span of a call, below that of its caller if there is one.
    pub fn begin(
        &self,
        service: &'static str,
        method: &'static str,
        caller: Option<TraceContext>,
        headers: &HeaderMap,
    ) -> CallSpan {
        let name = format!("{service}/{method}");
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes([
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service),
            KeyValue::new("rpc.method", method),
        ]);
        let parent = match caller {
            Some(caller) => Context::new().with_remote_span_context(remote(caller, headers)),
            None => Context::new(),
        };
        CallSpan {
            span: self.tracer.build_with_context(builder, &parent),
            about: CallAbout::default(),
        }
    }

    /// Sends what there still is, as far as the collector takes it soon. Afterwards nothing is sent.
    pub async fn flush(self) {
        let most = Duration::from_millis(TRACES_FLUSH_MS_MAX);
        // It blocks its thread, and the collector is spoken to on this one.
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(most));
        let said = match tokio::time::timeout(most, flushed).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the collector does not answer".to_owned(),
        };
        tracing::warn!(error = said, "the last spans were lost");
    }
}

fn exporter(otlp: &Otlp) -> Result<SpanExporter, Vec<Mistake>> {
    let mistake = |what: String| vec![Mistake { source: "otlp.endpoint".to_owned(), what }];
    if otlp.endpoint.starts_with("https:") {
        let what = "is spoken to in plaintext only: name a collector on this machine or in this \
                    pod, and let it pass spans on";
        return Err(mistake(what.to_owned()));
    }
    let mut headers = MetadataMap::new();
    for (name, value) in &otlp.headers {
        let (Ok(name), Ok(mut value)) = (
            MetadataKey::from_str(name),
            value.reveal().parse::<tonic::metadata::AsciiMetadataValue>(),
        ) else {
            let source = "otlp.headers".to_owned();
            return Err(vec![Mistake { source, what: format!("{name} cannot be sent") }]);
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&otlp.endpoint)
        .with_timeout(Duration::from_secs(TRACES_EXPORT_SECONDS_MAX))
        .with_metadata(headers)
        .build()
        .map_err(|error| mistake(error.to_string()))
}

/// What a caller says of its trace, in the words of the library.
fn remote(caller: TraceContext, headers: &HeaderMap) -> SpanContext {
    let flags = if caller.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = tracestate(headers).and_then(|state| TraceState::from_str(&state).ok());
    SpanContext::new(
        OtelTraceId::from(caller.trace.get()),
        SpanId::from(caller.span),
        flags,
        true,
        state.unwrap_or_default(),
    )
}

/// The span of a call that goes on.
#[derive(Debug)]
pub struct CallSpan {
    span: Span,
    about: CallAbout,
}

impl CallSpan {
    /// The trace it belongs to, whether it is told or not.
    pub fn trace(&self) -> Option<TraceId> {
        TraceId::of(u128::from_be_bytes(self.span.span_context().trace_id().to_bytes()))
    }

    /// Where the handler of the call says what it is about; nothing if nobody is told.
    pub fn about(&self) -> Option<CallAbout> {
        self.span.is_recording().then(|| self.about.clone())
    }

    /// Ends it with the number of its gRPC code and its JET code, if it has one.
    pub fn end(mut self, code: usize, jet: Option<i32>) {
        /// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS: of a server only
        /// these are errors of its own, say the conventions.
        const OURS: [usize; 6] = [2, 4, 12, 13, 14, 15];
        if !self.span.is_recording() {
            return;
        }
        let number = i64::try_from(code).unwrap_or(i64::MAX);
        self.span.set_attribute(KeyValue::new("rpc.grpc.status_code", number));
        if let Some(jet) = jet {
            self.span.set_attribute(KeyValue::new("jet.error", i64::from(jet)));
        }
        if let Some(about) = self.about.0.get() {
            self.span.set_attributes(about.iter().cloned());
        }
        if OURS.contains(&code) {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

/// What a call is about, for its span. It is among the request's extensions of a call that is told.
#[derive(Debug, Clone, Default)]
pub struct CallAbout(Arc<OnceLock<Vec<KeyValue>>>);

impl CallAbout {
    /// Says it, once.
    pub fn say(&self, instance: Option<&str>, session: Option<u64>, thread: Option<&str>) {
        let text = |name: &'static str| move |text: &str| KeyValue::new(name, text.to_owned());
        let mut about = Vec::new();
        about.extend(instance.map(text("jet.instance")));
        // Numbers of sessions use all 64 bits, and attributes are signed.
        about.extend(session.map(|session| KeyValue::new("jet.session", session.to_string())));
        about.extend(thread.map(text("jet.thread_id")));
        drop(self.0.set(about));
    }
}
