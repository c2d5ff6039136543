//! What happens around every call: its deadline, its request id, its span, and what becomes of
//! panics and of messages that could not be taken.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::domain::limits::{OVERTIME_MS_MAX, WAITERS_PER_CONNECTION_MAX};
use crate::rpc::access::Guard;
use crate::rpc::status::{self, About, BadField};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
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
}

/// When the answer to a call must have arrived, from its metadata `grpc-timeout`. Handlers find it among
/// the request's extensions: a call that waits leaves in time, and a stream lives on when its call has been
/// answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment.
    pub(super) fn at(self) -> Instant {
        self.0
    }

    /// The stream until its end, or until the deadline and then the status that says so.
    pub(super) fn ends<T>(
        self,
        stream: impl Stream<Item = Result<T, Status>>,
        about: About,
    ) -> impl Stream<Item = Result<T, Status>> {
        let over = stream::once(async move {
            tokio::time::sleep_until(self.0).await;
            Err(status::deadline_exceeded(&about))
        });
        // Whichever speaks first; the end of either is the end.
        let end = || stream::iter([None]);
        stream::select(stream.map(Some).chain(end()), over.map(Some).chain(end()))
            .take_while(|item| std::future::ready(item.is_some()))
            .filter_map(std::future::ready)
    }
}

/// Whether the handler of a call watches over its deadline itself, because it can then say what has not
/// been done. It is among the request's extensions together with the deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct Overtime(Arc<AtomicBool>);

impl Overtime {
    /// From now on the handler is trusted to answer in time, or a little later with the truth.
    pub(super) fn take(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits until the call has had all its time.
    async fn over(self, deadline: Sleep) {
        deadline.await;
        if self.0.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(OVERTIME_MS_MAX)).await;
        }
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadField> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else {
        return Ok(None);
    };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| BadField {
        field: GRPC_TIMEOUT.to_string(),
        rule: "must be one to eight digits and a unit, one of H M S m u n".to_owned(),
    })
}

fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = fits.then(|| digits.parse().ok())??;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// What the calls of one connection leave of those that may wait there. The server puts it among the
/// extensions of each request.
#[derive(Debug, Clone)]
pub struct WaitingRoom(Arc<Semaphore>);

impl WaitingRoom {
    /// The room of a new connection.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(WAITERS_PER_CONNECTION_MAX)))
    }

    /// A permit for each call that may still come to wait.
    pub(super) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0)
    }
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts [`Calls`] around a service.
#[derive(Debug, Clone)]
pub struct CallLayer {
    guard: Guard,
}

impl CallLayer {
    /// Calls of those whom the guard lets in.
    pub fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, guard: self.guard.clone() }
    }
}

/// A service whose calls end at their deadline, carry their request id, have a span, and answer with
/// a status even when the program breaks.
#[derive(Debug, Clone)]
pub struct Calls<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<Request<B>> for Calls<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone that was made ready answers; the fresh one waits for the next call.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);

        let span = tracing::debug_span!(
            "call",
            rpc.method = request.uri().path(),
            instance = Empty,
            session = Empty,
            thread_id = Empty,
            request_id = Empty,
            jet_error = Empty,
        );
        let request_id = RequestId::of(request.headers());
        if let Some(id) = &request_id {
            span.record("request_id", id.as_str());
            request.extensions_mut().insert(id.clone());
        }
        let uri = request.uri().clone();
        let timer = timeout(request.headers()).map(|timeout| {
            let timeout = timeout?;
            // It runs from now on, and not only when the handler does.
            let over = tokio::time::sleep(timeout);
            let overtime = Overtime::default();
            request.extensions_mut().insert(Deadline(over.deadline()));
            request.extensions_mut().insert(overtime.clone());
            Some((timeout, overtime.over(over)))
        });
        let about = About { request_id, ..About::default() };
        let admitted = self.guard.admit(&mut request, &about);
        let call = async move {
            let acting = match admitted {
                Ok(acting) => acting,
                Err(refused) => return Ok(finished(refused.into_http(), uri.path(), &about)),
            };
            let response = match timer {
                Err(bad) => status::malformed(vec![bad], &about).into_http(),
                Ok(Some((timeout, _))) if timeout.is_zero() => {
                    status::came_too_late(&about).into_http()
                }
                Ok(Some((_, over))) => tokio::select! {
                    biased;
                    answer = caught(inner.call(request)) => {
                        answer.unwrap_or_else(|| status::panicked(&about).into_http())
                    }
                    () = over => status::deadline_exceeded(&about).into_http(),
                },
                Ok(None) => caught(inner.call(request))
                    .await
                    .unwrap_or_else(|| status::panicked(&about).into_http()),
            };
            if let Some(acting) = acting {
                acting.answered(&response);
            }
            Ok(finished(response, uri.path(), &about))
        };
        Box::pin(call.instrument(span))
    }
}

/// The response of a handler, or `None` if it panicked.
async fn caught(
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Option<Response<Body>> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(response)) => Some(response),
        Ok(Err(never)) => match never {},
        Err(panic) => {
            tracing::error!(panic = message(&*panic), "a handler panicked");
            None
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// Corrects what tonic made up, notes the JET code, and gives the request id back.
fn finished(response: Response<Body>, path: &str, about: &About) -> Response<Body> {
    // A refusal is a response that has its trailers among its headers.
    let mut response = match Status::from_header_map(response.headers()) {
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
    let Some(id) = &about.request_id else {
        return response;
    };
    let value = HeaderValue::from_str(id.as_str()).expect("a request id is visible ASCII");
    response.headers_mut().insert(REQUEST_ID, value.clone());
    response.map(|body| {
        Body::new(body.map_frame(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                trailers.insert(REQUEST_ID, value.clone());
            }
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text), Some(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "1é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }
}
