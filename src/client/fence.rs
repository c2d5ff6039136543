//! Turning away a writer that lost its session and does not know it yet.
//!
//! A lease only says when a session *becomes* free. A process that is stopped for a minute, or whose
//! packets are held up, wakes up believing that it holds what another has long taken. Only the thing that
//! the session guards can refuse it, by the token: each holder's is larger than those of all before, so
//! who has seen a token turns away all smaller ones.
//!
//! ```
//! use jet_session::client::fence::{Gate, Refused, Ticket};
//!
//! /// A file, a row, a device: whatever one holder at a time may write.
//! #[derive(Default)]
//! struct Resource {
//!     gate: Gate,
//!     content: String,
//! }
//!
//! impl Resource {
//!     fn write(&mut self, ticket: &Ticket, content: &str) -> Result<(), Refused> {
//!         // The gate and what it guards change together: keep them in one row, one file, one lock.
//!         self.gate.admit(ticket)?;
//!         self.content = content.to_owned();
//!         Ok(())
//!     }
//! }
//!
//! let session = "instances/main/sessions/1".parse().unwrap();
//! let ticket = |token| Ticket::new("f1e2", Clone::clone(&session), token);
//! let (paused, successor) = (ticket(17), ticket(23));
//! let mut resource = Resource::default();
//!
//! resource.write(&paused, "first")?;
//! // The first holder is paused, its lease expires, and a successor gets a larger token.
//! resource.write(&successor, "second")?;
//! // The first one wakes up and goes on as if nothing had happened.
//! let refused = resource.write(&paused, "half of the third");
//!
//! assert_eq!(refused, Err(Refused::Stale { shown: 17, newest: 23 }));
//! assert_eq!(resource.content, "second");
//! # Ok::<(), Refused>(())
//! ```

use crate::domain::id::SessionName;

/// What a holder shows to the resource that its session guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    instance_uid: String,
    session: SessionName,
    token: u64,
}

impl Ticket {
    /// The ticket of whoever holds this session with this token, in the instance with this uid.
    /// A holder gets its own from [`Guard::ticket`](super::Guard::ticket).
    pub fn new(instance_uid: impl Into<String>, session: SessionName, token: u64) -> Self {
        Self { instance_uid: instance_uid.into(), session, token }
    }

    /// The uid of the instance: tokens of two uids cannot be compared.
    pub fn instance_uid(&self) -> &str {
        &self.instance_uid
    }

    /// The session.
    pub fn session(&self) -> &SessionName {
        &self.session
    }

    /// The token.
    pub fn token(&self) -> u64 {
        self.token
    }
}

/// The memory of one guarded resource: the newest ticket that it has admitted.
///
/// It must live as long as the resource and be kept with it: a gate that forgets admits a stale writer.
/// Store [`newest`](Gate::newest) beside the data and begin with it again ([`Gate::from`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gate {
    newest: Option<Ticket>,
}

/// Why a ticket is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A later holder has been here.
    #[error("token {shown} is stale: a holder with token {newest} came after")]
    Stale {
        /// The token that was shown.
        shown: u64,
        /// The newest that was admitted.
        newest: u64,
    },
    /// The ticket is for another session, or for another instance of the same name, such as a restored
    /// one: nobody can say which is the later. Whoever knows tells the gate ([`Gate::start_over`]).
    #[error("the ticket is of another session or instance than those before it")]
    Foreign,
}

impl Gate {
    /// A gate that has admitted nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits a holder unless a later one has been here.
    pub fn admit(&mut self, ticket: &Ticket) -> Result<(), Refused> {
        if let Some(newest) = &self.newest {
            if (&newest.instance_uid, &newest.session) != (&ticket.instance_uid, &ticket.session) {
                return Err(Refused::Foreign);
            }
            if ticket.token < newest.token {
                return Err(Refused::Stale { shown: ticket.token, newest: newest.token });
            }
            if ticket.token == newest.token {
                return Ok(());
            }
        }
        self.newest = Some(ticket.clone());
        Ok(())
    }

    /// The newest ticket that was admitted, to be stored with the resource.
    pub fn newest(&self) -> Option<&Ticket> {
        self.newest.as_ref()
    }

    /// Forgets all before this ticket, whatever it is: the decision of somebody who knows that the
    /// resource now belongs to another session or to a restored instance.
    pub fn start_over(&mut self, ticket: Ticket) {
        self.newest = Some(ticket);
    }
}

impl From<Ticket> for Gate {
    /// The gate of a resource whose newest ticket was stored.
    fn from(newest: Ticket) -> Self {
        Self { newest: Some(newest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(uid: &str, sesid: u64, token: u64) -> Ticket {
        Ticket::new(uid, format!("instances/main/sessions/{sesid}").parse().unwrap(), token)
    }

    #[test]
    fn a_holder_may_come_again_until_a_later_one_came() {
        let mut gate = Gate::new();
        for (token, wanted) in [
            (5, Ok(())),
            (5, Ok(())),
            (4, Err(Refused::Stale { shown: 4, newest: 5 })),
            (9, Ok(())),
            (5, Err(Refused::Stale { shown: 5, newest: 9 })),
            (8, Err(Refused::Stale { shown: 8, newest: 9 })),
            (u64::MAX, Ok(())),
        ] {
            assert_eq!(gate.admit(&ticket("u", 1, token)), wanted, "{token}");
        }
    }

    #[test]
    fn a_stored_gate_goes_on_where_it_was() {
        let mut gate = Gate::new();
        gate.admit(&ticket("u", 1, 9)).unwrap();
        let mut again = Gate::from(gate.newest().unwrap().clone());
        assert_eq!(again.admit(&ticket("u", 1, 8)), Err(Refused::Stale { shown: 8, newest: 9 }));
    }

    #[test]
    fn tokens_that_cannot_be_compared_are_not() {
        let mut gate = Gate::from(ticket("u", 1, 5));
        for foreign in [ticket("other", 1, 9), ticket("u", 2, 9), ticket("other", 1, 1)] {
            assert_eq!(gate.admit(&foreign), Err(Refused::Foreign));
        }
        assert_eq!(gate, Gate::from(ticket("u", 1, 5)), "a refused ticket changed the gate");

        gate.start_over(ticket("other", 1, 1));
        assert_eq!(gate.admit(&ticket("other", 1, 2)), Ok(()));
        assert_eq!(gate.admit(&ticket("u", 1, 9)), Err(Refused::Foreign));
    }
}
