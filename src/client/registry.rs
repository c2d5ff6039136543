//! The threads that a client has declared, what they hold, and when they were renewed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::id::{SessionName, ThreadId};

use super::clock::now;
use super::loss::{Held, Loss, LossCause};

/// All threads that some part of the program has a handle of. It is as large as the program makes it.
#[derive(Debug)]
pub(super) struct Registry {
    ttl: Option<Duration>,
    threads: Mutex<BTreeMap<ThreadId, Weak<Declared>>>,
}

/// One declared thread. All handles of a thread id share it.
#[derive(Debug)]
pub(super) struct Declared {
    id: ThreadId,
    ttl: Option<Duration>,
    /// When the newest heartbeat was sent that succeeded.
    renewed: watch::Sender<Option<Instant>>,
    held: Mutex<BTreeMap<(SessionName, u64), Arc<Held>>>,
    registry: Weak<Registry>,
}

impl Registry {
    pub(super) fn new(ttl: Option<Duration>) -> Self {
        Self { ttl, threads: Mutex::default() }
    }

    /// The thread of this id; the same one for everybody who asks while somebody has it.
    pub(super) fn declare(self: &Arc<Self>, id: ThreadId) -> Arc<Declared> {
        let mut threads = lock(&self.threads);
        if let Some(known) = threads.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Declared {
            id: id.clone(),
            ttl: self.ttl,
            renewed: watch::Sender::new(None),
            held: Mutex::default(),
            registry: Arc::downgrade(self),
        });
        threads.insert(id, Arc::downgrade(&new));
        new
    }

    /// All threads that somebody has, by their ids.
    pub(super) fn all(&self) -> Vec<Arc<Declared>> {
        lock(&self.threads).values().filter_map(Weak::upgrade).collect()
    }

    fn forget(&self, gone: &Declared) {
        let mut threads = lock(&self.threads);
        // Somebody may have declared the id anew meanwhile.
        if threads.get(&gone.id).is_some_and(|entry| entry.strong_count() == 0) {
            threads.remove(&gone.id);
        }
    }
}

impl Declared {
    pub(super) fn id(&self) -> &ThreadId {
        &self.id
    }

    /// The thread holds this from now on.
    pub(super) fn take(&self, held: Arc<Held>) {
        lock(&self.held).insert((held.session.clone(), held.token), held);
    }

    /// The thread does not hold this any more.
    pub(super) fn let_go(&self, held: &Held) {
        lock(&self.held).remove(&(held.session.clone(), held.token));
    }

    /// The thread holds nothing any more: it has ended.
    pub(super) fn end(&self) {
        for held in lock(&self.held).values() {
            held.lose(Loss::of(LossCause::Released));
        }
    }

    /// What it holds of this session under this token.
    pub(super) fn holding(&self, session: &SessionName, token: u64) -> Option<Arc<Held>> {
        lock(&self.held).get(&(session.clone(), token)).cloned()
    }

    /// A heartbeat that was sent at `sent` has succeeded. What had been given up by then stays lost.
    pub(super) fn renew(&self, sent: Instant) {
        let held: Vec<Arc<Held>> = lock(&self.held).values().cloned().collect();
        for held in held {
            self.loss_of(&held);
        }
        self.renewed
            .send_modify(|renewed| *renewed = Some(renewed.map_or(sent, |at| at.max(sent))));
    }

    /// Told whenever it is renewed.
    pub(super) fn renewals(&self) -> watch::Receiver<Option<Instant>> {
        self.renewed.subscribe()
    }

    /// Until when the session is certainly held; `None` without a lease.
    pub(super) fn good_until(&self, held: &Held) -> Option<Instant> {
        self.ttl.map(|ttl| held.good_until(*self.renewed.borrow(), ttl))
    }

    /// Whether the session is lost, by all that is known now. Reads the clock, so that a process that was
    /// stopped learns of it before it does anything else.
    pub(super) fn loss_of(&self, held: &Held) -> Option<Loss> {
        if self.good_until(held).is_some_and(|until| until <= now()) {
            held.lose(Loss::of(LossCause::NotRenewed));
        }
        held.known_loss()
    }
}

impl Drop for Declared {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(self);
        }
    }
}

/// Nothing here can panic halfway: a poisoned lock guards whole data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
