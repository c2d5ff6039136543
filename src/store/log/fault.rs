//! What can go wrong with a log, and what it is called in ESE's words.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::jet_err::JetErr;
use crate::store::StoreError;
use crate::store::frame::NotAFrame;
use crate::store::log::scan::Reason;
use crate::store::snapshot::NotASnapshot;

/// Something about the files of a log that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system refused something.
    #[error("{}", path.display())]
    Io {
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A segment is damaged.
    #[error("{} cannot be trusted from byte {at} on", path.display())]
    Segment {
        /// Which.
        path: PathBuf,
        /// From where on.
        at: u64,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// A snapshot is damaged.
    #[error("{} cannot be read", path.display())]
    Snapshot {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: NotASnapshot,
    },
    /// A small file of one frame is damaged.
    #[error("{} cannot be read: {what}", path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl Fault {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    /// With which file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Segment { path, .. }
            | Self::Snapshot { path, .. }
            | Self::Record { path, .. } => path,
        }
    }

    /// From which byte of it on, if that is known.
    pub fn at(&self) -> Option<u64> {
        match self {
            Self::Segment { at, .. }
            | Self::Snapshot {
                error: NotASnapshot::Damaged { at, .. } | NotASnapshot::Truncated(at),
                ..
            } => Some(*at),
            Self::Snapshot {
                error:
                    NotASnapshot::Foreign
                    | NotASnapshot::Newer(_)
                    | NotASnapshot::TooManySessions { .. },
                ..
            }
            | Self::Record { .. } => Some(0),
            Self::Io { .. } => None,
        }
    }

    /// Whether something is damaged or gone. Else it is whole, and the system or this release cannot
    /// read it: then there is nothing to repair.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Self::Segment { reason: Reason::Newer(_), .. }
            | Self::Snapshot { error: NotASnapshot::Newer(_), .. } => false,
            Self::Segment { .. } | Self::Snapshot { .. } | Self::Record { .. } => true,
        }
    }

    /// What is wrong, without the name of the file.
    pub fn reason(&self) -> String {
        match self {
            Self::Io { error, .. } => error.to_string(),
            Self::Segment { reason, .. } => reason.to_string(),
            Self::Snapshot { error, .. } => error.to_string(),
            Self::Record { what, .. } => what.clone(),
        }
    }

    /// The code for it.
    pub fn jet_err(&self) -> JetErr {
        match self {
            Self::Io { error, .. } if is_full(error) => JetErr::LogDiskFull,
            Self::Io { .. } => JetErr::DiskIO,
            Self::Segment { reason: Reason::Missing, .. } => JetErr::MissingLogFile,
            Self::Segment { reason: Reason::Newer(_), .. }
            | Self::Snapshot { error: NotASnapshot::Newer(_), .. } => JetErr::BadLogVersion,
            Self::Segment { reason: Reason::Frame(NotAFrame::Checksum), .. } => {
                JetErr::LogReadVerifyFailure
            }
            Self::Segment {
                reason:
                    Reason::Frame(NotAFrame::Foreign | NotAFrame::Incomplete(_))
                    | Reason::OutOfPlace
                    | Reason::Undecodable
                    | Reason::Foreign
                    | Reason::BehindSeal,
                ..
            }
            | Self::Snapshot {
                error:
                    NotASnapshot::Foreign
                    | NotASnapshot::Damaged { .. }
                    | NotASnapshot::Truncated(_)
                    | NotASnapshot::TooManySessions { .. },
                ..
            }
            | Self::Record { .. } => JetErr::LogFileCorrupt,
        }
    }

    /// It, as the engine hears of it.
    pub(super) fn while_doing(self, doing: &'static str) -> StoreError {
        StoreError { error: self.jet_err(), doing, cause: self.into() }
    }
}

/// Whether the system says that there is no room, for anybody or for us.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
