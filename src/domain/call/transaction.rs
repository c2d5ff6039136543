//! Transactions: `JetBeginTransaction`, `JetCommitTransaction`, `JetRollback`.
//!
//! Only their nesting and their ownership are kept here; there is no data to commit.

use crate::domain::call::{Call, Refused, Stamp, existing, touched};
use crate::domain::event::SessionEvent;
use crate::domain::id::{SessionId, ThreadId};
use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::Admission;
use crate::domain::refusal::{Facts, Refusal};
use crate::domain::session::{Transaction, TransactionOwner};

/// `JetBeginTransaction`: one level deeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginTransaction {
    /// On which session.
    pub session: SessionId,
    /// The calling thread.
    pub thread: ThreadId,
}

/// `JetCommitTransaction`: one level up, keeping its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTransaction {
    /// On which session.
    pub session: SessionId,
    /// The calling thread.
    pub thread: ThreadId,
}

/// `JetRollback`: one level up, or all (`JET_bitRollbackAll`), dropping their effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackTransaction {
    /// On which session.
    pub session: SessionId,
    /// The calling thread.
    pub thread: ThreadId,
    /// All levels instead of the innermost.
    pub all_levels: bool,
}

/// Why `JetBeginTransaction` is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginTransactionRefusal {
    /// It is seven levels deep. Wins over the ownership test.
    TransTooDeep,
    /// The open transaction is not the caller's.
    SharingViolation,
}

/// Why `JetCommitTransaction` and `JetRollback` are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndTransactionRefusal {
    /// No transaction is open.
    NotInTransaction,
    /// The open transaction is not the caller's.
    SharingViolation,
}

impl Call for BeginTransaction {
    /// The level reached.
    type Answer = u8;
    type Refusal = BeginTransactionRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<BeginTransactionRefusal>> {
        let session = existing(instance, self.session)?;
        let transaction = match session.transaction() {
            Some(open) => {
                let deeper =
                    open.deeper().ok_or(Refused::Call(BeginTransactionRefusal::TransTooDeep))?;
                if !session.may_continue(open, |owner| stamp.is(owner, &self.thread)) {
                    return Err(Refused::Call(BeginTransactionRefusal::SharingViolation));
                }
                deeper
            }
            // The outermost level asks for no owner: it belongs to the word that is set, no matter
            // which thread calls, else to the calling thread.
            None => Transaction::outermost(match session.binding() {
                Some(binding) => TransactionOwner::Context(binding.context),
                None => TransactionOwner::Thread(stamp.owner(&self.thread)),
            }),
        };
        Ok(vec![SessionEvent::TransactionBegan { session: self.session, transaction }])
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> u8 {
        touched(instance, self.session).transaction_level()
    }
}

impl Call for CommitTransaction {
    /// The level reached.
    type Answer = u8;
    type Refusal = EndTransactionRefusal;
    const ADMISSION: Admission = Admission::Takes;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<EndTransactionRefusal>> {
        let left = own_transaction(instance, self.session, &self.thread, stamp)?.shallower();
        Ok(vec![SessionEvent::TransactionCommitted { session: self.session, left }])
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> u8 {
        touched(instance, self.session).transaction_level()
    }
}

impl Call for RollbackTransaction {
    /// The level reached.
    type Answer = u8;
    type Refusal = EndTransactionRefusal;
    const ADMISSION: Admission = Admission::LetsGo;

    fn decide(
        &self,
        instance: &Instance,
        stamp: &Stamp,
    ) -> Result<Vec<SessionEvent>, Refused<EndTransactionRefusal>> {
        let open = own_transaction(instance, self.session, &self.thread, stamp)?;
        let left = if self.all_levels { None } else { open.shallower() };
        Ok(vec![SessionEvent::TransactionRolledBack { session: self.session, left }])
    }

    fn answer(&self, instance: &Instance, _: &Stamp) -> u8 {
        touched(instance, self.session).transaction_level()
    }
}

/// The open transaction, if there is one and it is the caller's.
fn own_transaction<'a>(
    instance: &'a Instance,
    session: SessionId,
    thread: &ThreadId,
    stamp: &Stamp,
) -> Result<&'a Transaction, Refused<EndTransactionRefusal>> {
    let session = existing(instance, session)?;
    let open =
        session.transaction().ok_or(Refused::Call(EndTransactionRefusal::NotInTransaction))?;
    if session.may_continue(open, |owner| stamp.is(owner, thread)) {
        Ok(open)
    } else {
        Err(Refused::Call(EndTransactionRefusal::SharingViolation))
    }
}

impl Refusal for BeginTransactionRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::TransTooDeep => JetErr::TransTooDeep,
            Self::SharingViolation => JetErr::SessionSharingViolation,
        }
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}

impl Refusal for EndTransactionRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::NotInTransaction => JetErr::NotInTransaction,
            Self::SharingViolation => JetErr::SessionSharingViolation,
        }
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }
}
