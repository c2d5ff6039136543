//! Kill -9 under load, with somebody watching: what was told is there, and the watch goes on behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::campaign::long;
use crate::clients::{MAIN, connect};
use crate::server::{RealServer, within};

const WORKERS: usize = 8;

/// Events that are told before a server is killed.
const TOLD: usize = 300;

#[tokio::test]
async fn what_a_watcher_was_told_survives_kill_nine() {
    let cycles = if long() { 100 } else { 6 };
    let (data, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = logs.path().join("log");
    // All that was ever told, by one watch that goes on from server to server.
    let mut told: Vec<pb::SessionEvent> = Vec::new();
    for cycle in 0..=cycles {
        let server = RealServer::start(data.path(), &log).await;
        let channel = connect(server.address()).await.swap_remove(0);
        until_ready(&channel).await;
        let next = told.last().map_or(1, |last| last.revision + 1);

        // Everything that was told is there, as it was told.
        let again = events(&channel, 1, told.len()).await;
        for (again, told) in again.iter().zip(&told) {
            assert_eq!(again, told, "told in another way after {cycle} kills");
        }
        assert_eq!(again.len(), told.len(), "what was told is lost after {cycle} kills");
        if cycle == cycles {
            break;
        }

        let watched = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(work(channel.clone(), format!("worker/{cycle}/{worker}")));
        }
        let watching = tokio::spawn(watch(channel, next, Arc::clone(&watched)));
        within("enough is told", async {
            while watched.load(Ordering::Relaxed) < TOLD {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.kill().await;
        told.extend(within("the watch breaks off", watching).await.unwrap());
        workers.join_all().await;
        let revisions = told.iter().map(|event| event.revision);
        assert!(revisions.eq(1..=told.len() as u64), "a gap or a repetition");
    }
    assert!(told.len() >= cycles * TOLD);
}

/// Takes and lets go of a session of its own until the server is gone.
async fn work(channel: Channel, thread_id: String) {
    let mut sessions = SessionServiceClient::new(channel);
    let request = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    let Ok(begun) = sessions.begin_session(request).await else {
        return;
    };
    let session = begun.into_inner().session.expect("the answer has a session").name;
    loop {
        let set = pb::SetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id.clone(),
            context: 7,
            ..Default::default()
        };
        let reset = pb::ResetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id.clone(),
            ..Default::default()
        };
        if sessions.set_session_context(set).await.is_err()
            || sessions.reset_session_context(reset).await.is_err()
        {
            return;
        }
    }
}

/// Everything that is told until the server is gone.
async fn watch(channel: Channel, from: u64, watched: Arc<AtomicUsize>) -> Vec<pb::SessionEvent> {
    let mut told = Vec::new();
    let mut stream = begin(&channel, from).await;
    while let Ok(Some(message)) = stream.message().await {
        told.push(message.event.expect("the message has an event"));
        watched.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// So many events from there on, or as many as there are.
async fn events(channel: &Channel, from: u64, count: usize) -> Vec<pb::SessionEvent> {
    let mut events = Vec::new();
    let mut stream = begin(channel, from).await;
    while events.len() < count {
        let message = within("an event that was told", stream.message()).await;
        let message = message.expect("the watch goes on").expect("the watch goes on");
        events.push(message.event.expect("the message has an event"));
    }
    events
}

async fn begin(
    channel: &Channel,
    from_revision: u64,
) -> tonic::Streaming<pb::WatchSessionsResponse> {
    let parent = MAIN.to_owned();
    let request = pb::WatchSessionsRequest { parent, from_revision, filter: None };
    let watch = SessionServiceClient::new(channel.clone()).watch_sessions(request).await;
    watch.expect("it can be watched").into_inner()
}

async fn until_ready(channel: &Channel) {
    let request = pb::WatchInstancesRequest { names: vec![MAIN.to_owned()] };
    let watch = InstanceServiceClient::new(channel.clone()).watch_instances(request).await;
    let mut watch = watch.expect("it can be watched").into_inner();
    within("it is ready", async {
        loop {
            let seen = watch.message().await.expect("the watch lives").expect("it goes on");
            if seen.instance.expect("an instance").state() == State::Ready {
                return;
            }
        }
    })
    .await;
}
