//! A stream that carries the operations of many clients, with many messages under way.

use std::time::Duration;

use futures_util::future::join_all;
use prost::Message;
use tokio::time::sleep;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::super::connect::Connection;
use super::super::failure::Failure;
use super::flight::{Flight, Script};
use super::load::{Client, Site};
use super::outbound::{Encoded, Outbound, Shared};
use super::outcome::Trouble;
use super::pace::Pace;
use super::stats::Operation;
use super::window::nanos;
use super::{unary, wire};

/// Sets and resets over one stream until the window is closed, and leaves the sessions free. A stream
/// that breaks is begun anew; one that never answered anything is a mistake and not a load.
pub(super) async fn run(
    site: &Site<'_>,
    server: &Connection,
    clients: Vec<&Client>,
    mut pace: Pace,
) -> Result<(), Failure> {
    let script = Script::new(clients.len());
    let mut answered = false;
    loop {
        let flight = Flight::new(site.plan.in_flight, site.plan.operations);
        let shared = Shared::new(flight, pace);
        let outbound = Outbound {
            shared: shared.clone(),
            script,
            clients: clients.iter().map(|client| client.encoded()).collect(),
            operations: site.plan.operations as u64,
            clock: site.clock,
            window: site.window.clone(),
            sleep: None,
        };
        let outcome = exchange(site, server, script, &shared, outbound, &mut answered).await;
        let (unanswered, requests) = {
            let mut line = shared.lock();
            pace = std::mem::replace(&mut line.pace, Pace::closed());
            (line.flight.unanswered(), line.requests)
        };
        site.sent(requests);
        let Err(broken) = outcome else {
            return Ok(());
        };
        let trouble = match broken {
            Broken::Failed(failure) if !answered => return Err(failure),
            Broken::Failed(failure) => Trouble::from(&failure),
            Broken::Confused(what) => Trouble::confused(what),
        };
        site.fail(trouble, unanswered.max(1));
        site.rest().await;
        join_all(clients.iter().map(|client| unary::free(site, server, client))).await;
        if site.window.is_over(site.clock.now()) {
            return Ok(());
        }
    }
}

impl Client {
    fn encoded(&self) -> Encoded {
        Encoded { set: self.set.encode_to_vec().into(), reset: self.reset.encode_to_vec().into() }
    }
}

/// Why a stream ended before its time.
enum Broken {
    Failed(Failure),
    /// The server said something that the API does not allow.
    Confused(&'static str),
}

/// One stream, from its first message to its last result.
async fn exchange(
    site: &Site<'_>,
    server: &Connection,
    script: Script,
    shared: &Shared,
    outbound: Outbound,
    answered: &mut bool,
) -> Result<(), Broken> {
    let failed = |status: Status| Broken::Failed(server.failure(status));
    let talk = async {
        let mut grpc = Grpc::new(server.transport());
        // A connection that is not there says so again, and why, when it is used.
        grpc.ready().await.ok();
        let codec = ProstCodec::<wire::Request, wire::Response>::default();
        // The calls of a pipeline have no deadline, but their answers have.
        let opened = grpc.streaming(Request::new(outbound), wire::path(), codec).await;
        let mut results = opened.map_err(failed)?.into_inner();
        while let Some(wire::Response { results }) = results.message().await.map_err(failed)? {
            *answered |= !results.is_empty();
            take(site, script, shared, results)?;
        }
        let unanswered = shared.lock().flight.unanswered();
        if unanswered == 0 && site.window.is_over(site.clock.now()) {
            Ok(())
        } else {
            Err(Broken::Confused("a stream ended before its client had closed it"))
        }
    };
    let stop = async {
        site.stopped().await;
        // It may sleep until a turn that is not to come any more.
        shared.wake();
        std::future::pending().await
    };
    tokio::select! {
        outcome = talk => outcome,
        () = silence(site, shared, server.deadline()) => Err(Broken::Failed(server.no_answer())),
        never = stop => never,
    }
}

/// Takes down the results of a message, and lets the sending half go on.
fn take(
    site: &Site<'_>,
    script: Script,
    shared: &Shared,
    results: Vec<wire::Result>,
) -> Result<(), Broken> {
    let now = site.clock.now();
    let mut line = shared.lock();
    line.silent_since = now;
    for result in results {
        let began = line.flight.answer(result.id).map_err(|s| Broken::Confused(s.sentence()))?;
        let (operation, _) = script.operation(result.id);
        let kind = match operation {
            Operation::Set => &result.set,
            Operation::Reset => &result.reset,
        };
        let answer = match &result.error {
            Some(error) => Err(Trouble::from(error)),
            None if kind.is_some() => Ok(()),
            None => Err(Trouble::confused("a result is of another kind than its operation")),
        };
        site.record(operation, answer, began, now);
    }
    let room = line.flight.has_room();
    drop(line);
    if room {
        shared.wake();
    }
    Ok(())
}

/// Ends when the server has had something to answer for `patience` and has answered nothing.
async fn silence(site: &Site<'_>, shared: &Shared, patience: Duration) {
    loop {
        let (unanswered, since) = {
            let line = shared.lock();
            (line.flight.unanswered(), line.silent_since)
        };
        let until = since.saturating_add(nanos(patience));
        let now = site.clock.now();
        match (unanswered, until > now) {
            (0, _) => sleep(patience).await,
            (_, true) => tokio::time::sleep_until(site.clock.instant(until)).await,
            (_, false) => return,
        }
    }
}
