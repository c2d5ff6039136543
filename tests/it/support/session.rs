//! One session and the calls on it, as a client library would have them.

use jet_session::proto::api as pb;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use super::TestServer;

/// A session that a test began.
#[derive(Clone)]
pub(crate) struct TestSession {
    client: SessionServiceClient<Channel>,
    name: String,
    sesid: u64,
}

/// How a binding is expected.
pub(crate) fn holds(thread: &str, context: u64) -> Option<(String, u64)> {
    Some((thread.to_owned(), context))
}

impl TestSession {
    pub(crate) fn new(client: SessionServiceClient<Channel>, session: pb::Session) -> Self {
        Self { client, name: session.name, sesid: session.sesid }
    }

    /// The same session on a server that was started anew.
    pub(crate) fn at(self, server: &TestServer) -> Self {
        Self { client: server.sessions(), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn sesid(&self) -> u64 {
        self.sesid
    }

    pub(crate) fn client(&self) -> SessionServiceClient<Channel> {
        self.client.clone()
    }

    /// Answers the fencing token.
    pub(crate) async fn set_context(&self, thread: &str, context: u64) -> Result<u64, Status> {
        let request = pb::SetSessionContextRequest {
            session: self.name.clone(),
            thread_id: thread.to_owned(),
            context,
            ..Default::default()
        };
        Ok(self.client().set_session_context(request).await?.into_inner().fencing_token)
    }

    /// Answers the revision of the reset.
    pub(crate) async fn reset_context(&self, thread: &str) -> Result<u64, Status> {
        self.reset_context_with(thread, 0).await
    }

    pub(crate) async fn reset_context_with(
        &self,
        thread: &str,
        fencing_token: u64,
    ) -> Result<u64, Status> {
        let request = pb::ResetSessionContextRequest {
            session: self.name.clone(),
            thread_id: thread.to_owned(),
            fencing_token,
            ..Default::default()
        };
        Ok(self.client().reset_session_context(request).await?.into_inner().revision)
    }

    /// Answers the level reached.
    pub(crate) async fn begin_transaction(&self, thread: &str) -> Result<i32, Status> {
        let (session, thread_id) = (self.name.clone(), thread.to_owned());
        let request = pb::BeginTransactionRequest { session, thread_id, ..Default::default() };
        Ok(self.client().begin_transaction(request).await?.into_inner().transaction_level)
    }

    /// Answers the level reached.
    pub(crate) async fn commit(&self, thread: &str) -> Result<i32, Status> {
        let (session, thread_id) = (self.name.clone(), thread.to_owned());
        let request = pb::CommitTransactionRequest { session, thread_id, ..Default::default() };
        Ok(self.client().commit_transaction(request).await?.into_inner().transaction_level)
    }

    /// Answers the level reached.
    pub(crate) async fn rollback(&self, thread: &str, all_levels: bool) -> Result<i32, Status> {
        let request = pb::RollbackTransactionRequest {
            session: self.name.clone(),
            thread_id: thread.to_owned(),
            all_levels,
            ..Default::default()
        };
        Ok(self.client().rollback_transaction(request).await?.into_inner().transaction_level)
    }

    pub(crate) async fn end(&self, thread: &str) -> Result<(), Status> {
        let (session, thread_id) = (self.name.clone(), thread.to_owned());
        let request = pb::EndSessionRequest { session, thread_id, ..Default::default() };
        self.client().end_session(request).await.map(drop)
    }

    pub(crate) async fn end_by_force(&self, reason: &str) -> Result<(), Status> {
        let (session, reason) = (self.name.clone(), reason.to_owned());
        let request = pb::EndSessionRequest { session, force: true, reason, ..Default::default() };
        self.client().end_session(request).await.map(drop)
    }

    pub(crate) async fn duplicate(&self) -> Result<Self, Status> {
        let session = self.name.clone();
        let request = pb::DuplicateSessionRequest { session, ..Default::default() };
        let begun = self.client().duplicate_session(request).await?.into_inner();
        Ok(Self::new(self.client(), begun.session.expect("the answer has a session")))
    }

    pub(crate) async fn look(&self) -> Result<pb::Session, Status> {
        let request = pb::GetSessionRequest { name: self.name.clone() };
        let found = self.client().get_session(request).await?.into_inner();
        Ok(found.session.expect("the answer has a session"))
    }

    /// The thread and the word that are bound to it.
    pub(crate) async fn binding(&self) -> Option<(String, u64)> {
        let session = self.look().await.expect("the session exists");
        session.binding.map(|binding| (binding.thread_id, binding.context))
    }

    pub(crate) async fn level(&self) -> i32 {
        self.look().await.expect("the session exists").transaction_level
    }
}
