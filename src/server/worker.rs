//! The threads that serve connections, each with a single-threaded runtime of its own.

use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::domain::limits::ACCEPTED_QUEUE_MAX;
use crate::rpc::layers::Calls;
use crate::server::{ServerError, connection, runtime};

/// All workers.
pub(super) struct Workers {
    inboxes: Vec<mpsc::Sender<TcpStream>>,
    next: AtomicUsize,
    draining: watch::Sender<bool>,
    /// Closed when the last worker has served its last connection.
    working: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts `count` workers that answer with `services`.
    pub(super) fn start(
        count: NonZeroUsize,
        services: &Calls<Routes>,
    ) -> Result<Self, ServerError> {
        let (draining, drain) = watch::channel(false);
        let (done, working) = mpsc::channel(1);
        let mut inboxes = Vec::with_capacity(count.get());
        for number in 0..count.get() {
            let (inbox, accepted) = mpsc::channel(ACCEPTED_QUEUE_MAX);
            let runtime = runtime()?;
            let (services, drain, done) = (services.clone(), drain.clone(), done.clone());
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(work(accepted, services, drain));
                    drop(done);
                })
                .map_err(ServerError::Runtime)?;
            inboxes.push(inbox);
        }
        Ok(Self { inboxes, next: AtomicUsize::new(0), draining, working })
    }

    /// Hands a connection to the next worker in turn.
    pub(super) async fn serve(&self, stream: TcpStream) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        if self.inboxes[turn].send(stream).await.is_err() {
            tracing::error!(worker = turn, "a worker is gone; its connection is dropped");
        }
    }

    /// Lets every connection end its calls in flight, and waits until all have.
    pub(super) async fn drain(mut self) {
        self.draining.send_replace(true);
        self.inboxes.clear();
        // Nothing is ever sent; it ends when the last worker drops its sender.
        self.working.recv().await;
    }
}

/// Serves connections until no more can come and all are done.
async fn work(
    mut accepted: mpsc::Receiver<TcpStream>,
    services: Calls<Routes>,
    drain: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = accepted.recv() => match stream {
                Some(stream) => {
                    connections.spawn(connection::serve(stream, services.clone(), drain.clone()));
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}
