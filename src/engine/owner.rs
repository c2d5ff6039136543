//! The owner of an instance: the only task that knows its state.
//!
//! It has one inbox. What waits there is decided in order; the changes of consecutive calls make one
//! batch, which is committed before any of those calls is answered. Opening and closing the store
//! take long, so they run beside the inbox, and meanwhile calls are refused by the phase.

use std::any::Any;
use std::collections::VecDeque;
use std::error::Error;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use crate::domain::event::{Change, SessionEvent};
use crate::domain::id::Principal;
use crate::domain::instance::{
    InitializeRefusal, Instance, InstanceRecord, Resting, TerminateMode, TerminateRefusal,
};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Event, Failure, Phase, PhaseRefusal};
use crate::domain::limits::BATCH_CALLS_MAX;
use crate::domain::table::{Floor, SessionTable};
use crate::domain::time::Timestamp;
use crate::engine::Environment;
use crate::engine::ask::Question;
use crate::engine::watch::InstanceView;
use crate::store::{CommitError, Journal, Opened, Progress, Store, StoreError};

/// What an owner can be asked.
pub(super) enum Message {
    /// A call of the contract on sessions.
    Call(Box<dyn Question>),
    /// `JetInit3`. Nobody waits when the server itself asks at its start.
    Initialize(Option<Reply<InitializeRefusal>>),
    /// `JetStopServiceInstance2`, or the way back.
    Stop { resume: bool, reply: Reply<PhaseRefusal> },
    /// `JetTerm2`.
    Terminate { mode: TerminateMode, reply: Reply<TerminateRefusal> },
    /// Forget the instance; answers the floor above all numbers ever used.
    Delete(oneshot::Sender<Result<Floor, PhaseRefusal>>),
    /// End in good order; the server goes down.
    Close(oneshot::Sender<()>),
}

/// How a lifecycle call is answered.
type Reply<R> = oneshot::Sender<Result<InstanceView, R>>;

/// Something long that runs beside the inbox.
enum Done<S: Store> {
    Opened {
        result: Result<(Opened<S::Journal>, InstanceRecord), StoreError>,
        reply: Option<Reply<InitializeRefusal>>,
    },
    Closed {
        result: Result<InstanceRecord, CommitError>,
        table: SessionTable,
        reply: Reply<TerminateRefusal>,
    },
}

/// Whether the owner goes on after a message.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// The task that owns one instance.
pub(super) struct Owner<S: Store> {
    store: Arc<S>,
    environment: Arc<dyn Environment>,
    instance: Instance,
    /// Open exactly in the phases that decide calls.
    journal: Option<S::Journal>,
    view: Arc<watch::Sender<InstanceView>>,
    running: Option<BoxFuture<'static, Done<S>>>,
}

/// What an owner has taken from its inbox. It outlives a panic, so that nobody is forgotten.
#[derive(Default)]
struct Waiting {
    received: Vec<Message>,
    messages: VecDeque<Message>,
    batch: Batch,
}

/// Calls that are decided and wait for their batch to be committed.
#[derive(Default)]
struct Batch {
    questions: Vec<Box<dyn Question>>,
    changes: Vec<Change>,
}

impl Batch {
    fn decide(&mut self, question: Box<dyn Question>, instance: &mut Instance, now: Timestamp) {
        // In the batch before it is decided, so that its caller is told even of a panic.
        self.questions.push(question);
        if let Some(question) = self.questions.last_mut() {
            question.decide(instance, now, &mut self.changes);
        }
    }

    fn answer(&mut self, committed: Result<(), &Failure>) {
        self.changes.clear();
        for question in self.questions.drain(..) {
            question.answer(committed);
        }
    }
}

impl<S: Store> Owner<S> {
    /// The owner of an instance that is not initialised, and what the instance looks like.
    pub(super) fn new(
        store: Arc<S>,
        environment: Arc<dyn Environment>,
        record: InstanceRecord,
    ) -> (Self, watch::Receiver<InstanceView>) {
        let instance = Instance::created(record);
        let (view, seen) = watch::channel(InstanceView::of(&instance));
        let view = Arc::new(view);
        (Self { store, environment, instance, journal: None, view, running: None }, seen)
    }

    /// Works until the instance is deleted or the server goes down.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut waiting = Waiting::default();
        loop {
            // A panic is a broken invariant of ours. The state may be torn, so the instance fails;
            // opening it again reads back what was acknowledged.
            let turn = AssertUnwindSafe(self.turn(&mut inbox, &mut waiting)).catch_unwind().await;
            match turn {
                Ok(Then::GoOn) => {}
                Ok(Then::End) => break,
                Err(panic) => {
                    let failure = self.fail(JetErr::InternalError, panic_message(&*panic));
                    waiting.batch.answer(Err(&failure));
                }
            }
        }
        // Closed first: whoever waits for what is dropped now asks whether the owner is gone. And
        // emptied, not dropped: what somebody is sending at this moment would stay in a dropped inbox,
        // and its sender would wait for ever.
        inbox.close();
        drop(waiting);
        while inbox.recv().await.is_some() {}
    }

    /// Waits for something to do and does it.
    async fn turn(&mut self, inbox: &mut mpsc::Receiver<Message>, waiting: &mut Waiting) -> Then {
        if !waiting.messages.is_empty() {
            // Left over from a turn that panicked.
            return self.take(waiting).await;
        }
        tokio::select! {
            biased;
            done = finished(&mut self.running) => {
                self.finish(done);
                Then::GoOn
            }
            count = inbox.recv_many(&mut waiting.received, BATCH_CALLS_MAX) => {
                if count == 0 { Then::End } else { self.take(waiting).await }
            }
        }
    }

    /// Does everything that waits, in order. Calls that follow each other share a batch.
    async fn take(&mut self, waiting: &mut Waiting) -> Then {
        let Waiting { received, messages, batch } = waiting;
        messages.extend(received.drain(..));
        let now = self.environment.now();
        while let Some(message) = messages.pop_front() {
            if let Message::Call(question) = message {
                batch.decide(question, &mut self.instance, now);
                continue;
            }
            self.commit(batch).await;
            if self.lifecycle(message).await == Then::End {
                return Then::End;
            }
        }
        self.commit(batch).await;
        Then::GoOn
    }

    /// Commits a batch, makes it visible and answers its calls, in this order.
    ///
    /// A refusal may rest on a change of the same batch, so it waits like everybody else.
    async fn commit(&mut self, batch: &mut Batch) {
        let mut lost = None;
        if !batch.changes.is_empty() {
            let journal = self.journal.as_mut().expect("calls are decided with an open journal");
            match journal.commit(&batch.changes).await {
                Ok(()) => {
                    let table = &self.instance.table;
                    self.view.send_modify(|view| view.count(table));
                }
                Err(error) => lost = Some(self.fail(error.jet_err(), with_causes(&error))),
            }
        }
        batch.answer(lost.as_ref().map_or(Ok(()), Err));
    }

    async fn lifecycle(&mut self, message: Message) -> Then {
        match message {
            Message::Call(_) => unreachable!("calls are decided in batches"),
            Message::Initialize(reply) => self.initialize(reply),
            Message::Stop { resume, reply } => {
                let result = self.stop(resume).await;
                drop(reply.send(result));
            }
            Message::Terminate { mode, reply } => self.terminate(mode, reply),
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
                self.running = Some(Box::pin(async move {
                    let result = match store.open(&record, progress).await {
                        Ok(opened) => store.update(&record).await.map(|()| (opened, record)),
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
        let next = match self.instance.terminate(mode) {
            Ok(next) => next,
            Err(refusal) => return tell(Some(reply), Err(refusal)),
        };
        if next == self.instance.phase {
            // It was not initialised, so there is nothing to do.
            return tell(Some(reply), Ok(self.view.borrow().clone()));
        }
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
                Done::Closed { result: Ok(record), table, reply }
            }));
            return;
        }
        let ended = Change {
            revision: self.instance.table.revision().next(),
            time: now,
            by: Principal::anonymous(),
            event: SessionEvent::AllEnded,
        };
        self.instance.table.apply(&ended);
        let table = SessionTable::above(self.instance.table.floor());
        let record = InstanceRecord { resting: Resting::Created, updated: now, ..record };
        let mut journal = journal.expect("a phase with sessions has an open journal");
        self.running = Some(Box::pin(async move {
            let closed = async {
                journal.commit(&[ended]).await?;
                store.update(&record).await.map_err(CommitError::Unknown)?;
                journal.close().await.map_err(CommitError::Unknown)
            };
            let result = closed.await.map(|()| record);
            Done::Closed { result, table, reply }
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
    async fn close(&mut self) {
        if let Some(running) = self.running.take() {
            let done = running.await;
            self.finish(done);
        }
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
    fn finish(&mut self, done: Done<S>) {
        match done {
            Done::Opened { result: Ok((opened, record)), reply } => {
                let stopped = record.resting == Resting::Stopped;
                self.journal = Some(opened.journal);
                self.instance.table = opened.table;
                self.instance.record = record;
                self.happened(Event::Opened { stopped });
                tell(reply, Ok(self.view.borrow().clone()));
            }
            Done::Opened { result: Err(error), reply } => {
                let failure = self.fail(error.error, with_causes(&error));
                tell(reply, Err(InitializeRefusal::Failed(failure)));
            }
            Done::Closed { result: Ok(record), table, reply } => {
                self.instance.record = record;
                self.instance.table = table;
                self.happened(Event::Closed);
                tell(Some(reply), Ok(self.view.borrow().clone()));
            }
            Done::Closed { result: Err(error), table: _, reply } => {
                let failure = self.fail(error.jet_err(), with_causes(&error));
                tell(Some(reply), Err(PhaseRefusal::Unavailable(failure).into()));
            }
        }
    }

    /// The store or this program cannot be trusted any more: from now on nothing is acknowledged.
    /// Answers the first cause.
    fn fail(&mut self, error: JetErr, cause: String) -> Failure {
        self.journal = None;
        // What ran beside the inbox may be what panicked; polled again it would panic for ever.
        self.running = None;
        let failure = self.failure(error, cause);
        tracing::error!(
            instance = %self.instance.record.id,
            jet_error = failure.error.code(),
            cause = &*failure.cause,
            "instance failed",
        );
        self.happened(Event::Failed(failure.clone()));
        match &self.instance.phase {
            Phase::Failed(first) => first.clone(),
            Phase::Created
            | Phase::Initializing
            | Phase::Ready
            | Phase::Stopped
            | Phase::Restoring
            | Phase::Terminating => failure,
        }
    }

    fn failure(&self, error: JetErr, cause: String) -> Failure {
        Failure { error, cause: cause.into(), time: self.environment.now() }
    }

    /// Facts are never refused.
    fn happened(&mut self, fact: Event) {
        if let Ok(phase) = self.instance.phase.on(fact) {
            self.enter(phase);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if phase != self.instance.phase {
            tracing::info!(
                instance = %self.instance.record.id,
                from = %self.instance.phase,
                to = %phase,
                "phase changed",
            );
            self.instance.phase = phase;
            self.instance.record.updated = self.environment.now();
        }
        let instance = &self.instance;
        self.view.send_modify(|view| view.enter(instance));
    }
}

/// Waits for what runs beside the inbox; for ever if nothing does.
async fn finished<T>(running: &mut Option<BoxFuture<'static, T>>) -> T {
    match running {
        Some(future) => {
            let done = future.await;
            *running = None;
            done
        }
        None => std::future::pending().await,
    }
}

/// A caller that has gone meanwhile loses its answer and nothing else.
fn tell<R>(reply: Option<Reply<R>>, answer: Result<InstanceView, R>) {
    if let Some(reply) = reply {
        drop(reply.send(answer));
    }
}

/// An error and everything behind it, in one line for an operator.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(line, ": {next}").expect("a String takes everything");
        cause = next.source();
    }
    line
}

/// What to call the cause of a failure that is our own fault.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("the program broke an invariant of its own: {message}")
}
