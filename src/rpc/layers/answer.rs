//! The body of an answer, as long as it is sent: a stream may go on for hours after its handler has returned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

use crate::rpc::layers::deadline::Deadline;
use crate::rpc::layers::panics::Panics;
use crate::rpc::layers::room::Underway;
use crate::rpc::layers::{REQUEST_ID, RequestId};
use crate::rpc::status::{self, About};
use crate::rpc::telemetry::LoggedCall;

/// A body that ends with a status also when its deadline passes or its handler panics, and gives the request id
/// back.
pub(super) struct Answer {
    /// Gone once it has ended.
    body: Option<Body>,
    /// Whether anything was sent: what has been answered is not taken back by a deadline.
    begun: bool,
    deadline: Option<Deadline>,
    /// Made when it is first waited for.
    timer: Option<Pin<Box<Sleep>>>,
    request_id: Option<RequestId>,
    uri: Uri,
    logged: LoggedCall,
    panics: Panics,
    _underway: Option<Underway>,
}

impl Answer {
    pub(super) fn new(
        body: Body,
        uri: Uri,
        logged: LoggedCall,
        deadline: Option<Deadline>,
        request_id: Option<RequestId>,
        panics: Panics,
        underway: Option<Underway>,
    ) -> Self {
        Self {
            body: Some(body),
            begun: false,
            deadline,
            timer: None,
            request_id,
            uri,
            logged,
            panics,
            _underway: underway,
        }
    }

    /// Whether the deadline has passed. If not, the task is woken when it does.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.at())));
        timer.as_mut().poll(context).is_ready()
    }

    /// Ends the body with this status.
    fn end(&mut self, status: impl FnOnce(&About) -> Status) -> Frame<Bytes> {
        if let Some(body) = self.body.take() {
            // What broke may break again while it is dropped.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
                self.panics.tell(self.uri.path(), &self.logged, &*panic);
            }
        }
        let status = status(&About { request_id: self.request_id.clone(), ..About::default() });
        Frame::trailers(self.named(trailers(&status)))
    }

    /// The trailers with the request id.
    fn named(&self, mut trailers: HeaderMap) -> HeaderMap {
        if let Some(id) = &self.request_id {
            trailers.insert(REQUEST_ID, id.header());
        }
        trailers
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context)));
        let frame = match polled {
            Ok(Poll::Ready(Some(Ok(frame)))) => frame,
            Ok(Poll::Pending) => {
                return if this.is_over(context) {
                    Poll::Ready(Some(Ok(this.end(status::deadline_exceeded))))
                } else {
                    Poll::Pending
                };
            }
            Ok(ended) => return ended,
            Err(panic) => {
                this.panics.tell(this.uri.path(), &this.logged, &*panic);
                return Poll::Ready(Some(Ok(this.end(status::panicked))));
            }
        };
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(this.named(trailers)),
            Err(_) if this.begun && this.is_over(context) => this.end(status::deadline_exceeded),
            Err(data) => {
                this.begun = true;
                data
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// A status as the trailers of an answer.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).expect("our own statuses can be headers");
    trailers
}
