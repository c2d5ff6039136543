//! A table → frames of a snapshot, one at a time.

use std::ops::Bound;
use std::sync::Arc;

use prost::Message;

use crate::domain::id::{Owner, Principal};
use crate::domain::lease::Threads;
use crate::domain::limits::{BACKUP_CHUNK_BYTES_MAX, ITEM_BYTES_MAX, LOG_FORMAT};
use crate::domain::session::Session;
use crate::domain::table::{Parts, Remembered, SessionTable};
use crate::proto::storage as pb;
use crate::store::frame::{self, HEADER_BYTES, Header, Kind};
use crate::store::snapshot::owners::{LENGTH_BYTES_MAX, Listing};
use crate::store::snapshot::{About, SALT, answer, session, thread};

/// Items are added to a frame until its payload has this size: whatever comes last still fits.
const FILLED: usize = BACKUP_CHUNK_BYTES_MAX - HEADER_BYTES - frame::ALIGNMENT - ITEM_BYTES_MAX;

/// A snapshot as it is written: an iterator over its frames, each at most
/// [`BACKUP_CHUNK_BYTES_MAX`] long.
pub struct Encoder {
    about: About,
    next: Next,
    threads: Arc<Threads>,
    sessions: Box<dyn Iterator<Item = Session> + Send>,
    answers: Box<dyn Iterator<Item = (Principal, Remembered)> + Send>,
    revision: u64,
    floor_sesid: u64,
    issued: Vec<u64>,
    counts: Counts,
    written: u64,
    sequence: u64,
    previous: u32,
    owners: Listing,
}

/// How much of everything a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    leases: u64,
    losses: u64,
    sessions: u64,
    answers: u64,
}

/// The frame that comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Beginning,
    /// Leases of threads after this one.
    Leases(Option<Owner>),
    /// Losses from this place on.
    Losses(usize),
    Sessions,
    Answers,
    End,
    Nothing,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Writes a snapshot of this table, which is given back to memory piece by piece on the way.
    pub fn new(about: About, table: SessionTable) -> Self {
        let counts = Counts {
            leases: table.threads().leases() as u64,
            losses: table.threads().losses() as u64,
            sessions: table.len() as u64,
            answers: table.retries().len() as u64,
        };
        Self::counted(about, table, counts)
    }

    /// Writes a backup of this table: without what only matters where it was taken, the answers that are
    /// kept for retries and what threads are told that they lost.
    pub fn backup(about: About, table: SessionTable) -> Self {
        let (leases, sessions) = (table.threads().leases() as u64, table.len() as u64);
        Self::counted(about, table, Counts { leases, losses: 0, sessions, answers: 0 })
    }

    fn counted(about: About, table: SessionTable, counts: Counts) -> Self {
        let (revision, floor_sesid) = (table.revision().get(), table.floor().sesid);
        let issued = table.issued().to_vec();
        let Parts { sessions, threads, answers } = table.into_parts();
        Self {
            about,
            next: Next::Beginning,
            threads,
            sessions: Box::new(sessions),
            answers: Box::new(answers),
            revision,
            floor_sesid,
            issued,
            counts,
            written: 0,
            sequence: 0,
            previous: 0,
            owners: Listing::default(),
        }
    }

    /// How much of it has been written, in per cent.
    pub fn percent(&self) -> u8 {
        let Counts { leases, losses, sessions, answers } = self.counts;
        let all = leases + losses + sessions + answers;
        let percent = (self.written * 100).checked_div(all).unwrap_or(100);
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
            session_count: self.counts.sessions,
            sequence: self.about.position.sequence,
            previous: self.about.position.checksum,
            taken_revision: self.about.taken.revision.get(),
            taken_sesid: self.about.taken.sesid,
            served_us: self.threads.served().micros(),
            lease_count: self.counts.leases,
            loss_count: self.counts.losses,
            answer_count: self.counts.answers,
        };
        self.frame(Kind::Snapshot, &message)
    }

    /// The leases of as many threads after this one as fit into a frame, and the last of them.
    fn leases(&mut self, after: Option<&Owner>) -> Option<(Owner, Vec<u8>)> {
        let mut message =
            pb::Threads { owners_before: self.owners.before_frame(), ..Default::default() };
        let (mut bytes, mut last) = (0, None);
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (owner, lease) in self.threads.leases_after(after) {
            let lease = thread::write_lease(owner, lease, &mut self.owners);
            bytes += lease.encoded_len() + LENGTH_BYTES_MAX;
            message.leases.push(lease);
            last = Some(owner.clone());
            if bytes + self.owners.bytes() >= FILLED {
                break;
            }
        }
        let last = last?;
        self.written += message.leases.len() as u64;
        message.owners = self.owners.take();
        Some((last, self.frame(Kind::Threads, &message)))
    }

    /// As many losses from this place on as fit into a frame, and the place behind them.
    fn losses(&mut self, from: usize) -> Option<(usize, Vec<u8>)> {
        let mut message =
            pb::Threads { owners_before: self.owners.before_frame(), ..Default::default() };
        let (mut bytes, mut place) = (0, from);
        for loss in self.threads.losses_from(from) {
            place += 1;
            let Some((owner, loss)) = loss else {
                continue;
            };
            let loss = thread::write_loss(owner, loss, &mut self.owners);
            bytes += loss.encoded_len() + LENGTH_BYTES_MAX;
            message.losses.push(loss);
            if bytes + self.owners.bytes() >= FILLED {
                break;
            }
        }
        if message.losses.is_empty() {
            return None;
        }
        self.written += message.losses.len() as u64;
        message.owners = self.owners.take();
        Some((place, self.frame(Kind::Threads, &message)))
    }

    /// Gives back what is of threads.
    fn threads_written(&mut self) -> Next {
        self.threads = Arc::default();
        Next::Sessions
    }

    /// As many sessions as fit into a frame.
    fn sessions(&mut self) -> Option<Vec<u8>> {
        let mut message =
            pb::Sessions { owners_before: self.owners.before_frame(), ..Default::default() };
        let mut bytes = 0;
        while bytes + self.owners.bytes() < FILLED {
            let Some(session) = self.sessions.next() else {
                break;
            };
            let session = session::write(&session, &mut self.owners);
            bytes += session.encoded_len() + LENGTH_BYTES_MAX;
            message.sessions.push(session);
        }
        if message.sessions.is_empty() {
            return None;
        }
        self.written += message.sessions.len() as u64;
        message.owners = self.owners.take();
        Some(self.frame(Kind::Sessions, &message))
    }

    /// As many answers as fit into a frame.
    fn answers(&mut self) -> Option<Vec<u8>> {
        if self.counts.answers == 0 {
            return None;
        }
        let owners_before = self.owners.before_frame();
        let mut message = pb::Answers { owners_before, ..Default::default() };
        let mut bytes = 0;
        while bytes + self.owners.bytes() < FILLED {
            let Some((by, remembered)) = self.answers.next() else {
                break;
            };
            let remembered = answer::write(&remembered, &mut self.owners);
            bytes += remembered.encoded_len() + LENGTH_BYTES_MAX;
            self.written += 1;
            match message.windows.last_mut().filter(|window| window.principal == by.as_str()) {
                Some(window) => window.answers.push(remembered),
                None => {
                    bytes += by.as_str().len() + 3 * LENGTH_BYTES_MAX;
                    let principal = by.as_str().to_owned();
                    message.windows.push(pb::Window { principal, answers: vec![remembered] });
                }
            }
        }
        if message.windows.is_empty() {
            return None;
        }
        message.owners = self.owners.take();
        Some(self.frame(Kind::Answers, &message))
    }
}

impl Iterator for Encoder {
    type Item = Vec<u8>;

    /// What is of threads comes first: there is one of it, and the instance waits for a copy of all if it
    /// has to change it while it is written down.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Beginning => {
                    self.next = Next::Leases(None);
                    return Some(self.beginning());
                }
                Next::Leases(after) => match self.leases(after.as_ref()) {
                    Some((last, frame)) => {
                        self.next = Next::Leases(Some(last));
                        return Some(frame);
                    }
                    None if self.counts.losses > 0 => self.next = Next::Losses(0),
                    None => self.next = self.threads_written(),
                },
                Next::Losses(from) => match self.losses(from) {
                    Some((place, frame)) => {
                        self.next = Next::Losses(place);
                        return Some(frame);
                    }
                    None => self.next = self.threads_written(),
                },
                Next::Sessions => {
                    if let Some(frame) = self.sessions() {
                        self.next = Next::Sessions;
                        return Some(frame);
                    }
                    self.next = Next::Answers;
                }
                Next::Answers => {
                    if let Some(frame) = self.answers() {
                        self.next = Next::Answers;
                        return Some(frame);
                    }
                    self.next = Next::End;
                }
                Next::End => {
                    let message = pb::SnapshotEnd { session_count: self.counts.sessions };
                    return Some(self.frame(Kind::SnapshotEnd, &message));
                }
                Next::Nothing => return None,
            }
        }
    }
}
