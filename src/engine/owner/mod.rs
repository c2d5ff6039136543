//! The owner of an instance: the only task that knows its state.
//!
//! It has one inbox. What waits there is decided in order; the changes of consecutive calls make one
//! batch, which is committed before any of those calls is answered. Opening and closing the store
//! take long, so they run beside the inbox, and meanwhile calls are refused by the phase.
//!
//! A full disk is met in good order, as far as the reserve of the journal allows. In a turn that finds
//! no room, calls that let go and calls on the instance are decided and committed as ever. A call that
//! would take something waits until they are answered. Then the journal is closed, the instance has
//! failed because of the full disk, and that is the answer: so only a failed instance ever says that
//! the disk is full, nothing is taken on a full disk, and whoever lets go before the first who takes
//! can still do so.
//!
//! - `backup`: backups taken, and backups read in
//! - `batch`: calls decided, committed and answered together
//! - `leases`: the clock of the instance, and threads that are no more
//! - `lifecycle`: what moves the instance from phase to phase
//! - `watch`: what those who watch sessions need of the owner
//! - `repeat`: calls on the instance that come again
//! - `waiting`: calls that wait, and who gets what is free

mod backup;
mod batch;
mod leases;
mod lifecycle;
mod repeat;
mod waiting;
mod watch;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch as watch_channel;
use tokio::sync::{mpsc, oneshot};

use crate::domain::backup::{BackupRefusal, RestoreRefusal};
use crate::domain::instance::{InitializeRefusal, Instance, TerminateMode, TerminateRefusal};
use crate::domain::jet_err::JetErr;
use crate::domain::lifecycle::{Admission, Event, Failure, Phase, PhaseRefusal};
use crate::domain::limits::BATCH_CALLS_MAX;

use crate::domain::time::Timestamp;
use crate::engine::ask::{Asker, Question, WaiterId};
use crate::engine::backup::{Begun, Upload};
use crate::engine::meter::{Meter, Published};
use crate::engine::owner::batch::Batch;
use crate::engine::owner::leases::{Clock, Expiry, lease_time};
use crate::engine::owner::lifecycle::Done;
use crate::engine::owner::repeat::Twins;
use crate::engine::owner::waiting::Parked;
use crate::engine::sessions::Look;
use crate::engine::sessions::ring::Ring;
use crate::engine::watch::{InstanceView, Pulse};
use crate::engine::{Environment, Unanswered, registrar};
use crate::store::{CommitError, Journal, Store, with_causes};

/// What an owner can be asked.
pub(super) enum Message {
    /// A call of the contract on sessions.
    Call(Box<dyn Question>),
    /// Calls in the order in which they are to be decided.
    Calls(Vec<Box<dyn Question>>),
    /// A call waits no longer.
    Leave(WaiterId, Left),
    /// Somebody who watches sessions needs something.
    Look(Look),
    /// `JetInit3`. Nobody waits when the server itself asks at its start.
    Initialize(Option<(Asker, Reply<InitializeRefusal>)>),
    /// `JetStopServiceInstance2`, or the way back.
    Stop { resume: bool, asker: Asker, reply: Reply<PhaseRefusal> },
    /// `JetTerm2`.
    Terminate { mode: TerminateMode, asker: Asker, reply: Reply<TerminateRefusal> },
    /// `JetBackupInstance`.
    Backup(oneshot::Sender<Result<Begun, Unanswered<BackupRefusal>>>),
    /// `JetRestoreInstance`. The upload answers when it is over.
    Restore {
        reply: oneshot::Sender<Result<Upload, Unanswered<RestoreRefusal>>>,
        registrar: mpsc::Sender<registrar::Message>,
        draining: watch_channel::Receiver<bool>,
    },
    /// Forget the instance; answers the floor above all numbers ever used.
    Delete(Asker, oneshot::Sender<Result<Deleted, Unanswered<PhaseRefusal>>>),
    /// End in good order; the server goes down.
    Close(oneshot::Sender<()>),
}

pub(super) use lifecycle::Deleted;
pub(super) use repeat::answered;
pub(super) use waiting::Left;

/// How a lifecycle call is answered.
type Reply<R> = oneshot::Sender<Result<InstanceView, Unanswered<R>>>;

/// Whether the owner goes on after a message.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// Who is told what the owner does, for nothing but to count it.
pub(super) struct Told {
    pub(super) meter: Arc<dyn Meter>,
    pub(super) published: Arc<Published>,
}

/// The task that owns one instance.
pub(super) struct Owner<S: Store> {
    store: Arc<S>,
    environment: Arc<dyn Environment>,
    told: Told,
    instance: Instance,
    /// Open exactly in the phases that decide calls.
    journal: Option<S::Journal>,
    view: Arc<watch_channel::Sender<InstanceView>>,
    pulse: Arc<Pulse>,
    ring: Arc<Ring>,
    parked: Parked,
    clock: Clock,
    expiry: Expiry,
    running: Option<BoxFuture<'static, Done<S>>>,
    /// Those whose call is the one that runs, made once more.
    twins: Twins,
    /// Tells whoever takes a backup why it ends before its end.
    backup: Option<oneshot::Sender<PhaseRefusal>>,
}

/// What an owner has taken from its inbox. It outlives a panic, so that nobody is forgotten.
#[derive(Default)]
struct Waiting {
    received: Vec<Message>,
    messages: VecDeque<Message>,
    batch: Batch,
    /// Calls that would take something while there is no room for it.
    takers: Vec<Box<dyn Question>>,
}

impl<S: Store> Owner<S> {
    /// The owner of an instance that is not initialised, and what the instance looks like.
    pub(super) fn new(
        store: Arc<S>,
        environment: Arc<dyn Environment>,
        told: Told,
        instance: Instance,
        ring: Arc<Ring>,
        pulse: Arc<Pulse>,
    ) -> (Self, watch_channel::Receiver<InstanceView>) {
        let (view, seen) = watch_channel::channel(InstanceView::of(&instance));
        let view = Arc::new(view);
        let owner = Self {
            store,
            environment,
            told,
            instance,
            journal: None,
            view,
            pulse,
            ring,
            parked: Parked::default(),
            clock: Clock::default(),
            expiry: Expiry::default(),
            running: None,
            twins: Twins::default(),
            backup: None,
        };
        (owner, seen)
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
                    self.told.meter.panicked();
                    let failure = self.fail(JetErr::InternalError, panic_message(&*panic));
                    waiting.batch.answer(Err(&failure));
                    refuse(&mut waiting.takers, &failure);
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
        let lease_work = self.lease_work_in();
        tokio::select! {
            biased;
            done = finished(&mut self.running) => {
                self.finish(done);
                Then::GoOn
            }
            error = failed(&mut self.journal) => {
                self.fail(error.jet_err(), with_causes(&error));
                Then::GoOn
            }
            count = inbox.recv_many(&mut waiting.received, BATCH_CALLS_MAX) => {
                if count == 0 { Then::End } else { self.take(waiting).await }
            }
            () = lease_time(lease_work) => {
                self.lease_work(&mut waiting.batch).await;
                Then::GoOn
            }
        }
    }

    /// Does everything that waits, in order. Calls that follow each other share a batch.
    async fn take(&mut self, waiting: &mut Waiting) -> Then {
        let Waiting { received, messages, batch, takers } = waiting;
        for message in received.drain(..) {
            if let Message::Calls(questions) = message {
                messages.extend(questions.into_iter().map(Message::Call));
            } else {
                messages.push_back(message);
            }
        }
        let now = self.now();
        let mut no_room = None;
        loop {
            // Asked before a message is taken out, so that a panic loses none.
            if no_room.is_none() && batch.is_empty() && !messages.is_empty() {
                no_room = self.make_room().await.err();
            }
            match messages.pop_front() {
                None => break,
                Some(Message::Call(question)) => {
                    if no_room.is_some() && self.would_take(&*question) {
                        takers.push(question);
                        continue;
                    }
                    batch.decide(question, &mut self.instance, &mut self.parked, now);
                }
                Some(Message::Leave(id, why)) => self.leave(id, why, batch, now),
                Some(message) => {
                    self.commit(batch).await;
                    if self.lifecycle(message).await == Then::End {
                        return Then::End;
                    }
                }
            }
            if batch.is_full() {
                self.commit(batch).await;
            }
        }
        self.commit(batch).await;
        if let Some(error) = no_room {
            self.refuse_takers(takers, &error, batch).await;
        }
        // However many calls there are, leases have their turn.
        self.lease_work(batch).await;
        Then::GoOn
    }

    /// The store or this program cannot be trusted any more: from now on nothing is acknowledged.
    /// Answers the first cause.
    fn fail(&mut self, error: JetErr, cause: String) -> Failure {
        self.journal = None;
        if self.instance.phase != Phase::Restoring {
            // What ran beside the inbox may be what panicked; polled again it would panic for ever. A
            // restore sees to its own panics, and only its end leads out of its phase.
            self.running = None;
            self.twins = Twins::default();
        }
        let failure = self.failure(error, cause);
        tracing::error!(
            instance = %self.instance.record.id,
            jet_error = failure.error.code(),
            cause = &*failure.cause,
            "instance failed",
        );
        self.happened(Event::Failed(failure.clone()));
        match &self.instance.phase {
            Phase::Failed(first) => {
                let first = first.clone();
                self.end_backup(PhaseRefusal::Unavailable(first.clone()));
                first
            }
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
        self.happened_at(fact, self.environment.now());
    }

    fn happened_at(&mut self, fact: Event, at: Timestamp) {
        if let Ok(phase) = self.instance.phase.on(fact) {
            self.enter_at(phase, at);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.enter_at(phase, self.environment.now());
    }

    fn enter_at(&mut self, phase: Phase, at: Timestamp) {
        if phase != self.instance.phase {
            tracing::info!(
                instance = %self.instance.record.id,
                from = %self.instance.phase,
                to = %phase,
                "phase changed",
            );
            self.instance.phase = phase;
            self.instance.record.updated = at;
            if self.instance.phase.admit(Admission::Takes).is_err() {
                self.tell_waiters();
            }
        }
        let instance = &self.instance;
        self.view.send_modify(|view| view.enter(instance));
        self.ring.enter(&instance.phase);
        self.told.published.publish(instance);
    }
}

/// Answers calls that are not decided any more.
fn refuse(questions: &mut Vec<Box<dyn Question>>, failure: &Failure) {
    for question in questions.drain(..) {
        question.answer(Err(failure));
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

/// Waits for a journal that fails beside a commit; for ever if none is open.
async fn failed<J: Journal>(journal: &mut Option<J>) -> CommitError {
    match journal {
        Some(journal) => journal.failed().await,
        None => std::future::pending().await,
    }
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
