//! How calls get to the server: over a connection of this process, or by a process of their own that can
//! be stopped and killed.
//!
//! Messages pass as bytes, so that the process in between knows nothing of them.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::clients::{jet_error, lock};
use crate::server::within;

/// Where a child finds its parent and the server.
const PARENT: &str = "TESTS_PARENT";
const SERVER: &str = "TESTS_SERVER";

pub(crate) enum Wire {
    Own(Channel),
    Child(Errand),
}

impl Wire {
    pub(crate) async fn call(&mut self, path: &str, message: &Bytes) -> Result<Bytes, Status> {
        match self {
            Self::Own(channel) => unary(channel, path, message.clone()).await,
            Self::Child(child) => child.call(path, message).await,
        }
    }

    /// A process stops for a while, with all that it holds.
    pub(crate) fn falls_asleep(&self, time: Duration) {
        if let Self::Child(child) = self {
            let process = child.process();
            process.asleep.store(true, Ordering::Relaxed);
            process.signal(Signal::STOP);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                process.wakes_up();
            });
        }
    }
}

async fn unary(channel: &Channel, path: &str, message: Bytes) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|lost| Status::unavailable(lost.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("the path of a method");
    let answer = client.unary(Request::new(message), path, AsItIs).await?;
    Ok(answer.into_inner())
}

/// The codec of messages that are encoded already.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A process that makes calls for this one, one at a time.
pub(crate) struct Errand {
    process: Arc<Process>,
    answers: BufReader<OwnedReadHalf>,
    calls: OwnedWriteHalf,
}

/// Killed when dropped, stopped or not.
pub(crate) struct Process {
    child: Mutex<Child>,
    asleep: AtomicBool,
}

impl Errand {
    pub(crate) async fn begin(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("it has an address").to_string();
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "linear::wire::a_call_may_be_made_by_a_process_of_its_own"])
            .env(PARENT, here)
            .env(SERVER, server.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program starts again");
        let process = Process { child: Mutex::new(child), asleep: AtomicBool::new(false) };
        let process = Arc::new(process);
        let (stream, _) = within("the child comes", listener.accept()).await.expect("it connects");
        let (answers, calls) = stream.into_split();
        Self { process, answers: BufReader::new(answers), calls }
    }

    pub(crate) fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process)
    }

    async fn call(&mut self, path: &str, message: &Bytes) -> Result<Bytes, Status> {
        let line = format!("{path} {}\n", BASE64.encode(message));
        let mut answer = String::new();
        let told = async {
            self.calls.write_all(line.as_bytes()).await?;
            self.answers.read_line(&mut answer).await
        };
        match told.await {
            Ok(length) if length > 0 && answer.ends_with('\n') => read(answer.trim_end()),
            Ok(_) | Err(_) => Err(Status::unavailable("the child is dead")),
        }
    }
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let child = lock(&self.child);
        // It may have ended, but it is ours until it is waited for.
        kill_process(Pid::from_child(&child), signal).expect("our own child takes signals");
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }

    pub(crate) fn wakes_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        self.signal(Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // Nothing is left to do if it has ended.
        child.kill().ok();
        child.wait().ok();
    }
}

/// An answer as one line: the code, the message or the details, and the JET code.
fn written(answer: Result<Bytes, Status>) -> String {
    match answer {
        Ok(message) => format!("0 {} -\n", BASE64.encode(message)),
        Err(status) => {
            let code = i32::from(status.code());
            let jet = jet_error(&status).map_or("-".to_owned(), |code| code.to_string());
            format!("{code} {} {jet}\n", BASE64.encode(status.details()))
        }
    }
}

fn read(line: &str) -> Result<Bytes, Status> {
    let mut words = line.split(' ');
    let mut word = || words.next().expect("an answer has three words");
    let code: i32 = word().parse().expect("a code");
    let bytes = Bytes::from(BASE64.decode(word()).expect("base64"));
    let jet = word();
    if code == 0 {
        return Ok(bytes);
    }
    let mut metadata = MetadataMap::new();
    if jet != "-" {
        metadata.insert("jet-error", jet.parse().expect("a number is ASCII"));
    }
    Err(Status::with_details_and_metadata(Code::from(code), "", bytes, metadata))
}

/// What a child does: it makes the calls that its parent sends, until that is gone.
async fn run_errands(parent: String) {
    let server = std::env::var(SERVER).expect("a parent names the server");
    let endpoint = Endpoint::from_shared(format!("http://{server}")).expect("a URI");
    let channel = endpoint.connect_lazy();
    let parent = TcpStream::connect(parent).await.expect("the parent listens");
    let (calls, mut answers) = parent.into_split();
    let mut calls = BufReader::new(calls).lines();
    while let Ok(Some(line)) = calls.next_line().await {
        let (path, message) = line.split_once(' ').expect("a path and a message");
        let message = BASE64.decode(message).expect("base64");
        let answer = written(unary(&channel, path, message.into()).await);
        if answers.write_all(answer.as_bytes()).await.is_err() {
            break;
        }
    }
}

/// Also the main function of such a process, which is this program, started again with this test alone.
#[tokio::test]
async fn a_call_may_be_made_by_a_process_of_its_own() {
    if let Ok(parent) = std::env::var(PARENT) {
        run_errands(parent).await;
        return;
    }
    let (data, path) = (tempfile::tempdir().unwrap(), "/jet.session.v1.SessionService/GetSession");
    let server =
        crate::server::RealServer::start(data.path(), &data.path().join("server.log")).await;
    let mut child = Wire::Child(Errand::begin(server.address()).await);
    // A name that is none, and bytes that are none.
    for message in [Bytes::from_static(b"\x0a\x01x"), Bytes::from_static(b"\xff")] {
        let refused = child.call(path, &message).await.unwrap_err();
        assert_eq!((refused.code(), jet_error(&refused)), (Code::InvalidArgument, Some(-1003)));
        assert!(!refused.details().is_empty());
    }
    let info = "/jet.session.v1.InstanceService/GetServerInfo";
    assert!(!child.call(info, &Bytes::new()).await.unwrap().is_empty());
    server.kill().await;
    let lost = child.call(info, &Bytes::new()).await.unwrap_err();
    assert_eq!(jet_error(&lost), None);
    let Wire::Child(errand) = &child else { unreachable!("it was one") };
    errand.process().signal(Signal::KILL);
    assert_eq!(child.call(info, &Bytes::new()).await.unwrap_err().code(), Code::Unavailable);
}
