//! HTTP for monitors and probes, on a listener of its own: `/metrics`, `/healthz`, `/readyz`.
//!
//! It goes on while the server drains. Whoever asks gets one answer a connection, in a bounded time and
//! among a bounded number of others, so a monitor that is slow or means ill holds nobody up. It is plaintext
//! whatever the address: it tells no ids, takes no orders, and neither kubelet nor a default Prometheus
//! would speak TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};

use crate::domain::limits::{
    ACCEPT_PAUSE_MS, METRICS_CONNECTIONS_MAX, METRICS_HEADER_SECONDS_MAX,
    METRICS_REQUEST_BYTES_MAX, METRICS_SECONDS_MAX,
};
use crate::server::metrics::page::{Format, Page};
use crate::server::metrics::{Metrics, State};

/// Answers everybody who comes, for ever.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) -> Infallible {
    let answers = Arc::new(Answers::new(metrics));
    let room = Arc::new(Semaphore::new(METRICS_CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            // Where there is no room the connection is closed: whoever waits for a place may be a probe.
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                    let answers = Arc::clone(&answers);
                    tokio::spawn(async move {
                        answer(stream, answers).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

/// Answers one request and closes.
async fn answer(stream: TcpStream, answers: Arc<Answers>) {
    let service = service_fn(move |request: Request<_>| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.to(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(METRICS_HEADER_SECONDS_MAX))
        .max_buf_size(METRICS_REQUEST_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let most = Duration::from_secs(METRICS_SECONDS_MAX);
    match tokio::time::timeout(most, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ended with an error"),
        Err(_) => tracing::debug!("a connection for metrics took too long"),
    }
}

/// What is answered.
pub(super) struct Answers {
    /// One at a time reads it: however many ask, they cost no more than one processor.
    page: Mutex<Arc<Page>>,
    metrics: Arc<Metrics>,
}

impl Answers {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { page: Mutex::new(Arc::new(Page::new(Arc::clone(&metrics)))), metrics }
    }

    pub(super) async fn to<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            refusal.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/metrics" => {
                let accept = request.headers().get(ACCEPT).and_then(|types| types.to_str().ok());
                self.metrics(Format::accepted(accept)).await
            }
            "/healthz" => plain(StatusCode::OK, "the process lives"),
            "/readyz" => match self.metrics.state() {
                State::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "the server starts"),
                State::Serving => plain(StatusCode::OK, "the server serves"),
                State::Draining => {
                    plain(StatusCode::SERVICE_UNAVAILABLE, "the server drains and will end")
                }
            },
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        }
    }

    /// Away from the threads that answer calls.
    async fn metrics(&self, format: Format) -> Response<Full<Bytes>> {
        let page = self.page.lock().await;
        let reader = Arc::clone(&page);
        let told = tokio::task::spawn_blocking(move || reader.told(format)).await;
        drop(page);
        match told {
            Ok(Ok(text)) => response(StatusCode::OK, format.content_type(), text),
            Ok(Err(_)) | Err(_) => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written")
            }
        }
    }
}

fn plain(status: StatusCode, sentence: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
