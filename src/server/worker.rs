//! The threads that serve connections, each with a single-threaded runtime of its own.
//!
//! The first worker is the main thread, where the owners of instances live too: with one worker no call
//! ever crosses to another thread.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::domain::limits::ACCEPTED_QUEUE_MAX;
use crate::server::connection::{Admitted, Serving};
use crate::server::{ServerError, runtime};

/// All workers.
pub(super) struct Workers {
    /// What every worker needs to serve a connection.
    work: Work,
    /// The workers beside the main thread.
    others: Vec<mpsc::Sender<Admitted>>,
    next: AtomicUsize,
    draining: watch::Sender<bool>,
    /// Closed when the last connection has been served.
    working: mpsc::Receiver<()>,
}

/// What a connection needs; the end of its last copy is the end of the last connection.
#[derive(Clone)]
struct Work {
    serving: Serving,
    drain: watch::Receiver<bool>,
    _done: mpsc::Sender<()>,
}

impl Workers {
    /// Starts `count` workers; the calling thread is the first of them.
    pub(super) fn start(count: NonZeroUsize, serving: Serving) -> Result<Self, ServerError> {
        let (draining, drain) = watch::channel(false);
        let (done, working) = mpsc::channel(1);
        let work = Work { serving, drain, _done: done };
        let mut others = Vec::with_capacity(count.get() - 1);
        for number in 1..count.get() {
            let (inbox, accepted) = mpsc::channel(ACCEPTED_QUEUE_MAX);
            let runtime = runtime()?;
            let work = work.clone();
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(work.until_none_comes(accepted)))
                .map_err(ServerError::Runtime)?;
            others.push(inbox);
        }
        Ok(Self { work, others, next: AtomicUsize::new(0), draining, working })
    }

    /// Hands a connection to the next worker in turn.
    pub(super) async fn serve(&self, connection: Admitted) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        match turn.checked_sub(1) {
            None => drop(tokio::spawn(self.work.clone().serve(connection))),
            Some(other) => {
                if self.others[other].send(connection).await.is_err() {
                    tracing::error!(worker = turn, "a worker is gone; its connection is dropped");
                }
            }
        }
    }

    /// Lets every connection end its calls in flight, and waits until all have.
    pub(super) async fn drain(self) {
        let Self { work, others, next: _, draining, mut working } = self;
        draining.send_replace(true);
        drop((work, others));
        // Nothing is ever sent; it ends when the last connection drops its sender.
        working.recv().await;
    }
}

impl Work {
    async fn serve(self, connection: Admitted) {
        self.serving.serve(connection, self.drain).await;
    }

    /// Serves connections until no more can come and all are done.
    async fn until_none_comes(self, mut accepted: mpsc::Receiver<Admitted>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                connection = accepted.recv() => match connection {
                    Some(connection) => {
                        connections.spawn(self.clone().serve(connection));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    }
}
