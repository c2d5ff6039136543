//! What it costs a call to be observed: counted, timed, and asked for its trace; no logs, no collector.
//!
//! `cargo bench --bench telemetry`: `bare` is the answer of a call taken and its body read to the end,
//! `observed` the same with an observer around it. What a whole call takes is in `benches/unary`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{AllocProfiler, Bencher, black_box};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use jet_session::domain::id::Uid;
use jet_session::domain::time::Timestamp;
use jet_session::engine::Environment;
use jet_session::rpc::method::Method;
use jet_session::rpc::telemetry::Observer;
use tonic::body::Body;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const SET: &str = "/jet.session.v1.SessionService/SetSessionContext";

fn main() {
    divan::main();
}

/// The real monotonic clock.
struct Clock(Instant);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.0)
    }

    fn uid(&self) -> Uid {
        Uid::new("uid")
    }
}

fn request() -> Request<()> {
    Request::post(SET)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "a-client/1.0")
        .header("grpc-timeout", "5S")
        .body(())
        .expect("a request")
}

/// An answer as handlers give it.
fn answer() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(bytes::Bytes::from_static(&[7; 100]));
    Response::new(Body::new(body.with_trailers(ready(Some(Ok::<_, Infallible>(trailers))))))
}

#[divan::bench(threads = [1, 2])]
fn bare(bencher: Bencher) {
    bencher.with_inputs(|| (request(), answer())).bench_values(|(request, answer)| {
        black_box(Method::of(request.uri().path()));
        answer.into_body().collect().now_or_never().expect("nothing waits").is_ok()
    });
}

#[divan::bench(threads = [1, 2])]
fn observed(bencher: Bencher) {
    let observer = Observer::new(Arc::new(Clock(Instant::now())), None);
    bencher.with_inputs(|| (request(), answer())).bench_values(|(mut request, answer)| {
        let method = Method::of(request.uri().path());
        let seen = observer.begin(method, &mut request).see(ready(Ok(answer)));
        let Ok(answer) = seen.now_or_never().expect("nothing waits");
        answer.into_body().collect().now_or_never().expect("nothing waits").is_ok()
    });
}
