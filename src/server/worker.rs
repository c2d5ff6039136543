//! The threads that serve connections, each with a single-threaded runtime of its own.
//!
//! The first worker is the main thread, where the owners of instances live too: with one worker no call
//! ever crosses to another thread.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::domain::limits::ACCEPTED_QUEUE_MAX;
use crate::rpc::layers::Calls;
use crate::server::listener::Accepted;
use crate::server::metrics::Connections;
use crate::server::{ServerError, connection, runtime};

/// All workers.
pub(super) struct Workers {
    /// What every worker needs to serve a connection.
    serving: Serving,
    /// The workers beside the main thread.
    others: Vec<mpsc::Sender<Accepted>>,
    next: AtomicUsize,
    draining: watch::Sender<bool>,
    /// Closed when the last connection has been served.
    working: mpsc::Receiver<()>,
}

/// What a connection needs; the end of its last copy is the end of the last connection.
#[derive(Clone)]
struct Serving {
    connections: Arc<Connections>,
    services: Calls<Routes>,
    drain: watch::Receiver<bool>,
    _done: mpsc::Sender<()>,
}

impl Workers {
    /// Starts `count` workers that answer with `services`; the calling thread is the first of them.
    pub(super) fn start(
        count: NonZeroUsize,
        services: Calls<Routes>,
        connections: &Arc<Connections>,
    ) -> Result<Self, ServerError> {
        let (draining, drain) = watch::channel(false);
        let (done, working) = mpsc::channel(1);
        let connections = Arc::clone(connections);
        let serving = Serving { connections, services, drain, _done: done };
        let mut others = Vec::with_capacity(count.get() - 1);
        for number in 1..count.get() {
            let (inbox, accepted) = mpsc::channel(ACCEPTED_QUEUE_MAX);
            let runtime = runtime()?;
            let serving = serving.clone();
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(work(accepted, serving)))
                .map_err(ServerError::Runtime)?;
            others.push(inbox);
        }
        Ok(Self { serving, others, next: AtomicUsize::new(0), draining, working })
    }

    /// Hands a connection to the next worker in turn.
    pub(super) async fn serve(&self, stream: Accepted) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % (self.others.len() + 1);
        match turn.checked_sub(1) {
            None => drop(tokio::spawn(self.serving.clone().serve(stream))),
            Some(other) => {
                if self.others[other].send(stream).await.is_err() {
                    tracing::error!(worker = turn, "a worker is gone; its connection is dropped");
                }
            }
        }
    }

    /// Lets every connection end its calls in flight, and waits until all have.
    pub(super) async fn drain(self) {
        let Self { serving, others, next: _, draining, mut working } = self;
        draining.send_replace(true);
        drop((serving, others));
        // Nothing is ever sent; it ends when the last connection drops its sender.
        working.recv().await;
    }
}

impl Serving {
    async fn serve(self, stream: Accepted) {
        let _open = self.connections.open();
        connection::serve(stream, self.services, self.drain).await;
    }
}

/// Serves connections until no more can come and all are done.
async fn work(mut accepted: mpsc::Receiver<Accepted>, serving: Serving) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accepted.recv() => match stream {
                Some(stream) => {
                    connections.spawn(serving.clone().serve(stream));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
