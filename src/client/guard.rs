//! A session that is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::{Instant, sleep_until};

use crate::domain::id::{SessionName, ThreadId};
use crate::proto::api;

use super::error::Error;
use super::fence::Ticket;
use super::loss::{Held, Loss, LossCause};
use super::thread::Thread;

/// A session whose context this thread has set, with the token to prove it.
///
/// [`release`](Guard::release) lets go of it and says how that went. A guard that is dropped lets go in
/// the background, on the runtime that it is dropped in.
///
/// Holding a guard is no proof of holding the session: leases expire, operators intervene, processes are
/// stopped for minutes and do not notice. Await [`lost`](Guard::lost) beside the work to learn of it
/// soon, and give the [token](Guard::token) to whatever the session guards, so that it can turn away who
/// has not learned of it yet ([`fence`](super::fence)).
#[derive(Debug)]
#[must_use = "a guard that is dropped lets go of its session"]
pub struct Guard {
    thread: Thread,
    held: Arc<Held>,
    abandoned: bool,
    context: u64,
    /// Nothing is left to reset.
    settled: AtomicBool,
}

impl Guard {
    pub(super) fn new(
        thread: Thread,
        session: SessionName,
        token: u64,
        since: Instant,
        abandoned: bool,
        context: u64,
    ) -> Self {
        let held = Arc::new(Held::new(session, token, since));
        thread.declared().take(Arc::clone(&held));
        Self { thread, held, abandoned, context, settled: AtomicBool::new(false) }
    }

    /// The session.
    pub fn session(&self) -> &SessionName {
        &self.held.session
    }

    /// The fencing token: larger than every token before it, of whatever session of the instance.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// The word that is set.
    pub fn context(&self) -> u64 {
        self.context
    }

    /// The thread that holds it.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Whether the last holder was cut off: its work may be half done, and its transaction still open.
    pub fn abandoned(&self) -> bool {
        self.abandoned
    }

    /// Lets go of the session; answers the revision of that. Any token but this one's is left alone.
    pub async fn release(self) -> Result<u64, Error> {
        let outcome = self.thread.reset(self.session(), self.token()).await;
        match &outcome {
            Ok(_) => self.settle(Loss::of(LossCause::Released)),
            Err(error) => self.learn(error),
        }
        // What is still open then is tried once more in the background, by being dropped.
        outcome
    }

    /// Hands the session over to another thread of the same principal, without a moment in which it is
    /// free; answers the successor's token. The guard holds nothing then. If it fails, it still does.
    ///
    /// The successor makes a guard of its own with [`Thread::adopt`], or waits in [`Thread::bind`] with
    /// the same word.
    pub async fn transfer_to(&self, successor: &ThreadId) -> Result<u64, Error> {
        self.transfer_to_principal(successor, "").await
    }

    /// Hands the session over to a thread of another principal.
    pub async fn transfer_to_principal(
        &self,
        successor: &ThreadId,
        principal: &str,
    ) -> Result<u64, Error> {
        let (session, token) = (self.session(), self.token());
        let outcome = self.thread.transfer(session, token, successor, principal).await;
        match &outcome {
            Ok(_) => self.settle(Loss::of(LossCause::Transferred)),
            Err(error) => self.learn(error),
        }
        outcome
    }

    /// Asks the server whether the session is still held; answers the session.
    pub async fn check(&self) -> Result<api::Session, Error> {
        let outcome = self.thread.check(self.session(), self.token()).await;
        if let Err(error) = &outcome {
            self.learn(error);
        }
        outcome
    }

    /// Begins a transaction, or one more level of it; answers the level.
    pub async fn begin_transaction(&self) -> Result<i32, Error> {
        self.thread.begin_transaction(self.session()).await
    }

    /// Commits the innermost level; answers the level then.
    pub async fn commit_transaction(&self) -> Result<i32, Error> {
        self.thread.commit_transaction(self.session()).await
    }

    /// Rolls the innermost level back, or all of them; answers the level then.
    pub async fn rollback_transaction(&self, all_levels: bool) -> Result<i32, Error> {
        self.thread.rollback_transaction(self.session(), all_levels).await
    }

    /// What a guarded resource needs to tell this holder from an earlier one: the token, and the instance
    /// whose tokens it can be compared with. Asks the server for the latter.
    pub async fn ticket(&self) -> Result<Ticket, Error> {
        let instance = self.thread.client().get_instance(&self.session().instance).await?;
        Ok(Ticket::new(instance.uid, self.session().clone(), self.token()))
    }

    /// Whether the session is lost, by all that is known here and now. Asks nobody, but reads the clock:
    /// a process that was stopped too long learns of it at once.
    pub fn loss(&self) -> Option<Loss> {
        self.thread.declared().loss_of(&self.held)
    }

    /// Resolves when the session is lost, and says why. It can be awaited beside the work, or be given to
    /// another task; without a lease it knows only of losses that a call of this guard has met.
    ///
    /// ```
    /// # use jet_session::client::{Guard, Loss};
    /// # async fn work() {}
    /// async fn careful(guard: &Guard) -> Result<(), Loss> {
    ///     tokio::select! {
    ///         () = work() => Ok(()),
    ///         loss = guard.lost() => Err(loss),
    ///     }
    /// }
    /// ```
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + use<> {
        let (declared, held) = (Arc::clone(self.thread.declared()), Arc::clone(&self.held));
        async move {
            let (mut losses, mut renewals) = (held.losses(), declared.renewals());
            loop {
                losses.mark_unchanged();
                renewals.mark_unchanged();
                if let Some(loss) = declared.loss_of(&held) {
                    return loss;
                }
                let until = declared.good_until(&held);
                let too_late = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                };
                // Neither sender ends: both are held here.
                tokio::select! {
                    _ = losses.changed() => {}
                    _ = renewals.changed() => {}
                    () = too_late => {}
                }
            }
        }
    }

    pub(super) fn good_until(&self) -> Option<Instant> {
        self.thread.declared().good_until(&self.held)
    }

    /// Draws the conclusion from a refusal of a call of this guard.
    fn learn(&self, error: &Error) {
        if let Some(loss) = Loss::explained(error) {
            self.settle(loss);
        }
    }

    /// Nothing is left to reset.
    fn settle(&self, why: Loss) {
        self.settled.store(true, Ordering::Relaxed);
        self.held.lose(why);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let told = self.held.known_loss();
        self.held.lose(Loss::of(LossCause::Released));
        self.thread.declared().let_go(&self.held);
        // Where only our own clock gave up, the server may still keep the session for us.
        let gone = told.is_some_and(|loss| loss.cause != LossCause::NotRenewed);
        if gone || self.settled.load(Ordering::Relaxed) {
            return;
        }
        let (thread, held) = (self.thread.clone(), Arc::clone(&self.held));
        self.thread.client().background().owe("the reset of a dropped guard", async move {
            if let Err(error) = thread.reset(&held.session, held.token).await {
                tracing::warn!(session = %held.session, %error, "a dropped guard could not reset its session");
            }
        });
    }
}
