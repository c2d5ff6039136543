//! One session as the contract sees it: which answer is right in which state, and what follows.

use std::fmt;

use super::history::{Act, Nanos, Operation, Outcome, Refusal, Thread, Unset};

/// A session at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    holder: Option<Holder>,
    ended: bool,
    /// The highest revision so far that is known.
    floor: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Holder {
    thread: Thread,
    /// Not known of a holder whose grant has no answer, until somebody is told.
    token: Option<u64>,
    transferred: bool,
    /// Before this its lease does not end. Without a lease nothing is here.
    lasts_until: Option<Nanos>,
}

impl State {
    /// Who holds it, and under which token, as far as that is known.
    pub(crate) fn holder(&self) -> Option<(Thread, u64)> {
        let holder = self.holder?;
        Some((holder.thread, holder.token?))
    }

    /// What follows if `operation` happens now with the answer that it had; nothing if that answer is
    /// wrong. A token that is not known yet may turn out to be any up to `ceiling`, the revision of
    /// the next change that is known: a Set that a transfer answered has the token of the transfer.
    pub(crate) fn after(&self, operation: &Operation, ceiling: u64) -> Option<Self> {
        let by = operation.by;
        let is_holder = self.holder.is_some_and(|holder| holder.thread == by);
        match (operation.act, operation.outcome) {
            // Nothing is known of the session but that it was not changed.
            (_, Outcome::Refused(Refusal::NotSaid)) => Some(*self),
            (_, Outcome::Refused(Refusal::Ended)) => self.ended.then_some(*self),
            _ if self.ended => None,

            (Act::Set { lease, .. }, Outcome::Made(token)) if self.holder.is_none() => {
                let lasts_until = lease.map(|ttl| operation.invoked.saturating_add(ttl));
                let holder =
                    Holder { thread: by, token: Some(token), transferred: false, lasts_until };
                self.rises(token)?.held_by(Some(holder))
            }
            // It waited, and had the session by a transfer.
            (Act::Set { wait: true, .. }, Outcome::Made(token)) => {
                let transferred = self.holder.is_some_and(|holder| holder.transferred);
                if is_holder && transferred { self.under(token, ceiling) } else { None }
            }
            (Act::Set { .. }, Outcome::Refused(Refusal::AlreadySet { holder, token })) => {
                self.seen(holder, token, ceiling)
            }

            (Act::Reset { token }, Outcome::Made(revision)) if is_holder => {
                self.under(token, ceiling)?.rises(revision)?.held_by(None)
            }
            (Act::Transfer { to, token, leased }, Outcome::Made(new)) if is_holder => {
                let holder = Self::successor(to, Some(new), leased);
                self.under(token, ceiling)?.rises(new)?.held_by(Some(holder))
            }
            (Act::ForceReset { token }, Outcome::Made(revision)) => {
                self.under(token, ceiling)?.rises(revision)?.held_by(None)
            }
            (Act::Check { token }, Outcome::Ok) if is_holder => self.under(token, ceiling),
            (
                Act::Reset { token } | Act::Transfer { token, .. } | Act::Check { token },
                Outcome::Refused(Refusal::NotSetByThisThread(said)),
            ) => {
                let fits = match (said, self.holder) {
                    (Unset::Free, None) => true,
                    (Unset::HeldByOther, Some(_)) | (Unset::TakenAway, _) => !is_holder,
                    (Unset::Free, Some(_)) | (Unset::HeldByOther, None) => false,
                };
                match (fits, self.holder) {
                    (false, _) => None,
                    (true, None) => (token == 0).then_some(*self),
                    (true, Some(_)) => self.under(token, ceiling),
                }
            }
            (
                Act::ForceReset { .. },
                Outcome::Refused(Refusal::NotSetByThisThread(Unset::Free)),
            ) => self.holder.is_none().then_some(*self),
            (
                Act::Reset { token }
                | Act::Transfer { token, .. }
                | Act::ForceReset { token }
                | Act::Check { token },
                Outcome::Refused(Refusal::StaleToken),
            ) => {
                let current = self.holder.and_then(|holder| holder.token);
                (token != 0 && current != Some(token)).then_some(*self)
            }

            (Act::Look, Outcome::Saw(None)) => self.holder.is_none().then_some(*self),
            (Act::Look, Outcome::Saw(Some((holder, token)))) => self.seen(holder, token, ceiling),

            (Act::KeepAlive { ttl }, Outcome::Ok) => {
                Some(self.kept(by, operation.invoked.saturating_add(ttl)))
            }
            (Act::End, Outcome::Ok) => {
                self.holder.is_none().then_some(Self { ended: true, ..*self })
            }
            (Act::End, Outcome::Refused(Refusal::InUse)) => self.holder.map(|_| *self),

            // An answer that the call does not have, or that is wrong in this state.
            (
                Act::Set { .. }
                | Act::Reset { .. }
                | Act::Transfer { .. }
                | Act::ForceReset { .. }
                | Act::Check { .. }
                | Act::Look
                | Act::KeepAlive { .. }
                | Act::End,
                Outcome::Made(_)
                | Outcome::Ok
                | Outcome::Saw(_)
                | Outcome::Refused(_)
                | Outcome::Unknown,
            ) => None,
        }
    }

    /// What follows if an operation without an answer is made now; nothing if it would be refused, or
    /// change nothing.
    pub(crate) fn after_unknown(&self, operation: &Operation, ceiling: u64) -> Option<Self> {
        if self.ended {
            return None;
        }
        let is_holder = self.holder.is_some_and(|holder| holder.thread == operation.by);
        match operation.act {
            Act::Set { lease, .. } if self.holder.is_none() => {
                let lasts_until = lease.map(|ttl| operation.invoked.saturating_add(ttl));
                let thread = operation.by;
                self.held_by(Some(Holder { thread, token: None, transferred: false, lasts_until }))
            }
            Act::Reset { token } if is_holder => self.under(token, ceiling)?.held_by(None),
            Act::Transfer { to, token, leased } if is_holder => {
                self.under(token, ceiling)?.held_by(Some(Self::successor(to, None, leased)))
            }
            Act::ForceReset { token } => self.under(token, ceiling)?.held_by(None),
            Act::End if self.holder.is_none() => Some(Self { ended: true, ..*self }),
            // A lease that is there could only last longer, which helps nobody.
            Act::KeepAlive { ttl } if is_holder && self.expiry().is_none() => {
                Some(self.kept(operation.by, operation.invoked.saturating_add(ttl)))
            }
            Act::Set { .. }
            | Act::Reset { .. }
            | Act::Transfer { .. }
            | Act::Check { .. }
            | Act::Look
            | Act::KeepAlive { .. }
            | Act::End => None,
        }
    }

    /// When the holder's lease may end at the earliest, and what follows.
    pub(crate) fn expiry(&self) -> Option<(Nanos, Self)> {
        let lasts_until = self.holder?.lasts_until?;
        Some((lasts_until, Self { holder: None, ..*self }))
    }

    /// A successor that has a lease falls under it. Nothing is known of when it was renewed.
    fn successor(thread: Thread, token: Option<u64>, leased: bool) -> Holder {
        Holder { thread, token, transferred: true, lasts_until: leased.then_some(0) }
    }

    fn held_by(self, holder: Option<Holder>) -> Option<Self> {
        Some(Self { holder, ..self })
    }

    /// Revisions rise.
    fn rises(self, revision: u64) -> Option<Self> {
        (revision > self.floor).then_some(Self { floor: revision, ..self })
    }

    fn kept(&self, thread: Thread, lasts_until: Nanos) -> Self {
        let holder = self.holder.map(|holder| {
            if holder.thread == thread {
                Holder { lasts_until: holder.lasts_until.max(Some(lasts_until)), ..holder }
            } else {
                holder
            }
        });
        Self { holder, ..*self }
    }

    /// Somebody was told of this holder.
    fn seen(&self, thread: Thread, token: u64, ceiling: u64) -> Option<Self> {
        if self.holder?.thread == thread { self.under(token, ceiling) } else { None }
    }

    /// The session is held under this token, or the token is not compared.
    fn under(&self, token: u64, ceiling: u64) -> Option<Self> {
        let holder = self.holder?;
        match holder.token {
            _ if token == 0 => Some(*self),
            Some(current) => (current == token).then_some(*self),
            None if token <= ceiling => {
                let holder = Holder { token: Some(token), ..holder };
                self.rises(token)?.held_by(Some(holder))
            }
            None => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder {
            _ if self.ended => f.write_str("ended"),
            None => f.write_str("free"),
            Some(Holder { thread, token: Some(token), .. }) => {
                write!(f, "held by thread {thread} under token {token}")
            }
            Some(Holder { thread, token: None, .. }) => {
                write!(f, "held by thread {thread} under a token not known")
            }
        }?;
        write!(f, ", all up to revision {}", self.floor)
    }
}
