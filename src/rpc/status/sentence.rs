//! What people read: what is true here, and what to do about it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::domain::id::Principal;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Phase;
use crate::domain::refusal::{Cause, Facts, Holder, Losing, Ours, Quota};
use crate::domain::session::HowLost;
use crate::domain::time::Timestamp;
use crate::rpc::convert::timestamp;
use crate::rpc::status::{About, watch};

/// Why writing into a String cannot fail.
pub(super) const STRING: &str = "a String takes everything";

/// The sentence for people: the code, what is true here, and what to do about such a thing.
pub(super) fn tell(jet: JetErr, facts: &Facts, about: &About) -> String {
    let mut told = format!("{jet}: ");
    let subject = about.resource().map_or_else(|| "the server".to_owned(), |(_, name)| name);
    let here = here(facts, about, &subject);
    if !here.is_empty() {
        write!(told, "{here}. ").expect(STRING);
    } else if about.resource().is_some() {
        write!(told, "{subject}. ").expect(STRING);
    }
    told.push_str(jet.message());
    told
}

/// The sentence for people where JET has no code: what is true here, and what to do about it.
pub(super) fn tell_ours(ours: Ours, facts: &Facts, about: &About) -> String {
    let subject = about.resource().map_or_else(|| "the server".to_owned(), |(_, name)| name);
    let here = here(facts, about, &subject);
    let advice = match ours {
        Ours::StaleToken => return tell(JetErr::SessionContextNotSetByThisThread, facts, about),
        Ours::RequestIdReused => {
            "Another call was made under this request id, and its effect stands; nothing was done now. \
             Give every call an id of its own, and repeat it only with the same content."
        }
        Ours::NotSet => {
            "The call's deadline came while it waited, and no context was set. Ask again with more time."
        }
        Ours::WaitQueueFull => {
            "No context was set. Ask again a little later, or without waiting; if this happens often, \
             have fewer calls wait at once."
        }
        Ours::WatchTooSlow => watch::TOO_SLOW,
        Ours::RevisionCompacted => watch::COMPACTED,
        Ours::RevisionNotYet => watch::NOT_YET,
        Ours::TooManyLeases => "End threads that are no more, or wait until their leases end.",
    };
    if here.is_empty() { format!("{subject}: {advice}") } else { format!("{here}. {advice}") }
}

/// What is true of the subject, in a few words.
fn here(facts: &Facts, about: &About, subject: &str) -> String {
    if let Some(phase) = &facts.phase {
        let instance = about.instance_name().unwrap_or_else(|| subject.to_owned());
        return match phase {
            Phase::Failed(failure) => {
                format!("{instance} is FAILED ({}: {})", failure.error, failure.cause)
            }
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => format!("{instance} is {phase}"),
        };
    }
    if let Some(lost) = &facts.lost {
        return format!("{}{}; {}", stale(facts), how_lost(lost, subject), held_now(facts));
    }
    if let Some(holder) = &facts.holder {
        return format!("{}{subject} is {}", stale(facts), held_by(holder, facts.queue_length));
    }
    if let Some(size) = facts.pool_size {
        return none_free(size, facts.queue_length, subject);
    }
    if facts.cause == Some(Cause::Draining) {
        return "this server is going down; another, or this one once it is back, may answer"
            .to_owned();
    }
    if let Some(cause) = facts.cause {
        return format!("{}{subject}: {}", stale(facts), cause.as_str().replace('_', " "));
    }
    if facts.blocking.count > 0 {
        return format!("{} sessions of {subject} have open transactions", facts.blocking.count);
    }
    if let Some(detail) = &facts.detail {
        return format!("{subject}: {detail}");
    }
    match facts.quota {
        Some(Quota::Sessions(max)) => format!("{subject} has its {max} sessions"),
        Some(Quota::Instances(max)) => format!("the server has its {max} instances"),
        Some(Quota::Waiters(limit)) => format!("too many {}", limit.as_str()),
        Some(Quota::Leases(max)) => format!("an instance has its {max} leases"),
        None => String::new(),
    }
}

/// What is wrong with the token that was shown, if that is what is wrong.
fn stale(facts: &Facts) -> &'static str {
    match facts.ours {
        Some(Ours::StaleToken) => "the token shown is stale: ",
        Some(
            Ours::RequestIdReused
            | Ours::NotSet
            | Ours::WaitQueueFull
            | Ours::TooManyLeases
            | Ours::WatchTooSlow
            | Ours::RevisionCompacted
            | Ours::RevisionNotYet,
        )
        | None => "",
    }
}

/// By whom a session is held, since when and how much longer, and how many others want it.
fn held_by(holder: &Holder, waiting: Option<usize>) -> String {
    let token = holder.token;
    let thread = match holder.thread() {
        Some(thread) => format!("thread {thread}"),
        None => "another principal".to_owned(),
    };
    let held_for = seconds(holder.held_for);
    let mut told = format!("held by {thread} under token {token} for {held_for}");
    if let Some(remaining) = holder.lease_remaining {
        write!(told, ", with {} left of its lease", seconds(remaining)).expect(STRING);
    }
    match waiting {
        None | Some(0) => {}
        Some(1) => told.push_str("; 1 call waits for it"),
        Some(waiting) => write!(told, "; {waiting} calls wait for it").expect(STRING),
    }
    told
}

/// How a thread lost a session.
fn how_lost(lost: &Losing, subject: &str) -> String {
    let (thread, time) = (&lost.thread, rfc3339(lost.time));
    let by = lost.by.as_ref().map_or("another principal", Principal::as_str);
    match &lost.how {
        HowLost::LeaseExpired => {
            format!(
                "the lease of thread {thread} ended at {time}, and with it its hold on {subject}"
            )
        }
        HowLost::Forced(reason) => {
            format!("{by} took {subject} from thread {thread} at {time}: {}", reason.as_str())
        }
        HowLost::Transferred => format!("{by} handed {subject} over at {time}"),
    }
}

/// Who holds what was lost.
fn held_now(facts: &Facts) -> String {
    match &facts.holder {
        Some(holder) => format!("it is {}", held_by(holder, facts.queue_length)),
        None => "nobody holds it now".to_owned(),
    }
}

/// Why no session of a pool can be had.
fn none_free(size: usize, waiting: Option<usize>, subject: &str) -> String {
    let mut told = match size {
        0 => return format!("no session of {subject} has these labels"),
        1 => "the only session of the pool is not free".to_owned(),
        size => format!("none of the {size} sessions of the pool is free"),
    };
    match waiting {
        None | Some(0) => {}
        Some(1) => told.push_str("; 1 call waits for one"),
        Some(waiting) => write!(told, "; {waiting} calls wait for one").expect(STRING),
    }
    told
}

/// A moment as RFC 3339 writes it.
pub(super) fn rfc3339(time: Timestamp) -> String {
    timestamp(time).to_string()
}

/// A duration as protobuf's JSON writes it, to the millisecond.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}.{:03}s", duration.as_secs(), duration.subsec_millis())
}
