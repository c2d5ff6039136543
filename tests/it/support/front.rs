//! A server in front of a real one: it passes every call on, counts the Sets that are answered, and
//! carries pipelines itself, with the unary calls of the server behind it.

use std::net::SocketAddr;

use futures_util::FutureExt;
use http::{Request, Response};
use jet_session::proto::api as pb;
use jet_session::proto::api::pipeline_operation::Operation;
use jet_session::proto::api::pipeline_result::Result as Outcome;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::{TestServer, within};

/// How many results the messages have, one after the other, while there are more to come: never as
/// many as operations were sent together.
const RESULTS: [usize; 4] = [1, 5, 2, 7];

/// How pipelines are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipelines {
    /// As the contract says.
    Whole,
    /// Each breaks after so many results.
    Breaking(usize),
    /// The first operation of each is answered twice.
    Repeating,
    /// Each ends, as if it was whole, after so many results.
    Ending(usize),
    /// Each is taken and never answered.
    Silent,
    /// Not at all.
    Unserved,
}

/// A server in front of another one, as long as the test's runtime.
pub(crate) struct Front {
    address: SocketAddr,
    sets: watch::Receiver<u64>,
}

impl Front {
    pub(crate) async fn of(server: &TestServer, pipelines: Pipelines) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (count, sets) = watch::channel(0);
        let passing = Passing { channel: server.channel(), pipelines, count };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = Server::builder().add_service(passing).serve_with_incoming(incoming);
        tokio::spawn(async { serving.await.expect("it serves") });
        Self { address, sets }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until `more` Sets have been answered from now on.
    pub(crate) async fn answers(&mut self, more: u64) {
        let wanted = *self.sets.borrow_and_update() + more;
        let seen = self.sets.wait_for(|sets| *sets >= wanted);
        within("Sets are answered", seen).await.expect("the server is there");
    }
}

#[derive(Clone)]
struct Passing {
    channel: Channel,
    pipelines: Pipelines,
    count: watch::Sender<u64>,
}

impl NamedService for Passing {
    const NAME: &'static str = "jet.session.v1.SessionService";
}

impl Service<Request<Body>> for Passing {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { mut channel, pipelines, count } = self.clone();
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        Box::pin(async move {
            if method == "PipelineSessionContexts" {
                let carry = service_fn(move |request: tonic::Request<Streaming<_>>| {
                    let answer = carry(request.into_inner(), channel.clone(), pipelines);
                    async { answer.map(tonic::Response::new) }
                });
                return Ok(Grpc::new(ProstCodec::default()).streaming(carry, request).await);
            }
            let passed = async {
                std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
                channel.call(request).await
            };
            let answer = passed.await.unwrap_or_else(|error| {
                Status::new(Code::Unavailable, error.to_string()).into_http()
            });
            if method == "SetSessionContext" {
                count.send_modify(|sets| *sets += 1);
            }
            Ok(answer)
        })
    }
}

type Results = Result<pb::PipelineSessionContextsResponse, Status>;

/// Begins to carry a pipeline.
fn carry(
    operations: Streaming<pb::PipelineSessionContextsRequest>,
    channel: Channel,
    pipelines: Pipelines,
) -> Result<ReceiverStream<Results>, Status> {
    if pipelines == Pipelines::Unserved {
        return Err(Status::new(Code::Unimplemented, "pipelines are not served"));
    }
    let (sender, results) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(status) = answer(operations, channel, pipelines, &sender).await {
            // A client that is gone needs no reason.
            sender.send(Err(status)).await.ok();
        }
    });
    Ok(ReceiverStream::new(results))
}

/// Decides operations in their order, and answers as many at a time as it likes.
async fn answer(
    mut operations: Streaming<pb::PipelineSessionContextsRequest>,
    channel: Channel,
    pipelines: Pipelines,
    sender: &mpsc::Sender<Results>,
) -> Result<(), Status> {
    let mut client = SessionServiceClient::new(channel);
    let mut sizes = RESULTS.iter().cycle();
    let mut size = 1;
    let (mut results, mut decided) = (Vec::new(), 0);
    let gone = |_| Status::new(Code::Cancelled, "the client is gone");
    loop {
        let next = match operations.message().now_or_never() {
            Some(next) => next?,
            None => {
                // Nothing more is there to wait for.
                if !results.is_empty() {
                    let results = std::mem::take(&mut results);
                    let message = pb::PipelineSessionContextsResponse { results };
                    sender.send(Ok(message)).await.map_err(gone)?;
                }
                operations.message().await?
            }
        };
        let Some(message) = next else { break };
        if pipelines == Pipelines::Silent {
            continue;
        }
        for pb::PipelineOperation { id, operation } in message.operations {
            let outcome = decide(&mut client, operation).await?;
            let result = pb::PipelineResult { id, result: Some(outcome) };
            decided += 1;
            match pipelines {
                Pipelines::Breaking(after) if decided > after => {
                    return Err(Status::new(Code::Unavailable, "the pipe broke"));
                }
                Pipelines::Ending(after) if decided > after => return Ok(()),
                Pipelines::Repeating if decided == 1 => results.push(result.clone()),
                Pipelines::Whole
                | Pipelines::Breaking(_)
                | Pipelines::Ending(_)
                | Pipelines::Repeating
                | Pipelines::Silent
                | Pipelines::Unserved => {}
            }
            results.push(result);
            if results.len() >= size {
                let results = std::mem::take(&mut results);
                let message = pb::PipelineSessionContextsResponse { results };
                sender.send(Ok(message)).await.map_err(gone)?;
                size = *sizes.next().expect("it goes round");
            }
        }
    }
    if !results.is_empty() {
        let message = pb::PipelineSessionContextsResponse { results };
        sender.send(Ok(message)).await.map_err(gone)?;
    }
    Ok(())
}

async fn decide(
    client: &mut SessionServiceClient<Channel>,
    operation: Option<Operation>,
) -> Result<Outcome, Status> {
    let decided = match operation {
        Some(Operation::Set(set)) => {
            let answer = client.set_session_context(set).await;
            answer.map(|answer| Outcome::Set(answer.into_inner()))
        }
        Some(Operation::Reset(reset)) => {
            let answer = client.reset_session_context(reset).await;
            answer.map(|answer| Outcome::Reset(answer.into_inner()))
        }
        Some(Operation::Transfer(_) | Operation::Check(_) | Operation::Claim(_)) | None => {
            return Err(Status::new(Code::Unimplemented, "no test needs this"));
        }
    };
    decided.or_else(|status| {
        let details = tonic_types::pb::Status::decode(status.details());
        details.map(Outcome::Error).map_err(|_| status)
    })
}
