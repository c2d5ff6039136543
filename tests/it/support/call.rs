//! Any call as bytes, for tables of calls and for bytes that are no message.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use jet_session::proto::api as pb;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::TestServer;

/// A method and the bytes of its request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) message: Bytes,
}

/// A call of a method of ours, such as `SessionService/GetSession`.
pub(crate) fn call(method: &'static str, message: &impl Message) -> Call {
    Call { method, message: message.encode_to_vec().into() }
}

/// The path of a method of ours.
pub(crate) fn path(method: &str) -> String {
    format!("/jet.session.v1.{method}")
}

impl TestServer {
    /// The bytes of the answer.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Bytes, Status> {
        ask(self.channel(), &path(call.method), Request::new(call.message.clone())).await
    }

    /// As [`TestServer::ask`], with an id of the request.
    pub(crate) async fn ask_as(&self, id: &str, call: &Call) -> Result<Bytes, Status> {
        let mut request = Request::new(call.message.clone());
        let id = id.parse().expect("an id is fit for metadata");
        request.metadata_mut().insert("x-request-id", id);
        ask(self.channel(), &path(call.method), request).await
    }
}

/// Any unary call on any connection.
pub(crate) async fn ask(
    channel: Channel,
    path: &str,
    request: Request<Bytes>,
) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    client.unary(request, path, AsIs).await.map(tonic::Response::into_inner)
}

/// Any call on any connection, with the first message of its answer, if it has one; what more there is
/// is not waited for.
pub(crate) async fn first(
    channel: Channel,
    path: &str,
    request: Request<Bytes>,
) -> Result<Option<Bytes>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    let (metadata, extensions, message) = request.into_parts();
    let messages = tokio_stream::once(message);
    let request = Request::from_parts(metadata, extensions, messages);
    client.streaming(request, path, AsIs).await?.into_inner().message().await
}

/// Every call that names the session, by `thread` where it has one.
pub(crate) fn on_session(name: &str, thread: &str) -> Vec<Call> {
    let (session, thread_id) = (name.to_owned(), thread.to_owned());
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
    let begin = pb::BeginTransactionRequest {
        session: session.clone(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    let commit = pb::CommitTransactionRequest {
        session: session.clone(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    let rollback = pb::RollbackTransactionRequest {
        session: session.clone(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    let transfer = pb::TransferSessionContextRequest {
        session: session.clone(),
        thread_id: thread_id.clone(),
        to_thread_id: "successor".to_owned(),
        ..Default::default()
    };
    let check = pb::CheckSessionContextRequest {
        session: session.clone(),
        thread_id: thread_id.clone(),
        fencing_token: 1,
    };
    let force = pb::ForceResetSessionContextRequest {
        session: session.clone(),
        fencing_token: 1,
        reason: "its host is gone".to_owned(),
        ..Default::default()
    };
    let end = pb::EndSessionRequest { session: session.clone(), thread_id, ..Default::default() };
    let duplicate = pb::DuplicateSessionRequest { session, ..Default::default() };
    vec![
        call("SessionService/SetSessionContext", &set),
        call("SessionService/ResetSessionContext", &reset),
        call("SessionService/TransferSessionContext", &transfer),
        call("SessionService/CheckSessionContext", &check),
        call("SessionService/ForceResetSessionContext", &force),
        call("SessionService/BeginTransaction", &begin),
        call("SessionService/CommitTransaction", &commit),
        call("SessionService/RollbackTransaction", &rollback),
        call("SessionService/EndSession", &end),
        call("SessionService/DuplicateSession", &duplicate),
        call("SessionService/GetSession", &pb::GetSessionRequest { name: name.to_owned() }),
    ]
}

/// Every call on sessions that names only their instance.
pub(crate) fn on_sessions_of(instance: &str) -> Vec<Call> {
    let instance = || instance.to_owned();
    let begin = pb::BeginSessionRequest { instance: instance(), ..Default::default() };
    let list = pb::ListSessionsRequest { parent: instance(), ..Default::default() };
    let batch =
        pb::BatchBeginSessionsRequest { instance: instance(), count: 1, ..Default::default() };
    let claim = pb::ClaimSessionContextRequest {
        parent: instance(),
        thread_id: "worker-c/4713/1".to_owned(),
        context: 7,
        ..Default::default()
    };
    vec![
        call("SessionService/BeginSession", &begin),
        call("SessionService/ListSessions", &list),
        call("SessionService/BatchBeginSessions", &batch),
        call("SessionService/ClaimSessionContext", &claim),
    ]
}

/// Every call that names an instance and is not on sessions.
pub(crate) fn on_instance(name: &str) -> Vec<Call> {
    let name = || name.to_owned();
    let initialize = pb::InitializeInstanceRequest { name: name(), ..Default::default() };
    let stop = pb::StopInstanceRequest { name: name(), ..Default::default() };
    let terminate = pb::TerminateInstanceRequest { name: name(), ..Default::default() };
    let delete = pb::DeleteInstanceRequest { name: name(), ..Default::default() };
    vec![
        call("InstanceService/InitializeInstance", &initialize),
        call("InstanceService/StopInstance", &stop),
        call("InstanceService/TerminateInstance", &terminate),
        call("InstanceService/DeleteInstance", &delete),
        call("InstanceService/GetInstance", &pb::GetInstanceRequest { name: name() }),
    ]
}

/// A message that is its own bytes.
#[derive(Debug, Clone, Copy)]
struct AsIs;

impl Codec for AsIs {
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

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
