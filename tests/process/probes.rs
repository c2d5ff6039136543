//! `--health-listen`: health in plaintext on an address of its own, for kubelets.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use jet_session::proto::api as pb;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus::{self, NotServing, Serving};
use tonic_health::pb::health_client::HealthClient;

use crate::server::{RealServer, Starting, program, within};

/// More than may be open at a time.
const SILENT: usize = 100;

struct Probed {
    dir: tempfile::TempDir,
    server: RealServer,
    health: SocketAddr,
}

impl Probed {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let arguments =
            ["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--drain", "60s"];
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let mut server = Starting::spawn_with(&data, &log, &arguments).listening().await;
        let line = server.line();
        let health = line.trim_end().strip_prefix("health on ").map(str::parse);
        let Some(Ok(health)) = health else {
            panic!("the second line is {line:?}");
        };
        Self { dir, server, health }
    }

    /// Asks as a kubelet does, which connects each time.
    async fn check(&self, service: &str) -> Result<ServingStatus, Status> {
        let mut health = HealthClient::new(connect(self.health).await);
        let request = HealthCheckRequest { service: service.to_owned() };
        Ok(health.check(request).await?.into_inner().status())
    }

    /// What `jet-session healthcheck` exits with.
    async fn healthcheck(&self, service: &'static str) -> i32 {
        let mut asks = program();
        asks.args(["--server", &self.health.to_string(), "healthcheck", "--service", service]);
        asks.stdout(Stdio::null()).stderr(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || asks.status());
        let status = within("an answer", ended).await.expect("nothing panics");
        status.expect("the program starts").code().expect("it exits")
    }
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    within("a connection", endpoint.connect()).await.expect("it accepts")
}

#[tokio::test]
async fn probes_are_answered_from_the_start_until_the_end() {
    let probed = Probed::start().await;
    for service in ["", "liveness", "jet.session.v1.SessionService"] {
        assert_eq!(probed.check(service).await.unwrap(), Serving, "{service:?}");
        assert_eq!(probed.healthcheck(service).await, 0, "{service:?}");
    }
    assert_eq!(probed.check("nonsense").await.unwrap_err().code(), Code::NotFound);

    // An upload that has only begun keeps the server, until its client is told.
    let mut instances = InstanceServiceClient::new(connect(probed.server.address()).await);
    let (_more, messages) = mpsc::channel::<pb::RestoreInstanceRequest>(1);
    let upload = tokio::spawn(async move {
        instances.restore_instance(ReceiverStream::new(messages)).await.unwrap_err()
    });
    // A call without its message does so until the deadline.
    let held = half_a_call(probed.server.address()).await;
    probed.server.terminate();

    assert_eq!(within("the upload ends", upload).await.unwrap().code(), Code::Unavailable);
    for service in ["", "jet.session.v1.SessionService", "instances/main"] {
        assert_eq!(probed.check(service).await.unwrap(), NotServing, "{service:?}");
        assert_ne!(probed.healthcheck(service).await, 0, "{service:?}");
    }
    assert_eq!(probed.check("liveness").await.unwrap(), Serving);
    assert_eq!(probed.healthcheck("liveness").await, 0);
    let refused = TcpStream::connect(probed.server.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "clients are not let in");
    drop(held);
    assert!(probed.server.ended().await.success());
    drop(probed.dir);
}

#[tokio::test]
async fn nothing_but_health_is_served_there() {
    let probed = Probed::start().await;
    let mut instances = InstanceServiceClient::new(connect(probed.health).await);

    let refused = instances.list_instances(pb::ListInstancesRequest::default()).await.unwrap_err();

    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    let mut channel = tonic::client::Grpc::new(connect(probed.health).await);
    channel.ready().await.unwrap();
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let refused = channel.unary(tonic::Request::new(()), path.parse().unwrap(), codec).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_probe_comes_through_a_crowd_that_says_nothing() {
    let probed = Probed::start().await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(probed.health).await.unwrap());
    }

    assert_eq!(within("an answer", probed.check("")).await.unwrap(), Serving);

    // Whoever was there for longest has made room.
    let mut byte = [0];
    let read = within("the first is closed", silent[0].read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let last = silent.last_mut().unwrap();
    let open = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(open, last.read(&mut byte)).await.is_err(), "the last is open");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = program();
    server.args([
        "serve",
        "--store",
        "memory",
        "--listen",
        "127.0.0.1:0",
        "--health-listen",
        &address,
    ]);
    let ended = tokio::task::spawn_blocking(move || server.output());

    let output = within("it ends", ended).await.unwrap().unwrap();

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot answer probes on {address}")), "{said}");
    assert_eq!(output.stdout, b"");
}

/// A call whose headers have arrived, on a connection that lives.
async fn half_a_call(address: SocketAddr) -> impl Sized {
    let stream = TcpStream::connect(address).await.expect("it accepts");
    let (streams, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(async move { connection.await.ok() });
    let begin = |path: &str| {
        http::Request::post(format!("http://localhost/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request")
    };
    let mut streams = streams.ready().await.expect("a free stream");
    let path = "jet.session.v1.InstanceService/GetInstance";
    let held = streams.send_request(begin(path), false).expect("it takes a call");
    // What is answered after it has been read after it.
    let path = "jet.session.v1.InstanceService/GetServerInfo";
    let (answer, mut body) = streams.send_request(begin(path), false).expect("it takes a call");
    body.send_data(bytes::Bytes::from_static(&[0; 5]), true).expect("the call is open");
    within("an answer", answer).await.expect("it is answered");
    Aborted(connection, (held, streams))
}

/// A connection that breaks off when dropped, with what is open on it.
struct Aborted<T>(tokio::task::JoinHandle<Option<()>>, T);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
