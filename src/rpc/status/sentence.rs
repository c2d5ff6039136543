//! What people read: what is true here, and what to do about it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Phase;
use crate::domain::refusal::{Cause, Facts, Ours, Quota};
use crate::rpc::status::About;

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
            "The deadline came while the call waited; the context was not set. Ask again with more time."
        }
        Ours::WaitQueueFull => "Ask again later, or without waiting.",
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
    if let Some(holder) = &facts.holder {
        let stale =
            if facts.ours == Some(Ours::StaleToken) { "the token shown is stale: " } else { "" };
        return format!(
            "{stale}{subject} is held by thread {} under token {} for {}",
            holder.owner.thread(),
            holder.token,
            seconds(holder.held_for),
        );
    }
    if facts.cause == Some(Cause::Draining) {
        return "this server is going down; another, or this one once it is back, may answer"
            .to_owned();
    }
    if let Some(cause) = facts.cause {
        let what = cause.as_str().replace('_', " ");
        let stale =
            if facts.ours == Some(Ours::StaleToken) { ", so the token shown is stale" } else { "" };
        return format!("{subject}: {what}{stale}");
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
        Some(Quota::Leases(max)) => format!("{subject} has its {max} leases"),
        None => String::new(),
    }
}

/// A duration as protobuf's JSON writes it, to the millisecond.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}.{:03}s", duration.as_secs(), duration.subsec_millis())
}
