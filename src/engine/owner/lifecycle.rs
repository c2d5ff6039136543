//! What moves an instance from phase to phase. What takes long runs beside the inbox.

use std::sync::Arc;

use crate::domain::backup::RestoreRefusal;
use crate::domain::event::{Change, SessionEvent};
use crate::domain::gone::Gone;
use crate::domain::id::Principal;
use crate::domain::instance::{
    InitializeRefusal, Instance, InstanceRecord, Resting, TerminateMode, TerminateRefusal,
};
use crate::domain::lifecycle::{Event, Phase, PhaseRefusal};
use crate::domain::replay::Reused;
use crate::domain::request::{Answer, AnswerKind, Made};
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::engine::owner::backup::Restored;
use crate::engine::owner::repeat::{self, Twins};
use crate::engine::owner::{Message, Owner, Reply, Then};
use crate::engine::sessions::ring::Opened as At;
use crate::engine::watch::InstanceView;
use crate::engine::{Asker, Unanswered};
use crate::store::{CommitError, Journal, Opened, Progress, Store, StoreError, with_causes};

/// Something long that runs beside the inbox.
pub(super) enum Done<S: Store> {
    Opened {
        result: Result<(Opened<S::Journal>, InstanceRecord), StoreError>,
        /// When that was, if it will be told again.
        at: Option<Timestamp>,
        reply: Option<Reply<InitializeRefusal>>,
    },
    Restored {
        result: Restored,
        reply: Reply<RestoreRefusal>,
    },
    Closed {
        result: Result<InstanceRecord, CommitError>,
        table: SessionTable,
        /// When that was, if it will be told again.
        at: Option<Timestamp>,
        /// Nobody waits if the process ended while it was terminated.
        reply: Option<Reply<TerminateRefusal>>,
    },
}

/// What is left of an instance.
#[derive(Debug)]
pub(in crate::engine) struct Deleted {
    /// Above every number that it used.
    pub(in crate::engine) floor: Floor,
    /// What is kept for those who may ask again.
    pub(in crate::engine) kept: Option<Gone>,
}

impl<S: Store> Owner<S> {
    pub(super) async fn lifecycle(&mut self, message: Message) -> Then {
        match message {
            Message::Call(_) | Message::Calls(_) | Message::Leave(..) => {
                unreachable!("calls are decided in batches")
            }
            Message::Look(look) => self.look(look),
            Message::Initialize(None) => self.initialize(None, None),
            Message::Initialize(Some((asker, reply))) => {
                if let Some(reply) = self.first_time(&asker, reply, |twins| &mut twins.initialize) {
                    self.initialize(Some(asker), Some(reply));
                }
            }
            Message::Stop { resume, asker, reply } => {
                let result = self.stop(resume, &asker).await;
                drop(reply.send(result));
            }
            Message::Terminate { mode, asker, reply } => {
                if let Some(reply) = self.first_time(&asker, reply, |twins| &mut twins.terminate) {
                    self.terminate(mode, asker, reply).await;
                }
            }
            Message::Backup(reply) => drop(reply.send(self.backup().map_err(Unanswered::Refused))),
            Message::Restore { reply, registrar, draining } => {
                let upload = self.restore(registrar, draining);
                drop(reply.send(upload.map_err(Unanswered::Refused)));
            }
            Message::Delete(asker, reply) => {
                let result = self.delete(&asker).await;
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

    fn initialize(&mut self, asker: Option<Asker>, reply: Option<Reply<InitializeRefusal>>) {
        match self.instance.phase.on(Event::Initialize) {
            Ok(phase) => {
                self.enter(phase);
                self.twins.begin(asker.as_ref());
                let asker = asker.filter(|asker| asker.request.is_some());
                let environment = Arc::clone(&self.environment);
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
                        Err(error) => return Done::Opened { result: Err(error), at: None, reply },
                    };
                    if opened.table.terminated() {
                        let cut_off = opened.table.revision() > record.ended;
                        record.ended = opened.table.revision();
                        if at_start && cut_off {
                            return finish_terminate(&*store, record, opened).await;
                        }
                    }
                    let result = match count_start(&mut opened, now).await {
                        Ok(()) => {
                            if let Some(asker) = &asker {
                                record.updated = environment.now();
                                let answer = repeat::answered(&record, &opened.table);
                                let updated = record.updated;
                                repeat::keep(&mut record, asker, answer, updated);
                            }
                            store.update(&record).await.map(|()| (opened, record))
                        }
                        Err(error) => Err(error),
                    };
                    let at = result.as_ref().ok().map(|(_, record)| record.updated);
                    Done::Opened { result, at: at.filter(|_| asker.is_some()), reply }
                }));
            }
            Err(refusal) => tell(reply, Err(Unanswered::Refused(refusal.into()))),
        }
    }

    async fn stop(
        &mut self,
        resume: bool,
        asker: &Asker,
    ) -> Result<InstanceView, Unanswered<PhaseRefusal>> {
        match self.repeated(asker) {
            Ok(None) => {}
            Ok(Some(view)) => return Ok(view),
            Err(Reused) => return Err(Unanswered::RequestIdReused),
        }
        let event = if resume { Event::Resume } else { Event::Stop };
        let phase = self.instance.phase.on(event).map_err(Unanswered::Refused)?;
        let mut record = self.instance.record.clone();
        let now = self.environment.now();
        if phase != self.instance.phase {
            record.resting = if resume { Resting::Ready } else { Resting::Stopped };
            record.updated = now;
        }
        let answer = repeat::answered(&record, &self.instance.table);
        repeat::keep(&mut record, asker, answer, now);
        self.rewrite(record).await.map_err(Unanswered::Refused)?;
        let updated = self.instance.record.updated;
        if phase != self.instance.phase {
            self.enter_at(phase, updated);
        }
        Ok(self.view.borrow().clone())
    }

    /// Replaces the record, if there is anything new in it.
    async fn rewrite(&mut self, record: InstanceRecord) -> Result<(), PhaseRefusal> {
        if record == self.instance.record {
            return Ok(());
        }
        if let Err(error) = self.store.update(&record).await {
            let failure = self.fail(error.error, with_causes(&error));
            return Err(PhaseRefusal::Unavailable(failure));
        }
        self.instance.record = record;
        Ok(())
    }

    async fn terminate(
        &mut self,
        mode: TerminateMode,
        asker: Asker,
        reply: Reply<TerminateRefusal>,
    ) {
        let next = match self.instance.terminate(mode, self.backup_runs()) {
            Ok(next) => next,
            Err(refusal) => return tell(Some(reply), Err(Unanswered::Refused(refusal))),
        };
        let now = self.environment.now();
        if next == self.instance.phase {
            // It was not initialised, so there is nothing to do.
            let mut record = self.instance.record.clone();
            let answer = repeat::answered(&record, &self.instance.table);
            repeat::keep(&mut record, &asker, answer, now);
            let kept = self.rewrite(record).await;
            let refused = |refusal: PhaseRefusal| Unanswered::Refused(refusal.into());
            let view = self.view.borrow().clone();
            return tell(Some(reply), kept.map(|()| view).map_err(refused));
        }
        self.end_backup(PhaseRefusal::Terminating);
        self.twins.begin(Some(&asker));
        let at = asker.request.as_ref().map(|_| now);
        let failed = matches!(self.instance.phase, Phase::Failed(_));
        self.enter(next);
        let journal = self.journal.take();
        let store = Arc::clone(&self.store);
        let mut record = self.instance.record.clone();
        if failed {
            // Nothing is written: what was acknowledged is recovered by the next initialisation. That the
            // instance is not failed any more is forgotten with the process, and what was answered too.
            let table = SessionTable::above(record.floor);
            let seen = InstanceRecord { resting: Resting::Created, updated: now, ..record.clone() };
            repeat::keep(&mut record, &asker, repeat::answered(&seen, &table), now);
            self.running = Some(Box::pin(async move {
                drop(journal);
                Done::Closed { result: Ok(record), table, at, reply: Some(reply) }
            }));
            return;
        }
        // The request is in the history too, for the case that the process ends before it is in the record.
        let made = |request| Made { by: asker.by.clone(), request, answer: AnswerKind::Revision };
        let ended = Change {
            revision: self.instance.table.revision().next(),
            time: now,
            by: Principal::anonymous(),
            event: SessionEvent::AllEnded,
            made: asker.request.clone().into_iter().map(made).collect(),
        };
        self.instance.table.apply(&ended);
        let table = SessionTable::above(self.instance.table.floor());
        record = InstanceRecord {
            resting: Resting::Created,
            updated: now,
            ended: ended.revision,
            ..record
        };
        let answer = repeat::answered(&record, &table);
        repeat::keep(&mut record, &asker, answer, now);
        let mut journal = journal.expect("a phase with sessions has an open journal");
        self.running = Some(Box::pin(async move {
            let closed = async {
                journal.commit(&[ended]).await?;
                store.update(&record).await.map_err(CommitError::Unknown)?;
                journal.close().await.map_err(CommitError::Unknown)
            };
            let result = closed.await.map(|()| record);
            Done::Closed { result, table, at, reply: Some(reply) }
        }));
    }

    /// What was deleted is answered by the registrar when it comes again; here only another call can have
    /// the id.
    async fn delete(&mut self, asker: &Asker) -> Result<Deleted, Unanswered<PhaseRefusal>> {
        if self.repeated(asker).map_or(true, |found| found.is_some()) {
            return Err(Unanswered::RequestIdReused);
        }
        let phase = self.instance.phase.on(Event::Delete);
        phase.map_err(Unanswered::Refused)?;
        let (record, now) = (&self.instance.record, self.environment.now());
        let kept = Gone::of(record, &asker.by, asker.request.as_ref(), now);
        let deleted = self.store.delete(&record.id, kept.as_ref()).await;
        let floor = deleted.map_err(|error| {
            let failure = self.failure(error.error, with_causes(&error));
            Unanswered::Refused(PhaseRefusal::Unavailable(failure))
        })?;
        Ok(Deleted { floor, kept })
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
        let Twins { initialize, terminate, .. } = std::mem::take(&mut self.twins);
        match done {
            Done::Opened { result: Ok((opened, record)), at, reply } => {
                let stopped = record.resting == Resting::Stopped;
                let opened_at = opened_at(&opened, &record);
                self.journal = Some(opened.journal);
                self.instance.table = opened.table;
                self.instance.record = record;
                self.begin_serving();
                // Whoever sees the phase can watch.
                self.ring.open(opened_at);
                let at = at.unwrap_or_else(|| self.environment.now());
                self.happened_at(Event::Opened { stopped }, at);
                tell_all(reply.into_iter().chain(initialize), &Ok(self.view.borrow().clone()));
            }
            Done::Opened { result: Err(error), at: _, reply } => {
                let failure = self.fail(error.error, with_causes(&error));
                let refusal = Unanswered::Refused(InitializeRefusal::Failed(failure));
                tell_all(reply.into_iter().chain(initialize), &Err(refusal));
            }
            Done::Restored { result, reply } => {
                let result = result.map(|(record, floor)| {
                    self.instance.record = record;
                    self.instance.table = SessionTable::above(floor);
                });
                self.happened(Event::RestoreEnded);
                tell(Some(reply), result.map(|()| self.view.borrow().clone()));
            }
            Done::Closed { result: Ok(record), table, at, reply } => {
                self.instance.record = record;
                self.instance.table = table;
                let at = at.unwrap_or_else(|| self.environment.now());
                self.happened_at(Event::Closed, at);
                tell_all(reply.into_iter().chain(terminate), &Ok(self.view.borrow().clone()));
            }
            Done::Closed { result: Err(error), table: _, at: _, reply } => {
                let failure = self.fail(error.jet_err(), with_causes(&error));
                let refusal = Unanswered::Refused(PhaseRefusal::Unavailable(failure).into());
                tell_all(reply.into_iter().chain(terminate), &Err(refusal));
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
    let mut record = InstanceRecord { resting: Resting::Created, ..record };
    let table = SessionTable::above(opened.table.floor());
    // Whoever asked for it may ask again.
    let ended = Answer::Revision(opened.table.revision());
    if let Some((by, kept)) = opened.table.retries().iter().find(|(_, kept)| kept.answer == ended) {
        record.updated = kept.time;
        let asker = Asker { by: by.clone(), request: Some(kept.request.clone()) };
        let answer = repeat::answered(&record, &table);
        repeat::keep(&mut record, &asker, answer, kept.time);
    }
    let closed = async {
        store.update(&record).await?;
        opened.journal.close().await
    };
    let result = closed.await.map(|()| record).map_err(CommitError::Unknown);
    Done::Closed { result, table, at: None, reply: None }
}

/// A caller that has gone meanwhile loses its answer and nothing else.
fn tell<R>(reply: Option<Reply<R>>, answer: Result<InstanceView, Unanswered<R>>) {
    if let Some(reply) = reply {
        drop(reply.send(answer));
    }
}

/// Tells everybody who asked for the same.
fn tell_all<R: Clone>(
    replies: impl Iterator<Item = Reply<R>>,
    answer: &Result<InstanceView, Unanswered<R>>,
) {
    replies.for_each(|reply| tell(Some(reply), answer.clone()));
}
