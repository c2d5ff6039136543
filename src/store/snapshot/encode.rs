//! Sessions → frames of a snapshot, one at a time.

use std::collections::HashMap;

use prost::Message;

use crate::domain::id::Owner;
use crate::domain::limits::{
    BACKUP_CHUNK_BYTES_MAX, LOG_FORMAT, OWNERS_LISTED_MAX, SESSION_BYTES_MAX,
};
use crate::domain::session::{Context, Session, TransactionOwner};
use crate::domain::table::SessionTable;
use crate::proto::storage as pb;
use crate::store::frame::{self, HEADER_BYTES, Header, Kind};
use crate::store::record;
use crate::store::snapshot::{About, SALT};

/// Sessions are added to a frame until its payload has this size: whatever comes last still fits.
const FILLED: usize = BACKUP_CHUNK_BYTES_MAX - HEADER_BYTES - frame::ALIGNMENT - SESSION_BYTES_MAX;

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
    let transaction = session.transaction().map(|open| {
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
