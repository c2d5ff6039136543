//! What revisions alone tell: they rise with time, and the changes follow from one another in their
//! order.

use super::contract::State;
use super::history::{Act, Operation};
use super::{What, Wrong};

/// The place of a change among those whose revision is known. A transfer comes before the waiting Set
/// that it answers, and that has its token.
pub(crate) fn place(made: &Operation) -> Option<(u64, bool)> {
    Some((made.revision()?, !matches!(made.act, Act::Transfer { .. })))
}

fn in_order(operations: &[Operation]) -> Vec<&Operation> {
    let known = operations.iter().filter(|made| made.revision().is_some());
    let mut known: Vec<_> = known.collect();
    known.sort_by_key(|made| place(made));
    known
}

/// No revision is of two changes, and none is lower than one that was answered before it was asked for.
/// Revisions are those of an instance, so this is about all its sessions together.
pub(crate) fn rises(operations: &[Operation]) -> Result<(), Wrong> {
    let known = in_order(operations);
    for (first, second) in known.iter().zip(known.iter().skip(1)) {
        if first.revision() == second.revision() && !answered_by_transfer(first, second) {
            return Err(Wrong {
                what: What::RevisionTwice,
                explained: format!("both changes have one revision:\n{first}\n{second}"),
            });
        }
    }
    let mut latest: Option<&Operation> = None;
    for made in known {
        if let Some(earlier) = latest.filter(|earlier| made.returned < earlier.invoked) {
            return Err(Wrong {
                what: What::OutOfOrder,
                explained: format!(
                    "the second was asked for after the first was answered, and its revision is lower:\
                     \n{made}\n{earlier}"
                ),
            });
        }
        if latest.is_none_or(|latest| latest.invoked < made.invoked) {
            latest = Some(made);
        }
    }
    Ok(())
}

fn answered_by_transfer(transfer: &Operation, set: &Operation) -> bool {
    let to = match transfer.act {
        Act::Transfer { to, .. } => to,
        Act::Set { .. }
        | Act::Reset { .. }
        | Act::ForceReset { .. }
        | Act::Check { .. }
        | Act::Look
        | Act::KeepAlive { .. }
        | Act::End => return false,
    };
    transfer.session == set.session
        && matches!(set.act, Act::Set { wait: true, .. })
        && set.by == to
}

/// The changes of one session follow from one another, in the order of their revisions. From where one
/// does not, and something that has no answer or an expiry may explain it, the search goes on.
pub(crate) fn replays(session: &[Operation]) -> Result<(), Wrong> {
    let mut state = State::default();
    for made in in_order(session) {
        let Some(next) = state.after(made, u64::MAX) else {
            let unknown = |other: &Operation| other.is_unknown() && other.invoked < made.returned;
            if state.expiry().is_some() || session.iter().any(unknown) {
                return Ok(());
            }
            return Err(Wrong {
                what: What::DoesNotFollow,
                explained: format!("the session is {state}, and next comes\n{made}"),
            });
        };
        state = next;
    }
    Ok(())
}
