//! Watches of sessions on the wire.

use futures_util::stream;
use tonic::{Request, Response, Status};

use crate::engine::Engine;
use crate::proto::api as pb;
use crate::rpc::access::Guard;
use crate::rpc::answered;
use crate::rpc::convert::{WatchSessionsCommand, watched};
use crate::rpc::instance::{Answers, until};
use crate::rpc::layers::Deadline;
use crate::rpc::{parse, status};

/// Begins a watch of the sessions of an instance.
pub(super) async fn sessions(
    guard: &Guard,
    engine: &Engine,
    request: Request<pb::WatchSessionsRequest>,
) -> Result<Response<Answers<pb::WatchSessionsResponse>>, Status> {
    let deadline = request.extensions().get::<Deadline>().copied();
    let (WatchSessionsCommand { instance, from, filter }, caller) = parse(guard, request)?;
    let watch = answered(engine.watch_sessions(&instance, from, filter).await, &caller.about)?;
    let (about, standing) = (caller.about.clone(), caller.standing());
    let events = stream::unfold((watch, instance, about), |(mut watch, id, about)| async move {
        let event = match watch.next().await? {
            Ok(event) => Ok(watched(&id, &about.sight, &event)),
            Err(refusal) => Err(status::refused(&refusal, &about)),
        };
        Some((event, (watch, id, about)))
    });
    Ok(Response::new(until(deadline, standing.over(events), caller.about)))
}
