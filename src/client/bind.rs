//! Taking a session: one that is named, or any free one of a pool.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Response, Status};

use crate::domain::id::{InstanceId, SessionName};
use crate::proto::api;

use super::call::Try;
use super::clock::now;
use super::error::Error;
use super::guard::Guard;
use super::heartbeat;
use super::thread::Thread;

/// A boxed future, as an awaited builder is one.
type Taking = Pin<Box<dyn Future<Output = Result<Guard, Error>> + Send>>;

/// Setting the context of one session. Awaiting it gives the [`Guard`].
///
/// A future that is dropped before its answer, by a `select!` or a timeout, owes the server a reset if the
/// context was set after all: the client finds out in the background.
#[derive(Debug, Clone)]
#[must_use = "nothing is set until it is awaited"]
pub struct Bind(Take);

/// Setting the context of any free session of a pool. Awaiting it gives the [`Guard`].
#[derive(Debug, Clone)]
#[must_use = "nothing is claimed until it is awaited"]
pub struct Claim(Take);

/// What is taken, by whom, and how patiently.
#[derive(Debug, Clone)]
struct Take {
    thread: Thread,
    what: What,
    context: u64,
    wait: Duration,
    limit: Option<Duration>,
}

#[derive(Debug, Clone)]
enum What {
    Session(SessionName),
    Pool { instance: InstanceId, labels: BTreeMap<String, String> },
}

impl Bind {
    pub(super) fn new(thread: Thread, session: SessionName, context: u64) -> Self {
        Self(Take::new(thread, What::Session(session), context))
    }

    /// Waits for its turn if the session is not free: first come, first served. When the time is over, the
    /// answer is −1912 with the facts of the queue.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.0.wait = wait;
        self
    }

    /// How long the call may take with all its retries, its waiting included.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = Some(limit);
        self
    }
}

impl Claim {
    pub(super) fn new(thread: Thread, instance: InstanceId, context: u64) -> Self {
        let what = What::Pool { instance, labels: BTreeMap::new() };
        Self(Take::new(thread, what, context))
    }

    /// Only sessions that have all these labels.
    pub fn labels<K: Into<String>, V: Into<String>>(
        mut self,
        wanted: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        if let What::Pool { labels, .. } = &mut self.0.what {
            labels.extend(wanted.into_iter().map(|(k, v)| (k.into(), v.into())));
        }
        self
    }

    /// Waits for its turn if no session of the pool is free. When the time is over, the answer is −1912
    /// with the facts of the queue.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.0.wait = wait;
        self
    }

    /// How long the call may take with all its retries, its waiting included.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = Some(limit);
        self
    }
}

impl IntoFuture for Bind {
    type Output = Result<Guard, Error>;
    type IntoFuture = Taking;

    fn into_future(self) -> Taking {
        Box::pin(self.0.run())
    }
}

impl IntoFuture for Claim {
    type Output = Result<Guard, Error>;
    type IntoFuture = Taking;

    fn into_future(self) -> Taking {
        Box::pin(self.0.run())
    }
}

/// What either call answers.
struct Granted {
    fencing_token: u64,
    abandoned: bool,
    session: Option<api::Session>,
}

impl Take {
    fn new(thread: Thread, what: What, context: u64) -> Self {
        Self { thread, what, context, wait: Duration::ZERO, limit: None }
    }

    async fn run(self) -> Result<Guard, Error> {
        let client = self.thread.client().clone();
        let request_id = client.request_id();
        let limit = self.limit.unwrap_or(client.timeout().saturating_add(self.wait));
        let mut debt = Debt { take: self, request_id, owed: true };
        let take = &debt.take;
        let answer = client.call(limit, |attempt| take.send(&debt.request_id, attempt)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                debt.owed = error.may_have_been_done();
                return Err(error);
            }
        };
        let guard = take.guard(answer.message, answer.first_sent)?;
        debt.owed = false;
        let thread = debt.take.thread.clone();
        if let (Some(until), Some(ttl)) = (guard.good_until(), client.lease_ttl()) {
            // It took so long that the next heartbeat might come too late.
            if until < now() + ttl / 3 * 2 {
                heartbeat::renew(&client, std::slice::from_ref(thread.declared()), ttl).await;
            }
        }
        Ok(guard)
    }

    fn guard(&self, granted: Granted, first_sent: Instant) -> Result<Guard, Error> {
        let session = match (&self.what, granted.session) {
            (What::Session(session), _) => session.clone(),
            (What::Pool { .. }, Some(claimed)) => claimed
                .name
                .parse()
                .map_err(|_| Error::confused("the claimed session has no name"))?,
            (What::Pool { .. }, None) => return Err(Error::confused("no session is named")),
        };
        Ok(Guard::new(
            self.thread.clone(),
            session,
            granted.fencing_token,
            first_sent,
            granted.abandoned,
            self.context,
        ))
    }

    /// One try. All of them have one body, save for how long they still wait.
    fn send(
        &self,
        request_id: &str,
        attempt: Try,
    ) -> impl Future<Output = Result<Response<Granted>, Status>> + Send + use<> {
        let client = self.thread.client();
        let mut sessions = client.raw_sessions();
        let duration = |time: Duration| prost_types::Duration::try_from(time).ok();
        let wait = self.wait.saturating_sub(attempt.since);
        let wait_timeout = (!wait.is_zero()).then(|| duration(wait)).flatten();
        let lease_ttl = client.lease_ttl().and_then(duration);
        let (thread_id, context) = (self.thread.id().to_string(), self.context);
        let request_id = request_id.to_owned();
        let what = self.what.clone();
        async move {
            match what {
                What::Session(session) => {
                    let session = session.to_string();
                    let request = attempt.request(api::SetSessionContextRequest {
                        session,
                        thread_id,
                        context,
                        request_id,
                        wait_timeout,
                        lease_ttl,
                    });
                    let answer = sessions.set_session_context(request).await?;
                    Ok(answer.map(|set| Granted {
                        fencing_token: set.fencing_token,
                        abandoned: set.abandoned,
                        session: set.session,
                    }))
                }
                What::Pool { instance, labels } => {
                    let request = attempt.request(api::ClaimSessionContextRequest {
                        parent: instance.name(),
                        labels,
                        thread_id,
                        context,
                        request_id,
                        wait_timeout,
                        lease_ttl,
                    });
                    let answer = sessions.claim_session_context(request).await?;
                    Ok(answer.map(|claimed| Granted {
                        fencing_token: claimed.fencing_token,
                        abandoned: claimed.abandoned,
                        session: claimed.session,
                    }))
                }
            }
        }
    }
}

/// A context that may have been set although nobody will ever hold a guard for it: the call was dropped,
/// or its answer was lost for good. The thread lives on, so no lease would ever free it.
///
/// The same call is made once more, with its request id and without waiting: it answers the token if the
/// context was set, and what was set is reset. If it was not, it is set now and reset at once.
#[derive(Debug)]
struct Debt {
    take: Take,
    request_id: String,
    owed: bool,
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.owed {
            return;
        }
        let client = self.take.thread.client().clone();
        if self.request_id.is_empty() {
            tracing::warn!("a call without a request id was given up: it may have set a context");
            return;
        }
        let (take, request_id) = (self.take.clone(), std::mem::take(&mut self.request_id));
        let take = Take { wait: Duration::ZERO, ..take };
        client.clone().background().owe("a Set that was given up", async move {
            let call = client.call(client.timeout(), |attempt| take.send(&request_id, attempt));
            match call.await.and_then(|answer| take.guard(answer.message, answer.first_sent)) {
                Ok(guard) => drop(guard.release().await),
                Err(error) if error.may_have_been_done() => {
                    tracing::warn!(%error, "whether a Set that was given up is done is not known");
                }
                Err(error) => tracing::debug!(%error, "a Set that was given up was not done"),
            }
        });
    }
}
