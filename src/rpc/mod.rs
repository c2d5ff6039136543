//! Answering: gRPC services that parse a request, ask the engine and convert the answer.
//!
//! A handler holds no decision. What a request must look like is in `convert`, what is answered is
//! decided by the domain, and what a refusal looks like on the wire is in [`status`], which alone
//! knows gRPC codes.
//!
//! - [`session`], [`instance`], [`error`], [`thread`]: one file per service
//! - `backup`: backups as streams of chunks
//! - `watch`: watches of sessions as streams of events
//! - `pipeline`: many operations a message
//! - `convert`: wire → command, naming every bad field at once; answer → wire
//! - [`status`]: refusals → gRPC statuses with details
//! - [`layers`]: what happens around every call: deadline, request id, span, panics
//! - [`method`]: every method, who may call it and how long it may take
//! - [`access`]: who calls, and whether they may
//! - [`telemetry`]: calls counted, traced, and named in log lines
//! - [`health`]: grpc.health.v1 kept true
//! - [`ends`]: streams of services that are not ours and know nothing of a drain

pub mod access;
mod backup;
mod convert;
pub mod ends;
pub mod error;
pub mod health;
pub mod instance;
pub mod layers;
pub mod method;
mod pipeline;
pub mod session;
pub mod status;
pub mod telemetry;
pub mod thread;
mod watch;

use tonic::{Request, Response, Status};
use tracing::Span;

use crate::domain::call::Call;
use crate::domain::id::InstanceId;
use crate::domain::refusal::Refusal;
use crate::engine::Engine;
use crate::engine::patience::Patience;
use crate::rpc::access::{Caller, Guard};
use crate::rpc::convert::{Addressed, Parse, Parsed, Patient, Reply};
use crate::rpc::layers::{Deadline, Overtime, WaitingRoom};
use crate::rpc::status::About;

/// Asks an instance for a call of the contract: the whole of most handlers.
async fn ask<W, C, R>(
    guard: &Guard,
    engine: &Engine,
    request: Request<W>,
) -> Result<Response<R>, Status>
where
    W: Parse<Command = Addressed<C>>,
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
    R: Reply<C::Answer>,
{
    let (Addressed { instance, call }, caller) = parse(guard, request)?;
    let answer = engine.ask(&instance, caller.asker, call).await;
    told(&instance, answer, &caller.about)
}

/// Asks an instance for a call that may wait for a session.
async fn ask_patiently<W, C, R>(
    guard: &Guard,
    engine: &Engine,
    request: Request<W>,
) -> Result<Response<R>, Status>
where
    W: Parse<Command = Patient<C>>,
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
    R: Reply<C::Answer>,
{
    let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.at());
    let room = request.extensions().get::<WaitingRoom>().map(WaitingRoom::permits);
    let overtime = request.extensions().get::<Overtime>().cloned();
    let (Patient { addressed: Addressed { instance, call }, wait }, caller) =
        parse(guard, request)?;
    if let Some(overtime) = overtime.filter(|_| !wait.is_zero()) {
        overtime.take();
    }
    let mut standing = (!wait.is_zero()).then(|| caller.standing());
    let patience = Patience { wait, deadline, room };
    let answer = engine.ask_patiently(&instance, caller.asker, call, patience);
    let answer = match &mut standing {
        None => answer.await,
        // Whoever may not use it any more is not granted it, and could not let it go.
        Some(standing) => tokio::select! {
            biased;
            answer = answer => answer,
            status = standing.ended() => return Err(status),
        },
    };
    told(&instance, answer, &caller.about)
}

/// Parses a request, or says everything that is wrong with it; and sees to it that its caller may make it,
/// first of all.
fn parse<W: Parse>(guard: &Guard, request: Request<W>) -> Result<(W::Command, Caller), Status> {
    let (_, extensions, message) = request.into_parts();
    let request_id = extensions.get::<layers::RequestId>().cloned();
    match convert::parse(message) {
        Ok(Parsed { command, request, about, wish }) => {
            let about = About { request_id, ..about };
            record(&about);
            telemetry::describe(&extensions, &about);
            let entry = guard.entry(&extensions, &about)?;
            Ok((command, entry.caller(request, about, wish)?))
        }
        Err(malformed) => {
            let (about, wish) = malformed.about();
            let about = About { request_id: request_id.clone(), ..about.clone() };
            let entry = guard.entry(&extensions, &about)?;
            // Of a request that names no instance there is nothing to keep secret.
            if about.instance.is_some() {
                entry.check(entry.method(), &about, wish)?;
            }
            Err(malformed.status(request_id))
        }
    }
}

/// What an instance answered, as a response or as the status of its refusal.
fn told<A, R: Reply<A>>(
    instance: &InstanceId,
    answer: Result<A, impl Refusal>,
    about: &About,
) -> Result<Response<R>, Status> {
    Ok(Response::new(R::reply(instance, &about.sight, answered(answer, about)?)))
}

/// What the engine answered, or the status of its refusal.
fn answered<T>(answer: Result<T, impl Refusal>, about: &About) -> Result<T, Status> {
    answer.map_err(|refusal| status::refused(&refusal, about))
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
