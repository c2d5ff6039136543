//! Remembering: what a backend must mean, whatever it is made of.
//!
//! A [`Store`] keeps a small record of every instance. For each initialised instance it opens a
//! [`Journal`], which keeps what happened to the instance's sessions, batch by batch. A store decides
//! nothing and knows no caller.
//!
//! What every backend must mean by these words is written down once as code: the conformance suite
//! in `store/conformance.rs`, which runs over each of them.
//!
//! - [`memory`]: the plainest backend that satisfies the trait; nothing survives the process
//! - [`log`]: the default: a directory of checksummed logs, one per instance
//! - [`frame`], `record`, [`snapshot`]: the bytes that are written, as frames, as messages in frames,
//!   and as whole snapshots, of which backups are made too

pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod log;
pub mod memory;
mod record;
pub mod snapshot;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
pub(crate) mod conformance;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::domain::event::Change;
use crate::domain::gone::Gone;
use crate::domain::id::{InstanceId, Revision};
use crate::domain::instance::InstanceRecord;
use crate::domain::jet_err::JetErr;
use crate::domain::table::{Floor, SessionTable};

/// Everything a server remembers.
///
/// Each method answers `Ok` only when its effect survives whatever the backend survives, and changes
/// nothing when it answers an error, as far as anybody can tell.
pub trait Store: Send + Sync + 'static {
    /// What it opens for an initialised instance.
    type Journal: Journal;

    /// Everything remembered, read once when the server starts.
    fn load(&self) -> impl Future<Output = Result<Catalog, StoreError>> + Send;

    /// Remembers a new instance. Its name is not in use.
    fn create(
        &self,
        record: &InstanceRecord,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces the record of an instance.
    fn update(
        &self,
        record: &InstanceRecord,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Forgets an instance whose journal is closed, and answers the floor above every number that it
    /// and all deleted before it ever used. The floor is remembered before the instance is forgotten.
    /// What is to be kept of it comes in its place: both or neither, whenever the process ends.
    fn delete(
        &self,
        id: &InstanceId,
        kept: Option<&Gone>,
    ) -> impl Future<Output = Result<Floor, StoreError>> + Send;

    /// Forgets what was kept of a deleted instance. It may come back if the process ends soon: whoever
    /// loads it sees that nobody asks for it any more.
    fn forget(&self, gone: &Gone) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Remembers that no number at or below `floor` is ever new again. A floor never sinks.
    fn raise(&self, floor: Floor) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Replaces the record of an instance whose journal is closed, and all that is remembered of its
    /// sessions, as a restore does. Both or neither, whenever the process ends.
    fn replace(
        &self,
        record: &InstanceRecord,
        table: SessionTable,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens the journal of an instance and reads back its sessions: all that was committed, in the
    /// order in which it was. One journal of an instance is open at a time.
    fn open(
        &self,
        record: &InstanceRecord,
        progress: Progress,
    ) -> impl Future<Output = Result<Opened<Self::Journal>, StoreError>> + Send;
}

/// What happened to the sessions of one instance, kept.
pub trait Journal: Send + 'static {
    /// Makes a batch durable: all of it or nothing. `Ok` survives whatever the backend survives; of an
    /// instance whose durability is LAZY it does so after at most [`LAZY_SYNC_MS_MAX`].
    ///
    /// The revisions of the changes follow each other and the last committed one without a gap. After
    /// an error the journal takes nothing more: it is closed, and opening it again tells what is true.
    ///
    /// [`LAZY_SYNC_MS_MAX`]: crate::domain::limits::LAZY_SYNC_MS_MAX
    fn commit(
        &mut self,
        changes: &[Change],
    ) -> impl Future<Output = Result<(), CommitError>> + Send;

    /// The state after the last commit, offered between batches: an occasion to begin a snapshot of
    /// it. Does not wait.
    fn settle(&mut self, table: &SessionTable);

    /// Whether more than the reserve is left: room that is kept so that letting go and closing can be
    /// remembered when nothing else can.
    fn has_room(&self) -> bool;

    /// Tries to find room beside the reserve. An error changes nothing: what was committed is safe,
    /// and so is what the reserve still takes.
    fn make_room(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The way to what was committed before, beside the journal: it holds up neither a commit nor the
    /// end of the journal.
    fn history(&self) -> Box<dyn History>;

    /// Waits until something beside a commit has failed: a late sync, a snapshot. As after a failed
    /// commit, the journal then takes nothing more. Cancel-safe.
    fn failed(&mut self) -> impl Future<Output = CommitError> + Send;

    /// Ends the journal in good order. A journal that is only dropped ends as by a crash.
    fn close(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What was committed to a journal, as far back as it is kept.
pub trait History: Send + Sync {
    /// The first change that is kept together with the sessions before it; nothing if none is.
    fn oldest(&self) -> BoxFuture<'_, Result<Option<Revision>, NoHistory>>;

    /// The sessions as they were right before a change, and what was committed from that on.
    fn since(&self, from: Revision) -> BoxFuture<'_, Result<Past, NoHistory>>;
}

/// Sessions as they were, and what happened to them since.
pub struct Past {
    /// The sessions, without answers that are kept for retries.
    pub table: SessionTable,
    /// What happened.
    pub changes: Box<dyn Changes>,
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past").field("revision", &self.table.revision()).finish_non_exhaustive()
    }
}

/// Changes in order, a bounded number at a time.
pub trait Changes: Send {
    /// The next changes; none if the store has no more at this moment.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<Change>, NoHistory>>;
}

/// Why the past is not told.
#[derive(Debug, thiserror::Error)]
pub enum NoHistory {
    /// It is not kept, or was lost before it was durable. From this revision on it is told.
    #[error("what was committed before revision {0} is not kept")]
    Before(Revision),
    /// It cannot be read.
    #[error("what was committed cannot be read")]
    Unreadable(#[source] StoreError),
}

/// What a server remembers when it starts.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Its instances, in the order of their names.
    pub instances: Vec<InstanceRecord>,
    /// Instances whose record cannot be read, and why. Opening one of them fails likewise; the others
    /// are served.
    pub damaged: Vec<(InstanceId, StoreError)>,
    /// What is kept of deleted instances, in any order.
    pub gone: Vec<Gone>,
    /// The floor above every number that a deleted instance ever used.
    pub floor: Floor,
}

/// A journal that is ready for the next batch, and what it already holds.
#[derive(Debug)]
pub struct Opened<J> {
    /// The journal.
    pub journal: J,
    /// The sessions it tells of.
    pub table: SessionTable,
    /// The last revision that is remembered. Numbering goes on later than that if what was answered after
    /// it may have been lost.
    pub remembered: Revision,
}

/// Why a batch was not committed. The three cases are never folded into one another.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Someone else wrote since the last batch; nothing was written. This server no longer decides.
    #[error("another server has written up to revision {found}")]
    Conflict {
        /// How far the journal goes.
        found: Revision,
    },
    /// Nothing was written.
    #[error("nothing was written")]
    Unavailable(#[source] StoreError),
    /// It may have been written; only opening the journal again can tell.
    #[error("the batch may or may not have been written")]
    Unknown(#[source] StoreError),
}

impl CommitError {
    /// The code for what went wrong.
    pub fn jet_err(&self) -> JetErr {
        match self {
            Self::Conflict { .. } => JetErr::InstanceUnavailable,
            Self::Unavailable(error) | Self::Unknown(error) => error.error,
        }
    }
}

/// Something a backend could not do.
#[derive(Debug)]
pub struct StoreError {
    /// The code that says it in ESE's words.
    pub error: JetErr,
    /// What it was doing.
    pub doing: &'static str,
    /// What stopped it.
    pub cause: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.doing)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// An error and everything behind it, in one line for an operator.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line.push_str(": ");
        line.push_str(&next.to_string());
        cause = next.source();
    }
    line
}

/// Tells how far a long operation has come, in per cent.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u8) + Send + Sync>);

impl Progress {
    /// Reports go to `tell`.
    pub fn new(tell: impl Fn(u8) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Nobody listens.
    pub fn ignored() -> Self {
        Self::new(|_| ())
    }

    /// `percent` of it is done.
    pub fn report(&self, percent: u8) {
        (self.0)(percent.min(100));
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
