//! One heartbeat for all threads of a client.
//!
//! Three times in each time to live it asks the server to keep alive every thread that somebody has a
//! handle of: one call for 400 of them, never one for each session. The answer tells what they
//! have lost. A heartbeat that fails is soon tried again; one that is denied, for want of a token or a
//! right, comes again at its usual time. If none succeeds in time, the guards know it by their own
//! clocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::domain::id::{SessionName, ThreadId};
use crate::domain::limits::{HEARTBEATS_AT_ONCE, LOOKUPS_AT_ONCE, THREADS_PER_CALL_MAX};
use crate::proto::api::{CheckSessionContextRequest, KeepThreadsAliveRequest, LostContext};

use super::chance::hastened;
use super::clock::now;
use super::connect::Core;
use super::error::Error;
use super::loss::{Held, Loss, LossCause};
use super::registry::Declared;
use super::{Client, retry};

/// What the server takes as a time to live.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Heartbeats in each time to live.
const BEATS: u32 = 3;

/// How long the reason of a forced loss is looked for before the loss is told without it.
const LOOKUP: Duration = Duration::from_millis(250);

/// Whether the server takes this time to live.
pub(super) fn check(ttl: Duration) -> Result<(), Error> {
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        Ok(())
    } else {
        Err(Error::malformed("a lease lives 1 second to 24 hours"))
    }
}

/// What came of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Renewed {
    /// All threads were renewed.
    All,
    /// Some were not because of who asks: soon asking again would not help.
    Denied,
    /// Some were not, for any other reason.
    Failed,
}

/// Starts the heartbeat of a client. It ends with the client.
pub(super) fn spawn(client: &Client, ttl: Duration) -> AbortHandle {
    let core = Arc::downgrade(client.core());
    let chance_of_first = hastened(client.chance(), ttl / BEATS);
    tokio::spawn(run(core, ttl, chance_of_first)).abort_handle()
}

async fn run(core: Weak<Core>, ttl: Duration, first: Duration) {
    let (mut pause, mut failures) = (first, 0_u32);
    loop {
        sleep(pause).await;
        let Some(client) = core.upgrade().map(Client::of) else {
            return;
        };
        let begun = now();
        let all = client.registry().all();
        match renew(&client, &all, ttl).await {
            Renewed::All | Renewed::Denied => {
                failures = 0;
                // From beginning to beginning: a slow answer makes no beat late.
                pause = hastened(client.chance(), ttl / BEATS).saturating_sub(now() - begun);
            }
            Renewed::Failed => {
                failures = failures.saturating_add(1);
                pause = hastened(client.chance(), retry::pause(failures).min(ttl / 10));
            }
        }
    }
}

/// Renews these threads; answers the worst that came of it.
pub(super) async fn renew(client: &Client, threads: &[Arc<Declared>], ttl: Duration) -> Renewed {
    let batches: Vec<_> = threads.chunks(THREADS_PER_CALL_MAX).map(<[_]>::to_vec).collect();
    stream::iter(batches)
        .map(|batch| renew_batch(client.clone(), batch, ttl))
        .buffer_unordered(HEARTBEATS_AT_ONCE)
        .fold(Renewed::All, async |worst, renewed| worst.max(renewed))
        .await
}

async fn renew_batch(client: Client, batch: Vec<Arc<Declared>>, ttl: Duration) -> Renewed {
    let sent = now();
    let limit = client.timeout().min(ttl / BEATS);
    let mut request = tonic::Request::new(KeepThreadsAliveRequest {
        thread_ids: batch.iter().map(|thread| thread.id().to_string()).collect(),
        lease_ttl: prost_types::Duration::try_from(ttl).ok(),
        include_held: false,
    });
    request.set_timeout(limit);
    let mut threads = client.raw_threads();
    let answer = match timeout(limit, threads.keep_threads_alive(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            tracing::warn!(threads = batch.len(), %status, "the heartbeat was refused");
            let denied = retry::is_denied(&status);
            return if denied { Renewed::Denied } else { Renewed::Failed };
        }
        Err(_) => {
            tracing::warn!(threads = batch.len(), ?limit, "the heartbeat was not answered");
            return Renewed::Failed;
        }
    };
    let known: BTreeMap<&str, &Arc<Declared>> =
        batch.iter().map(|thread| (thread.id().as_str(), thread)).collect();
    let mut lost = Vec::new();
    for kept in &answer.threads {
        if let Some(thread) = known.get(kept.thread_id.as_str()) {
            thread.renew(sent);
            lost.extend(kept.lost.iter().filter_map(|loss| {
                let session: SessionName = loss.session.parse().ok()?;
                // A loss is told again and again; what is not held any more is known already.
                let held = thread.holding(&session, loss.fencing_token)?;
                held.known_loss().is_none().then(|| (thread.id().clone(), held, loss.clone()))
            }));
        }
    }
    tell(&client, lost).await;
    if answer.threads.len() >= batch.len() { Renewed::All } else { Renewed::Failed }
}

/// Tells the holders. Who took a session by force, and why, only the session itself can say.
async fn tell(client: &Client, lost: Vec<(ThreadId, Arc<Held>, LostContext)>) {
    let (forced, plain): (Vec<_>, Vec<_>) =
        lost.into_iter().partition(|(_, _, loss)| Loss::told(loss).cause == LossCause::Forced);
    for (_, held, loss) in plain {
        held.lose(Loss::told(&loss));
    }
    let looks: Vec<_> = forced
        .iter()
        .map(|(thread, held, loss)| {
            let (client, thread, held) = (client.clone(), thread.clone(), Arc::clone(held));
            look(client, thread, held, Loss::told(loss))
        })
        .collect();
    let look = stream::iter(looks).buffer_unordered(LOOKUPS_AT_ONCE).collect::<()>();
    if timeout(LOOKUP, look).await.is_err() {
        tracing::debug!("who took sessions by force was not answered in time");
    }
    for (_, held, loss) in &forced {
        held.lose(Loss::told(loss));
    }
}

/// Asks the session why it is not held any more, and tells its holder.
async fn look(client: Client, thread: ThreadId, held: Arc<Held>, told: Loss) {
    let mut request = tonic::Request::new(CheckSessionContextRequest {
        session: held.session.to_string(),
        thread_id: thread.to_string(),
        fencing_token: held.token,
    });
    request.set_timeout(LOOKUP);
    let refused = client.raw_sessions().check_session_context(request).await.err();
    let by = refused.and_then(|status| Loss::explained(&Error::answered(status, false, 1)));
    let by = by.filter(|by| by.cause == told.cause);
    held.lose(by.map_or(told.clone(), |by| Loss { time: told.time.or(by.time), ..by }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limits::{REQUEST_BYTES_MAX, THREAD_ID_BYTES_MAX};

    #[test]
    fn a_heartbeat_always_fits_into_a_message() {
        let request = KeepThreadsAliveRequest {
            thread_ids: vec!["x".repeat(THREAD_ID_BYTES_MAX); THREADS_PER_CALL_MAX],
            lease_ttl: prost_types::Duration::try_from(TTL_MAX).ok(),
            include_held: true,
        };
        assert!(prost::Message::encoded_len(&request) < REQUEST_BYTES_MAX);
    }
}
