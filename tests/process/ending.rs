//! SIGTERM: whatever its peers do, a server is gone within its drain and a second, and nothing that it answered
//! is lost.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use jet_session::proto::api as pb;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::clients::MAIN;
use crate::crowd::{Begun, Go, Told, Watcher, Worker, assert_exactly_once, channel};
use crate::server::{RealServer, Starting, end_of, now, within};

const DRAIN: Duration = Duration::from_secs(5);
/// What a server may take beside its drain.
const BESIDE: Duration = Duration::from_secs(1);

const CONNECTIONS: usize = 1_000;
const WATCHES: usize = 200;
const WATCHES_PER_CONNECTION: usize = 10;
/// Each of them tells every watch something four times a second.
const WORKERS: usize = 16;
const PACE: Duration = Duration::from_millis(250);
/// Peers of each kind that never come to a call.
const MUTE: usize = 10;

/// Files that the test, or the server, has open at a time.
const FILES: u64 = 4_096;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame that leaves all settings as they are.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Makes room for all connections, here and in servers that are started later.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= FILES) {
        return;
    }
    let maximum = limit.maximum;
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(FILES), maximum });
    raised
        .unwrap_or_else(|error| panic!("this test needs {FILES} open files (ulimit -n): {error}"));
}

struct Place {
    data: tempfile::TempDir,
    logs: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            data: tempfile::tempdir().expect("a directory"),
            logs: tempfile::tempdir().expect("a directory"),
        }
    }

    fn log(&self) -> PathBuf {
        self.logs.path().join("log")
    }

    /// A server with so many sessions that a snapshot of them does not fit into what a peer takes unread.
    async fn full_server(&self) -> RealServer {
        let server = self.server().await;
        let mut sessions = SessionServiceClient::new(channel(server.address()));
        let begin = pb::BatchBeginSessionsRequest {
            instance: MAIN.to_owned(),
            count: 1_000,
            ..Default::default()
        };
        for _ in 0..3 {
            sessions.batch_begin_sessions(begin.clone()).await.expect("sessions begin");
        }
        server
    }

    async fn server(&self) -> RealServer {
        let drain = DRAIN.as_secs().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--drain", &drain];
        Starting::spawn_with(self.data.path(), &self.log(), &arguments).listening().await
    }
}

/// A connection on which nothing happens.
async fn idle(address: SocketAddr) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.expect("the server accepts");
    let (streams, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    // A goodbye in good order is no error.
    (streams, tokio::spawn(async move { connection.await.expect("the server says goodbye") }))
}

/// A peer that says this much and then nothing, and reads nothing.
async fn mute(address: SocketAddr, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts");
    stream.write_all(says).await.expect("it reads");
    stream
}

/// A peer that begins to watch more than a connection takes that is not read from, and then reads nothing more.
async fn stopped_reading(address: SocketAddr) -> impl Sized {
    let stream = TcpStream::connect(address).await.expect("the server accepts");
    let (streams, mut connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let request =
        http::Request::post("http://localhost/jet.session.v1.SessionService/WatchSessions")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
    let mut streams = streams.ready().await.expect("a stream");
    let (answer, mut body) = streams.send_request(request, false).expect("a call");
    let watch = pb::WatchSessionsRequest { parent: MAIN.to_owned(), ..Default::default() };
    let mut message = vec![0, 0, 0, 0, u8::try_from(watch.encoded_len()).expect("it is short")];
    watch.encode(&mut message).expect("there is room");
    body.send_data(message.into(), true).expect("the call is open");
    let answer = tokio::select! {
        answer = answer => answer.expect("it is answered"),
        ended = &mut connection => panic!("{ended:?}"),
    };
    (streams, answer, connection)
}

#[tokio::test]
async fn a_crowd_of_every_kind_is_let_go_in_time_and_loses_nothing() {
    raise_open_files();
    let place = Place::new();
    let server = place.server().await;
    let address = server.address();
    let (going, go) = watch::channel(Go::On);
    let (_, never) = watch::channel(u64::MAX);
    let begun = Begun::default();
    let clients = (&go, &begun);

    let (mut peers, mut mutes) = (Vec::new(), Vec::new());
    for _ in 0..MUTE {
        mutes.push(mute(address, b"").await);
        mutes.push(mute(address, &PREFACE[..11]).await);
        // Frozen when it had nothing to ask.
        mutes.push(mute(address, &[PREFACE, SETTINGS].concat()).await);
    }
    let (mut watchers, mut workers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..WATCHES / WATCHES_PER_CONNECTION {
        let channel = channel(address);
        for _ in 0..WATCHES_PER_CONNECTION {
            watchers.spawn(Watcher::new(&channel, clients).run(never.clone()));
        }
    }
    for number in 0..WORKERS {
        workers.spawn(Worker::new(&channel(address), number, PACE, clients).await.run());
    }
    let others = WATCHES / WATCHES_PER_CONNECTION + WORKERS + mutes.len();
    for _ in others..CONNECTIONS {
        peers.push(idle(address).await);
    }
    begun.wait(WATCHES + WORKERS).await;

    going.send_replace(Go::UntilRefused);
    let before = now();
    server.terminate();
    let status = server.ended().await;
    let took = now() - before;

    let log = end_of(&place.log());
    assert!(took <= DRAIN + BESIDE, "it took {took:?}\n{log}");
    assert!(status.success() && log.contains("Graceful"), "{status}\n{log}");
    let work = within("the workers stop", workers.join_all()).await;
    let told = within("the watchers stop", watchers.join_all()).await;
    for (_, connection) in peers {
        within("goodbye", connection).await.expect("the connection ends in good order");
    }
    assert!(told.iter().all(|told| told.goodbyes > 0), "each watch is told where to go on");
    assert!(work.iter().all(|work| work.done.len() > 1 && work.failures > 0));
    drop(mutes);

    // All of it is there, and each watch goes on where it was.
    let server = place.server().await;
    let channel = channel(server.address());
    let answered = work.iter().filter_map(|work| work.done.last().copied());
    let last = told.iter().map(|told| told.events.len() as u64).chain(answered).max();
    let (_, upto) = watch::channel(last.expect("something has happened"));
    let mut again = JoinSet::new();
    for told in told {
        again.spawn(Watcher::after(&channel, &go, told).run(upto.clone()));
    }
    let told: Vec<Told> = within("all is told", again.join_all()).await;
    assert_exactly_once(&work, &told[0], true);
    for other in &told[1..] {
        assert_eq!(other.events, told[0].events, "all were told the same");
    }
}

#[tokio::test]
async fn peers_that_stopped_reading_are_cut_off_at_the_deadline() {
    let place = Place::new();
    let server = place.full_server().await;
    let mut peers = Vec::new();
    for _ in 0..MUTE {
        peers.push(stopped_reading(server.address()).await);
    }

    let before = now();
    server.terminate();
    let status = server.ended().await;
    let took = now() - before;

    let log = end_of(&place.log());
    assert!(DRAIN <= took && took <= DRAIN + BESIDE, "it took {took:?}\n{log}");
    // Their last answers were not taken, and that is said.
    assert!(!status.success() && log.contains("CutOff"), "{status}\n{log}");
    drop(peers);
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    let place = Place::new();
    let server = place.full_server().await;
    let peer = stopped_reading(server.address()).await;

    server.terminate();
    within("it drains", async {
        while !end_of(&place.log()).contains("draining") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let before = now();
    server.terminate();
    let status = server.ended().await;

    assert!(now() - before < DRAIN / 2, "it took {:?}", now() - before);
    assert!(!status.success(), "{status}");
    drop(peer);
}
