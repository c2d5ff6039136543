//! Backups: why one is not taken (`JetBackupInstance`) or not read in (`JetRestoreInstance`).

use crate::domain::instance::Instance;
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Event, Failure, PhaseRefusal};
use crate::domain::refusal::{Facts, Quota, Refusal};

impl Instance {
    /// Whether a backup may be taken now; `running` tells whether one is.
    pub fn backup(&self, running: bool) -> Result<(), BackupRefusal> {
        self.phase.on(Event::Backup)?;
        if running { Err(BackupRefusal::BackupInProgress) } else { Ok(()) }
    }
}

/// Why `JetBackupInstance` is refused, or ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupRefusal {
    /// The phase does not allow it, or no longer does.
    Phase(PhaseRefusal),
    /// Another backup runs.
    BackupInProgress,
}

impl From<PhaseRefusal> for BackupRefusal {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl Refusal for BackupRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            Self::BackupInProgress => JetErr::BackupInProgress,
        }
    }

    fn facts(&self) -> Facts {
        match self {
            Self::Phase(refusal) => refusal.facts(),
            Self::BackupInProgress => Facts::default(),
        }
    }
}

/// Why `JetRestoreInstance` does not succeed. The instance is as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreRefusal {
    /// The phase does not allow it.
    Phase(PhaseRefusal),
    /// What was sent is no backup. Says what was found.
    Foreign(String),
    /// The backup is of a format that comes after this release. Says which.
    Newer(String),
    /// The backup is damaged or ends too early. Says where.
    Damaged(String),
    /// The backup has more sessions than the instance may have.
    TooManySessions {
        /// How many it has.
        found: u64,
        /// How many the instance may have.
        max: u32,
    },
    /// The backup has used up all numbers, so that none is left above it.
    NoNumbersLeft,
    /// The store could not keep it.
    Unavailable(Failure),
}

impl From<PhaseRefusal> for RestoreRefusal {
    fn from(refusal: PhaseRefusal) -> Self {
        Self::Phase(refusal)
    }
}

impl Refusal for RestoreRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::Phase(refusal) => refusal.jet_err(),
            Self::Foreign(_) => JetErr::RestoreOfNonBackupDatabase,
            Self::Newer(_) => JetErr::BadLogVersion,
            Self::Damaged(_) => JetErr::LogCorruptDuringHardRestore,
            Self::TooManySessions { .. } => JetErr::OutOfSessions,
            Self::NoNumbersLeft => JetErr::LogSequenceEnd,
            Self::Unavailable(failure) => failure.refused_with(),
        }
    }

    fn facts(&self) -> Facts {
        let (detail, quota) = match self {
            Self::Phase(refusal) => return refusal.facts(),
            Self::Foreign(what) | Self::Newer(what) | Self::Damaged(what) => (what.clone(), None),
            Self::TooManySessions { found, max } => (
                format!("the backup has {found} sessions, and the instance may have {max}"),
                Some(Quota::Sessions(*max)),
            ),
            Self::NoNumbersLeft => ("no numbers are left above those of the backup".into(), None),
            Self::Unavailable(failure) => (format!("{}: {}", failure.error, failure.cause), None),
        };
        Facts { detail: Some(detail), quota, ..Facts::default() }
    }
}
