//! What happens around every call: its deadline, its request id, its span, and what becomes of
//! panics and of messages that could not be taken.
//!
//! - `deadline`: when a call is over
//! - `answer`: the body of an answer, as long as it is sent
//! - `panics`: what becomes of a handler that breaks
//! - `room`: what the calls of one connection have in common

mod answer;
mod deadline;
mod panics;
mod room;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Body as _;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::rpc::access::Guard;
use crate::rpc::layers::answer::Answer;
use crate::rpc::method::Method;
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::{LoggedCall, ObservedBody, Observer};

pub use deadline::Deadline;
pub(super) use deadline::Overtime;
pub use panics::Panics;
pub use room::WaitingRoom;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest `x-request-id` that is taken; longer ones are ignored, as are ones that are not visible
/// ASCII.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The client's own id of a call, from the metadata `x-request-id`. It comes back in the trailers and,
/// after a refusal, in `google.rpc.RequestInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(REQUEST_ID)?.to_str().ok()?;
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len());
        (fits && id.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a request id is visible ASCII")
    }
}

/// Puts [`Calls`] around a service.
#[derive(Debug, Clone)]
pub struct CallLayer {
    /// How long a call of a method may take.
    longest: fn(Option<&Method>) -> Option<Duration>,
    panics: Panics,
    observer: Observer,
    guard: Guard,
}

impl CallLayer {
    /// Calls may take as long as the table of methods says, and are of those whom the guard lets in. Panics are
    /// counted there, and calls are seen by the observer.
    pub fn new(panics: Panics, observer: Observer, guard: Guard) -> Self {
        Self { longest: deadline::longest, panics, observer, guard }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, layer: self.clone() }
    }
}

/// A service whose calls end at their deadline, carry their request id, have a span, and answer with
/// a status even when the program breaks.
#[derive(Debug, Clone)]
pub struct Calls<S> {
    inner: S,
    layer: CallLayer,
}

impl<S, B> Service<Request<B>> for Calls<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone that was made ready answers; the fresh one waits for the next call.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let CallLayer { longest, panics, observer, guard } = self.layer.clone();
        let method = Method::of(request.uri().path());

        let span = tracing::debug_span!(
            "call",
            rpc.method = request.uri().path(),
            instance = Empty,
            session = Empty,
            thread_id = Empty,
            request_id = Empty,
            trace_id = Empty,
            jet_error = Empty,
        );
        let observed = observer.begin(method, &mut request);
        if let Some(trace) = observed.trace() {
            span.record("trace_id", tracing::field::display(trace));
        }
        let request_id = RequestId::of(request.headers());
        if let Some(id) = &request_id {
            span.record("request_id", id.as_str());
            request.extensions_mut().insert(id.clone());
        }
        let uri = request.uri().clone();
        let underway = request.extensions().get::<WaitingRoom>().map(WaitingRoom::begin);
        let timer = deadline::allowed(request.headers(), longest(method)).map(|allowed| {
            let allowed = allowed?;
            // It runs from now on, and not only when the handler does.
            let over = tokio::time::sleep(allowed);
            let deadline = Deadline(over.deadline());
            let overtime = Overtime::default();
            request.extensions_mut().insert(deadline);
            request.extensions_mut().insert(overtime.clone());
            Some((allowed, deadline, overtime.over(over)))
        });
        let logged = LoggedCall::of(request.extensions());
        let about = About { request_id, ..About::default() };
        let admitted = guard.admit(method, &mut request, &about);
        let call = async move {
            let mut deadline = None;
            // A handler may also break before it has a future.
            let answer = AssertUnwindSafe(async { inner.call(request).await }).catch_unwind();
            let answered = |answer: Result<Result<_, Infallible>, Box<dyn Any + Send>>| match answer
            {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(panic) => {
                    panics.tell(uri.path(), &logged, &*panic);
                    status::panicked(&about).into_http()
                }
            };
            let (acting, refused) = match admitted {
                Ok(acting) => (acting, None),
                Err(refused) => (None, Some(refused)),
            };
            let response = match timer {
                _ if let Some(refused) = refused => refused.into_http(),
                Err(bad) => status::malformed(vec![bad], &about).into_http(),
                Ok(Some((allowed, ..))) if allowed.is_zero() => {
                    status::came_too_late(&about).into_http()
                }
                Ok(Some((_, at, over))) => {
                    deadline = Some(at);
                    // The timer costs something only if the handler does not answer at once.
                    tokio::select! {
                        biased;
                        answer = answer => answered(answer),
                        () = over => status::deadline_exceeded(&about).into_http(),
                    }
                }
                Ok(None) => answered(answer.await),
            };
            if let Some(acting) = acting {
                acting.answered(&response);
            }
            let mut response = finished(response, uri.path(), &about);
            if let Some(id) = &about.request_id {
                response.headers_mut().insert(REQUEST_ID, id.header());
            }
            // A refusal has no body.
            if response.body().is_end_stream() {
                return Ok(response);
            }
            Ok(response.map(|body| {
                let id = about.request_id;
                Body::new(Answer::new(body, uri, logged, deadline, id, panics, underway))
            }))
        };
        Box::pin(observed.see(call).instrument(span))
    }
}

/// Corrects what tonic made up, and notes the JET code.
fn finished(response: Response<Body>, path: &str, about: &About) -> Response<Body> {
    // A refusal is a response that has its trailers among its headers.
    let response = match Status::from_header_map(response.headers()) {
        Some(made_up) => match status::of_untaken_message(&made_up, path, about) {
            Some(ours) => ours.into_http(),
            None => response,
        },
        None => response,
    };
    let span = Span::current();
    if !span.is_disabled()
        && let Some(code) = response.headers().get("jet-error").and_then(|v| v.to_str().ok())
    {
        span.record("jet_error", code);
    }
    response
}
