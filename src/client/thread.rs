//! A thread of the program, as the server knows it.

use std::sync::Arc;

use crate::domain::id::{InstanceId, SessionName, ThreadId};
use crate::proto::api;

use super::bind::{Bind, Claim};
use super::clock::now;
use super::error::Error;
use super::guard::Guard;
use super::registry::Declared;
use super::{Client, heartbeat};

/// One thread of execution, under a name that is its own among all clients of its principal, such as
/// `worker-3/4711/12`.
///
/// Cloning is cheap, and all handles of one name are one thread. As long as one of them or a guard is
/// there, the client's heartbeat keeps the thread alive, if the client has a lease.
#[derive(Debug, Clone)]
pub struct Thread {
    client: Client,
    declared: Arc<Declared>,
}

impl Client {
    /// Declares a thread. Its name is 1 to 128 visible ASCII characters.
    pub fn thread(&self, id: &str) -> Result<Thread, Error> {
        let id: ThreadId = id.parse()?;
        Ok(Thread { declared: self.registry().declare(id), client: self.clone() })
    }
}

impl Thread {
    /// Its name.
    pub fn id(&self) -> &ThreadId {
        self.declared.id()
    }

    /// The client that declared it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// Sets a session's context for this thread: awaiting it gives a [`Guard`]. The words 0 and 2^64−1 are
    /// reserved.
    pub fn bind(&self, session: &SessionName, context: u64) -> Bind {
        Bind::new(self.clone(), session.clone(), context)
    }

    /// Sets the context of any free session of an instance, or of those with some labels: awaiting it
    /// gives a [`Guard`].
    pub fn claim(&self, instance: &InstanceId, context: u64) -> Claim {
        Claim::new(self.clone(), instance.clone(), context)
    }

    /// Takes over a session that was handed to this thread with this token: checks that the thread holds
    /// it, puts it under the client's lease, and gives a guard for it.
    pub async fn adopt(&self, session: &SessionName, fencing_token: u64) -> Result<Guard, Error> {
        let sent = now();
        if let Some(ttl) = self.client.lease_ttl() {
            // The successor of a transfer falls under a lease only if it has one.
            heartbeat::renew(&self.client, std::slice::from_ref(&self.declared), ttl).await;
        }
        let checked = self.check(session, fencing_token).await?;
        let context = checked.binding.as_ref().map_or(0, |binding| binding.context);
        Ok(Guard::new(
            self.clone(),
            session.clone(),
            fencing_token,
            sent,
            checked.abandoned,
            context,
        ))
    }

    /// Whether this thread holds the session with this token right now; answers the session.
    pub async fn check(&self, session: &SessionName, token: u64) -> Result<api::Session, Error> {
        let message = api::CheckSessionContextRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            fencing_token: token,
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.check_session_context(request).await });
        call.await?.session.ok_or_else(|| Error::confused("a session is missing"))
    }

    /// Begins a transaction, or one more level of it; answers the level.
    pub async fn begin_transaction(&self, session: &SessionName) -> Result<i32, Error> {
        let message = api::BeginTransactionRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            request_id: self.client.request_id(),
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.begin_transaction(request).await });
        Ok(call.await?.transaction_level)
    }

    /// Commits the innermost level; answers the level then.
    pub async fn commit_transaction(&self, session: &SessionName) -> Result<i32, Error> {
        let message = api::CommitTransactionRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            request_id: self.client.request_id(),
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.commit_transaction(request).await });
        Ok(call.await?.transaction_level)
    }

    /// Rolls the innermost level back, or all of them; answers the level then.
    pub async fn rollback_transaction(
        &self,
        session: &SessionName,
        all_levels: bool,
    ) -> Result<i32, Error> {
        let message = api::RollbackTransactionRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            all_levels,
            request_id: self.client.request_id(),
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.rollback_transaction(request).await });
        Ok(call.await?.transaction_level)
    }

    /// Ends a session, which must be free.
    pub async fn end_session(&self, session: &SessionName) -> Result<(), Error> {
        let message = api::EndSessionRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            request_id: self.client.request_id(),
            ..api::EndSessionRequest::default()
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.end_session(request).await });
        call.await.map(drop)
    }

    /// Resets a session's context; answers the revision. Token 0 is not checked.
    pub(super) async fn reset(&self, session: &SessionName, token: u64) -> Result<u64, Error> {
        let message = api::ResetSessionContextRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            fencing_token: token,
            request_id: self.client.request_id(),
        };
        let call = self
            .client
            .unary(message, |mut s, request| async move { s.reset_session_context(request).await });
        Ok(call.await?.revision)
    }

    /// Hands a session over; answers the successor's token.
    pub(super) async fn transfer(
        &self,
        session: &SessionName,
        token: u64,
        to: &ThreadId,
        to_principal: &str,
    ) -> Result<u64, Error> {
        let message = api::TransferSessionContextRequest {
            session: session.to_string(),
            thread_id: self.id().to_string(),
            to_thread_id: to.to_string(),
            fencing_token: token,
            request_id: self.client.request_id(),
            to_principal: to_principal.to_owned(),
        };
        let call = self.client.unary(message, |mut s, request| async move {
            s.transfer_session_context(request).await
        });
        Ok(call.await?.fencing_token)
    }

    /// Ends the thread, at a clean exit: all it holds is reset, and its lease is dropped. Guards that are
    /// still there hold nothing then.
    pub async fn end(self) -> Result<(), Error> {
        self.client.end_threads([self.id().clone()]).await?;
        self.declared.end();
        Ok(())
    }
}
