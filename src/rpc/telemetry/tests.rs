//! Calls seen to their end, whatever it is.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::{pending, ready};
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;
use crate::domain::id::Uid;
use crate::domain::time::Timestamp;
use crate::rpc::access::{Access, Guard};
use crate::rpc::layers::{CallLayer, Panics};
use crate::rpc::telemetry::tally::MethodCalls;

const SET: &str = "/jet.session.v1.SessionService/SetSessionContext";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A clock that goes on by a millisecond whenever it is read.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Environment for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn uid(&self) -> Uid {
        Uid::new("uid")
    }
}

pub(in crate::rpc) fn observer() -> Observer {
    Observer::new(Arc::new(Ticking::default()), None)
}

fn request() -> Request<Body> {
    Request::post(SET).body(Body::empty()).unwrap()
}

/// The codes that calls of Set ended with, and how many are timed.
fn ends(observer: &Observer) -> (Vec<(&'static str, u64)>, u64) {
    let is_set = |calls: &MethodCalls| calls.method == Method::of(SET);
    let calls = observer.tally().calls().find(is_set).unwrap();
    let codes = tally::CODES.into_iter().zip(calls.handled).filter(|(_, count)| *count > 0);
    (codes.collect(), calls.took.unwrap().count())
}

fn trailers(code: &'static str, jet: Option<&'static str>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static(code));
    if let Some(jet) = jet {
        trailers.insert("jet-error", http::HeaderValue::from_static(jet));
    }
    trailers
}

/// An answer whose status comes behind its message.
fn answer(trailers: HeaderMap) -> Response<Body> {
    let frames = [Ok(Frame::data(Bytes::from_static(b"abc"))), Ok(Frame::trailers(trailers))];
    let frames = frames.map(|frame: Result<_, Infallible>| frame);
    Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
}

async fn seen(observer: &Observer, response: Response<Body>) -> Response<ObservedBody> {
    let observation = observer.begin(Method::of(SET), &mut request());
    let Ok(response) = observation.see(ready(Ok(response))).await;
    response
}

#[tokio::test]
async fn a_call_ends_with_the_status_behind_its_answer() {
    for (code, jet, name) in [
        ("0", None, "OK"),
        ("9", Some("-1912"), "FailedPrecondition"),
        ("16", None, "Unauthenticated"),
        ("17", None, "Unknown"),
        ("x", None, "Unknown"),
    ] {
        let observer = observer();
        let response = seen(&observer, answer(trailers(code, jet))).await;
        assert_eq!(ends(&observer), (vec![], 0), "it goes on");
        response.into_body().collect().await.unwrap();
        assert_eq!(ends(&observer), (vec![(name, 1)], 1), "{code}");
        let refusals: Vec<_> = observer.tally().refusals().collect();
        let expected = jet.map(|_| (JetErr::SessionContextAlreadySet, 1));
        assert_eq!(refusals, expected.into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_refusal_has_its_status_among_its_headers() {
    let observer = observer();
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = trailers("9", Some("-1913"));
    let response = seen(&observer, response).await;
    assert_eq!(ends(&observer), (vec![("FailedPrecondition", 1)], 1));
    response.into_body().collect().await.unwrap();
    assert_eq!(ends(&observer), (vec![("FailedPrecondition", 1)], 1), "only once");
}

#[tokio::test]
async fn an_answer_without_a_status_is_of_unknown_outcome() {
    let observer = observer();
    let response = Response::new(Body::new(Full::new(Bytes::from_static(b"abc"))));
    seen(&observer, response).await.into_body().collect().await.unwrap();
    assert_eq!(ends(&observer), (vec![("Unknown", 1)], 1));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    let observer = observer();
    // Before it is decided, while it is, and while it is answered.
    drop(observer.begin(Method::of(SET), &mut request()));
    let observation = observer.begin(Method::of(SET), &mut request());
    let mut deciding = Box::pin(observation.see(pending()));
    assert!(futures_util::poll!(&mut deciding).is_pending());
    drop(deciding);
    let mut body = seen(&observer, answer(trailers("0", None))).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(ends(&observer), (vec![("Canceled", 3)], 3));
}

#[tokio::test]
async fn a_body_says_as_much_as_the_one_inside() {
    let observer = observer();
    let full = || Body::new(Full::new(Bytes::from_static(b"abc")));
    let body = seen(&observer, Response::new(full())).await.into_body();
    assert_eq!(body.size_hint().exact(), full().size_hint().exact());
    assert!(!body.is_end_stream());
    let body = seen(&observer, Response::new(Body::empty())).await.into_body();
    assert!(body.is_end_stream());
}

/// The fields of the last event.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Visit for Last {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.lock().unwrap().push((field.name(), format!("{value:?}")));
    }
}

impl Subscriber for Last {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_panic_is_counted_and_its_line_says_which_call_it_was() {
    let observer = observer();
    let last = Last::default();
    let _guard = tracing::subscriber::set_default(last.clone());
    let breaking = service_fn(|_: Request<Body>| async {
        if true {
            panic!("an invariant");
        }
        Ok(Response::new(Body::empty()))
    });
    let panics = Panics::default();
    let service =
        CallLayer::new(panics.clone(), observer.clone(), Guard::new(Access::Open)).layer(breaking);
    let mut request = request();
    let headers = request.headers_mut();
    headers.insert("x-request-id", http::HeaderValue::from_static("a-request"));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    headers.insert("traceparent", parent.parse().unwrap());

    let Ok(response) = service.oneshot(request).await;

    assert_eq!(status_code(response.headers()), Some(13));
    assert_eq!(panics.count(), 1);
    assert_eq!(ends(&observer).0, [("Internal", 1)]);
    let fields = last.0.lock().unwrap().clone();
    let field = |name| fields.iter().find(|(field, _)| *field == name).map(|(_, value)| &**value);
    assert_eq!(field("message"), Some("a handler panicked"));
    assert_eq!(field("panic"), Some("\"an invariant\""));
    assert_eq!(field("request_id"), Some("\"a-request\""));
    assert_eq!(field("trace_id"), Some(TRACE));
}

#[test]
fn a_line_says_nothing_of_what_a_call_does_not_say() {
    let last = Last::default();
    let _guard = tracing::subscriber::set_default(last.clone());
    let call = LoggedCall::of(&Extensions::new());
    tracing::info!(request_id = call.request_id(), trace_id = call.trace_id(), "it happened");
    let fields = last.0.lock().unwrap().clone();
    assert_eq!(fields, [("message", "it happened".to_owned())]);
}
