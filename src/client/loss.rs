//! How a worker learns that a session is not its own any more.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::id::SessionName;
use crate::domain::jet_err::JetErr;
use crate::proto::api::LostContext;
use crate::proto::api::session_event::Cause;

use super::error::Error;

/// Why a thread does not hold a session any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// The guard was released or dropped.
    Released,
    /// The guard handed the session over.
    Transferred,
    /// The server says that the lease expired.
    LeaseExpired,
    /// No renewal succeeded in time. The server may still keep the lease, but the client cannot know.
    NotRenewed,
    /// An operator took the context away.
    Forced,
    /// The session or its instance ended.
    Ended,
    /// Somebody reset the context under the same thread id.
    Reset,
    /// The token is stale: somebody else came after.
    Superseded,
}

/// That a session was lost, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Why.
    pub cause: LossCause,
    /// Who did it, where somebody did and the server said so.
    pub by_principal: Option<String>,
    /// The reason that was given for it.
    pub reason: Option<String>,
    /// When, by the server's clock.
    pub time: Option<SystemTime>,
}

impl Loss {
    /// A loss of which no more is known than why.
    pub(super) fn of(cause: LossCause) -> Self {
        Self { cause, by_principal: None, reason: None, time: None }
    }

    /// What a heartbeat tells.
    pub(super) fn told(lost: &LostContext) -> Self {
        let cause = match lost.cause() {
            Cause::LeaseExpired => LossCause::LeaseExpired,
            Cause::Forced => LossCause::Forced,
            Cause::Ended => LossCause::Ended,
            Cause::Transferred => LossCause::Transferred,
            Cause::Reset => LossCause::Reset,
            Cause::Unspecified
            | Cause::Began
            | Cause::Set
            | Cause::Snapshot
            | Cause::TransactionBegan
            | Cause::TransactionCommitted
            | Cause::TransactionRolledBack => LossCause::Superseded,
        };
        let time = lost.time.and_then(|time| SystemTime::try_from(time).ok());
        Self { time, ..Self::of(cause) }
    }

    /// What a refusal of a holder's own call tells, if it tells of a loss.
    pub(super) fn explained(error: &Error) -> Option<Self> {
        let refusal = error.refusal()?;
        let gone = match error.jet_err() {
            Some(JetErr::InvalidSesid | JetErr::InvalidInstance) => true,
            Some(JetErr::SessionContextNotSetByThisThread) => false,
            _ if error.is_stale_token() => false,
            Some(_) | None => return None,
        };
        let cause = match refusal.cause() {
            _ if gone => LossCause::Ended,
            Some("lease_expired") => LossCause::LeaseExpired,
            Some("forced") => LossCause::Forced,
            Some("transferred") => LossCause::Transferred,
            Some("already_reset" | "never_set") => LossCause::Reset,
            Some(_) | None => LossCause::Superseded,
        };
        let text = |key| refusal.fact(key).map(str::to_owned);
        let time =
            refusal.fact("time").and_then(|time| time.parse::<prost_types::Timestamp>().ok());
        Some(Self {
            cause,
            by_principal: text("by_principal"),
            reason: text("reason"),
            time: time.and_then(|time| SystemTime::try_from(time).ok()),
        })
    }
}

/// One session that a thread holds under one token.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: SessionName,
    pub(super) token: u64,
    /// A moment at which the server had not yet counted from: when the Set was sent.
    since: Instant,
    loss: watch::Sender<Option<Loss>>,
}

impl Held {
    pub(super) fn new(session: SessionName, token: u64, since: Instant) -> Self {
        Self { session, token, since, loss: watch::Sender::new(None) }
    }

    /// Remembers the loss. The first one stays, whatever is learned later: somebody may have acted on it.
    pub(super) fn lose(&self, loss: Loss) {
        self.loss.send_if_modified(|known| {
            let new = known.is_none();
            if new {
                *known = Some(loss);
            }
            new
        });
    }

    /// The loss, as far as it is known.
    pub(super) fn known_loss(&self) -> Option<Loss> {
        self.loss.borrow().clone()
    }

    /// Told whenever the loss becomes known.
    pub(super) fn losses(&self) -> watch::Receiver<Option<Loss>> {
        self.loss.subscribe()
    }

    /// Until when the session is certainly held under a lease of `ttl`, if that was last renewed by a
    /// heartbeat sent at `renewed`. Both count from when they were *sent*: the server cannot have begun
    /// to count earlier.
    pub(super) fn good_until(&self, renewed: Option<Instant>, ttl: Duration) -> Instant {
        renewed.map_or(self.since, |renewed| renewed.max(self.since)) + ttl
    }
}
