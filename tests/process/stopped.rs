//! A server that is stopped for longer than leases last, as by a debugger or a machine that sleeps.

use std::time::Duration;

use jet_session::proto::api as pb;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use jet_session::proto::api::thread_service_client::ThreadServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::clients::MAIN;
use crate::server::{RealServer, within};

const THREAD: &str = "worker-a/4711/1";
const TTL: prost_types::Duration = prost_types::Duration { seconds: 2, nanos: 0 };

/// Longer than a lease, and longer than a lease and all that it may be late.
const STOPPED: Duration = Duration::from_secs(5);

/// A session that a thread holds under a lease, on a server that can be stopped.
struct Leased {
    _dir: tempfile::TempDir,
    server: RealServer,
    channel: Channel,
    session: String,
    token: u64,
}

impl Leased {
    async fn begin() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = RealServer::start(&dir.path().join("data"), &dir.path().join("log")).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address()));
        let endpoint = endpoint.expect("an address is a URI");
        let channel = within("a connection", endpoint.connect()).await.expect("it accepts");
        let mut sessions = SessionServiceClient::new(channel.clone());
        let begin = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
        let begun = sessions.begin_session(begin).await.expect("main begins sessions");
        let session = begun.into_inner().session.expect("the answer has a session").name;
        let set = pb::SetSessionContextRequest {
            session: session.clone(),
            thread_id: THREAD.to_owned(),
            context: 7,
            lease_ttl: Some(TTL),
            ..Default::default()
        };
        let set = sessions.set_session_context(set).await.expect("the session is free");
        let token = set.into_inner().fencing_token;
        Self { _dir: dir, server, channel, session, token }
    }

    /// Sends a renewal.
    async fn renew(&self) -> pb::KeptThread {
        let keep = pb::KeepThreadsAliveRequest {
            thread_ids: vec![THREAD.to_owned()],
            lease_ttl: Some(TTL),
            include_held: true,
        };
        let mut threads = ThreadServiceClient::new(self.channel.clone());
        let kept = within("the renewal is answered", threads.keep_threads_alive(keep)).await;
        kept.expect("it is taken").into_inner().threads.remove(0)
    }

    async fn look(&self) -> pb::Session {
        let get = pb::GetSessionRequest { name: self.session.clone() };
        let found = SessionServiceClient::new(self.channel.clone()).get_session(get).await;
        found.expect("the session exists").into_inner().session.expect("a session")
    }

    fn is_held(&self, session: &pb::Session) -> bool {
        session.binding.as_ref().is_some_and(|binding| binding.fencing_token == self.token)
    }

    /// Waits until the lease has ended.
    async fn ends(&self) {
        within("the lease ends", async {
            while self.is_held(&self.look().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn renewals_that_waited_in_the_socket_come_before_the_end_of_the_lease() {
    let leased = Leased::begin().await;
    leased.server.pause();
    let renewal = leased.renew();
    let pause = async {
        // The renewal is sent at once. Nothing tells a stopped server from a slow one but time.
        tokio::time::sleep(STOPPED).await;
        leased.server.go_on();
    };

    let (kept, ()) = tokio::join!(renewal, pause);

    assert_eq!(kept.lost, vec![], "nothing was lost");
    assert_eq!((kept.held_count, &*kept.held), (1, &[leased.session.clone()][..]));
    assert!(leased.is_held(&leased.look().await));
    // Without another one it ends, and that is told.
    leased.ends().await;
    let after = leased.look().await;
    assert!(after.abandoned && after.binding.is_none());
    assert_eq!(leased.renew().await.lost[0].fencing_token, leased.token);
}

#[tokio::test]
async fn a_lease_that_nobody_renewed_meanwhile_ends_soon_after() {
    let leased = Leased::begin().await;
    leased.server.pause();
    tokio::time::sleep(STOPPED).await;
    leased.server.go_on();

    leased.ends().await;

    assert_eq!(leased.renew().await.lost[0].fencing_token, leased.token);
}
