//! A call on its way to the owner and back.

use tokio::sync::oneshot;

use crate::domain::call::{Call, Refused, Stamp};
use crate::domain::event::Change;
use crate::domain::id::Principal;
use crate::domain::instance::Instance;
use crate::domain::lifecycle::{Admission, Failure, PhaseRefusal};
use crate::domain::time::Timestamp;

/// What a caller gets: nothing if it had gone before the call was decided.
pub(super) type Outcome<C> = Option<Result<<C as Call>::Answer, Refused<<C as Call>::Refusal>>>;

/// A call of whatever kind, as the owner sees it: decided once, answered once.
pub(super) trait Question: Send {
    /// Whether it takes or lets go.
    fn admission(&self) -> Admission;

    /// Whether its caller still waits.
    fn waits(&self) -> bool;

    /// Decides the call, unless nobody waits for it any more.
    fn decide(&mut self, instance: &mut Instance, now: Timestamp, changes: &mut Vec<Change>);

    /// Tells the caller, now that everything the answer rests on is committed, or is lost.
    fn answer(self: Box<Self>, committed: Result<(), &Failure>);
}

/// A call together with the one who waits for it.
struct Ask<C: Call> {
    call: C,
    by: Principal,
    reply: oneshot::Sender<Outcome<C>>,
    outcome: Outcome<C>,
}

/// A question for the owner, and where its answer arrives.
pub(super) fn ask<C>(call: C, by: Principal) -> (Box<dyn Question>, oneshot::Receiver<Outcome<C>>)
where
    C: Call + Send + 'static,
    C::Answer: Send,
    C::Refusal: Send,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Ask { call, by, reply, outcome: None }), answer)
}

impl<C> Question for Ask<C>
where
    C: Call + Send,
    C::Answer: Send,
    C::Refusal: Send,
{
    fn admission(&self) -> Admission {
        C::ADMISSION
    }

    fn waits(&self) -> bool {
        !self.reply.is_closed()
    }

    fn decide(&mut self, instance: &mut Instance, now: Timestamp, changes: &mut Vec<Change>) {
        if self.waits() {
            let stamp = Stamp { now, by: self.by.clone() };
            self.outcome = Some(instance.call(&self.call, &stamp, changes));
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), &Failure>) {
        let outcome = match committed {
            Ok(()) => self.outcome,
            Err(failure) => Some(Err(PhaseRefusal::Unavailable(failure.clone()).into())),
        };
        // A caller that has gone meanwhile loses its answer and nothing else.
        drop(self.reply.send(outcome));
    }
}
