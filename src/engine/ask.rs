//! A call on its way to the owner and back.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::call::{Call, QueueLimit, Refused, Stamp};
use crate::domain::event::Batch;
use crate::domain::id::Principal;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::{Admission, Failure, PhaseRefusal};
use crate::domain::queue::Waiter;
use crate::domain::request::{Request, RequestId};
use crate::domain::time::{Served, Timestamp};

/// Who asks, and as which call of theirs.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The authenticated caller.
    pub by: Principal,
    /// What the caller calls this call, if it may make it again.
    pub request: Option<Request>,
}

impl Asker {
    /// Somebody who would not ask the same again.
    pub fn once(by: Principal) -> Self {
        Self { by, request: None }
    }
}

/// What a caller gets: nothing if the call was not decided, because its caller had gone or left.
pub(super) type Outcome<C> = Option<Result<<C as Call>::Answer, Refused<<C as Call>::Refusal>>>;

/// What time it is, on both clocks that calls are decided by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    pub(super) time: Timestamp,
    pub(super) served: Served,
}

/// What the owner knows a waiting call by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WaiterId(pub(super) u64);

/// Whether a call may wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum MayWait {
    /// It does not want to.
    No,
    /// Under this name.
    As(WaiterId),
    /// It wants to, and too many do.
    TooMany(QueueLimit),
}

/// What is to be done about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Todo {
    /// It is decided, unless it was answered before.
    Decide,
    /// It is only answered if it was answered before: the server is going down and takes nothing more.
    Recall,
}

/// What became of a call that was decided.
pub(super) enum Verdict {
    /// It has its answer, which waits for the commit.
    Decided,
    /// It waits.
    Waits(WaiterId, Waiter),
}

/// A call of whatever kind, as the owner sees it: decided until it need not wait, answered once.
pub(super) trait Question: Send {
    /// Whether it takes or lets go.
    fn admission(&self) -> Admission;

    /// Whether its caller is still there.
    fn waits(&self) -> bool;

    /// Whose request it is.
    fn request(&self) -> Option<(&Principal, &RequestId)>;

    /// Decides the call, unless its caller has gone. One that waits can be decided again.
    fn decide(&mut self, instance: &mut Instance, now: Now, batch: &mut Batch) -> Verdict;

    /// Gives the call the answer of one that has just been decided and has the effect it waited for.
    fn adopt(&mut self, instance: &mut Instance, now: Now, batch: &mut Batch);

    /// It has not been decided and is not to be: its deadline came.
    fn not_set(&mut self);

    /// It has not been decided and is not to be, for a reason that its caller knows.
    fn leave(&mut self);

    /// Tells the caller, now that everything the answer rests on is committed, or is lost.
    fn answer(self: Box<Self>, committed: Result<(), &Failure>);
}

/// Where an answer goes.
pub(super) trait Reply<C: Call>: Send {
    /// Whether nobody is there to take it any more.
    fn is_closed(&self) -> bool;

    /// Gives it. A caller that has gone loses its answer and nothing else.
    fn send(self, outcome: Outcome<C>);
}

impl<C: Call> Reply<C> for oneshot::Sender<Outcome<C>>
where
    C::Answer: Send,
    C::Refusal: Send,
{
    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn send(self, outcome: Outcome<C>) {
        drop(self.send(outcome));
    }
}

/// A call together with the one who waits for it.
struct Ask<C: Call, R> {
    call: C,
    asker: Asker,
    todo: Todo,
    may_wait: MayWait,
    /// How long the lease of its thread was when it began to wait.
    waited_under: Option<Duration>,
    reply: R,
    outcome: Outcome<C>,
}

/// A question for the owner, and where its answer arrives.
pub(super) fn ask<C>(
    call: C,
    asker: Asker,
    todo: Todo,
    may_wait: MayWait,
) -> (Box<dyn Question>, oneshot::Receiver<Outcome<C>>)
where
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
{
    let (reply, answer) = oneshot::channel();
    (question(call, asker, todo, may_wait, reply), answer)
}

/// A question for the owner, whose answer goes there.
pub(super) fn question<C, R>(
    call: C,
    asker: Asker,
    todo: Todo,
    may_wait: MayWait,
    reply: R,
) -> Box<dyn Question>
where
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
    R: Reply<C> + 'static,
{
    Box::new(Ask { call, asker, todo, may_wait, waited_under: None, reply, outcome: None })
}

impl<C: Call, R> Ask<C, R> {
    fn stamp(&self, now: Now) -> Stamp {
        let Asker { by, request } = self.asker.clone();
        let waited_under = self.waited_under;
        Stamp { now: now.time, served: now.served, by, request, waited_under }
    }
}

impl<C, R> Question for Ask<C, R>
where
    C: Call + Send,
    C::Answer: Send,
    C::Refusal: Send,
    R: Reply<C>,
{
    fn admission(&self) -> Admission {
        C::ADMISSION
    }

    fn waits(&self) -> bool {
        !self.reply.is_closed()
    }

    fn request(&self) -> Option<(&Principal, &RequestId)> {
        self.asker.request.as_ref().map(|request| (&self.asker.by, &request.id))
    }

    fn decide(&mut self, instance: &mut Instance, now: Now, batch: &mut Batch) -> Verdict {
        if !self.waits() {
            return Verdict::Decided;
        }
        let stamp = self.stamp(now);
        let result = match self.todo {
            Todo::Decide => instance.call(&self.call, &stamp, batch),
            Todo::Recall => instance.recall::<C>(&stamp),
        };
        let waiter = match &result {
            Err(Refused::Call(refusal)) => self.call.waiter(refusal, &stamp),
            Ok(_) | Err(_) => None,
        };
        self.outcome = Some(result);
        match (waiter, self.may_wait) {
            (None, _) | (Some(_), MayWait::No) => Verdict::Decided,
            (Some(waiter), MayWait::As(id)) => match instance.queue.room_for(&waiter.awaited) {
                Ok(()) => {
                    let lease = instance.deadlines.get(&waiter.owner).map(|deadline| deadline.ttl);
                    self.waited_under = self.waited_under.or(lease);
                    Verdict::Waits(id, waiter)
                }
                Err(limit) => {
                    self.outcome = Some(Err(Refused::QueueFull(limit)));
                    Verdict::Decided
                }
            },
            (Some(_), MayWait::TooMany(limit)) => {
                self.outcome = Some(Err(Refused::QueueFull(limit)));
                Verdict::Decided
            }
        }
    }

    fn adopt(&mut self, instance: &mut Instance, now: Now, batch: &mut Batch) {
        let stamp = self.stamp(now);
        let answer = self.call.answer(instance, &stamp);
        instance.remember(&answer, &stamp, batch);
        self.outcome = Some(Ok(answer));
    }

    fn not_set(&mut self) {
        self.outcome = Some(Err(Refused::NotSet));
    }

    fn leave(&mut self) {
        self.outcome = None;
    }

    fn answer(self: Box<Self>, committed: Result<(), &Failure>) {
        let outcome = match committed {
            Ok(()) => self.outcome,
            Err(failure) => Some(Err(PhaseRefusal::Unavailable(failure.clone()).into())),
        };
        self.reply.send(outcome);
    }
}
