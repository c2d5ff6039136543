//! A snapshot that is being read: what its frames say becomes a table, or contradicts what came before.

use prost::Message;

use crate::domain::id::{Owner, Principal};
use crate::domain::table::SessionTable;
use crate::proto::storage as pb;
use crate::store::record::{self, Undecodable};
use crate::store::snapshot::decode::Damage;
use crate::store::snapshot::owners::Listed;
use crate::store::snapshot::{answer, session, thread};

/// How much of everything there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) leases: u64,
    pub(super) losses: u64,
    pub(super) sessions: u64,
    pub(super) answers: u64,
}

impl Counts {
    fn all(self) -> u64 {
        let Self { leases, losses, sessions, answers } = self;
        [losses, sessions, answers].into_iter().fold(leases, u64::saturating_add)
    }
}

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Reading {
    table: SessionTable,
    owners: Listed,
    /// How much the beginning says that there is.
    told: Counts,
    found: Counts,
    wants_answers: bool,
    part: Part,
    last_lease: Option<Owner>,
    last_window: Option<Principal>,
}

/// Which part of a snapshot has been come to. Parts are in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Leases,
    Losses,
    Sessions,
    Answers,
}

impl Reading {
    /// Reads into this table. Answers are taken or passed over.
    pub(super) fn new(table: SessionTable, told: Counts, wants_answers: bool) -> Self {
        let told = if wants_answers { told } else { Counts { answers: 0, ..told } };
        Self {
            wants_answers,
            table,
            owners: Listed::default(),
            told,
            found: Counts::default(),
            part: Part::Leases,
            last_lease: None,
            last_window: None,
        }
    }

    /// Whether a frame of this revision is one of this snapshot.
    pub(super) fn is_of(&self, revision: u64) -> bool {
        self.table.revision().get() == revision
    }

    pub(super) fn percent(&self) -> u8 {
        let percent = self.found.all().saturating_mul(100).checked_div(self.told.all());
        u8::try_from(percent.unwrap_or(100)).unwrap_or(100)
    }

    pub(super) fn into_table(self) -> SessionTable {
        self.table
    }

    /// Comes to a part, unless that is over.
    fn come_to(&mut self, part: Part) -> Result<(), Damage> {
        if part < self.part {
            return Err(Damage::OutOfPlace);
        }
        self.part = part;
        Ok(())
    }

    /// Finds no more of anything than the beginning says.
    fn check(&self) -> Result<(), Damage> {
        let Counts { leases, losses, sessions, answers } = self.told;
        let found = &self.found;
        let too_much = found.leases > leases
            || found.losses > losses
            || found.sessions > sessions
            || found.answers > answers;
        if too_much { Err(Damage::Contradiction) } else { Ok(()) }
    }

    /// Takes a frame `threads`.
    pub(super) fn threads(&mut self, payload: &[u8]) -> Result<(), Damage> {
        let message = pb::Threads::decode(payload).map_err(Undecodable::from)?;
        self.owners.extend(message.owners_before, message.owners, &mut self.table)?;
        for lease in &message.leases {
            self.come_to(Part::Leases)?;
            let (owner, lease) = thread::read_lease(lease, &self.owners)?;
            let threads = self.table.threads_mut();
            let follows = self.last_lease.as_ref().is_none_or(|last| *last < owner);
            if !follows || lease.since > threads.served() {
                return Err(Damage::Contradiction);
            }
            threads.put_lease(&owner, lease);
            self.found.leases += 1;
            self.last_lease = Some(owner);
        }
        for loss in &message.losses {
            self.come_to(Part::Losses)?;
            let (owner, loss) = thread::read_loss(loss, &self.owners)?;
            let happened =
                self.table.ever_began(loss.session) && loss.token <= self.table.revision();
            if !happened || !self.table.threads_mut().put_loss(&owner, loss) {
                return Err(Damage::Contradiction);
            }
            self.found.losses += 1;
        }
        self.check()
    }

    /// Takes a frame `sessions`.
    pub(super) fn sessions(&mut self, payload: &[u8]) -> Result<(), Damage> {
        self.come_to(Part::Sessions)?;
        let message = pb::Sessions::decode(payload).map_err(Undecodable::from)?;
        self.owners.extend(message.owners_before, message.owners, &mut self.table)?;
        for session in message.sessions {
            if !self.table.load(session::read(session, &self.owners)?) {
                return Err(Damage::Contradiction);
            }
            self.found.sessions += 1;
        }
        self.check()
    }

    /// Takes a frame `answers`, or passes over it.
    pub(super) fn answers(&mut self, payload: &[u8]) -> Result<(), Damage> {
        self.come_to(Part::Answers)?;
        if !self.wants_answers {
            return Ok(());
        }
        let message = pb::Answers::decode(payload).map_err(Undecodable::from)?;
        self.owners.extend(message.owners_before, message.owners, &mut self.table)?;
        for window in message.windows {
            let by = record::principal(&window.principal)?;
            // A window may go on in the next frame.
            if self.last_window.as_ref().is_some_and(|last| *last > by) {
                return Err(Damage::Contradiction);
            }
            for remembered in window.answers {
                let remembered = answer::read(remembered, &self.owners, &self.table)?;
                if !self.table.retries_mut().load(&by, remembered) {
                    return Err(Damage::Contradiction);
                }
                self.found.answers += 1;
            }
            self.last_window = Some(by);
        }
        self.check()
    }

    /// Takes the last frame: everything must have come.
    pub(super) fn end(&self, payload: &[u8]) -> Result<(), Damage> {
        let end = pb::SnapshotEnd::decode(payload).map_err(Undecodable::from)?;
        let whole = self.found == self.told && end.session_count == self.told.sessions;
        if whole { Ok(()) } else { Err(Damage::Contradiction) }
    }
}
