//! Streams of services that are not ours and know nothing of a drain.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::domain::limits::DRAIN_QUIET_MS_MAX;
use crate::engine::Engine;

/// A service that is told, once the server drains, that its clients have said all: it answers what was asked,
/// ends its streams, and no connection stays open for their sake. A moment later than it drains: grpcurl asks what
/// the details of a status are when it has come, and a drain ends watches with one.
#[derive(Debug, Clone)]
pub struct EndsWithServer<S> {
    inner: S,
    engine: Engine,
}

impl<S> EndsWithServer<S> {
    /// Lets the streams of a service end when the server of this engine drains.
    pub fn new(inner: S, engine: &Engine) -> Self {
        Self { inner, engine: engine.clone() }
    }
}

impl<S: NamedService> NamedService for EndsWithServer<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for EndsWithServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let engine = self.engine.clone();
        let drained = Box::pin(async move {
            engine.drained().await;
            tokio::time::sleep(Duration::from_millis(DRAIN_QUIET_MS_MAX)).await;
        });
        let request = request
            .map(|body| Body::new(StreamBody::new(BodyStream::new(body).take_until(drained))));
        self.inner.call(request)
    }
}
