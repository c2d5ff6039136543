//! Frames → a table, from pieces of any size.

use prost::Message;

use crate::domain::id::Uid;
use crate::domain::limits::{BACKUP_CHUNK_BYTES_MAX, LEASES_MAX, LOG_FORMAT, LOSSES_MAX};
use crate::domain::table::SessionTable;
use crate::domain::time::{Served, Timestamp};
use crate::proto::storage as pb;
use crate::store::frame::{self, Frame, Kind, NotAFrame};
use crate::store::record::{self, Undecodable};
use crate::store::snapshot::reading::{Counts, Reading};
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
    /// Something contradicts what came before.
    #[error("it contradicts the beginning of the file")]
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
    bounds: Bounds,
    chain: Chain,
    state: State,
}

/// How much a snapshot may have.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    sessions: u64,
    leases: u64,
    /// Whether answers are taken; else they are passed over.
    answers: bool,
}

#[derive(Debug)]
enum State {
    Beginning,
    Reading(Box<(About, Reading)>),
    Finished(Box<(About, Reading)>),
}

impl Decoder {
    /// Reads a snapshot of our own with at most so many sessions.
    pub fn new(max_sessions: u64) -> Self {
        Self::bounded(Bounds { sessions: max_sessions, leases: u64::MAX, answers: true })
    }

    /// Reads a backup with at most so many sessions, from wherever it comes.
    pub fn of_backup(max_sessions: u64) -> Self {
        let leases = LEASES_MAX as u64;
        Self::bounded(Bounds { sessions: max_sessions, leases, answers: false })
    }

    fn bounded(bounds: Bounds) -> Self {
        Self { bounds, chain: Chain::default(), state: State::Beginning }
    }

    /// Takes the next bytes. After an error it takes nothing more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotASnapshot> {
        let Self { bounds, chain, state } = self;
        chain.frames(bytes, |frame, at| state.take(frame, at, bounds))
    }

    /// What the snapshot says of itself, as soon as that has been read.
    pub fn about(&self) -> Option<&About> {
        match &self.state {
            State::Beginning => None,
            State::Reading(reading) | State::Finished(reading) => Some(&reading.0),
        }
    }

    /// How much has been read, in per cent.
    pub fn percent(&self) -> u8 {
        match &self.state {
            State::Beginning => 0,
            State::Reading(reading) | State::Finished(reading) => reading.1.percent(),
        }
    }

    /// The whole snapshot, if this is its end.
    pub fn finish(self) -> Result<(About, SessionTable), NotASnapshot> {
        match self.state {
            State::Finished(reading) if self.chain.pending.is_empty() => {
                let (about, reading) = *reading;
                Ok((about, reading.into_table()))
            }
            State::Finished(_) => Err(self.chain.damaged(Damage::TrailingBytes)),
            State::Beginning | State::Reading(_) => {
                Err(NotASnapshot::Truncated(self.chain.at + self.chain.pending.len() as u64))
            }
        }
    }
}

impl State {
    fn take(&mut self, frame: &Frame<'_>, at: u64, bounds: &Bounds) -> Result<(), NotASnapshot> {
        let damaged = |what: Damage| NotASnapshot::Damaged { at, what };
        let (payload, revision) = (frame.payload, frame.header.revision);
        match (&mut *self, frame.header.kind) {
            (State::Beginning, Kind::Snapshot) => {
                *self = State::Reading(Box::new(begin(frame, bounds, at)?));
            }
            (State::Reading(reading), Kind::Threads) if reading.1.is_of(revision) => {
                reading.1.threads(payload).map_err(damaged)?;
            }
            (State::Reading(reading), Kind::Sessions) if reading.1.is_of(revision) => {
                reading.1.sessions(payload).map_err(damaged)?;
            }
            (State::Reading(reading), Kind::Answers) if reading.1.is_of(revision) => {
                reading.1.answers(payload).map_err(damaged)?;
            }
            (State::Reading(reading), Kind::SnapshotEnd) => {
                reading.1.end(payload).map_err(damaged)?;
                *self = match std::mem::replace(self, State::Beginning) {
                    State::Reading(reading) => State::Finished(reading),
                    other @ (State::Beginning | State::Finished(_)) => other,
                };
            }
            (State::Finished(_), _) => return Err(damaged(Damage::TrailingBytes)),
            (
                State::Beginning | State::Reading(_),
                Kind::Segment
                | Kind::Changes
                | Kind::Numbers
                | Kind::Seal
                | Kind::Snapshot
                | Kind::Sessions
                | Kind::SnapshotEnd
                | Kind::Instance
                | Kind::Floor
                | Kind::Gone
                | Kind::Threads
                | Kind::Answers,
            ) => return Err(damaged(Damage::OutOfPlace)),
        }
        Ok(())
    }
}

fn begin(frame: &Frame<'_>, bounds: &Bounds, at: u64) -> Result<(About, Reading), NotASnapshot> {
    let damaged = |what: Undecodable| NotASnapshot::Damaged { at, what: Damage::Payload(what) };
    let message =
        pb::Snapshot::decode(frame.payload).map_err(|error| damaged(Undecodable::from(error)))?;
    if message.format > LOG_FORMAT {
        return Err(NotASnapshot::Newer(message.format));
    }
    let impossible = message.format == 0
        || message.revision != frame.header.revision
        || message.lease_count > bounds.leases
        || message.loss_count > LOSSES_MAX as u64;
    if impossible {
        return Err(NotASnapshot::Damaged { at, what: Damage::Contradiction });
    }
    if message.session_count > bounds.sessions {
        let (found, max) = (message.session_count, bounds.sessions);
        return Err(NotASnapshot::TooManySessions { found, max });
    }
    let about = About {
        instance: record::instance_id(&message.id).map_err(damaged)?,
        uid: Uid::new(&message.uid),
        created: Timestamp::from_micros(message.created_us),
        position: Position { sequence: message.sequence, checksum: message.previous },
        taken: record::floor(message.taken_revision, message.taken_sesid),
    };
    let counts = Counts {
        leases: message.lease_count,
        losses: message.loss_count,
        sessions: message.session_count,
        answers: message.answer_count,
    };
    let floor = record::floor(message.revision, message.sesid);
    let mut table = SessionTable::loading(floor, message.issued);
    table.threads_mut().served_until(Served::from_micros(message.served_us));
    Ok((about, Reading::new(table, counts, bounds.answers)))
}
