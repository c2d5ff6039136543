//! What a unary call costs in all: Set and Reset through a real server, against bare tonic servers
//! that answer the same messages and do nothing.
//!
//! `cargo bench --bench unary [-- --seconds S --rounds N --in-flight N --connections N]`
//!
//! All servers run in this process, one after the other in every round, on the same cores as their
//! clients; what counts is the ratio. `echo` is a bare service on as many single-threaded runtimes as
//! ours has; `tonic's own` is tonic's server on tokio's default runtime.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and says what it found"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jet_session::config::{Config, StoreKind};
use jet_session::proto::api::session_service_client::SessionServiceClient;
use jet_session::proto::api::{self as pb};
use jet_session::server::{self, Orders};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A server under test: its name, and how it is started.
type Contender = (&'static str, fn() -> Running);

struct Plan {
    seconds: u64,
    rounds: usize,
    in_flight: usize,
    connections: usize,
}

fn main() {
    let plan = plan();
    let servers: [Contender; 7] = [
        ("jet-session", ours),
        ("on one thread", ours_on_one_thread),
        ("durable", ours_durable),
        ("durable on one thread", ours_durable_on_one_thread),
        ("echo", echo_per_thread),
        ("echo on one thread", echo_on_one_thread),
        ("echo, tonic's own", echo_one_runtime),
    ];
    let mut pairs: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    for round in 0..plan.rounds {
        for (of, (name, start)) in servers.iter().enumerate() {
            let running = start();
            let rate = drive(running.address, &plan);
            (running.stop)();
            pairs[of].push(rate);
            eprintln!("round {} {name:>21}: {rate:>9.0} calls/s", round + 1);
        }
    }
    let medians: Vec<f64> = pairs.iter_mut().map(|rates| median(rates)).collect();
    println!(
        "{} in flight on {} connections, {} rounds of {} s",
        plan.in_flight, plan.connections, plan.rounds, plan.seconds
    );
    for ((name, _), calls) in servers.iter().zip(&medians) {
        println!(
            "{name:>21}: {calls:>9.0} calls/s (median), ratio to it {:.2}",
            medians[0] / calls
        );
    }
}

fn plan() -> Plan {
    let mut plan = Plan { seconds: 2, rounds: 5, in_flight: 64, connections: 8 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<usize>().ok()).expect("a number");
        match word.as_str() {
            "--seconds" => plan.seconds = number() as u64,
            "--rounds" => plan.rounds = number(),
            "--in-flight" => plan.in_flight = number(),
            "--connections" => plan.connections = number(),
            // cargo bench says `--bench` to every bench.
            _ => {}
        }
    }
    plan
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A server that answers at an address until it is stopped.
struct Running {
    address: SocketAddr,
    stop: Box<dyn FnOnce()>,
}

fn ours() -> Running {
    serving_on(available_threads(), StoreKind::Memory)
}

fn ours_on_one_thread() -> Running {
    serving_on(NonZeroUsize::MIN, StoreKind::Memory)
}

fn ours_durable() -> Running {
    durable_on(available_threads())
}

fn ours_durable_on_one_thread() -> Running {
    durable_on(NonZeroUsize::MIN)
}

fn durable_on(threads: NonZeroUsize) -> Running {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let Running { address, stop } = serving_on(threads, StoreKind::Log(dir.path().to_owned()));
    let stop = Box::new(move || {
        stop();
        drop(dir);
    });
    Running { address, stop }
}

fn available_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn serving_on(threads: NonZeroUsize, store: StoreKind) -> Running {
    let (order, orders) = Orders::channel();
    let (ready, address) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::spawn(move || {
        let config =
            Config { threads, store, ..Config::new(SocketAddr::from(([127, 0, 0, 1], 0))) };
        server::run(&config, || Ok(orders), |address| ready.send(address).expect("awaited"))
            .expect("the server runs");
    });
    let is = address.recv().expect("the server starts");
    let address = is.address().expect("it listens on an address");
    let stop = Box::new(move || {
        drop(order);
        thread.join().expect("the server ends");
    });
    Running { address, stop }
}

fn echo_one_runtime() -> Running {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let listener =
        runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("bound");
    runtime.spawn(echo(listener));
    Running { address, stop: Box::new(move || runtime.shutdown_background()) }
}

fn echo_per_thread() -> Running {
    echoing_on(available_threads())
}

fn echo_on_one_thread() -> Running {
    echoing_on(NonZeroUsize::MIN)
}

fn echoing_on(threads: NonZeroUsize) -> Running {
    let acceptor = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = acceptor.local_addr().expect("bound");
    let mut workers = Vec::new();
    for _ in 0..threads.get() {
        let (inbox, streams) = tokio::sync::mpsc::channel::<std::net::TcpStream>(64);
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let incoming = futures_util::stream::unfold(streams, |mut streams| async {
                    let stream = streams.recv().await?;
                    stream.set_nonblocking(true).expect("a socket");
                    Some((tokio::net::TcpStream::from_std(stream), streams))
                });
                Server::builder()
                    .add_service(Echo)
                    .serve_with_incoming(incoming)
                    .await
                    .expect("the echo serves");
            });
        });
        workers.push(inbox);
    }
    std::thread::spawn(move || {
        for (turn, stream) in acceptor.incoming().enumerate() {
            let stream = stream.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            if workers[turn % workers.len()].blocking_send(stream).is_err() {
                return;
            }
        }
    });
    // Its threads idle once its clients have gone.
    Running { address, stop: Box::new(|| ()) }
}

async fn echo(listener: tokio::net::TcpListener) {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(Echo)
        .serve_with_incoming(incoming)
        .await
        .expect("the echo serves");
}

/// Calls answered a second, by clients that do Set and Reset in turn, each on its own session.
fn drive(address: SocketAddr, plan: &Plan) -> f64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..plan.connections {
            let channel = Channel::from_shared(format!("http://{address}")).expect("an address");
            channels.push(channel.connect().await.expect("the server listens"));
        }
        let done = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for number in 0..plan.in_flight {
            let channel = channels[number % channels.len()].clone();
            clients.spawn(client(channel, number, Arc::clone(&done)));
        }
        // The first half second warms up.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (begin, before) = (Instant::now(), done.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
        let calls = done.load(Ordering::Relaxed) - before;
        calls as f64 / begin.elapsed().as_secs_f64()
    })
}

async fn client(channel: Channel, number: usize, done: Arc<AtomicU64>) {
    let mut client = SessionServiceClient::new(channel);
    let instance = "instances/main".to_owned();
    let begin = pb::BeginSessionRequest { instance, ..Default::default() };
    let begun = client.begin_session(begin).await.expect("a session").into_inner();
    let session = begun.session.expect("a session").name;
    let thread_id = format!("bench/{number}");
    loop {
        let set = pb::SetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id.clone(),
            context: 7,
            ..Default::default()
        };
        client.set_session_context(set).await.expect("free");
        let reset = pb::ResetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id.clone(),
            ..Default::default()
        };
        client.reset_session_context(reset).await.expect("held");
        done.fetch_add(2, Ordering::Relaxed);
    }
}

/// Answers the messages of the three methods and does nothing else: what tonic's generated code is,
/// without the other methods.
#[derive(Clone, Copy)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "jet.session.v1.SessionService";
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("BeginSession") => {
                    Grpc::new(ProstCodec::default()).unary(Begin, request).await
                }
                Some("SetSessionContext") => {
                    Grpc::new(ProstCodec::default()).unary(Set, request).await
                }
                _ => Grpc::new(ProstCodec::default()).unary(Reset, request).await,
            })
        })
    }
}

struct Begin;
struct Set;
struct Reset;

impl UnaryService<pb::BeginSessionRequest> for Begin {
    type Response = pb::BeginSessionResponse;
    type Future = Answer<Response<Self::Response>>;

    fn call(&mut self, request: Request<pb::BeginSessionRequest>) -> Self::Future {
        let session = pb::Session { name: request.into_inner().instance, ..Default::default() };
        Box::pin(async { Ok(Response::new(pb::BeginSessionResponse { session: Some(session) })) })
    }
}

impl UnaryService<pb::SetSessionContextRequest> for Set {
    type Response = pb::SetSessionContextResponse;
    type Future = Answer<Response<Self::Response>>;

    fn call(&mut self, request: Request<pb::SetSessionContextRequest>) -> Self::Future {
        let request = request.into_inner();
        // As many bytes as the real answer has.
        let time = || Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 });
        let binding = pb::ContextBinding {
            thread_id: request.thread_id,
            context: request.context,
            fencing_token: 1_000_000,
            set_time: time(),
            principal: "anonymous".to_owned(),
            ..Default::default()
        };
        let session = pb::Session {
            name: request.session,
            sesid: 1,
            binding: Some(binding),
            create_time: time(),
            revision: 1_000_000,
            ..Default::default()
        };
        let response = pb::SetSessionContextResponse {
            fencing_token: 1_000_000,
            session: Some(session),
            ..Default::default()
        };
        Box::pin(async { Ok(Response::new(response)) })
    }
}

impl UnaryService<pb::ResetSessionContextRequest> for Reset {
    type Response = pb::ResetSessionContextResponse;
    type Future = Answer<Response<Self::Response>>;

    fn call(&mut self, _: Request<pb::ResetSessionContextRequest>) -> Self::Future {
        let response = pb::ResetSessionContextResponse { revision: 1_000_000 };
        Box::pin(async move { Ok(Response::new(response)) })
    }
}
