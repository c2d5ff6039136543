//! All sessions of an instance as of one revision, as a row of frames: what the log keeps as
//! snapshots, and what a backup is made of.
//!
//! ```text
//! ┌──────────┬──────────┬──────────┬───╌ ╌───┬──────────┬─────┐
//! │ snapshot │ sessions │ sessions │          │ sessions │ end │
//! └──────────┴──────────┴──────────┴───╌ ╌───┴──────────┴─────┘
//! ```
//!
//! Frames are numbered from 0 and chained, and the last one tells how many sessions there are: nothing
//! can be lost, added or exchanged unseen. Neither side holds more than one frame beside the sessions.

use std::collections::HashMap;

use prost::Message;

use crate::domain::id::{InstanceId, Owner, Revision, Uid};
use crate::domain::limits::{BACKUP_CHUNK_BYTES_MAX, LOG_FORMAT, SESSION_BYTES_MAX};
use crate::domain::session::{Binding, Context, Session, TransactionOwner};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::proto::storage as pb;
use crate::store::frame::{self, Frame, HEADER_BYTES, Header, Kind, NotAFrame};
use crate::store::record::{self, Undecodable};

/// Every checksum of a snapshot begins with this. Which instance it is of is told by its first frame.
pub(super) const SALT: u32 = 0x534E_4150;

/// Sessions are added to a frame until its payload has this size: whatever comes last still fits.
const FILLED: usize = BACKUP_CHUNK_BYTES_MAX - HEADER_BYTES - frame::ALIGNMENT - SESSION_BYTES_MAX;

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The instance that it is of.
    pub instance: InstanceId,
    /// The uid which that had.
    pub uid: Uid,
    /// When it was begun.
    pub created: Timestamp,
    /// The last frame of the log that it holds; zeros if it is of no log.
    pub position: Position,
    /// Numbers that were taken then, whether or not they had been used; zeros if it is of no log.
    pub taken: Floor,
}

/// A frame of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Its number.
    pub sequence: u64,
    /// Its checksum.
    pub checksum: u32,
}

/// A snapshot as it is written: an iterator over its frames, each at most
/// [`BACKUP_CHUNK_BYTES_MAX`] long.
pub struct Encoder {
    about: About,
    next: Next,
    sessions: Box<dyn Iterator<Item = Session> + Send>,
    revision: u64,
    floor_sesid: u64,
    issued: Vec<u64>,
    count: u64,
    written: u64,
    sequence: u64,
    previous: u32,
    owners: Owners,
}

/// The frame that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Beginning,
    Sessions,
    Nothing,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Writes these sessions. The table is given back to memory piece by piece on the way.
    pub fn new(about: About, table: SessionTable) -> Self {
        Self {
            about,
            next: Next::Beginning,
            revision: table.revision().get(),
            floor_sesid: table.floor().sesid,
            issued: table.issued().to_vec(),
            count: table.len() as u64,
            written: 0,
            sessions: Box::new(table.into_sessions()),
            sequence: 0,
            previous: 0,
            owners: Owners::default(),
        }
    }

    /// How much of it has been written, in per cent.
    pub fn percent(&self) -> u8 {
        let percent = (self.written * 100).checked_div(self.count).unwrap_or(100);
        u8::try_from(percent).unwrap_or(100)
    }

    /// The checksum of the last frame. At the end it stands for every byte.
    pub fn checksum(&self) -> u32 {
        self.previous
    }

    fn frame(&mut self, kind: Kind, message: &impl Message) -> Vec<u8> {
        let header = Header {
            kind,
            sequence: self.sequence,
            revision: self.revision,
            previous: self.previous,
        };
        let length = message.encoded_len();
        let mut bytes = Vec::with_capacity(frame::frame_bytes(length));
        self.previous = frame::write(&mut bytes, SALT, header, |bytes| {
            message.encode(bytes).expect("a Vec takes everything");
        });
        self.sequence += 1;
        bytes
    }

    fn beginning(&mut self) -> Vec<u8> {
        let message = pb::Snapshot {
            format: LOG_FORMAT,
            id: self.about.instance.as_str().to_owned(),
            uid: self.about.uid.as_str().to_owned(),
            created_us: self.about.created.micros(),
            revision: self.revision,
            sesid: self.floor_sesid,
            issued: std::mem::take(&mut self.issued),
            session_count: self.count,
            sequence: self.about.position.sequence,
            previous: self.about.position.checksum,
            taken_revision: self.about.taken.revision.get(),
            taken_sesid: self.about.taken.sesid,
        };
        self.frame(Kind::Snapshot, &message)
    }

    /// As many sessions as fit into a frame, or the end.
    fn sessions(&mut self) -> Vec<u8> {
        if self.owners.known.len() > OWNERS_LISTED_MAX {
            self.owners = Owners::default();
        }
        let owners_before = self.owners.count();
        let mut message = pb::Sessions { owners_before, ..Default::default() };
        let mut bytes = 0;
        while bytes + self.owners.bytes < FILLED {
            let Some(session) = self.sessions.next() else {
                break;
            };
            let session = write_session(&session, &mut self.owners);
            bytes += session.encoded_len() + LENGTH_BYTES_MAX;
            message.sessions.push(session);
        }
        if message.sessions.is_empty() {
            self.next = Next::Nothing;
            return self.frame(Kind::SnapshotEnd, &pb::SnapshotEnd { session_count: self.count });
        }
        self.written += message.sessions.len() as u64;
        message.owners = self.owners.take();
        self.frame(Kind::Sessions, &message)
    }
}

impl Iterator for Encoder {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match self.next {
            Next::Beginning => {
                self.next = Next::Sessions;
                Some(self.beginning())
            }
            Next::Sessions => Some(self.sessions()),
            Next::Nothing => None,
        }
    }
}

/// Owners that a snapshot lists before it begins the list anew: bounds what either side keeps.
const OWNERS_LISTED_MAX: usize = 65_536;

/// What a message takes beside its own bytes: its tag and its length.
const LENGTH_BYTES_MAX: usize = 4;

/// Owners that the snapshot has listed. Sessions of one owner share its handle, and a handle is known
/// by where it is: an owner with two handles is listed twice, which does no harm.
#[derive(Default)]
struct Owners {
    known: HashMap<usize, (u32, Owner)>,
    /// Those that the next frame lists.
    new: Vec<pb::Owner>,
    /// How many bytes that takes.
    bytes: usize,
}

impl Owners {
    fn count(&self) -> u32 {
        u32::try_from(self.known.len()).expect("the list is begun anew before")
    }

    fn position(&mut self, owner: &Owner) -> u32 {
        let next = self.count();
        // The handle is kept, so that nobody else comes to be where it is.
        let (position, _) = self.known.entry(owner.address()).or_insert_with(|| {
            let message = pb::Owner::from(owner);
            self.bytes += message.encoded_len() + LENGTH_BYTES_MAX;
            self.new.push(message);
            (next, owner.clone())
        });
        *position
    }

    fn take(&mut self) -> Vec<pb::Owner> {
        self.bytes = 0;
        std::mem::take(&mut self.new)
    }
}

fn write_session(session: &Session, owners: &mut Owners) -> pb::Session {
    let context = match &session.context {
        Context::NeverSet => None,
        Context::Reset => Some(pb::session::Context::WasReset(pb::ContextWasReset {})),
        Context::Set(binding) => Some(pb::session::Context::Binding(pb::Binding {
            context: binding.context.get(),
            owner: owners.position(&binding.owner),
            token: binding.token.get(),
            since_us: binding.since.micros(),
        })),
    };
    let transaction = session.transaction.as_ref().map(|open| {
        use pb::open_transaction::BoundTo;
        pb::OpenTransaction {
            level: open.level().into(),
            bound_to: Some(match open.bound_to() {
                TransactionOwner::Context(word) => BoundTo::Context(word.get()),
                TransactionOwner::Thread(owner) => BoundTo::Thread(owners.position(owner)),
            }),
        }
    });
    pb::Session {
        sesid: session.id.get(),
        created_us: session.created.micros(),
        revision: session.revision.get(),
        labels: record::write_labels(&session.labels),
        context,
        transaction,
    }
}

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
                    Some(Box::new(record::at_level(open.level, bound_to)?))
                }
            };
            let loaded = table.load(Session {
                id: record::sesid(session.sesid)?,
                labels: record::labels(session.labels)?,
                created: Timestamp::from_micros(session.created_us),
                revision: Revision::new(session.revision),
                context,
                transaction,
            });
            if !loaded {
                return Err(Damage::Contradiction);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::arbitrary;

    proptest! {
        #[test]
        fn a_table_is_read_as_it_was_written_in_pieces_of_any_size(
            table in arbitrary::table(),
            taken: (u64, u64),
            sizes in prop::collection::vec(1_usize..3_000, 1..8),
        ) {
            let about = About {
                instance: "main".parse().unwrap(),
                uid: Uid::new("c0ffee"),
                created: Timestamp::from_micros(3),
                position: Position { sequence: 4, checksum: 5 },
                taken: record::floor(taken.0, taken.1),
            };
            let bytes: Vec<u8> = Encoder::new(about.clone(), table.clone()).flatten().collect();
            let mut decoder = Decoder::new(1_000);
            let mut rest = bytes.as_slice();
            for size in sizes.into_iter().cycle() {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                decoder.push(piece).unwrap();
                rest = behind;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(decoder.finish(), Ok((about, table)));
        }
    }
}
