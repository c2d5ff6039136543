//! What an operator does and looks at while clients are at work.

use std::net::SocketAddr;

use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::server::within;

pub(crate) struct Operator {
    channel: Channel,
}

impl Operator {
    pub(crate) async fn of(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let channel = within("a connection", endpoint.connect()).await.expect("it accepts");
        Self { channel }
    }

    fn instances(&self) -> InstanceServiceClient<Channel> {
        InstanceServiceClient::new(self.channel.clone())
    }

    pub(crate) fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    /// A new instance that is ready; answers its name.
    pub(crate) async fn create(&self, id: &str) -> String {
        let request =
            pb::CreateInstanceRequest { instance_id: id.to_owned(), ..Default::default() };
        let created = self.instances().create_instance(request).await.expect("it is created");
        let name = created.into_inner().instance.expect("the answer has an instance").name;
        self.initialize(&name).await.expect("it is initialised");
        name
    }

    pub(crate) async fn initialize(&self, name: &str) -> Result<(), Status> {
        let request = pb::InitializeInstanceRequest { name: name.to_owned(), ..Default::default() };
        self.instances().initialize_instance(request).await.map(drop)
    }

    pub(crate) async fn terminate(&self, name: &str) {
        let request = pb::TerminateInstanceRequest { name: name.to_owned(), ..Default::default() };
        self.instances().terminate_instance(request).await.expect("it can be terminated");
    }

    pub(crate) async fn instance(&self, name: &str) -> pb::Instance {
        let request = pb::GetInstanceRequest { name: name.to_owned() };
        let found = self.instances().get_instance(request).await.expect("it is there");
        found.into_inner().instance.expect("the answer has an instance")
    }

    /// The state of an instance once it is no longer on its way.
    pub(crate) async fn settled(&self, name: &str) -> State {
        let request = pb::WatchInstancesRequest { names: vec![name.to_owned()] };
        let watch = self.instances().watch_instances(request).await;
        let mut watch = watch.expect("a watch").into_inner();
        within("the instance is no longer on its way", async {
            loop {
                let told = watch.message().await.expect("the watch goes on").expect("an instance");
                let state = told.instance.expect("the answer has an instance").state();
                if state != State::Initializing && state != State::Terminating {
                    return state;
                }
            }
        })
        .await
    }

    /// Waits until this is how the health of a service is told.
    pub(crate) async fn health(&self, service: &str, expected: ServingStatus) {
        let mut health = HealthClient::new(self.channel.clone());
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = health.watch(request).await.expect("a watch").into_inner();
        within(&format!("{service:?} is {expected:?}"), async {
            loop {
                let told = watch.message().await.expect("the watch goes on").expect("a status");
                if told.status() == expected {
                    return;
                }
            }
        })
        .await;
    }

    /// A session that is begun and taken, as it is then.
    pub(crate) async fn begin_and_set(&self, instance: &str) -> pb::Session {
        let request =
            pb::BeginSessionRequest { instance: instance.to_owned(), ..Default::default() };
        let begun = self.sessions().begin_session(request).await.expect("it begins");
        let request = pb::SetSessionContextRequest {
            session: begun.into_inner().session.expect("the answer has a session").name,
            thread_id: "operator".to_owned(),
            context: 7,
            ..Default::default()
        };
        let set = self.sessions().set_session_context(request).await.expect("it is set");
        set.into_inner().session.expect("the answer has a session")
    }

    pub(crate) async fn session(&self, name: &str) -> pb::Session {
        let request = pb::GetSessionRequest { name: name.to_owned() };
        let found = self.sessions().get_session(request).await.expect("it is there");
        found.into_inner().session.expect("the answer has a session")
    }
}
