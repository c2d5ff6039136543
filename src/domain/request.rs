//! Exact retries: what a call answered, kept for when the same call comes again.
//!
//! A client that hears no answer cannot know whether its call took effect. If it gave the call a
//! *request id*, it sends the same call again and gets the answer of the first time, also after a
//! restart: the answer is remembered by the very change that was the effect. Only calls that took
//! effect are remembered; one that was refused is decided afresh.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::{Labels, Malformed, Principal, Revision, SessionId};
use crate::domain::limits::REQUEST_ID_BYTES_MAX;
use crate::domain::session::{Session, SessionView};
use crate::domain::time::Timestamp;

/// The name that a client gave to a call. A UUID is kept in sixteen bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Text);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Text {
    /// A UUID as RFC 9562 writes it, in lower case.
    Uuid(u128),
    Other(Arc<str>),
}

impl FromStr for RequestId {
    type Err = Malformed;

    fn from_str(id: &str) -> Result<Self, Malformed> {
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len());
        if !fits || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed("a request id is 1 to 64 visible ASCII characters"));
        }
        Ok(Self(uuid(id).map_or_else(|| Text::Other(id.into()), Text::Uuid)))
    }
}

/// The number that a UUID stands for, if writing it gives the same text again.
fn uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return None;
    }
    let mut number = 0_u128;
    for (place, byte) in bytes.iter().enumerate() {
        let digit = match (place, byte) {
            (8 | 13 | 18 | 23, b'-') => continue,
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9') => byte - b'0',
            (_, b'a'..=b'f') => byte - b'a' + 10,
            (_, _) => return None,
        };
        number = number << 4 | u128::from(digit);
    }
    Some(number)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Text::Uuid(n) => {
                let low = |bits: u32| (n >> bits) & 0xFFFF;
                write!(f, "{:08x}-{:04x}-{:04x}-", n >> 96, low(80), low(64))?;
                write!(f, "{:04x}-{:012x}", low(48), n & 0xFFFF_FFFF_FFFF)
            }
            Text::Other(text) => f.write_str(text),
        }
    }
}

/// What a call says, in short: two calls of one id that differ here are not the same call. It covers
/// the method and all that was asked but how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A call that its client can make again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// What the client calls it.
    pub id: RequestId,
    /// What it says.
    pub body: Fingerprint,
}

/// A request that took effect with a change, and of what kind its answer was. The rest of the answer is
/// read from the state right after the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Whose request it was.
    pub by: Principal,
    /// The request.
    pub request: Request,
    /// What was answered.
    pub answer: AnswerKind,
}

/// Of what kind an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// The session that the change touched, and what only the server that answered knew of it.
    Session {
        /// How many calls waited for it.
        waiters: u32,
        /// What was left of the lease of its holder.
        lease_remaining: Option<Duration>,
    },
    /// The sessions that this change and those before it began.
    Sessions(u32),
    /// The revision of the change.
    Revision,
    /// The transaction level after the change.
    Level,
    /// That it was done.
    Done,
}

/// An answer that can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A session.
    Session(Box<SessionView>),
    /// Sessions that began together.
    Sessions(Box<Begun>),
    /// A revision: that of a reset, or a fencing token.
    Revision(Revision),
    /// A transaction level.
    Level(u8),
    /// That it was done.
    Done,
}

/// Sessions that one call began. They are alike but for their numbers and revisions, which follow each
/// other, so a thousand of them are kept as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The number of the first.
    pub first: SessionId,
    /// The revision of the first.
    pub revision: Revision,
    /// How many there are.
    pub count: u32,
    /// How people find them.
    pub labels: Labels,
    /// When they began.
    pub created: Timestamp,
}

impl Begun {
    /// So many sessions, the last of which began with this change. Nothing if that cannot be.
    pub fn up_to(change: &Change, count: u32) -> Option<Self> {
        let SessionEvent::Began { session, labels } = &change.event else {
            return None;
        };
        let before = u64::from(count.checked_sub(1)?);
        Some(Self {
            first: SessionId::new(session.get().checked_sub(before)?)?,
            revision: change.revision.get().checked_sub(before).map(Revision::new)?,
            count,
            labels: labels.clone(),
            created: change.time,
        })
    }

    /// The number and the revision of the last; nothing if there are no such numbers.
    pub fn last(&self) -> Option<(SessionId, Revision)> {
        let before = u64::from(self.count.checked_sub(1)?);
        let id = self.first.get().checked_add(before).and_then(SessionId::new)?;
        Some((id, self.revision.get().checked_add(before).map(Revision::new)?))
    }

    /// The sessions as they were answered.
    pub fn views(&self) -> Vec<SessionView> {
        let numbers = self.first.get()..;
        let both = numbers.zip(self.revision.get()..).take(self.count as usize);
        let session = |(id, revision)| {
            let (labels, revision) = (self.labels.clone(), Revision::new(revision));
            let session = Session::new(SessionId::new(id)?, labels, self.created, revision);
            Some(SessionView { session, waiters: 0, lease: None })
        };
        both.filter_map(session).collect()
    }
}

/// An answer of a call that changes something.
pub trait Repeatable: Sized {
    /// Of what kind it is; nothing for answers that are not remembered because nothing changed.
    fn kind(&self) -> Option<AnswerKind>;

    /// The answer that was remembered, if it is one of these.
    fn repeated(answer: &Answer) -> Option<Self>;
}

impl Repeatable for SessionView {
    fn kind(&self) -> Option<AnswerKind> {
        let lease_remaining = self.lease.map(|lease| lease.remaining);
        Some(AnswerKind::Session { waiters: self.waiters, lease_remaining })
    }

    fn repeated(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Session(view) => Some((**view).clone()),
            Answer::Sessions(_) | Answer::Revision(_) | Answer::Level(_) | Answer::Done => None,
        }
    }
}

impl Repeatable for Vec<SessionView> {
    fn kind(&self) -> Option<AnswerKind> {
        u32::try_from(self.len()).ok().map(AnswerKind::Sessions)
    }

    fn repeated(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Sessions(begun) => Some(begun.views()),
            Answer::Session(_) | Answer::Revision(_) | Answer::Level(_) | Answer::Done => None,
        }
    }
}

impl Repeatable for Revision {
    fn kind(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Revision)
    }

    fn repeated(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Revision(revision) => Some(*revision),
            Answer::Session(_) | Answer::Sessions(_) | Answer::Level(_) | Answer::Done => None,
        }
    }
}

impl Repeatable for u8 {
    fn kind(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Level)
    }

    fn repeated(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Level(level) => Some(*level),
            Answer::Session(_) | Answer::Sessions(_) | Answer::Revision(_) | Answer::Done => None,
        }
    }
}

impl Repeatable for () {
    fn kind(&self) -> Option<AnswerKind> {
        Some(AnswerKind::Done)
    }

    fn repeated(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::Done => Some(()),
            Answer::Session(_) | Answer::Sessions(_) | Answer::Revision(_) | Answer::Level(_) => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_shown_as_it_was_given() {
        for id in [
            "123e4567-e89b-12d3-a456-426614174000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "00000000-0000-0000-0000-000000000000",
            "123E4567-E89B-12D3-A456-426614174000",
            "123e4567-e89b-12d3-a456_426614174000",
            "123e4567e89b12d3a456426614174000",
            "x",
            &"y".repeat(64),
        ] {
            assert_eq!(id.parse::<RequestId>().unwrap().to_string(), id);
        }
        for bad in ["", " ", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad}");
        }
    }
}
