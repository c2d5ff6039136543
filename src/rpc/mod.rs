//! Answering: gRPC services that parse a request, ask the engine and convert the answer.
//!
//! A handler holds no decision. What a request must look like is in `convert`, what is answered is
//! decided by the domain, and what a refusal looks like on the wire is in [`status`], which alone
//! knows gRPC codes.
//!
//! - [`session`], [`instance`], [`error`], [`thread`]: one file per service
//! - `backup`: backups as streams of chunks
//! - `watch`: watches of sessions as streams of events
//! - `convert`: wire → command, naming every bad field at once; answer → wire
//! - [`status`]: refusals → gRPC statuses with details
//! - [`layers`]: what happens around every call: deadline, request id, span, panics
//! - [`health`]: grpc.health.v1 kept true

mod backup;
mod convert;
pub mod error;
pub mod health;
pub mod instance;
pub mod layers;
pub mod session;
pub mod status;
pub mod thread;
mod watch;

use tonic::{Request, Response, Status};
use tracing::Span;

use crate::domain::call::Call;
use crate::domain::id::{InstanceId, Principal};
use crate::engine::{Asker, Engine};
use crate::rpc::convert::{Addressed, Parse, Reply};
use crate::rpc::status::About;

/// Asks an instance for a call of the contract: the whole of most handlers.
async fn ask<W, C, R>(engine: &Engine, request: Request<W>) -> Result<Response<R>, Status>
where
    W: Parse<Command = Addressed<C>>,
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
    R: Reply<C::Answer>,
{
    let (Addressed { instance, call }, caller) = parse(request)?;
    match engine.ask(&instance, Asker::once(caller.principal), call).await {
        Ok(answer) => Ok(Response::new(R::reply(&instance, answer))),
        Err(refusal) => Err(status::refused(&refusal, &caller.about)),
    }
}

/// Who asks, and what about.
struct Caller {
    principal: Principal,
    about: About,
}

/// Parses a request, or says everything that is wrong with it.
fn parse<W: Parse>(request: Request<W>) -> Result<(W::Command, Caller), Status> {
    let (_, extensions, message) = request.into_parts();
    let principal = extensions.get::<Principal>().cloned().unwrap_or_else(Principal::anonymous);
    let request_id = extensions.get::<layers::RequestId>().cloned();
    match convert::parse(message) {
        Ok((command, about)) => {
            let about = About { request_id, ..about };
            record(&about);
            Ok((command, Caller { principal, about }))
        }
        Err(malformed) => Err(malformed.status(request_id)),
    }
}

/// The answer of a method that this release does not serve.
fn unserved<W, R>(request: &Request<W>, method: &str) -> Result<Response<R>, Status> {
    let request_id = request.extensions().get::<layers::RequestId>().cloned();
    Err(status::unserved(method, &About { request_id, ..About::default() }))
}

/// Tells the span of the call what it is about. At the default level there is no span.
fn record(about: &About) {
    let span = Span::current();
    if span.is_disabled() {
        return;
    }
    if let Some(instance) = &about.instance {
        span.record("instance", instance.as_str());
    }
    if let Some(session) = about.session {
        span.record("session", session.get());
    }
    if let Some(thread) = &about.thread {
        span.record("thread_id", thread.as_str());
    }
}

/// What a request is about, for a handler that needs only an instance.
struct OfInstance(InstanceId);
