//! A real server in a thread of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};

use jet_session::config::{Config, Listen};
use jet_session::proto::api as pb;
use jet_session::proto::api::error_service_client::ErrorServiceClient;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use jet_session::proto::api::thread_service_client::ThreadServiceClient;
use jet_session::server::{self, Ending, Order, Orders, Ready, ServerError};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;

use super::{MAIN, TestSession, within};

/// A server that ends with the test.
pub(crate) struct TestServer {
    ready: Ready,
    orders: mpsc::Sender<Order>,
    ended: Option<oneshot::Receiver<Result<Ending, ServerError>>>,
    thread: Option<JoinHandle<()>>,
    channel: Channel,
}

/// Everything a client can see of a server.
#[derive(Debug, PartialEq)]
pub(crate) struct Picture {
    instances: Vec<pb::Instance>,
    sessions: Vec<pb::Session>,
}

impl Picture {
    pub(crate) fn instances(&self) -> &[pb::Instance] {
        &self.instances
    }

    pub(crate) fn sessions(&self) -> &[pb::Session] {
        &self.sessions
    }
}

impl TestServer {
    /// A server as an operator gets it who says nothing.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server that is configured otherwise.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let mut server = Self::start_apart(configure).await;
        server.channel = connect(server.address()).await;
        server
    }

    /// A server that nobody is connected to, because that takes more than an address.
    pub(crate) async fn start_apart(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.threads = NonZeroUsize::MIN.saturating_add(1);
        configure(&mut config);
        let (orders, taken) = Orders::channel();
        let (ready, is_ready) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            let ending = server::run(
                &config,
                || Ok(taken),
                |is| ready.send(is).expect("the test waits for the server"),
            );
            // A test that has ended does not care how.
            drop(tell.send(ending));
        });
        let ready = within("the server is ready", is_ready).await.expect("the server starts");
        let channel = Endpoint::from_static("http://nobody").connect_lazy();
        Self { ready, orders, ended: Some(ended), thread: Some(thread), channel }
    }

    /// The first address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.ready.address().expect("it listens on an address")
    }

    /// Everywhere it listens.
    pub(crate) fn listening(&self) -> &[Listen] {
        &self.ready.listening
    }

    /// Where metrics are told, by a server that is configured to.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.ready.metrics.expect("the server tells metrics")
    }

    /// The connection that the clients below share.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of one's own.
    pub(crate) async fn connect(&self) -> Channel {
        connect(self.address()).await
    }

    pub(crate) fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel())
    }

    pub(crate) fn instances(&self) -> InstanceServiceClient<Channel> {
        InstanceServiceClient::new(self.channel())
    }

    pub(crate) fn threads(&self) -> ThreadServiceClient<Channel> {
        ThreadServiceClient::new(self.channel())
    }

    pub(crate) fn errors(&self) -> ErrorServiceClient<Channel> {
        ErrorServiceClient::new(self.channel())
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel())
    }

    /// A new session on `main`.
    pub(crate) async fn session(&self) -> TestSession {
        self.begin(MAIN).await.expect("main begins sessions")
    }

    /// A new session on this instance.
    pub(crate) async fn begin(&self, instance: &str) -> Result<TestSession, Status> {
        let request =
            pb::BeginSessionRequest { instance: instance.to_owned(), ..Default::default() };
        let begun = self.sessions().begin_session(request).await?.into_inner();
        Ok(TestSession::new(self.sessions(), begun.session.expect("the answer has a session")))
    }

    /// A new instance, not yet initialised; answers its name.
    pub(crate) async fn create(&self, id: &str) -> Result<String, Status> {
        let request =
            pb::CreateInstanceRequest { instance_id: id.to_owned(), ..Default::default() };
        let created = self.instances().create_instance(request).await?.into_inner();
        Ok(created.instance.expect("the answer has an instance").name)
    }

    pub(crate) async fn initialize(&self, name: &str) -> Result<(), Status> {
        let request = pb::InitializeInstanceRequest { name: name.to_owned(), ..Default::default() };
        self.instances().initialize_instance(request).await.map(drop)
    }

    pub(crate) async fn stop(&self, name: &str) -> Result<(), Status> {
        let request = pb::StopInstanceRequest { name: name.to_owned(), ..Default::default() };
        self.instances().stop_instance(request).await.map(drop)
    }

    pub(crate) async fn resume(&self, name: &str) -> Result<(), Status> {
        let name = name.to_owned();
        let request = pb::StopInstanceRequest { name, resume: true, ..Default::default() };
        self.instances().stop_instance(request).await.map(drop)
    }

    pub(crate) async fn terminate(
        &self,
        name: &str,
        mode: pb::TerminateMode,
    ) -> Result<(), Status> {
        let (name, mode) = (name.to_owned(), mode.into());
        let request = pb::TerminateInstanceRequest { name, mode, ..Default::default() };
        self.instances().terminate_instance(request).await.map(drop)
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Status> {
        let request = pb::DeleteInstanceRequest { name: name.to_owned(), ..Default::default() };
        self.instances().delete_instance(request).await.map(drop)
    }

    pub(crate) async fn instance(&self, name: &str) -> Result<pb::Instance, Status> {
        let request = pb::GetInstanceRequest { name: name.to_owned() };
        let found = self.instances().get_instance(request).await?.into_inner();
        Ok(found.instance.expect("the answer has an instance"))
    }

    /// All that can be seen, to be compared with a later look: whoever changes anything raises a
    /// revision at least.
    pub(crate) async fn picture(&self) -> Picture {
        let request = pb::ListInstancesRequest { page_size: 1_000, ..Default::default() };
        let found = self.instances().list_instances(request).await.expect("instances are listed");
        let instances = found.into_inner().instances;
        let mut sessions = Vec::new();
        for instance in &instances {
            let request = pb::ListSessionsRequest {
                parent: instance.name.clone(),
                page_size: 1_000,
                ..Default::default()
            };
            // Of an instance that is not initialised nothing more is to be seen.
            if let Ok(found) = self.sessions().list_sessions(request).await {
                sessions.extend(found.into_inner().sessions);
            }
        }
        Picture { instances, sessions }
    }

    /// Orders the server to end; the second order ends it at once.
    pub(crate) async fn order_to_end(&self) {
        self.orders.send(Order).await.expect("the server takes orders");
    }

    /// How the server ended.
    pub(crate) async fn ending(&mut self) -> Ending {
        let ended = self.ended.take().expect("a server ends once");
        let ending = within("the server has ended", ended).await;
        ending.expect("the server says how it ended").expect("the server did start")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        for _ in 0..2 {
            // It may have ended already.
            self.orders.try_send(Order).ok();
        }
        if let Some(server) = self.thread.take() {
            let ended = server.join();
            if !thread::panicking() {
                ended.expect("a server does not panic");
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    within("a connection", endpoint.connect()).await.expect("the server accepts connections")
}
