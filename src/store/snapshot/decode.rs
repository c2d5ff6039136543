//! Frames → sessions of a snapshot, from pieces of any size.

use prost::Message;

use crate::domain::id::{Owner, Revision, Uid};
use crate::domain::limits::{BACKUP_CHUNK_BYTES_MAX, LOG_FORMAT};
use crate::domain::session::{Binding, Context, Session, TransactionOwner};
use crate::domain::table::SessionTable;
use crate::domain::time::Timestamp;
use crate::proto::storage as pb;
use crate::store::frame::{self, Frame, Kind, NotAFrame};
use crate::store::record::{self, Undecodable};
use crate::store::snapshot::{About, Position, SALT};

/// Why bytes are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASnapshot {
    /// They are something else.
    #[error("this is no snapshot or backup of jet-session")]
    Foreign,
    /// They are of a format that comes after this release.
    #[error("its format is {0}, and this release reads formats up to {LOG_FORMAT}")]
    Newer(u32),
    /// They are damaged.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// How.
        what: Damage,
    },
    /// They end too early.
    #[error("it ends at byte {0}, before its last frame")]
    Truncated(u64),
    /// It has more sessions than whoever reads it may have.
    #[error("it has {found} sessions, and {max} are allowed")]
    TooManySessions {
        /// How many it has.
        found: u64,
        /// How many are allowed.
        max: u64,
    },
}

/// How a snapshot is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A frame is not one.
    #[error(transparent)]
    Frame(#[from] NotAFrame),
    /// A frame is not the one that belongs here.
    #[error("a frame is out of place")]
    OutOfPlace,
    /// A payload cannot be understood.
    #[error(transparent)]
    Payload(#[from] Undecodable),
    /// A session contradicts what came before.
    #[error("a session contradicts the beginning of the file")]
    Contradiction,
    /// Something follows the last frame.
    #[error("something follows its last frame")]
    TrailingBytes,
}

/// Cuts pieces of any size into the frames of a snapshot, and checks that none is missing.
#[derive(Debug, Default)]
pub struct Chain {
    /// Bytes that are not yet a whole frame, from `at` on.
    pending: Vec<u8>,
    at: u64,
    sequence: u64,
    previous: u32,
}

impl Chain {
    /// Checks the next bytes and no more than their frames.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotASnapshot> {
        self.frames(bytes, |_, _| Ok(()))
    }

    /// The checksum of the last frame, which stands for every byte so far.
    pub fn checksum(&self) -> u32 {
        self.previous
    }

    /// Gives every frame that these bytes complete to `take`, with its place in the file.
    fn frames(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&Frame<'_>, u64) -> Result<(), NotASnapshot>,
    ) -> Result<(), NotASnapshot> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while !rest.is_empty() {
            match frame::read(rest, SALT) {
                Ok((frame, size)) => {
                    let header = frame.header;
                    if header.sequence != self.sequence || header.previous != self.previous {
                        return Err(self.damaged(Damage::OutOfPlace));
                    }
                    take(&frame, self.at)?;
                    self.sequence += 1;
                    self.previous = frame.checksum;
                    self.at += size as u64;
                    rest = &rest[size..];
                }
                // A length beyond what is ever written is damage, not something to wait for.
                Err(NotAFrame::Incomplete(size)) if size <= BACKUP_CHUNK_BYTES_MAX => break,
                Err(_) if self.at == 0 && !rest.starts_with(&frame::MAGIC) => {
                    return Err(NotASnapshot::Foreign);
                }
                Err(error) => return Err(self.damaged(error)),
            }
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    fn damaged(&self, what: impl Into<Damage>) -> NotASnapshot {
        NotASnapshot::Damaged { at: self.at, what: what.into() }
    }
}

/// Reads a snapshot from pieces of any size. What was read counts only once it is finished.
#[derive(Debug)]
pub struct Decoder {
    max_sessions: u64,
    chain: Chain,
    state: State,
}

#[derive(Debug)]
enum State {
    Beginning,
    Sessions(Box<Reading>),
    Finished(Box<Reading>),
}

#[derive(Debug)]
struct Reading {
    about: About,
    count: u64,
    table: SessionTable,
    owners: Vec<Owner>,
}

impl Decoder {
    /// Reads a snapshot with at most so many sessions.
    pub fn new(max_sessions: u64) -> Self {
        Self { max_sessions, chain: Chain::default(), state: State::Beginning }
    }

    /// Takes the next bytes. After an error it takes nothing more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotASnapshot> {
        let Self { max_sessions, chain, state } = self;
        chain.frames(bytes, |frame, at| state.take(frame, at, *max_sessions))
    }

    /// What the snapshot says of itself, as soon as that has been read.
    pub fn about(&self) -> Option<&About> {
        match &self.state {
            State::Beginning => None,
            State::Sessions(reading) | State::Finished(reading) => Some(&reading.about),
        }
    }

    /// How much has been read, in per cent of the sessions.
    pub fn percent(&self) -> u8 {
        let (State::Sessions(reading) | State::Finished(reading)) = &self.state else {
            return 0;
        };
        let percent = (reading.table.len() as u64 * 100).checked_div(reading.count).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }

    /// The whole snapshot, if this is its end.
    pub fn finish(self) -> Result<(About, SessionTable), NotASnapshot> {
        match self.state {
            State::Finished(reading) if self.chain.pending.is_empty() => {
                Ok((reading.about, reading.table))
            }
            State::Finished(_) => Err(self.chain.damaged(Damage::TrailingBytes)),
            State::Beginning | State::Sessions(_) => {
                Err(NotASnapshot::Truncated(self.chain.at + self.chain.pending.len() as u64))
            }
        }
    }
}

impl State {
    fn take(&mut self, frame: &Frame<'_>, at: u64, max_sessions: u64) -> Result<(), NotASnapshot> {
        let damaged = |what: Damage| NotASnapshot::Damaged { at, what };
        match (&mut *self, frame.header.kind) {
            (State::Beginning, Kind::Snapshot) => {
                *self = State::Sessions(Box::new(begin(frame, max_sessions, at)?));
            }
            (State::Sessions(reading), Kind::Sessions)
                if frame.header.revision == reading.table.revision().get() =>
            {
                reading.sessions(frame.payload).map_err(damaged)?;
                if reading.table.len() as u64 > reading.count {
                    return Err(damaged(Damage::Contradiction));
                }
            }
            (State::Sessions(reading), Kind::SnapshotEnd) => {
                let end = pb::SnapshotEnd::decode(frame.payload)
                    .map_err(|error| damaged(Undecodable::from(error).into()))?;
                let found = reading.table.len() as u64;
                if end.session_count != reading.count || found != reading.count {
                    return Err(damaged(Damage::Contradiction));
                }
                *self = match std::mem::replace(self, State::Beginning) {
                    State::Sessions(reading) => State::Finished(reading),
                    other @ (State::Beginning | State::Finished(_)) => other,
                };
            }
            (State::Finished(_), _) => return Err(damaged(Damage::TrailingBytes)),
            (
                State::Beginning | State::Sessions(_),
                Kind::Segment
                | Kind::Changes
                | Kind::Numbers
                | Kind::Seal
                | Kind::Snapshot
                | Kind::Sessions
                | Kind::SnapshotEnd
                | Kind::Instance
                | Kind::Floor,
            ) => return Err(damaged(Damage::OutOfPlace)),
        }
        Ok(())
    }
}

fn begin(frame: &Frame<'_>, max: u64, at: u64) -> Result<Reading, NotASnapshot> {
    let damaged = |what: Undecodable| NotASnapshot::Damaged { at, what: Damage::Payload(what) };
    let message =
        pb::Snapshot::decode(frame.payload).map_err(|error| damaged(Undecodable::from(error)))?;
    if message.format > LOG_FORMAT {
        return Err(NotASnapshot::Newer(message.format));
    }
    if message.format == 0 || message.revision != frame.header.revision {
        return Err(NotASnapshot::Damaged { at, what: Damage::Contradiction });
    }
    if message.session_count > max {
        return Err(NotASnapshot::TooManySessions { found: message.session_count, max });
    }
    let about = About {
        instance: record::instance_id(&message.id).map_err(damaged)?,
        uid: Uid::new(&message.uid),
        created: Timestamp::from_micros(message.created_us),
        position: Position { sequence: message.sequence, checksum: message.previous },
        taken: record::floor(message.taken_revision, message.taken_sesid),
    };
    let floor = record::floor(message.revision, message.sesid);
    let table = SessionTable::loading(floor, message.issued);
    Ok(Reading { about, count: message.session_count, table, owners: Vec::new() })
}

impl Reading {
    fn sessions(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let Self { table, owners, .. } = self;
        let message = pb::Sessions::decode(payload).map_err(Undecodable::from)?;
        if message.owners_before == 0 {
            owners.clear();
        } else if usize::try_from(message.owners_before) != Ok(owners.len()) {
            return Err(Damage::Contradiction);
        }
        for listed in message.owners {
            owners.push(table.share(&record::owner(listed)?));
        }
        let owner = |position: u32| {
            let owner = usize::try_from(position).ok().and_then(|position| owners.get(position));
            owner.cloned().ok_or(Undecodable::Field("owner"))
        };
        for session in message.sessions {
            let context = match session.context {
                None => Context::NeverSet,
                Some(pb::session::Context::WasReset(pb::ContextWasReset {})) => Context::Reset,
                Some(pb::session::Context::Binding(binding)) => Context::Set(Binding {
                    context: record::context(binding.context)?,
                    owner: owner(binding.owner)?,
                    token: Revision::new(binding.token),
                    since: Timestamp::from_micros(binding.since_us),
                }),
            };
            let transaction = match session.transaction {
                None => None,
                Some(open) => {
                    use pb::open_transaction::BoundTo;
                    let bound_to = match open.bound_to.ok_or(Undecodable::Field("bound_to"))? {
                        BoundTo::Context(word) => TransactionOwner::Context(record::context(word)?),
                        BoundTo::Thread(thread) => TransactionOwner::Thread(owner(thread)?),
                    };
                    Some(record::at_level(open.level, bound_to)?)
                }
            };
            let mut read = Session::new(
                record::sesid(session.sesid)?,
                record::labels(session.labels)?,
                Timestamp::from_micros(session.created_us),
                Revision::new(session.revision),
            );
            read.context = context;
            read.set_transaction(transaction);
            if !table.load(read) {
                return Err(Damage::Contradiction);
            }
        }
        Ok(())
    }
}
