//! Servers that tell their callers apart, and clients with a token.

use std::fs;

use jet_session::config::{Entry, token_principal};
use jet_session::proto::api as pb;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use jet_session::proto::api::thread_service_client::ThreadServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;

use super::{MAIN, TestServer};

/// A rule of a policy.
pub(crate) fn rule(principals: &[&str], instances: &[&str], roles: &[&str]) -> String {
    format!("[[rule]]\nprincipals = {principals:?}\ninstances = {instances:?}\nroles = {roles:?}\n")
}

/// Somebody's token: whoever is called so.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    pub(crate) fn of(principal: &str) -> Self {
        Self(format!("Bearer {principal}").parse().expect("a name fit for metadata"))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Calls of one principal.
pub(crate) struct By {
    channel: Channel,
    bearer: Bearer,
}

type As = InterceptedService<Channel, Bearer>;

impl TestServer {
    /// A server with these rules and a token for each of these principals, which is called as they are.
    pub(crate) async fn ruled(rules: &[String], principals: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (policy, tokens) = (dir.path().join("policy.toml"), dir.path().join("tokens.toml"));
        let entry = |name: &&str| {
            let principal = token_principal(name).expect("a principal");
            Entry::new(&principal, name).expect("a name fit for a token").to_string()
        };
        let entries: Vec<_> = principals.iter().map(entry).collect();
        fs::write(&policy, rules.concat()).expect("a file");
        fs::write(&tokens, entries.join("\n")).expect("a file");
        Self::start_with(|config| {
            config.auth.policy = Some(policy);
            config.auth.tokens = Some(tokens);
        })
        .await
    }

    pub(crate) fn by(&self, principal: &str) -> By {
        By { channel: self.channel(), bearer: Bearer::of(principal) }
    }
}

impl By {
    pub(crate) fn sessions(&self) -> SessionServiceClient<As> {
        SessionServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn instances(&self) -> InstanceServiceClient<As> {
        InstanceServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn threads(&self) -> ThreadServiceClient<As> {
        ThreadServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn health(&self) -> HealthClient<As> {
        HealthClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// A new session on `main`; answers its name.
    pub(crate) async fn begin(&self) -> String {
        let request = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
        let begun = self.sessions().begin_session(request).await.expect("main begins sessions");
        begun.into_inner().session.expect("the answer has a session").name
    }

    /// Sets a context; answers the fencing token.
    pub(crate) async fn set(&self, session: &str, thread: &str) -> Result<u64, Status> {
        let request = pb::SetSessionContextRequest {
            session: session.to_owned(),
            thread_id: thread.to_owned(),
            context: 7,
            ..Default::default()
        };
        Ok(self.sessions().set_session_context(request).await?.into_inner().fencing_token)
    }

    pub(crate) async fn reset(&self, session: &str, thread: &str) -> Result<u64, Status> {
        let request = pb::ResetSessionContextRequest {
            session: session.to_owned(),
            thread_id: thread.to_owned(),
            ..Default::default()
        };
        Ok(self.sessions().reset_session_context(request).await?.into_inner().revision)
    }

    pub(crate) async fn force(&self, session: &str, token: u64) -> Result<u64, Status> {
        let request = pb::ForceResetSessionContextRequest {
            session: session.to_owned(),
            fencing_token: token,
            reason: "its host is gone".to_owned(),
            ..Default::default()
        };
        Ok(self.sessions().force_reset_session_context(request).await?.into_inner().revision)
    }

    pub(crate) async fn transfer(
        &self,
        session: &str,
        (thread, to_thread): (&str, &str),
        to_principal: &str,
    ) -> Result<u64, Status> {
        let request = pb::TransferSessionContextRequest {
            session: session.to_owned(),
            thread_id: thread.to_owned(),
            to_thread_id: to_thread.to_owned(),
            to_principal: to_principal.to_owned(),
            ..Default::default()
        };
        Ok(self.sessions().transfer_session_context(request).await?.into_inner().fencing_token)
    }

    pub(crate) async fn create(&self, id: &str) -> String {
        let instance_id = id.to_owned();
        let request = pb::CreateInstanceRequest { instance_id, ..Default::default() };
        let created = self.instances().create_instance(request).await.expect("it is created");
        let name = created.into_inner().instance.expect("the answer has an instance").name;
        let request = pb::InitializeInstanceRequest { name: name.clone(), ..Default::default() };
        self.instances().initialize_instance(request).await.expect("it is initialised");
        name
    }
}
