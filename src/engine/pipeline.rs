//! Many calls of one client, sent together and answered as they are decided.
//!
//! A call of a pipeline is a question like any other: its owner decides it in the same batch, by the same
//! code, and sees no difference. What differs is the way there and back. Calls of one message travel
//! together, and their answers are put on a *tray* that their client empties when it comes to it, so that
//! a batch wakes it once.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use crate::domain::call::{Call, Refused};
use crate::domain::id::InstanceId;
use crate::engine::ask::{Asker, MayWait, Outcome, Question, Reply, question};
use crate::engine::owner::Message;
use crate::engine::patience::Patience;
use crate::engine::{Engine, Handle, Unanswered};

/// What a call of a pipeline is answered.
pub type Answered<C> = Result<<C as Call>::Answer, Unanswered<Refused<<C as Call>::Refusal>>>;

/// Where answers arrive, in the order in which they are given.
pub struct Tray<T> {
    answers: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T> fmt::Debug for Tray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tray")
    }
}

impl<T> Default for Tray<T> {
    fn default() -> Self {
        Self { answers: Mutex::default(), arrived: Notify::new() }
    }
}

impl<T> Tray<T> {
    /// Puts an answer there.
    pub fn put(&self, answer: T) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer);
        if answers.len() == 1 {
            self.arrived.notify_one();
        }
    }

    /// Takes everything that is there into `into`, whose room the tray keeps for later.
    pub fn take(&self, into: &mut Vec<T>) {
        into.clear();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *answers, into);
    }

    /// Waits until something is there. May come back once too often.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

/// The way to an instance and back to a tray.
struct Route<T> {
    engine: Engine,
    handle: Handle,
    /// Gone when the client is.
    tray: Weak<Tray<T>>,
}

/// Calls on one instance that are sent together.
pub struct Calls<T> {
    tray: Arc<Tray<T>>,
    to: Option<(InstanceId, Arc<Route<T>>)>,
    questions: Vec<Box<dyn Question>>,
}

impl<T> fmt::Debug for Calls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calls({})", self.questions.len())
    }
}

impl<T: Send + 'static> Calls<T> {
    /// Calls whose answers are put on this tray. Whoever holds it is their client: when it is dropped,
    /// those that are not yet decided never will be.
    pub fn new(tray: &Arc<Tray<T>>) -> Self {
        Self { tray: Arc::clone(tray), to: None, questions: Vec::new() }
    }

    /// Adds a call to those that are sent together. What it is answered, `made` into whatever the tray
    /// takes, arrives there.
    ///
    /// The order in which calls are added is the order in which an instance decides them.
    pub async fn add<C>(
        &mut self,
        engine: &Engine,
        instance: &InstanceId,
        asker: Asker,
        call: C,
        made: impl FnOnce(Answered<C>) -> T + Send + 'static,
    ) where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        if self.to.as_ref().is_none_or(|(id, _)| id != instance) {
            self.send().await;
            match engine.handle(instance) {
                Ok(handle) => {
                    let (engine, tray) = (engine.clone(), Arc::downgrade(&self.tray));
                    self.to = Some((instance.clone(), Arc::new(Route { engine, handle, tray })));
                }
                Err(unanswered) => return self.tray.put(made(Err(unanswered))),
            }
        }
        let Some((_, route)) = &self.to else {
            return;
        };
        let todo = match engine.admit::<C>(&route.handle, &asker) {
            Ok(todo) => todo,
            Err(refusal) => return self.tray.put(made(Err(refusal))),
        };
        let place = Place { route: Arc::clone(route), made: Some(made), call: PhantomData };
        self.questions.push(question(call, asker, todo, MayWait::No, place));
    }

    /// Sends the calls that have been added.
    pub async fn send(&mut self) {
        let questions = std::mem::take(&mut self.questions);
        if let Some((_, route)) = &self.to
            && !questions.is_empty()
        {
            // An owner that is gone drops them, and each then puts that on its tray.
            drop(route.handle.owner.send(Message::Calls(questions)).await);
        }
    }

    /// Asks for a call that may wait, after those that have been added before. When this is over, the
    /// call is before all that are added later; its answer is what the future in it gives.
    pub async fn add_patiently<C>(
        &mut self,
        engine: &Engine,
        instance: &InstanceId,
        asker: Asker,
        call: C,
        patience: Patience,
    ) -> impl Future<Output = Answered<C>> + Send + use<C, T>
    where
        C: Call + Send + 'static,
        C::Answer: Send,
        C::Refusal: Send,
    {
        self.send().await;
        let begun = engine.begin_patiently(instance, asker, call, patience).await;
        async move { begun?.answer().await }
    }
}

/// A call's place on a tray. However the call ends, its place is filled.
struct Place<C, T, F>
where
    C: Call,
    F: FnOnce(Answered<C>) -> T,
{
    route: Arc<Route<T>>,
    made: Option<F>,
    call: PhantomData<fn(C)>,
}

impl<C, T, F> Place<C, T, F>
where
    C: Call,
    F: FnOnce(Answered<C>) -> T,
{
    fn fill(&mut self, answered: impl FnOnce(&Route<T>) -> Answered<C>) {
        if let Some(made) = self.made.take()
            && let Some(tray) = self.route.tray.upgrade()
        {
            tray.put(made(answered(&self.route)));
        }
    }
}

impl<C, T, F> Reply<C> for Place<C, T, F>
where
    C: Call + Send,
    C::Answer: Send,
    C::Refusal: Send,
    T: Send,
    F: FnOnce(Answered<C>) -> T + Send,
{
    fn is_closed(&self) -> bool {
        self.route.tray.strong_count() == 0
    }

    fn send(mut self, outcome: Outcome<C>) {
        self.fill(|route| match outcome {
            Some(result) => result.map_err(|refusal| route.engine.refused(&route.handle, refusal)),
            None => Err(route.engine.lost(&route.handle)),
        });
    }
}

impl<C, T, F> Drop for Place<C, T, F>
where
    C: Call,
    F: FnOnce(Answered<C>) -> T,
{
    fn drop(&mut self) {
        self.fill(|route| Err(route.engine.lost(&route.handle)));
    }
}
