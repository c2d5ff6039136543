//! What is told of every call: it is counted always, it is a span if a collector is configured, and log
//! lines that are written in its midst say which call it was.
//!
//! A call that is only counted costs a few relaxed additions: which counters are its own is decided by
//! [`Method::index`], so nothing is looked up, locked or allocated.
//!
//! - [`tally`]: the numbers

pub mod tally;
#[cfg(test)]
pub(super) mod tests;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Extensions, HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tracing::field::{DisplayValue, display};

use crate::domain::jet_err::JetErr;
use crate::engine::Environment;
use crate::rpc::layers::RequestId;
use crate::rpc::method::Method;
use crate::rpc::status::About;
use crate::rpc::telemetry::tally::{CANCELLED, CallTally, Kind, OK, UNKNOWN};
use crate::telemetry::context::{TraceContext, TraceId};
use crate::telemetry::traces::{CallAbout, CallSpan, Traces};

/// Sees every call begin and end.
#[derive(Clone)]
pub struct Observer(Arc<Shared>);

struct Shared {
    tally: CallTally,
    clock: Arc<dyn Environment>,
    traces: Option<Traces>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(clock: Arc<dyn Environment>, traces: Option<Traces>) -> Self {
        Self(Arc::new(Shared { tally: CallTally::new(), clock, traces }))
    }

    /// What it has seen.
    pub fn tally(&self) -> &CallTally {
        &self.0.tally
    }

    /// Sends the spans that there still are, as far as their collector takes them soon.
    pub async fn flush(&self) {
        if let Some(traces) = &self.0.traces {
            traces.clone().flush().await;
        }
    }

    /// A call begins. What others need to know of it is put among its extensions.
    pub fn begin<B>(
        &self,
        method: Option<&'static Method>,
        request: &mut Request<B>,
    ) -> Observation {
        let kind = self.0.tally.started(method);
        let caller = TraceContext::of(request.headers());
        let span = self.span(method, caller, request);
        let trace = match &span {
            Some(span) => span.trace(),
            None => caller.map(|caller| caller.trace),
        };
        if let Some(trace) = trace {
            request.extensions_mut().insert(trace);
        }
        if kind == Kind::Bidi {
            // Its handler refuses in the midst of the stream.
            request.extensions_mut().insert(self.clone());
        }
        let open = Open {
            observer: self.clone(),
            method,
            began: self.0.clock.monotonic(),
            took: Duration::ZERO,
            span,
        };
        Observation { trace, open: Some(open) }
    }

    fn span<B>(
        &self,
        method: Option<&'static Method>,
        caller: Option<TraceContext>,
        request: &mut Request<B>,
    ) -> Option<CallSpan> {
        let (traces, method) = (self.0.traces.as_ref()?, method?);
        let span = traces.begin(method.service, method.name, caller, request.headers());
        if let Some(about) = span.about() {
            request.extensions_mut().insert(about);
        }
        Some(span)
    }

    /// One of many answers of a stream is this refusal.
    pub(super) fn refused(&self, status: &Status) {
        if let Some(jet) = jet_error(status.metadata().as_ref()) {
            self.0.tally.refused(jet);
        }
    }
}

/// A call that goes on. If it is dropped before its end, nobody waits for its answer any more.
#[derive(Debug)]
pub struct Observation {
    trace: Option<TraceId>,
    /// Taken by the end.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    observer: Observer,
    method: Option<&'static Method>,
    began: Duration,
    /// How long it took until its handler had answered.
    took: Duration,
    span: Option<CallSpan>,
}

impl Observation {
    /// The trace that the call belongs to, if it belongs to one.
    pub fn trace(&self) -> Option<TraceId> {
        self.trace
    }

    /// The call, seen to its end.
    pub async fn see(
        mut self,
        call: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<ObservedBody>, Infallible> {
        let Ok(response) = call.await;
        if let Some(open) = &mut self.open {
            let now = open.observer.0.clock.monotonic();
            open.took = now.saturating_sub(open.began);
        }
        // A refusal is a response that has its trailers among its headers.
        if let Some(code) = status_code(response.headers()) {
            self.end(code, jet_error(response.headers()));
        }
        Ok(response.map(|body| ObservedBody { body, observation: self }))
    }

    fn end(&mut self, code: usize, jet: Option<JetErr>) {
        let Some(Open { observer, method, began: _, took, span }) = self.open.take() else {
            return;
        };
        if let Some(span) = span {
            span.end(code, jet.map(JetErr::code));
        }
        if let Some(jet) = jet {
            observer.0.tally.refused(jet);
        }
        observer.0.tally.handled(method, took, code);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(open) = &mut self.open
            && open.took.is_zero()
        {
            open.took = open.observer.0.clock.monotonic().saturating_sub(open.began);
        }
        self.end(CANCELLED, None);
    }
}

/// The body of an answer, seen to its end, where its status is.
#[derive(Debug)]
pub struct ObservedBody {
    body: Body,
    observation: Observation,
}

impl HttpBody for ObservedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = status_code(trailers).unwrap_or(UNKNOWN);
                    self.observation.end(code, jet_error(trailers));
                }
            }
            Some(Err(_)) | None => self.observation.end(UNKNOWN, None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The number of the gRPC code that headers or trailers say, if they say one.
fn status_code(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(Status::GRPC_STATUS)?.to_str().ok()?;
    let code = text.parse().ok().filter(|code| (OK..tally::CODES.len()).contains(code));
    Some(code.unwrap_or(UNKNOWN))
}

/// The JET code that headers or trailers say, if they say one.
fn jet_error(headers: &HeaderMap) -> Option<JetErr> {
    JetErr::from_code(headers.get("jet-error")?.to_str().ok()?.parse().ok()?)
}

/// Which call it was, for log lines that are written in its midst at a level at which it has no span:
///
/// ```ignore
/// let call = LoggedCall::of(request.extensions());
/// tracing::info!(request_id = call.request_id(), trace_id = call.trace_id(), "…");
/// ```
///
/// A field that there is nothing to say in is left out.
#[derive(Debug, Clone, Default)]
pub struct LoggedCall {
    request: Option<RequestId>,
    trace: Option<TraceId>,
}

impl LoggedCall {
    /// The call with these extensions.
    pub fn of(extensions: &Extensions) -> Self {
        Self { request: extensions.get().cloned(), trace: extensions.get().copied() }
    }

    /// What its client calls it.
    pub fn request_id(&self) -> Option<&str> {
        self.request.as_ref().map(RequestId::as_str)
    }

    /// The trace it belongs to.
    pub fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.trace.map(display)
    }
}

/// Tells the span of a call, if a collector is told of it, what the call is about.
pub(super) fn describe(extensions: &Extensions, about: &About) {
    if let Some(span) = extensions.get::<CallAbout>() {
        let instance = about.instance.as_ref().map(|instance| instance.as_str());
        let session = about.session.map(|session| session.get());
        span.say(instance, session, about.thread.as_ref().map(|thread| thread.as_str()));
    }
}
