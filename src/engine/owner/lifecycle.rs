//! What moves an instance from phase to phase. What takes long runs beside the inbox.

use std::sync::Arc;

use crate::domain::backup::RestoreRefusal;
use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::Principal;
use crate::domain::instance::{
    InitializeRefusal, Instance, InstanceRecord, Resting, TerminateMode, TerminateRefusal,
};
use crate::domain::lifecycle::{Event, Phase, PhaseRefusal};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::engine::Unanswered;
use crate::engine::owner::backup::Restored;
use crate::engine::owner::{Message, Owner, Reply, Then};
use crate::engine::sessions::ring::Opened as At;
use crate::engine::watch::InstanceView;
use crate::store::{CommitError, Journal, Opened, Progress, Store, StoreError, with_causes};

/// Something long that runs beside the inbox.
pub(super) enum Done<S: Store> {
    Opened {
        result: Result<(Opened<S::Journal>, InstanceRecord), StoreError>,
        reply: Option<Reply<InitializeRefusal>>,
    },
    Restored {
        result: Restored,
        reply: Reply<Unanswered<RestoreRefusal>>,
    },
    Closed {
        result: Result<InstanceRecord, CommitError>,
        table: SessionTable,
        /// Nobody waits if the process ended while it was terminated.
        reply: Option<Reply<TerminateRefusal>>,
    },
}

impl<S: Store> Owner<S> {
    pub(super) async fn lifecycle(&mut self, message: Message) -> Then {
        match message {
            Message::Call(_) | Message::Calls(_) | Message::Leave(..) => {
                unreachable!("calls are decided in batches")
            }
            Message::Look(look) => self.look(look),
            Message::Initialize(reply) => self.initialize(reply),
            Message::Stop { resume, reply } => {
                let result = self.stop(resume).await;
                drop(reply.send(result));
            }
            Message::Terminate { mode, reply } => self.terminate(mode, reply),
            Message::Backup(reply) => drop(reply.send(self.backup())),
            Message::Restore { reply, registrar, draining } => {
                drop(reply.send(self.restore(registrar, draining)));
            }
            Message::Delete(reply) => {
                let result = self.delete().await;
                let deleted = result.is_ok();
                drop(reply.send(result));
                if deleted {
                    return Then::End;
                }
            }
            Message::Close(reply) => {
                self.close().await;
                reply.send(()).ok();
                return Then::End;
            }
        }
        Then::GoOn
    }

    fn initialize(&mut self, reply: Option<Reply<InitializeRefusal>>) {
        match self.instance.phase.on(Event::Initialize) {
            Ok(phase) => {
                self.enter(phase);
                let store = Arc::clone(&self.store);
                let mut record = self.instance.record.clone();
                if record.resting == Resting::Created {
                    record.resting = Resting::Ready;
                    record.updated = self.environment.now();
                }
                let view = Arc::clone(&self.view);
                let progress = Progress::new(move |percent| {
                    view.send_if_modified(|view| view.progress(percent));
                });
                let at_start = reply.is_none();
                let now = self.environment.now();
                self.running = Some(Box::pin(async move {
                    let mut opened = match store.open(&record, progress).await {
                        Ok(opened) => opened,
                        Err(error) => return Done::Opened { result: Err(error), reply },
                    };
                    if opened.table.terminated() {
                        let cut_off = opened.table.revision() > record.ended;
                        record.ended = opened.table.revision();
                        if at_start && cut_off {
                            return finish_terminate(&*store, record, opened).await;
                        }
                    }
                    let result = match count_start(&mut opened, now).await {
                        Ok(()) => store.update(&record).await.map(|()| (opened, record)),
                        Err(error) => Err(error),
                    };
                    Done::Opened { result, reply }
                }));
            }
            Err(refusal) => tell(reply, Err(refusal.into())),
        }
    }

    async fn stop(&mut self, resume: bool) -> Result<InstanceView, PhaseRefusal> {
        let event = if resume { Event::Resume } else { Event::Stop };
        let phase = self.instance.phase.on(event)?;
        if phase != self.instance.phase {
            let resting = if resume { Resting::Ready } else { Resting::Stopped };
            let updated = self.environment.now();
            let record = InstanceRecord { resting, updated, ..self.instance.record.clone() };
            if let Err(error) = self.store.update(&record).await {
                let failure = self.fail(error.error, with_causes(&error));
                return Err(PhaseRefusal::Unavailable(failure));
            }
            self.instance.record = record;
            self.enter(phase);
        }
        Ok(self.view.borrow().clone())
    }

    fn terminate(&mut self, mode: TerminateMode, reply: Reply<TerminateRefusal>) {
        let next = match self.instance.terminate(mode, self.backup_runs()) {
            Ok(next) => next,
            Err(refusal) => return tell(Some(reply), Err(refusal)),
        };
        if next == self.instance.phase {
            // It was not initialised, so there is nothing to do.
            return tell(Some(reply), Ok(self.view.borrow().clone()));
        }
        self.end_backup(PhaseRefusal::Terminating);
        let failed = matches!(self.instance.phase, Phase::Failed(_));
        self.enter(next);
        let journal = self.journal.take();
        let store = Arc::clone(&self.store);
        let now = self.environment.now();
        let record = self.instance.record.clone();
        if failed {
            // Nothing is written: what was acknowledged is recovered by the next initialisation.
            self.running = Some(Box::pin(async move {
                drop(journal);
                let table = SessionTable::above(record.floor);
                Done::Closed { result: Ok(record), table, reply: Some(reply) }
            }));
            return;
        }
        let ended = Change {
            revision: self.instance.table.revision().next(),
            time: now,
            by: Principal::anonymous(),
            event: SessionEvent::AllEnded,
            made: Vec::new(),
        };
        self.instance.table.apply(&ended);
        let table = SessionTable::above(self.instance.table.floor());
        let record = InstanceRecord {
            resting: Resting::Created,
            updated: now,
            ended: ended.revision,
            ..record
        };
        let mut journal = journal.expect("a phase with sessions has an open journal");
        self.running = Some(Box::pin(async move {
            let closed = async {
                journal.commit(&[ended]).await?;
                store.update(&record).await.map_err(CommitError::Unknown)?;
                journal.close().await.map_err(CommitError::Unknown)
            };
            let result = closed.await.map(|()| record);
            Done::Closed { result, table, reply: Some(reply) }
        }));
    }

    async fn delete(&mut self) -> Result<Floor, PhaseRefusal> {
        self.instance.phase.on(Event::Delete)?;
        let id = self.instance.record.id.clone();
        self.store.delete(&id).await.map_err(|error| {
            PhaseRefusal::Unavailable(self.failure(error.error, with_causes(&error)))
        })
    }

    /// Ends in good order whatever is open.
    pub(super) async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            let done = running.await;
            self.finish(done);
        }
        self.close_journal().await;
    }

    /// Closes the journal, if one is open, as well as that can be done.
    pub(super) async fn close_journal(&mut self) {
        if let Some(journal) = self.journal.take()
            && let Err(error) = journal.close().await
        {
            tracing::error!(
                instance = %self.instance.record.id,
                cause = with_causes(&error),
                "closing failed",
            );
        }
    }

    /// Something long has ended.
    pub(super) fn finish(&mut self, done: Done<S>) {
        match done {
            Done::Opened { result: Ok((opened, record)), reply } => {
                let stopped = record.resting == Resting::Stopped;
                let at = opened_at(&opened, &record);
                self.journal = Some(opened.journal);
                self.instance.table = opened.table;
                self.instance.record = record;
                self.begin_serving();
                // Whoever sees the phase can watch.
                self.ring.open(at);
                self.happened(Event::Opened { stopped });
                tell(reply, Ok(self.view.borrow().clone()));
            }
            Done::Opened { result: Err(error), reply } => {
                let failure = self.fail(error.error, with_causes(&error));
                tell(reply, Err(InitializeRefusal::Failed(failure)));
            }
            Done::Restored { result, reply } => {
                let result = result.map(|(record, floor)| {
                    self.instance.record = record;
                    self.instance.table = SessionTable::above(floor);
                });
                self.happened(Event::RestoreEnded);
                tell(Some(reply), result.map(|()| self.view.borrow().clone()));
            }
            Done::Closed { result: Ok(record), table, reply } => {
                self.instance.record = record;
                self.instance.table = table;
                self.happened(Event::Closed);
                tell(reply, Ok(self.view.borrow().clone()));
            }
            Done::Closed { result: Err(error), table: _, reply } => {
                let failure = self.fail(error.jet_err(), with_causes(&error));
                tell(reply, Err(PhaseRefusal::Unavailable(failure).into()));
            }
        }
    }
}

/// Where the instance stands for those who watch it. What was before all sessions ended, or before they
/// were restored, is another history.
fn opened_at<J>(opened: &Opened<J>, record: &InstanceRecord) -> At {
    At {
        oldest: record.ended.max(record.floor.revision).next(),
        remembered: opened.remembered,
        current: opened.table.revision(),
    }
}

/// Records that the instance begins to serve, if there are leases that have to know.
async fn count_start<J: Journal>(opened: &mut Opened<J>, now: Timestamp) -> Result<(), StoreError> {
    let Some(began) = Instance::serving(&opened.table, now) else {
        return Ok(());
    };
    let committed = opened.journal.commit(std::slice::from_ref(&began)).await;
    committed.map_err(|error| StoreError {
        error: error.jet_err(),
        doing: "record that the instance serves again",
        cause: Box::new(error),
    })?;
    opened.table.apply(&began);
    Ok(())
}

/// What is left of a terminate when the process ended after the sessions had and before the record
/// said so.
async fn finish_terminate<S: Store>(
    store: &S,
    record: InstanceRecord,
    opened: Opened<S::Journal>,
) -> Done<S> {
    let record = InstanceRecord { resting: Resting::Created, ..record };
    let table = SessionTable::above(opened.table.floor());
    let closed = async {
        store.update(&record).await?;
        opened.journal.close().await
    };
    let result = closed.await.map(|()| record).map_err(CommitError::Unknown);
    Done::Closed { result, table, reply: None }
}

/// A caller that has gone meanwhile loses its answer and nothing else.
fn tell<R>(reply: Option<Reply<R>>, answer: Result<InstanceView, R>) {
    if let Some(reply) = reply {
        drop(reply.send(answer));
    }
}
