//! What every call goes over: a channel, and the token that goes along.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::channel::ResponseFuture;
use tonic::transport::{self, Channel};
use tower::Service;

use super::token::Token;

/// The connection of a client, with which all stubs of generated code work. It shows the client's token
/// with each call that has no `authorization` of its own.
#[derive(Clone)]
pub struct Transport {
    channel: Channel,
    token: Option<Token>,
}

/// A call that has to look at the file of the token before it goes out.
type Looking = Pin<Box<dyn Future<Output = Result<Response<Body>, transport::Error>> + Send>>;

impl Transport {
    pub(super) fn new(channel: Channel, token: Option<Token>) -> Self {
        Self { channel, token }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = Either<ResponseFuture, Looking>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(token) = &self.token else {
            return Either::Left(self.channel.call(request));
        };
        if let Some(header) = token.ready() {
            show(&mut request, header);
            return Either::Left(self.channel.call(request));
        }
        let token = token.clone();
        // The one that is ready makes the call.
        let next = self.channel.clone();
        let mut channel = mem::replace(&mut self.channel, next);
        Either::Right(Box::pin(async move {
            show(&mut request, token.fresh().await);
            channel.call(request).await
        }))
    }
}

fn show(request: &mut Request<Body>, token: HeaderValue) {
    request.headers_mut().entry(AUTHORIZATION).or_insert(token);
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("token", &self.token).finish_non_exhaustive()
    }
}
