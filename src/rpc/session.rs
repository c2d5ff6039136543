//! SessionService: sessions, their contexts and their transactions.

use tonic::{Request, Response, Status, Streaming};

use crate::domain::call::session::ListSessions;
use crate::engine::Engine;
use crate::proto::api as pb;
use crate::proto::api::session_service_server::SessionService;
use crate::rpc::access::Guard;
use crate::rpc::convert::{ListSessionsCommand, session};
use crate::rpc::instance::{Answers, until};
use crate::rpc::layers::Deadline;
use crate::rpc::status::About;
use crate::rpc::{answered, ask, ask_patiently, parse, pipeline, watch};

/// The service, a thin skin over the engine.
#[derive(Debug, Clone)]
pub struct Sessions {
    engine: Engine,
    guard: Guard,
}

impl Sessions {
    /// The service of this engine, for those whom the guard lets in.
    pub fn new(engine: Engine, guard: Guard) -> Self {
        Self { engine, guard }
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn begin_session(
        &self,
        request: Request<pb::BeginSessionRequest>,
    ) -> Result<Response<pb::BeginSessionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn duplicate_session(
        &self,
        request: Request<pb::DuplicateSessionRequest>,
    ) -> Result<Response<pb::DuplicateSessionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn end_session(
        &self,
        request: Request<pb::EndSessionRequest>,
    ) -> Result<Response<pb::EndSessionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn get_session(
        &self,
        request: Request<pb::GetSessionRequest>,
    ) -> Result<Response<pb::GetSessionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let (wanted, caller) = parse(&self.guard, request)?;
        let ListSessionsCommand { instance, filter, after, page } = wanted;
        let call = ListSessions { filter, after, count: page.size };
        let found = self.engine.ask(&instance, caller.asker, call).await;
        let found = answered(found, &caller.about)?;
        let sight = &caller.about.sight;
        let items = found.sessions.iter().map(|found| session(&instance, sight, found));
        let next_after = found.next_after.map(|last| last.to_string());
        let page = page.page(items, next_after, |session| session.sesid.to_string());
        Ok(Response::new(pb::ListSessionsResponse {
            sessions: page.items,
            next_page_token: page.next_page_token,
        }))
    }

    async fn set_session_context(
        &self,
        request: Request<pb::SetSessionContextRequest>,
    ) -> Result<Response<pb::SetSessionContextResponse>, Status> {
        ask_patiently(&self.guard, &self.engine, request).await
    }

    async fn reset_session_context(
        &self,
        request: Request<pb::ResetSessionContextRequest>,
    ) -> Result<Response<pb::ResetSessionContextResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn begin_transaction(
        &self,
        request: Request<pb::BeginTransactionRequest>,
    ) -> Result<Response<pb::BeginTransactionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn commit_transaction(
        &self,
        request: Request<pb::CommitTransactionRequest>,
    ) -> Result<Response<pb::CommitTransactionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn rollback_transaction(
        &self,
        request: Request<pb::RollbackTransactionRequest>,
    ) -> Result<Response<pb::RollbackTransactionResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn batch_begin_sessions(
        &self,
        request: Request<pb::BatchBeginSessionsRequest>,
    ) -> Result<Response<pb::BatchBeginSessionsResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn claim_session_context(
        &self,
        request: Request<pb::ClaimSessionContextRequest>,
    ) -> Result<Response<pb::ClaimSessionContextResponse>, Status> {
        ask_patiently(&self.guard, &self.engine, request).await
    }

    async fn transfer_session_context(
        &self,
        request: Request<pb::TransferSessionContextRequest>,
    ) -> Result<Response<pb::TransferSessionContextResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn check_session_context(
        &self,
        request: Request<pb::CheckSessionContextRequest>,
    ) -> Result<Response<pb::CheckSessionContextResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    async fn force_reset_session_context(
        &self,
        request: Request<pb::ForceResetSessionContextRequest>,
    ) -> Result<Response<pb::ForceResetSessionContextResponse>, Status> {
        ask(&self.guard, &self.engine, request).await
    }

    type PipelineSessionContextsStream = Answers<pb::PipelineSessionContextsResponse>;

    async fn pipeline_session_contexts(
        &self,
        request: Request<Streaming<pb::PipelineSessionContextsRequest>>,
    ) -> Result<Response<Self::PipelineSessionContextsStream>, Status> {
        let deadline = request.extensions().get::<Deadline>().copied();
        let results = pipeline::results(&self.guard, &self.engine, request)?;
        Ok(Response::new(until(deadline, results, About::default())))
    }

    type WatchSessionsStream = Answers<pb::WatchSessionsResponse>;

    async fn watch_sessions(
        &self,
        request: Request<pb::WatchSessionsRequest>,
    ) -> Result<Response<Self::WatchSessionsStream>, Status> {
        watch::sessions(&self.guard, &self.engine, request).await
    }
}
