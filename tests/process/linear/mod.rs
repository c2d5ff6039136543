//! Are the answers that many clients had at once those of one session that is asked one thing at a time?
//!
//! Clients write down what they asked and were told, and when, on one clock. Afterwards the check
//! looks for an order of all operations in which each answer follows from those before it, and in which
//! nothing comes before what was answered before it was asked for. What has no answer may have been
//! made at any later time, or never.
//!
//! In reading order:
//!
//! - `history`: what was asked and told
//! - `contract`: which answer is right in which state of a session
//! - `order`: what revisions alone tell
//! - `search`: the search for an order that explains all
//! - `tests`: the check itself, on histories that are known to be right or wrong
//! - `recorder`: how a history is written down
//! - `wire`: how calls get to a server, also by processes that are stopped and killed
//! - `call`: acts as messages, and answers as outcomes
//! - `worker`: a client at work
//! - `rounds`: many of them, on servers that die

mod call;
mod contract;
mod history;
mod order;
mod recorder;
mod rounds;
mod search;
mod tests;
mod wire;
mod worker;

use std::collections::BTreeMap;
use std::fmt;

use history::Operation;

/// What is wrong with a history.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) what: What,
    explained: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    RevisionTwice,
    OutOfOrder,
    DoesNotFollow,
    NoOrder,
    /// The search took too long to tell. It counts as wrong: a history that nobody can explain is one
    /// that nobody has checked.
    GaveUp,
}

/// What a check went through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) sessions: usize,
    pub(crate) operations: usize,
    pub(crate) unknown: usize,
    pub(crate) configurations: usize,
    /// Leases that ended.
    pub(crate) expired: usize,
}

/// Checks the history of one instance.
pub(crate) fn check(history: &[Operation]) -> Result<Checked, Wrong> {
    order::rises(history)?;
    let mut sessions: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        sessions.entry(operation.session).or_default().push(*operation);
    }
    let mut checked = Checked::default();
    for session in sessions.values() {
        order::replays(session)?;
        let explanation = search::explains(session)?;
        checked.configurations += explanation.configurations;
        checked.expired += explanation.expired;
        checked.sessions += 1;
        checked.operations += session.len();
        checked.unknown += session.iter().filter(|one| one.is_unknown()).count();
    }
    Ok(checked)
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::RevisionTwice => "A REVISION CAME TWICE",
            What::OutOfOrder => "REVISIONS DO NOT RISE WITH TIME",
            What::DoesNotFollow => "A CHANGE DOES NOT FOLLOW FROM THOSE BEFORE IT",
            What::NoOrder => "NO ORDER EXPLAINS THE ANSWERS",
            What::GaveUp => "THE SEARCH GAVE UP",
        })?;
        write!(f, ": {}", self.explained)
    }
}
