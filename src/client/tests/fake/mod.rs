//! A server in the same process: a small honest model of sessions, and faults by script.
//!
//! - `model`: what the calls do
//! - `services`: the calls
//! - here: the connection, which can be cut, and the script

mod model;
mod services;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::service::InterceptorLayer;
use tonic::transport::{Channel, Endpoint, Server};

use crate::client::clock::now;
use crate::client::{Builder, Client, SeededChance};
use crate::domain::id::SessionName;
use crate::proto::api::SessionEvent;
use crate::proto::api::session_service_server::SessionServiceServer;
use crate::proto::api::thread_service_server::ThreadServiceServer;

use model::Model;
pub(super) use model::refused;

/// What happens to a call instead of an answer.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It is refused, and nothing is done.
    Refuse(Status),
    /// The connection breaks before anything is done.
    LoseRequest,
    /// It is done, and the connection breaks before the answer.
    LoseReply,
    /// It is done, and the answer never comes.
    Hang,
    /// It is done, and answered after so long.
    Delay(Duration),
}

/// A call that was received.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) request_id: String,
    pub(super) at: Instant,
    /// The thread ids of a heartbeat, or the one of another call.
    pub(super) threads: Vec<String>,
    /// The deadline that came with it.
    pub(super) timeout: Option<Duration>,
    pub(super) wait_timeout: Option<Duration>,
}

/// The answers of one watch, and how it ends, if it does.
pub(super) type Watched = (Vec<SessionEvent>, Option<Status>);

#[derive(Debug, Clone)]
pub(super) struct Fake(Arc<Mutex<State>>, mpsc::Sender<DuplexStream>);

#[derive(Debug, Default)]
pub(super) struct State {
    model: Model,
    script: VecDeque<(&'static str, Fault)>,
    calls: Vec<Call>,
    watches: VecDeque<Watched>,
    watched_from: Vec<u64>,
    pumps: Vec<AbortHandle>,
    connections: usize,
    unreachable: bool,
    shown: Vec<Option<String>>,
}

impl Fake {
    pub(super) fn start() -> Self {
        let (sender, incoming) = mpsc::channel(16);
        let fake = Self(Arc::default(), sender);
        let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
        let looking = fake.clone();
        let server = Server::builder()
            .layer(InterceptorLayer::new(move |request: tonic::Request<()>| {
                let shown = request.metadata().get("authorization");
                let shown = shown.map(|shown| shown.to_str().unwrap().to_owned());
                looking.state().shown.push(shown);
                Ok(request)
            }))
            .add_service(SessionServiceServer::new(fake.clone()))
            .add_service(ThreadServiceServer::new(fake.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        fake
    }

    /// A client of it, whose chance is always the same.
    pub(super) async fn client(&self, configure: impl FnOnce(Builder) -> Builder) -> Client {
        let builder = Client::builder("http://fake").chance(SeededChance::new(7));
        configure(builder).over(self.channel().await).unwrap()
    }

    pub(super) async fn channel(&self) -> Channel {
        let fake = self.clone();
        let connector = tower::service_fn(move |_| {
            let fake = fake.clone();
            async move { fake.connect().await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://fake");
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    /// A connection through something that can be taken away.
    async fn connect(&self) -> io::Result<DuplexStream> {
        if self.state().unreachable {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        }
        let (client, mut near) = duplex(64 * 1024);
        let (mut far, server) = duplex(64 * 1024);
        let pump = tokio::spawn(async move {
            // It ends when one side does.
            copy_bidirectional(&mut near, &mut far).await.ok();
        });
        self.state().pumps.push(pump.abort_handle());
        self.state().connections += 1;
        self.1.send(server).await.map_err(io::Error::other)?;
        Ok(client)
    }

    /// Breaks every connection.
    pub(super) fn cut(&self) {
        for pump in self.state().pumps.drain(..) {
            pump.abort();
        }
    }

    /// Breaks every connection, and takes no new ones.
    pub(super) fn vanish(&self) {
        self.state().unreachable = true;
        self.cut();
    }

    pub(super) fn come_back(&self) {
        self.state().unreachable = false;
    }

    /// What happens to the next calls of this method that have no fault yet, one after the other.
    pub(super) fn script(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state().script.extend(faults.into_iter().map(|fault| (method, fault)));
    }

    /// What the next watch answers, and how it ends.
    pub(super) fn watched(&self, events: Vec<SessionEvent>, end: impl Into<Option<Status>>) {
        self.state().watches.push_back((events, end.into()));
    }

    /// From where the watches so far wanted to be told.
    pub(super) fn watched_from(&self) -> Vec<u64> {
        self.state().watched_from.clone()
    }

    /// The calls of this method, in the order in which they came.
    pub(super) fn calls(&self, method: &str) -> Vec<Call> {
        self.state().calls.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// What each call, in the order in which they came, had in its `authorization`.
    pub(super) fn shown(&self) -> Vec<Option<String>> {
        self.state().shown.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    /// Who holds a session, with which token.
    pub(super) fn holder(&self, session: &SessionName) -> Option<(String, u64)> {
        self.state().model.holder(session.session.get())
    }

    /// An operator takes the session away.
    pub(super) fn force(&self, session: &SessionName, by: &str, reason: &str) {
        self.state().model.force(session.session.get(), by, reason);
    }

    /// The server's clock says that the holder's lease is over.
    pub(super) fn expire(&self, session: &SessionName) {
        self.state().model.expire_one(session.session.get());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap();
        state.model.expire(now());
        state
    }
}
