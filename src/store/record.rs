//! Domain values ↔ messages of `storage.v1`: what the payloads of frames mean.
//!
//! Reading trusts nothing: every value goes through the door that a client's value would go through,
//! and a message that says something impossible is refused as a whole.
//!
//! - `instance`: the record of an instance, and what is kept of it when it is deleted

mod instance;

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;

use crate::domain::event::{Change, HowReset, SessionEvent};
use crate::domain::id::{
    ContextValue, InstanceId, Labels, Owner, Principal, Reason, Revision, SessionId,
};
use crate::domain::limits::{
    BATCH_BEGIN_MAX, LEASE_SECONDS_MAX, LEASE_SECONDS_MIN, PRINCIPAL_BYTES_MAX,
};
use crate::domain::request::{AnswerKind, Begun, Fingerprint, Made, Request};
use crate::domain::session::{Transaction, TransactionOwner};
use crate::domain::table::Floor;
use crate::domain::time::{Served, Timestamp};
use crate::proto::storage as pb;

pub(super) use instance::{read_gone, read_instance, write_gone, write_instance};

/// Why a payload is not what its frame says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The bytes are no such message.
    #[error("not a message of its kind: {0}")]
    Message(#[from] prost::DecodeError),
    /// A field has a value that nobody writes.
    #[error("{0} is missing or out of range")]
    Field(&'static str),
}

type Decoded<T> = Result<T, Undecodable>;

/// A value that must be there.
pub(super) fn field<T>(value: Option<T>, name: &'static str) -> Decoded<T> {
    value.ok_or(Undecodable::Field(name))
}

/// Writes the payload of a frame `changes`.
pub(super) fn write_changes(changes: &[Change], bytes: &mut Vec<u8>) {
    // Message by message, as `pb::Changes` would be written, without gathering them first.
    for change in changes {
        let change = pb::Change::from(change);
        prost::encoding::message::encode(1, &change, bytes);
    }
}

/// Reads the payload of a frame `changes` whose first change has this revision.
pub(super) fn read_changes(payload: &[u8], first: Revision) -> Decoded<Vec<Change>> {
    let message = pb::Changes::decode(payload)?;
    let mut revision = first;
    let mut changes = Vec::with_capacity(message.changes.len());
    for (n, change) in message.changes.into_iter().enumerate() {
        if n > 0 {
            let next = revision.get().checked_add(1).map(Revision::new);
            revision = field(next, "revision")?;
        }
        let by = principal(&change.principal)?;
        let made = change.made.into_iter().map(|made| self::made(made, &by));
        let change = Change {
            revision,
            time: Timestamp::from_micros(change.time_us),
            event: event(field(change.event, "event")?)?,
            made: made.collect::<Decoded<_>>()?,
            by,
        };
        // Sessions that were begun by one call end with the change that answers it.
        let impossible = |made: &Made| match made.answer {
            AnswerKind::Sessions(count) => {
                count as usize > n + 1 || Begun::up_to(&change, count).is_none()
            }
            AnswerKind::Session { .. }
            | AnswerKind::Revision
            | AnswerKind::Level
            | AnswerKind::Done => false,
        };
        if change.made.iter().any(impossible) {
            return Err(Undecodable::Field("sessions"));
        }
        changes.push(change);
    }
    if changes.is_empty() {
        return Err(Undecodable::Field("changes"));
    }
    Ok(changes)
}

/// How many changes a payload of a frame `changes` holds, without reading them.
pub(super) fn count_changes(mut payload: &[u8]) -> Decoded<u64> {
    let mut count = 0;
    while !payload.is_empty() {
        let (tag, wire) = prost::encoding::decode_key(&mut payload)?;
        prost::encoding::skip_field(wire, tag, &mut payload, Default::default())?;
        count += u64::from(tag == 1);
    }
    if count == 0 { Err(Undecodable::Field("changes")) } else { Ok(count) }
}

impl From<&Change> for pb::Change {
    fn from(change: &Change) -> Self {
        use pb::change::Event;
        let event = match &change.event {
            SessionEvent::Began { session, labels } => {
                Event::Began(pb::Began { sesid: session.get(), labels: write_labels(labels) })
            }
            SessionEvent::ContextSet { session, owner, context } => {
                Event::ContextSet(pb::ContextSet {
                    sesid: session.get(),
                    owner: Some(owner.into()),
                    context: context.get(),
                })
            }
            SessionEvent::ContextReset { session, how } => {
                use pb::context_reset::How;
                let how = match how {
                    HowReset::ByHolder => None,
                    HowReset::LeaseExpired => Some(How::LeaseExpired(pb::LeaseExpired {})),
                    HowReset::Forced(reason) => Some(How::Forced(reason.as_str().to_owned())),
                };
                Event::ContextReset(pb::ContextReset { sesid: session.get(), how })
            }
            SessionEvent::ContextTransferred { session, to } => {
                Event::ContextTransferred(pb::ContextTransferred {
                    sesid: session.get(),
                    to: Some(to.into()),
                })
            }
            SessionEvent::TransactionBegan { session, transaction } => {
                Event::TransactionBegan(pb::TransactionBegan {
                    sesid: session.get(),
                    transaction: Some(transaction.into()),
                })
            }
            SessionEvent::TransactionCommitted { session, left } => {
                Event::TransactionCommitted(pb::TransactionCommitted {
                    sesid: session.get(),
                    left: left.as_ref().map(Into::into),
                })
            }
            SessionEvent::TransactionRolledBack { session, left } => {
                Event::TransactionRolledBack(pb::TransactionRolledBack {
                    sesid: session.get(),
                    left: left.as_ref().map(Into::into),
                })
            }
            SessionEvent::Ended { session, forced } => Event::Ended(pb::Ended {
                sesid: session.get(),
                forced: forced.as_ref().map_or_else(String::new, |why| why.as_str().to_owned()),
            }),
            SessionEvent::AllEnded => Event::AllEnded(pb::AllEnded {}),
            SessionEvent::LeaseSet { owner, ttl, since } => Event::LeaseSet(pb::LeaseSet {
                owner: Some(owner.into()),
                ttl_us: micros(*ttl),
                since_us: since.micros(),
            }),
            SessionEvent::LeaseEnded { owner } => {
                Event::LeaseEnded(pb::LeaseEnded { owner: Some(owner.into()) })
            }
            SessionEvent::ServingBegan { at } => {
                Event::ServingBegan(pb::ServingBegan { at_us: at.micros() })
            }
            SessionEvent::ServedUntil { at } => {
                Event::ServedUntil(pb::ServedUntil { at_us: at.micros() })
            }
        };
        Self {
            time_us: change.time.micros(),
            principal: change.by.as_str().to_owned(),
            event: Some(event),
            made: change.made.iter().map(|made| write_made(made, &change.by)).collect(),
        }
    }
}

fn write_made(made: &Made, by: &Principal) -> pb::Made {
    use pb::made::Answer;
    pb::Made {
        request_id: made.request.id.to_string(),
        body: made.request.body.get(),
        principal: if made.by == *by { String::new() } else { made.by.as_str().to_owned() },
        answer: Some(match made.answer {
            AnswerKind::Session { waiters, lease_remaining } => {
                let lease_remaining_us = lease_remaining.map(micros);
                Answer::Session(pb::AnswerSession { waiters, lease_remaining_us })
            }
            AnswerKind::Sessions(count) => Answer::Sessions(count),
            AnswerKind::Revision => Answer::Revision(pb::AnswerRevision {}),
            AnswerKind::Level => Answer::Level(pb::AnswerLevel {}),
            AnswerKind::Done => Answer::Done(pb::AnswerDone {}),
        }),
    }
}

fn made(made: pb::Made, by: &Principal) -> Decoded<Made> {
    use pb::made::Answer;
    Ok(Made {
        by: if made.principal.is_empty() { by.clone() } else { principal(&made.principal)? },
        request: request(&made.request_id, made.body)?,
        answer: match field(made.answer, "answer")? {
            Answer::Session(answer) => AnswerKind::Session {
                waiters: answer.waiters,
                lease_remaining: answer.lease_remaining_us.map(Duration::from_micros),
            },
            Answer::Sessions(count) => AnswerKind::Sessions(begun_count(count)?),
            Answer::Revision(pb::AnswerRevision {}) => AnswerKind::Revision,
            Answer::Level(pb::AnswerLevel {}) => AnswerKind::Level,
            Answer::Done(pb::AnswerDone {}) => AnswerKind::Done,
        },
    })
}

/// How many sessions began together.
pub(super) fn begun_count(count: u32) -> Decoded<u32> {
    field(Some(count).filter(|count| (1..=BATCH_BEGIN_MAX).contains(count)), "count")
}

/// How long a lease is.
pub(super) fn ttl(micros: u64) -> Decoded<Duration> {
    let ttl = Duration::from_micros(micros);
    let (min, max) =
        (Duration::from_secs(LEASE_SECONDS_MIN), Duration::from_secs(LEASE_SECONDS_MAX));
    field(Some(ttl).filter(|ttl| (min..=max).contains(ttl)), "ttl")
}

/// A request.
pub(super) fn request(id: &str, body: u64) -> Decoded<Request> {
    Ok(Request { id: field(id.parse().ok(), "request_id")?, body: Fingerprint::new(body) })
}

/// A duration in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn event(event: pb::change::Event) -> Decoded<SessionEvent> {
    use pb::change::Event;
    Ok(match event {
        Event::Began(began) => {
            SessionEvent::Began { session: sesid(began.sesid)?, labels: labels(began.labels)? }
        }
        Event::ContextSet(set) => SessionEvent::ContextSet {
            session: sesid(set.sesid)?,
            owner: owner(field(set.owner, "owner")?)?,
            context: context(set.context)?,
        },
        Event::ContextReset(reset) => SessionEvent::ContextReset {
            session: sesid(reset.sesid)?,
            how: match reset.how {
                None => HowReset::ByHolder,
                Some(pb::context_reset::How::LeaseExpired(pb::LeaseExpired {})) => {
                    HowReset::LeaseExpired
                }
                Some(pb::context_reset::How::Forced(reason)) => {
                    HowReset::Forced(field(reason.parse().ok(), "forced")?)
                }
            },
        },
        Event::ContextTransferred(transferred) => SessionEvent::ContextTransferred {
            session: sesid(transferred.sesid)?,
            to: owner(field(transferred.to, "to")?)?,
        },
        Event::LeaseSet(lease) => SessionEvent::LeaseSet {
            owner: owner(field(lease.owner, "owner")?)?,
            ttl: ttl(lease.ttl_us)?,
            since: Served::from_micros(lease.since_us),
        },
        Event::LeaseEnded(lease) => {
            SessionEvent::LeaseEnded { owner: owner(field(lease.owner, "owner")?)? }
        }
        Event::ServingBegan(began) => {
            SessionEvent::ServingBegan { at: Served::from_micros(began.at_us) }
        }
        Event::ServedUntil(served) => {
            SessionEvent::ServedUntil { at: Served::from_micros(served.at_us) }
        }
        Event::TransactionBegan(began) => SessionEvent::TransactionBegan {
            session: sesid(began.sesid)?,
            transaction: transaction(field(began.transaction, "transaction")?)?,
        },
        Event::TransactionCommitted(committed) => SessionEvent::TransactionCommitted {
            session: sesid(committed.sesid)?,
            left: committed.left.map(transaction).transpose()?,
        },
        Event::TransactionRolledBack(rolled_back) => SessionEvent::TransactionRolledBack {
            session: sesid(rolled_back.sesid)?,
            left: rolled_back.left.map(transaction).transpose()?,
        },
        Event::Ended(ended) => SessionEvent::Ended {
            session: sesid(ended.sesid)?,
            forced: if ended.forced.is_empty() {
                None
            } else {
                Some(field(ended.forced.parse::<Reason>().ok(), "reason")?)
            },
        },
        Event::AllEnded(pb::AllEnded {}) => SessionEvent::AllEnded,
    })
}

impl From<&Owner> for pb::Owner {
    fn from(owner: &Owner) -> Self {
        Self {
            principal: owner.principal().as_str().to_owned(),
            thread: owner.thread().as_str().to_owned(),
        }
    }
}

/// The thread of a principal.
pub(super) fn owner(owner: pb::Owner) -> Decoded<Owner> {
    let thread = field(owner.thread.parse().ok(), "thread")?;
    Ok(Owner::new(principal(&owner.principal)?, thread))
}

/// A principal.
pub(super) fn principal(name: &str) -> Decoded<Principal> {
    if name.len() > PRINCIPAL_BYTES_MAX {
        return Err(Undecodable::Field("principal"));
    }
    Ok(Principal::new(name))
}

impl From<&Transaction> for pb::Transaction {
    fn from(transaction: &Transaction) -> Self {
        use pb::transaction::BoundTo;
        Self {
            level: transaction.level().into(),
            bound_to: Some(match transaction.bound_to() {
                TransactionOwner::Context(word) => BoundTo::Context(word.get()),
                TransactionOwner::Thread(owner) => BoundTo::Thread(owner.into()),
            }),
        }
    }
}

fn transaction(message: pb::Transaction) -> Decoded<Transaction> {
    use pb::transaction::BoundTo;
    let bound_to = match field(message.bound_to, "bound_to")? {
        BoundTo::Context(word) => TransactionOwner::Context(context(word)?),
        BoundTo::Thread(thread) => TransactionOwner::Thread(owner(thread)?),
    };
    at_level(message.level, bound_to)
}

/// A transaction of this level.
pub(super) fn at_level(level: u32, bound_to: TransactionOwner) -> Decoded<Transaction> {
    let level = u8::try_from(level).ok();
    field(level.and_then(|level| Transaction::at_level(level, bound_to)), "level")
}

/// The number of a session.
pub(super) fn sesid(sesid: u64) -> Decoded<SessionId> {
    field(SessionId::new(sesid), "sesid")
}

/// A context word.
pub(super) fn context(word: u64) -> Decoded<ContextValue> {
    field(ContextValue::new(word), "context")
}

/// Labels as messages.
pub(super) fn write_labels(labels: &Labels) -> Vec<pb::Label> {
    let label =
        |(key, value): (&str, &str)| pb::Label { key: key.to_owned(), value: value.to_owned() };
    labels.iter().map(label).collect()
}

/// Labels from messages.
pub(super) fn labels(messages: Vec<pb::Label>) -> Decoded<Labels> {
    let count = messages.len();
    let pairs: BTreeMap<_, _> = messages.into_iter().map(|pair| (pair.key, pair.value)).collect();
    let distinct = pairs.len() == count;
    field(Labels::new(pairs).ok().filter(|_| distinct), "labels")
}

/// The name of an instance.
pub(super) fn instance_id(id: &str) -> Decoded<InstanceId> {
    field(id.parse().ok(), "id")
}

/// A floor.
pub(super) fn floor(revision: u64, sesid: u64) -> Floor {
    Floor { revision: Revision::new(revision), sesid }
}

/// The payload of a frame `floor`.
pub(super) fn write_floor(floor: Floor, bytes: &mut Vec<u8>) {
    let message = pb::Floor { revision: floor.revision.get(), sesid: floor.sesid };
    bytes.extend_from_slice(&message.encode_to_vec());
}

/// Reads the payload of a frame `floor`.
pub(super) fn read_floor(payload: &[u8]) -> Decoded<Floor> {
    let message = pb::Floor::decode(payload)?;
    Ok(floor(message.revision, message.sesid))
}

/// The payload of a frame `numbers`.
pub(super) fn write_numbers(floor: Floor, bytes: &mut Vec<u8>) {
    let message = pb::Numbers { revision: floor.revision.get(), sesid: floor.sesid };
    bytes.extend_from_slice(&message.encode_to_vec());
}

/// Reads the payload of a frame `numbers`.
pub(super) fn read_numbers(payload: &[u8]) -> Decoded<Floor> {
    let message = pb::Numbers::decode(payload)?;
    Ok(floor(message.revision, message.sesid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::arbitrary;

    proptest! {
        #[test]
        fn changes_are_read_as_they_were_written(changes in arbitrary::changes(12)) {
            let mut bytes = Vec::new();
            write_changes(&changes, &mut bytes);

            prop_assert_eq!(count_changes(&bytes), Ok(changes.len() as u64));
            prop_assert_eq!(read_changes(&bytes, changes[0].revision), Ok(changes));
        }
    }
}
