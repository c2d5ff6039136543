//! The life of an instance: one total function from a phase and an event to the next phase.
//!
//! ```text
//!             create              init                      ready
//!  (absent) ─────────▶ CREATED ─────────▶ INITIALIZING ─────────────▶ READY ◀──resume── STOPPED
//!                        ▲  ▲                   │ failed              │  └────stop──────▶ │
//!                restore │  │ restored          ▼                     │ terminate         │
//!                        ▼  │                FAILED ◀──── failed ─────┤◀──────────────────┘
//!                    RESTORING                  └───── terminate ─────▼
//!                                                                TERMINATING ──▶ CREATED
//! ```
//!
//! Two kinds of events arrive. *Requests* are what people ask for; a phase may refuse them, with the
//! JET error that the engine gives. *Facts* are what happened; nobody can refuse them, and a fact
//! that no longer fits the phase (a late one) changes nothing.
//!
//! The function has no catch-all arm: a new phase or event does not compile until someone has
//! decided what it means.

use std::fmt;
use std::sync::Arc;

use crate::domain::jet_err::JetErr;
use crate::domain::refusal::{Cause, Facts, Refusal, Retry};
use crate::domain::time::Timestamp;

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has a name and nothing else (after `JetCreateInstance`, or after a terminate).
    Created,
    /// `JetInit` runs: what was remembered is opened, verified and loaded.
    Initializing,
    /// Everything is answered.
    Ready,
    /// `JetStopServiceInstance` is in force: owners may let go, nobody may take.
    Stopped,
    /// A backup is being read in.
    Restoring,
    /// `JetTerm` runs: what must be kept is sealed and closed.
    Terminating,
    /// The store refused a write, or could not be opened. Only a terminate leads out.
    Failed(Failure),
}

/// The first cause of a failure. Later causes are consequences and are not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure, in ESE's words.
    pub error: JetErr,
    /// What happened, for an operator.
    pub cause: Arc<str>,
    /// When.
    pub time: Timestamp,
}

impl Failure {
    /// The code by which a failed instance refuses calls: full disks have one of their own, so that an
    /// operator knows what to do without reading a log.
    pub fn refused_with(&self) -> JetErr {
        const DISK_FULL: [JetErr; 3] = [
            JetErr::InstanceUnavailableDueToFatalLogDiskFull,
            JetErr::LogDiskFull,
            JetErr::DiskFull,
        ];
        if DISK_FULL.contains(&self.error) {
            JetErr::InstanceUnavailableDueToFatalLogDiskFull
        } else {
            JetErr::InstanceUnavailable
        }
    }
}

/// What can happen to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Request: `JetInit`.
    Initialize,
    /// Request: `JetStopServiceInstance`. Repeating it is success.
    Stop,
    /// Request: undo the stop. Ours; the engine's stop is for good.
    Resume,
    /// Request: `JetTerm`. Whether open transactions forbid it is decided in `domain/instance.rs`.
    Terminate,
    /// Request: `JetRestoreInstance`.
    Restore,
    /// Request: delete the instance, or whatever else needs it to be `CREATED`.
    Delete,
    /// Request: `JetBackupInstance`. Changes no phase.
    Backup,
    /// Fact: the store is open. `stopped` tells that the instance was stopped before the server was.
    Opened {
        /// Whether a stop is still in force.
        stopped: bool,
    },
    /// Fact: the store is closed after a terminate, be it one that began before the server did.
    Closed,
    /// Fact: a restore is over, with or without success.
    RestoreEnded,
    /// Fact: the store cannot be trusted any more.
    Failed(Failure),
}

impl Phase {
    /// The phase after `event`, or why it is refused.
    pub fn on(&self, event: Event) -> Result<Phase, PhaseRefusal> {
        use Event as E;
        use Phase as P;
        use PhaseRefusal as R;
        match (self, event) {
            (P::Created, E::Initialize) => Ok(P::Initializing),
            (P::Created, E::Restore) => Ok(P::Restoring),
            (P::Created, E::Terminate | E::Delete) => Ok(P::Created),
            (P::Initializing, E::Opened { stopped: false }) => Ok(P::Ready),
            (P::Initializing, E::Opened { stopped: true }) => Ok(P::Stopped),
            (P::Ready | P::Stopped, E::Stop) => Ok(P::Stopped),
            (P::Ready | P::Stopped, E::Resume) => Ok(P::Ready),
            (P::Ready | P::Stopped | P::Failed(_), E::Terminate) => Ok(P::Terminating),
            // From INITIALIZING: a terminate that the end of the process cut off is finished.
            (P::Terminating | P::Initializing, E::Closed) => Ok(P::Created),
            (P::Restoring, E::RestoreEnded) => Ok(P::Created),
            (P::Ready, E::Backup) => Ok(P::Ready),
            (P::Stopped, E::Backup) => Ok(P::Stopped),

            // The first cause of a failure stays.
            (P::Failed(first), E::Failed(_)) => Ok(P::Failed(first.clone())),
            (P::Initializing | P::Ready | P::Stopped | P::Terminating, E::Failed(failure)) => {
                Ok(P::Failed(failure))
            }

            // Late facts.
            (P::Created | P::Restoring, E::Failed(_))
            | (
                P::Created | P::Ready | P::Stopped | P::Restoring | P::Terminating | P::Failed(_),
                E::Opened { .. },
            )
            | (P::Created | P::Ready | P::Stopped | P::Restoring | P::Failed(_), E::Closed)
            | (
                P::Created
                | P::Initializing
                | P::Ready
                | P::Stopped
                | P::Terminating
                | P::Failed(_),
                E::RestoreEnded,
            ) => Ok(self.clone()),

            (P::Created, E::Stop | E::Resume | E::Backup) => Err(R::NotInitialized),
            (P::Initializing, E::Stop | E::Resume | E::Backup | E::Terminate) => {
                Err(R::StillInitializing)
            }
            (P::Initializing, E::Initialize | E::Restore | E::Delete) => Err(R::InitInProgress),
            (P::Ready | P::Stopped | P::Failed(_), E::Initialize | E::Restore | E::Delete) => {
                Err(R::AlreadyInitialized(self.clone()))
            }
            (P::Failed(failure), E::Stop | E::Resume | E::Backup) => {
                Err(R::Unavailable(failure.clone()))
            }
            (
                P::Terminating,
                E::Initialize
                | E::Stop
                | E::Resume
                | E::Terminate
                | E::Restore
                | E::Delete
                | E::Backup,
            ) => Err(R::Terminating),
            (
                P::Restoring,
                E::Initialize
                | E::Stop
                | E::Resume
                | E::Terminate
                | E::Restore
                | E::Delete
                | E::Backup,
            ) => Err(R::Restoring),
        }
    }

    /// Whether a call on a session, or one that begins a session, may be decided now.
    pub fn admit(&self, call: Admission) -> Result<(), PhaseRefusal> {
        match (self, call) {
            (Phase::Ready, Admission::Takes | Admission::LetsGo)
            | (Phase::Stopped, Admission::LetsGo) => Ok(()),
            (Phase::Stopped, Admission::Takes) => Err(PhaseRefusal::Stopped),
            (Phase::Created, Admission::Takes | Admission::LetsGo) => {
                Err(PhaseRefusal::NotInitialized)
            }
            (Phase::Initializing, Admission::Takes | Admission::LetsGo) => {
                Err(PhaseRefusal::StillInitializing)
            }
            (Phase::Failed(failure), Admission::Takes | Admission::LetsGo) => {
                Err(PhaseRefusal::Unavailable(failure.clone()))
            }
            (Phase::Terminating, Admission::Takes | Admission::LetsGo) => {
                Err(PhaseRefusal::Terminating)
            }
            (Phase::Restoring, Admission::Takes | Admission::LetsGo) => {
                Err(PhaseRefusal::Restoring)
            }
        }
    }

    /// The name of every phase.
    pub const NAMES: [&'static str; 7] =
        ["CREATED", "INITIALIZING", "READY", "STOPPED", "RESTORING", "TERMINATING", "FAILED"];

    /// The name of the phase as the API writes it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Phase::Created => "CREATED",
            Phase::Initializing => "INITIALIZING",
            Phase::Ready => "READY",
            Phase::Stopped => "STOPPED",
            Phase::Restoring => "RESTORING",
            Phase::Terminating => "TERMINATING",
            Phase::Failed(_) => "FAILED",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call on a session does to ownership, which is all that a stopped instance asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Begins or goes on with something: refused while the instance is stopped.
    Takes,
    /// Ends something, or only looks: allowed while the instance is stopped.
    LetsGo,
}

/// Why the phase of an instance refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhaseRefusal {
    /// It was never initialised, or was terminated since.
    NotInitialized,
    /// It is being initialised and answers soon.
    StillInitializing,
    /// An initialisation runs already, and another lifecycle call has to wait for its end.
    InitInProgress,
    /// It is initialised; the phase tells how it fares.
    AlreadyInitialized(Phase),
    /// A stop is in force.
    Stopped,
    /// This server process is going down and takes nothing more; the phase itself does not change.
    Draining,
    /// It is being terminated.
    Terminating,
    /// A backup is being read in.
    Restoring,
    /// It has failed.
    Unavailable(Failure),
}

impl PhaseRefusal {
    /// The phase that refused; none if it is the server that does.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::NotInitialized => Some(Phase::Created),
            Self::StillInitializing | Self::InitInProgress => Some(Phase::Initializing),
            Self::AlreadyInitialized(phase) => Some(phase.clone()),
            Self::Stopped => Some(Phase::Stopped),
            Self::Draining => None,
            Self::Terminating => Some(Phase::Terminating),
            Self::Restoring => Some(Phase::Restoring),
            Self::Unavailable(failure) => Some(Phase::Failed(failure.clone())),
        }
    }

    /// Whether the same call can soon be answered without anybody's help, here or by another process.
    pub fn retry(&self) -> Retry {
        match self {
            Self::StillInitializing | Self::InitInProgress | Self::Restoring | Self::Draining => {
                Retry::Soon
            }
            Self::NotInitialized
            | Self::AlreadyInitialized(_)
            | Self::Stopped
            | Self::Terminating
            | Self::Unavailable(_) => Retry::No,
        }
    }
}

impl Refusal for PhaseRefusal {
    fn jet_err(&self) -> JetErr {
        match self {
            Self::NotInitialized | Self::StillInitializing => JetErr::NotInitialized,
            Self::InitInProgress => JetErr::InitInProgress,
            Self::AlreadyInitialized(_) => JetErr::AlreadyInitialized,
            Self::Stopped | Self::Draining => JetErr::ClientRequestToStopJetService,
            Self::Terminating => JetErr::TermInProgress,
            Self::Restoring => JetErr::RestoreInProgress,
            Self::Unavailable(failure) => failure.refused_with(),
        }
    }

    fn facts(&self) -> Facts {
        let cause = (*self == Self::Draining).then_some(Cause::Draining);
        Facts { phase: self.phase(), cause, retry: self.retry(), ..Facts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: JetErr) -> Failure {
        Failure { error, cause: "the disk is gone".into(), time: Timestamp::from_micros(1) }
    }

    fn phases() -> [Phase; 7] {
        [
            Phase::Created,
            Phase::Initializing,
            Phase::Ready,
            Phase::Stopped,
            Phase::Failed(failure(JetErr::InstanceUnavailable)),
            Phase::Terminating,
            Phase::Restoring,
        ]
    }

    /// One cell of a table: the phase that follows, or the JET error of the refusal.
    fn cell(result: Result<Phase, PhaseRefusal>) -> String {
        match result {
            Ok(phase) => phase.to_string(),
            Err(refusal) => refusal.jet_err().code().to_string(),
        }
    }

    /// Section 6 of the contract, row by row; the columns are in the order of `phases()`.
    #[test]
    fn requests_follow_the_table_of_the_contract() {
        let rows: [(Event, [&str; 7]); 7] = [
            (
                Event::Initialize,
                ["INITIALIZING", "-1031", "-1030", "-1030", "-1030", "-1000", "-506"],
            ),
            (
                Event::Terminate,
                ["CREATED", "-1029", "TERMINATING", "TERMINATING", "TERMINATING", "-1000", "-506"],
            ),
            (Event::Restore, ["RESTORING", "-1031", "-1030", "-1030", "-1030", "-1000", "-506"]),
            (Event::Delete, ["CREATED", "-1031", "-1030", "-1030", "-1030", "-1000", "-506"]),
            (Event::Stop, ["-1029", "-1029", "STOPPED", "STOPPED", "-1090", "-1000", "-506"]),
            (Event::Resume, ["-1029", "-1029", "READY", "READY", "-1090", "-1000", "-506"]),
            (Event::Backup, ["-1029", "-1029", "READY", "STOPPED", "-1090", "-1000", "-506"]),
        ];
        for (event, expected) in rows {
            let found = phases().map(|phase| cell(phase.on(event.clone())));
            assert_eq!(found, expected, "{event:?}");
        }
    }

    #[test]
    fn facts_are_never_refused_and_late_ones_change_nothing() {
        let second = failure(JetErr::LogCorrupted);
        let rows: [(Event, [&str; 7]); 5] = [
            (
                Event::Opened { stopped: false },
                ["CREATED", "READY", "READY", "STOPPED", "FAILED", "TERMINATING", "RESTORING"],
            ),
            (
                Event::Opened { stopped: true },
                ["CREATED", "STOPPED", "READY", "STOPPED", "FAILED", "TERMINATING", "RESTORING"],
            ),
            (
                Event::Closed,
                ["CREATED", "CREATED", "READY", "STOPPED", "FAILED", "CREATED", "RESTORING"],
            ),
            (
                Event::RestoreEnded,
                ["CREATED", "INITIALIZING", "READY", "STOPPED", "FAILED", "TERMINATING", "CREATED"],
            ),
            (
                Event::Failed(second),
                ["CREATED", "FAILED", "FAILED", "FAILED", "FAILED", "FAILED", "RESTORING"],
            ),
        ];
        for (event, expected) in rows {
            let found = phases().map(|phase| cell(phase.on(event.clone())));
            assert_eq!(found, expected, "{event:?}");
        }
    }

    #[test]
    fn the_first_cause_of_a_failure_stays() {
        let first = Phase::Failed(failure(JetErr::LogCorrupted));
        let after = first.on(Event::Failed(failure(JetErr::DiskIO))).unwrap();
        assert_eq!(after, first);
    }

    #[test]
    fn calls_on_sessions_follow_the_table_of_the_contract() {
        let rows = [
            (Admission::Takes, ["-1029", "-1029", "ok", "-1329", "-1090", "-1000", "-506"]),
            (Admission::LetsGo, ["-1029", "-1029", "ok", "ok", "-1090", "-1000", "-506"]),
        ];
        for (call, expected) in rows {
            let found = phases().map(|phase| match phase.admit(call) {
                Ok(()) => "ok".to_owned(),
                Err(refusal) => refusal.jet_err().code().to_string(),
            });
            assert_eq!(found, expected, "{call:?}");
        }
    }

    #[test]
    fn a_full_disk_has_a_code_of_its_own() {
        for (error, expected) in [
            (JetErr::InstanceUnavailableDueToFatalLogDiskFull, -1092),
            (JetErr::LogDiskFull, -1092),
            (JetErr::DiskFull, -1092),
            (JetErr::InstanceUnavailable, -1090),
            (JetErr::LogCorrupted, -1090),
        ] {
            let refusal = Phase::Failed(failure(error)).admit(Admission::LetsGo).unwrap_err();
            assert_eq!(refusal.jet_err().code(), expected);
        }
    }

    #[test]
    fn a_refusal_names_the_phase_that_refused() {
        let requests = [
            Event::Initialize,
            Event::Stop,
            Event::Resume,
            Event::Terminate,
            Event::Restore,
            Event::Delete,
            Event::Backup,
        ];
        for phase in phases() {
            for event in requests.clone() {
                if let Err(refusal) = phase.on(event) {
                    assert_eq!(refusal.phase(), Some(phase.clone()));
                }
            }
        }
    }
}
