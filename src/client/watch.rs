//! Watching sessions, without gap or double across broken connections.

use std::fmt;

use tokio::time::sleep;
use tonic::{Code, Streaming};

use crate::domain::id::InstanceId;
use crate::proto::api::session_event::Cause;
use crate::proto::api::{SessionEvent, SessionFilter, WatchSessionsRequest, WatchSessionsResponse};

use super::chance::jittered;
use super::error::{Error, lost};
use super::retry::{self, Next};
use super::{Client, Refusal};

/// The reason with which the server ends a watch that does not keep up.
const TOO_SLOW: &str = "WATCH_TOO_SLOW";

/// A watch of the sessions of an instance.
///
/// It goes on by itself where it was when the connection breaks, the server restarts, or the watch was too
/// slow. It ends with an error when going on would leave a gap, or when the instance does not serve.
pub struct Watch {
    client: Client,
    instance: InstanceId,
    filter: Option<SessionFilter>,
    /// The first revision wanted next; 0 begins with a snapshot.
    from: u64,
    /// Whether a snapshot is being read: until its end it can only be read anew.
    in_snapshot: bool,
    stream: Option<Streaming<WatchSessionsResponse>>,
    failures: u32,
}

impl Client {
    /// Watches the sessions of an instance: first what is there, then what happens.
    pub fn watch_sessions(&self, instance: &InstanceId) -> Watch {
        Watch {
            client: self.clone(),
            instance: instance.clone(),
            filter: None,
            from: 0,
            in_snapshot: false,
            stream: None,
            failures: 0,
        }
    }
}

impl Watch {
    /// Begins with the first event at or after this revision instead of a snapshot.
    pub fn from_revision(mut self, revision: u64) -> Self {
        self.from = revision;
        self
    }

    /// Only events whose session passes the filter before or after them.
    pub fn filter(mut self, filter: SessionFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// With which revision a later watch goes on where this one is; 0 means anew.
    pub fn resume_revision(&self) -> u64 {
        self.from
    }

    /// The next event. A snapshot that broke off is told again from its beginning. An event without a
    /// session ends a snapshot, or says after a long silence how far the instance is.
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Result<SessionEvent, Error> {
        loop {
            match self.read().await {
                Ok(event) => {
                    self.failures = 0;
                    self.remember(&event);
                    return Ok(event);
                }
                Err(status) => self.pause(status).await?,
            }
        }
    }

    async fn read(&mut self) -> Result<SessionEvent, tonic::Status> {
        if self.stream.is_none() {
            let request = WatchSessionsRequest {
                parent: self.instance.name(),
                from_revision: self.from,
                filter: self.filter.clone(),
            };
            self.in_snapshot = self.from == 0;
            let stream = self.client.raw_sessions().watch_sessions(request).await?;
            self.stream = Some(stream.into_inner());
        }
        let Some(stream) = self.stream.as_mut() else {
            return Err(tonic::Status::unavailable("the watch is not open"));
        };
        match stream.message().await? {
            Some(WatchSessionsResponse { event: Some(event) }) => Ok(event),
            Some(WatchSessionsResponse { event: None }) => {
                Err(tonic::Status::internal("an answer of the watch has no event"))
            }
            // A watch has no end of its own.
            None => Err(tonic::Status::unavailable("the server ended the watch")),
        }
    }

    /// Where to go on: behind the event, unless it is part of a snapshot that has not ended yet.
    fn remember(&mut self, event: &SessionEvent) {
        let snapshot = event.cause() == Cause::Snapshot;
        if snapshot && event.session.is_none() {
            self.in_snapshot = false;
        }
        if !self.in_snapshot {
            self.from = self.from.max(event.revision.saturating_add(1));
        }
    }

    /// Waits before the watch goes on, if it can.
    async fn pause(&mut self, status: tonic::Status) -> Result<(), Error> {
        self.stream = None;
        let too_slow = status.code() == Code::ResourceExhausted
            && Refusal::of(&status).reason() == Some(TOO_SLOW);
        let pause = match retry::next(&status) {
            Next::Advised(delay) => Some(delay),
            Next::Pause => Some(retry::pause(self.failures.saturating_add(1))),
            Next::Over if too_slow => Some(retry::pause(1)),
            Next::Over => None,
        };
        let Some(pause) = pause else {
            return Err(Error::answered(status, false, 1));
        };
        self.failures = self.failures.saturating_add(1);
        tracing::debug!(from = self.from, ?pause, lost = ?lost(&status), %status, "watching again");
        sleep(jittered(self.client.chance(), pause)).await;
        Ok(())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("instance", &self.instance)
            .field("from", &self.from)
            .field("open", &self.stream.is_some())
            .finish_non_exhaustive()
    }
}
