//! Taking sessions with all that a client can ask for: waiting, leases, handing over.

use jet_session::config::StoreKind;
use jet_session::proto::api as pb;
use tokio::task::JoinHandle;
use tonic::Status;

use super::raw::{Raw, RawCall, framed};
use super::{TestServer, TestSession, within};

/// A Set on its way.
pub(crate) type Setting = JoinHandle<Result<pb::SetSessionContextResponse, Status>>;

/// So many seconds, as a message has them.
pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Both stores, one after the other, with what must be kept while a server is on them.
pub(crate) fn stores() -> [(StoreKind, Option<tempfile::TempDir>); 2] {
    let dir = tempfile::tempdir().expect("a directory");
    [(StoreKind::Memory, None), (StoreKind::Log(dir.path().join("data")), Some(dir))]
}

/// The answer of a Set that was on its way.
pub(crate) async fn answered(set: Setting) -> Result<pb::SetSessionContextResponse, Status> {
    within("the Set is answered", set).await.expect("a call does not panic")
}

impl TestSession {
    /// A Set of the word 7, which a test may complete.
    pub(crate) fn set_request(&self, thread: &str) -> pb::SetSessionContextRequest {
        pb::SetSessionContextRequest {
            session: self.name().to_owned(),
            thread_id: thread.to_owned(),
            context: 7,
            ..Default::default()
        }
    }

    /// A Set that waits, longer than any test takes.
    pub(crate) fn waiting_request(&self, thread: &str) -> pb::SetSessionContextRequest {
        pb::SetSessionContextRequest { wait_timeout: seconds(3_600), ..self.set_request(thread) }
    }

    /// Sends a Set, as it is.
    pub(crate) fn send(&self, request: pb::SetSessionContextRequest) -> Setting {
        let mut client = self.client();
        tokio::spawn(async move { Ok(client.set_session_context(request).await?.into_inner()) })
    }

    /// Sends a Set that waits, and waits until it is the `nth` that does.
    pub(crate) async fn wait_as_nth(&self, thread: &str, nth: i32) -> Setting {
        let set = self.send(self.waiting_request(thread));
        self.has_waiters(nth).await;
        set
    }

    /// Waits until so many calls wait for the session.
    pub(crate) async fn has_waiters(&self, count: i32) {
        within(&format!("{count} calls wait"), async {
            while self.look().await.expect("the session exists").waiters != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until nobody holds the session.
    pub(crate) async fn is_free(&self) {
        within("the session is free", async {
            while self.binding().await.is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Takes the session, under a lease; answers the token.
    pub(crate) async fn set_leased(&self, thread: &str, ttl: i64) -> Result<u64, Status> {
        let lease_ttl = seconds(ttl);
        let request = pb::SetSessionContextRequest { lease_ttl, ..self.set_request(thread) };
        Ok(self.client().set_session_context(request).await?.into_inner().fencing_token)
    }

    /// Hands the session over; answers the token of the successor.
    pub(crate) async fn transfer(&self, from: &str, to: &str, token: u64) -> Result<u64, Status> {
        let request = pb::TransferSessionContextRequest {
            session: self.name().to_owned(),
            thread_id: from.to_owned(),
            to_thread_id: to.to_owned(),
            fencing_token: token,
            ..Default::default()
        };
        Ok(self.client().transfer_session_context(request).await?.into_inner().fencing_token)
    }

    /// Whether the thread holds the session with this token now.
    pub(crate) async fn check(&self, thread: &str, token: u64) -> Result<pb::Session, Status> {
        let request = pb::CheckSessionContextRequest {
            session: self.name().to_owned(),
            thread_id: thread.to_owned(),
            fencing_token: token,
        };
        let held = self.client().check_session_context(request).await?.into_inner();
        Ok(held.session.expect("the answer has a session"))
    }

    /// Takes the session away; answers the revision of the reset.
    pub(crate) async fn force_reset(&self, token: u64, reason: &str) -> Result<u64, Status> {
        let request = pb::ForceResetSessionContextRequest {
            session: self.name().to_owned(),
            fencing_token: token,
            reason: reason.to_owned(),
            ..Default::default()
        };
        Ok(self.client().force_reset_session_context(request).await?.into_inner().revision)
    }
}

impl TestServer {
    /// A heartbeat of these threads.
    pub(crate) async fn keep_alive(
        &self,
        threads: &[&str],
        ttl: i64,
    ) -> Result<Vec<pb::KeptThread>, Status> {
        let request = pb::KeepThreadsAliveRequest {
            thread_ids: threads.iter().map(|&thread| thread.to_owned()).collect(),
            lease_ttl: seconds(ttl),
            include_held: true,
        };
        Ok(self.threads().keep_threads_alive(request).await?.into_inner().threads)
    }

    /// One thread, as it is now.
    pub(crate) async fn thread(&self, thread: &str) -> pb::Thread {
        let request = pb::GetThreadRequest { thread_id: thread.to_owned() };
        let found = self.threads().get_thread(request).await.expect("threads can be seen");
        found.into_inner().thread.expect("the answer has a thread")
    }

    /// Ends these threads.
    pub(crate) async fn end_threads(&self, threads: &[&str]) -> Result<(), Status> {
        let thread_ids = threads.iter().map(|&thread| thread.to_owned()).collect();
        self.threads().end_threads(pb::EndThreadsRequest { thread_ids }).await.map(drop)
    }
}

impl Raw {
    /// Begins a call with its one message, and does not wait for its answer.
    pub(crate) async fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        message: &impl prost::Message,
    ) -> RawCall {
        let mut call = self.begin(path, headers).await;
        call.send(framed(&message.encode_to_vec()), true);
        call
    }
}
