//! Calls that wait for a session, and how they stop waiting.
//!
//! The owner knows who waits and in which order; how long is the caller's business. It keeps the time on
//! its own task and tells the owner when it is over, and the owner has the last word: a call that was
//! granted meanwhile gets its grant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::domain::call::{Call, QueueLimit, Refused};
use crate::domain::id::InstanceId;
use crate::domain::lifecycle::PhaseRefusal;
use crate::domain::limits::{NOT_SET_BEFORE_DEADLINE_MS, WAITERS_MAX};
use crate::engine::ask::{Asker, MayWait, Outcome, WaiterId, ask};
use crate::engine::owner::{Left, Message};
use crate::engine::{Engine, Handle, Unanswered};

/// How patient a caller is.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long it wants to wait.
    pub wait: Duration,
    /// When its answer must have arrived, if it must.
    pub deadline: Option<Instant>,
    /// What other calls of its connection leave of the calls that may wait there.
    pub room: Option<Arc<Semaphore>>,
}

/// All calls of a server that wait.
#[derive(Debug)]
pub(super) struct Waiting {
    room: Arc<Semaphore>,
    next: AtomicU64,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(WAITERS_MAX)), next: AtomicU64::new(0) }
    }

    /// A place among those that wait, or why there is none.
    fn place(&self, room: Option<&Arc<Semaphore>>) -> Result<Place, QueueLimit> {
        let on_server =
            Arc::clone(&self.room).try_acquire_owned().map_err(|_| QueueLimit::Server)?;
        let on_connection = match room {
            Some(room) => {
                let permit = Arc::clone(room).try_acquire_owned();
                Some(permit.map_err(|_| QueueLimit::Connection)?)
            }
            None => None,
        };
        let id = WaiterId(self.next.fetch_add(1, Ordering::Relaxed));
        Ok(Place { id, _on_server: on_server, _on_connection: on_connection })
    }
}

/// A place among those that wait, given back when it is dropped.
struct Place {
    id: WaiterId,
    _on_server: OwnedSemaphorePermit,
    _on_connection: Option<OwnedSemaphorePermit>,
}

/// A call that may be waiting. If its caller vanishes, the owner is told at once.
struct Present {
    owner: mpsc::Sender<Message>,
    id: WaiterId,
    answered: bool,
    _place: Place,
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (owner, id) = (self.owner.clone(), self.id);
        let leave = async move { drop(owner.send(Message::Leave(id, Left::Gone)).await) };
        // Without a runtime the server is gone, and the owner with it. There is one task at most for
        // each stream that was cancelled.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(leave);
        }
    }
}

impl Engine {
    /// How many calls may be waiting now.
    pub fn waiting(&self) -> usize {
        WAITERS_MAX - self.shared.waiting.room.available_permits()
    }

    /// Asks an instance for a call that may wait for a session, and waits for the answer.
    ///
    /// What was waited for in vain was certainly not done: the answer is the refusal that the call would
    /// get now, or [`Refused::NotSet`] shortly before the deadline.
    pub async fn ask_patiently<C>(
        &self,
        instance: &InstanceId,
        asker: Asker,
        call: C,
        patience: Patience,
    ) -> Result<C::Answer, Unanswered<Refused<C::Refusal>>>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        if patience.wait.is_zero() {
            return self.ask(instance, asker, call).await;
        }
        self.begin_patiently(instance, asker, call, patience).await?.answer().await
    }

    /// As [`ask_patiently`](Self::ask_patiently), in two steps: when the first is over, the call is
    /// before all that are asked later.
    pub(super) async fn begin_patiently<C>(
        &self,
        instance: &InstanceId,
        asker: Asker,
        call: C,
        patience: Patience,
    ) -> Result<Begun<C>, Unanswered<Refused<C::Refusal>>>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        let handle = self.handle(instance)?;
        let todo = self.admit::<C>(&handle, &asker)?;
        let place = self.shared.waiting.place(patience.room.as_ref());
        let may_wait = match &place {
            Ok(place) => MayWait::As(place.id),
            Err(limit) => MayWait::TooMany(*limit),
        };
        let (question, answer) = ask(call, asker, todo, may_wait);
        let sent = handle.owner.send(Message::Call(question)).await.is_ok();
        let present = place.ok().map(|place| Present {
            owner: handle.owner.clone(),
            id: place.id,
            answered: false,
            _place: place,
        });
        Ok(Begun { engine: self.clone(), handle, patience, present, sent, answer })
    }

    /// Waits until there is no point in waiting any more.
    async fn out_of_patience(&self, patience: &Patience) -> Why {
        let early = Duration::from_millis(NOT_SET_BEFORE_DEADLINE_MS);
        let deadline = async {
            match patience.deadline {
                Some(deadline) => {
                    sleep_until(deadline.checked_sub(early).unwrap_or(deadline)).await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.drained() => Why::Draining,
            () = deadline => Why::Deadline,
            () = sleep(patience.wait) => Why::TimedOut,
        }
    }
}

/// A call that has been sent to its owner and may be waiting there.
pub(super) struct Begun<C: Call> {
    engine: Engine,
    handle: Handle,
    patience: Patience,
    /// Absent if it may not wait.
    present: Option<Present>,
    sent: bool,
    answer: oneshot::Receiver<Outcome<C>>,
}

impl<C: Call> Begun<C> {
    /// The answer, which comes as soon as the owner has it or patience is over.
    pub(super) async fn answer(self) -> Result<C::Answer, Unanswered<Refused<C::Refusal>>> {
        let Self { engine, handle, patience, present, sent, mut answer } = self;
        let mut left = None;
        let answer = match present {
            Some(mut present) => {
                let early = tokio::select! {
                    biased;
                    answer = &mut answer => Some(answer),
                    why = engine.out_of_patience(&patience) => {
                        left = Some(why);
                        None
                    }
                };
                let answer = match early {
                    Some(answer) => answer,
                    None => {
                        let why = left.map_or(Left::TimedOut, Why::left);
                        drop(handle.owner.send(Message::Leave(present.id, why)).await);
                        answer.await
                    }
                };
                present.answered = true;
                answer
            }
            None => answer.await,
        };
        match answer {
            Ok(Some(result)) if sent => result.map_err(|refusal| engine.refused(&handle, refusal)),
            Ok(None) if left == Some(Why::Draining) => {
                Err(engine.refused(&handle, PhaseRefusal::Draining.into()))
            }
            Ok(_) | Err(_) => Err(engine.lost(&handle)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    TimedOut,
    Deadline,
    Draining,
}

impl Why {
    fn left(self) -> Left {
        match self {
            Self::TimedOut => Left::TimedOut,
            Self::Deadline => Left::Deadline,
            Self::Draining => Left::Gone,
        }
    }
}
