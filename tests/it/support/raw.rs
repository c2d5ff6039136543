//! HTTP/2 by hand, for calls that begin now and go on later.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::Status;

use super::within;

/// One connection; it breaks off when dropped.
pub(crate) struct Raw {
    streams: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// A call that has begun: its headers are sent.
pub(crate) struct RawCall {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

/// All that came back.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

/// A message with the five bytes before it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message of a test is small");
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("the server accepts connections")).await
    }

    /// Speaks HTTP/2 over any stream.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (streams, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
        let connection = tokio::spawn(async move {
            // How it ends is seen by the calls on it.
            connection.await.ok();
        });
        Self { streams, connection }
    }

    /// Sends the headers of a call.
    pub(crate) async fn begin(&self, path: &str, headers: &[(&str, &str)]) -> RawCall {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let ready = self.streams.clone().ready();
        let mut streams = within("a free stream", ready).await.expect("the connection lives");
        let (answer, body) =
            streams.send_request(request, false).expect("the connection takes a call");
        RawCall { answer, body }
    }

    /// A whole call with the bytes of one message.
    pub(crate) async fn call(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        message: &impl Message,
    ) -> RawAnswer {
        let mut call = self.begin(path, headers).await;
        call.send(framed(&message.encode_to_vec()), true);
        call.answer().await
    }

    /// Waits until the server has read all that was sent before: streams are opened in order.
    pub(crate) async fn settle(&self) {
        let path = "/jet.session.v1.InstanceService/GetServerInfo";
        let answer = self.call(path, &[], &jet_session::proto::api::GetServerInfoRequest {}).await;
        assert_eq!(answer.status().code(), tonic::Code::Ok);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl RawCall {
    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: Bytes, end: bool) {
        self.body.send_data(bytes, end).expect("the call is open");
    }

    /// Leaves the call in the lurch.
    pub(crate) fn cancel(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }

    /// Whether the server takes the call, which it does not if its headers are no call.
    pub(crate) async fn taken(self) -> bool {
        self.answer.await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits for everything.
    pub(crate) async fn answer(self) -> RawAnswer {
        within("an answer", async move {
            let answer = self.answer.await.expect("the call is answered");
            let (parts, mut incoming) = answer.into_parts();
            let mut body = BytesMut::new();
            while let Some(bytes) = incoming.data().await {
                let bytes = bytes.expect("the answer goes on");
                let taken = incoming.flow_control().release_capacity(bytes.len());
                taken.expect("no more is released than came");
                body.extend_from_slice(&bytes);
            }
            let trailers = incoming.trailers().await.expect("the answer ends");
            RawAnswer {
                headers: parts.headers,
                body: body.freeze(),
                trailers: trailers.unwrap_or_default(),
            }
        })
        .await
    }
}

impl RawAnswer {
    /// The status, wherever it stands.
    pub(crate) fn status(&self) -> Status {
        Status::from_header_map(&self.headers)
            .or_else(|| Status::from_header_map(&self.trailers))
            .expect("an answer has a status")
    }

    /// The one message.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        M::decode(self.body.slice(5..)).expect("the answer is a message")
    }
}
