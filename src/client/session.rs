//! Beginning, ending, finding and freeing sessions; looking at instances and threads.

use std::collections::BTreeMap;
use std::pin::Pin;

use tonic::{Request, Response, Status};

use crate::domain::id::{InstanceId, SessionName, ThreadId};
use crate::domain::limits::{PAGE_SIZE_MAX, THREADS_PER_CALL_MAX};
use crate::proto::api::session_service_client::SessionServiceClient;
use crate::proto::api::{self, SessionFilter};

use super::error::Error;
use super::{Client, Transport};

/// A boxed future, as an awaited builder is one.
type Asking<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl Client {
    /// Begins a session on an instance: awaiting it gives the session's name.
    pub fn begin_session(&self, instance: &InstanceId) -> BeginSession {
        BeginSession { client: self.clone(), instance: instance.clone(), labels: BTreeMap::new() }
    }

    /// Begins several sessions that are alike, all or none, 1 to 1,000: awaiting it gives their names.
    pub fn begin_sessions(&self, instance: &InstanceId, count: u16) -> BeginSessions {
        BeginSessions { one: self.begin_session(instance), count }
    }

    /// Begins a session on the instance of another one.
    pub async fn duplicate_session(&self, session: &SessionName) -> Result<SessionName, Error> {
        let message = api::DuplicateSessionRequest {
            session: session.to_string(),
            request_id: self.request_id(),
        };
        let call = self.unary(message, |mut s, r| async move { s.duplicate_session(r).await });
        name(call.await?.session)
    }

    /// Ends a session whatever holds it, for operators. Those who lose it can learn why.
    pub async fn force_end_session(
        &self,
        session: &SessionName,
        reason: &str,
    ) -> Result<(), Error> {
        let message = api::EndSessionRequest {
            session: session.to_string(),
            request_id: self.request_id(),
            force: true,
            reason: reason.to_owned(),
            ..api::EndSessionRequest::default()
        };
        self.unary(message, |mut s, r| async move { s.end_session(r).await }).await.map(drop)
    }

    /// Takes a session away from whoever holds it with this token, for operators; answers the revision.
    /// Those who lose it can learn why.
    pub async fn force_reset(
        &self,
        session: &SessionName,
        token: u64,
        reason: &str,
    ) -> Result<u64, Error> {
        let message = api::ForceResetSessionContextRequest {
            session: session.to_string(),
            fencing_token: token,
            reason: reason.to_owned(),
            request_id: self.request_id(),
        };
        let call =
            self.unary(message, |mut s, r| async move { s.force_reset_session_context(r).await });
        Ok(call.await?.revision)
    }

    /// One session, as it is now.
    pub async fn get_session(&self, session: &SessionName) -> Result<api::Session, Error> {
        let message = api::GetSessionRequest { name: session.to_string() };
        let call = self.unary(message, |mut s, r| async move { s.get_session(r).await });
        call.await?.session.ok_or_else(|| Error::confused("a session is missing"))
    }

    /// The sessions of an instance, page by page.
    pub fn list_sessions(&self, instance: &InstanceId) -> ListSessions {
        ListSessions {
            client: self.clone(),
            request: api::ListSessionsRequest {
                parent: instance.name(),
                page_size: i32::try_from(PAGE_SIZE_MAX).unwrap_or(0),
                ..api::ListSessionsRequest::default()
            },
            ended: false,
        }
    }

    /// One instance, as it is now.
    pub async fn get_instance(&self, instance: &InstanceId) -> Result<api::Instance, Error> {
        let message = api::GetInstanceRequest { name: instance.name() };
        let instances = self.raw_instances();
        let call = self.call(self.timeout(), |attempt| {
            let (mut instances, request) = (instances.clone(), attempt.request(message.clone()));
            async move { instances.get_instance(request).await }
        });
        call.await?.message.instance.ok_or_else(|| Error::confused("an instance is missing"))
    }

    /// One of the caller's threads, as it is now. One that is not known holds nothing.
    pub async fn get_thread(&self, thread: &ThreadId) -> Result<api::Thread, Error> {
        let message = api::GetThreadRequest { thread_id: thread.to_string() };
        let threads = self.raw_threads();
        let call = self.call(self.timeout(), |attempt| {
            let (mut threads, request) = (threads.clone(), attempt.request(message.clone()));
            async move { threads.get_thread(request).await }
        });
        call.await?.message.thread.ok_or_else(|| Error::confused("a thread is missing"))
    }

    /// Ends threads, at a clean exit: all they hold is reset, and their leases are dropped.
    pub async fn end_threads(
        &self,
        threads: impl IntoIterator<Item = ThreadId>,
    ) -> Result<(), Error> {
        let ids: Vec<String> = threads.into_iter().map(|id| id.to_string()).collect();
        for batch in ids.chunks(THREADS_PER_CALL_MAX) {
            let message = api::EndThreadsRequest { thread_ids: batch.to_vec() };
            let threads = self.raw_threads();
            let call = self.call(self.timeout(), |attempt| {
                let (mut threads, request) = (threads.clone(), attempt.request(message.clone()));
                async move { threads.end_threads(request).await }
            });
            call.await?;
        }
        Ok(())
    }

    /// Waits until what was dropped in the background is in order, for the end of a program; answers
    /// whether that came within the client's timeout.
    pub async fn settle(&self) -> bool {
        self.background().settled(self.timeout()).await
    }

    /// A call on sessions, with the client's timeout.
    pub(super) async fn unary<M, T, F>(
        &self,
        message: M,
        send: impl Fn(SessionServiceClient<Transport>, Request<M>) -> F + Send + Sync,
    ) -> Result<T, Error>
    where
        M: Clone + Send + Sync,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let sessions = self.raw_sessions();
        let call = self.call(self.timeout(), |attempt| {
            send(sessions.clone(), attempt.request(message.clone()))
        });
        Ok(call.await?.message)
    }
}

/// Beginning a session. Awaiting it gives its name.
#[derive(Debug, Clone)]
#[must_use = "nothing is begun until it is awaited"]
pub struct BeginSession {
    client: Client,
    instance: InstanceId,
    labels: BTreeMap<String, String>,
}

impl BeginSession {
    /// Gives it a label to be found by, up to 8 of them.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

impl IntoFuture for BeginSession {
    type Output = Result<SessionName, Error>;
    type IntoFuture = Asking<SessionName>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let message = api::BeginSessionRequest {
                instance: self.instance.name(),
                labels: self.labels,
                request_id: self.client.request_id(),
            };
            let call =
                self.client.unary(message, |mut s, r| async move { s.begin_session(r).await });
            name(call.await?.session)
        })
    }
}

/// Beginning several sessions. Awaiting it gives their names.
#[derive(Debug, Clone)]
#[must_use = "nothing is begun until it is awaited"]
pub struct BeginSessions {
    one: BeginSession,
    count: u16,
}

impl BeginSessions {
    /// Gives each of them a label to be found by, up to 8 of them.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.one = self.one.label(key, value);
        self
    }
}

impl IntoFuture for BeginSessions {
    type Output = Result<Vec<SessionName>, Error>;
    type IntoFuture = Asking<Vec<SessionName>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let BeginSession { client, instance, labels } = self.one;
            let message = api::BatchBeginSessionsRequest {
                instance: instance.name(),
                count: i32::from(self.count),
                labels,
                request_id: client.request_id(),
            };
            let call =
                client.unary(message, |mut s, r| async move { s.batch_begin_sessions(r).await });
            call.await?.sessions.into_iter().map(|session| name(Some(session))).collect()
        })
    }
}

/// The sessions of an instance, page by page.
#[derive(Debug)]
#[must_use = "nothing is listed until a page is asked for"]
pub struct ListSessions {
    client: Client,
    request: api::ListSessionsRequest,
    ended: bool,
}

impl ListSessions {
    /// Only those that pass the filter.
    pub fn filter(mut self, filter: SessionFilter) -> Self {
        self.request.filter = Some(filter);
        self
    }

    /// The next page, up to 1,000 sessions by rising number; `None` after the last one.
    pub async fn next_page(&mut self) -> Result<Option<Vec<api::Session>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let message = self.request.clone();
        let call = self.client.unary(message, |mut s, r| async move { s.list_sessions(r).await });
        let page = call.await?;
        if !page.next_page_token.is_empty() && page.next_page_token == self.request.page_token {
            return Err(Error::confused("a page of the list leads to itself"));
        }
        self.ended = page.next_page_token.is_empty();
        self.request.page_token = page.next_page_token;
        Ok(Some(page.sessions))
    }
}

fn name(session: Option<api::Session>) -> Result<SessionName, Error> {
    let session = session.ok_or_else(|| Error::confused("a session is missing"))?;
    session.name.parse().map_err(|_| Error::confused("a session has no name"))
}
