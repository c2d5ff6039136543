//! The listener for monitors and probes: what it answers, and that it holds nobody up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jet_session::config::{Config, Listen};
use jet_session::domain::limits::METRICS_CONNECTIONS_MAX;
use jet_session::server::{self, Ending, Orders, ServerError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::call::{on_sessions_of, path};
use crate::support::metrics::{Page, ask, get, start, tells};
use crate::support::raw::Raw;
use crate::support::{MAIN, THREAD_A, TestServer, within};

#[tokio::test]
async fn probes_hear_how_far_the_server_is() {
    const FOR_EVER: Duration = Duration::from_secs(3_600);
    let mut server = TestServer::start_with(|config| {
        tells(config);
        config.drain = FOR_EVER;
    })
    .await;
    let at = server.metrics();
    let ready = get(at, "/readyz").await;
    assert_eq!((ready.status, &*ready.body), (200, "the server serves\n"));
    assert_eq!(get(at, "/healthz").await.status, 200);
    let raw = Raw::connect(server.address()).await;
    let mut held = Vec::new();
    for call in on_sessions_of(MAIN) {
        held.push(raw.begin(&path(call.method), &[]).await);
    }
    raw.settle().await;

    server.order_to_end().await;

    let drains = within("the server drains", async {
        loop {
            let told = get(at, "/readyz").await;
            if told.status != 200 {
                return told;
            }
        }
    })
    .await;
    assert_eq!((drains.status, &*drains.body), (503, "the server drains and will end\n"));
    assert_eq!(get(at, "/healthz").await.status, 200, "it is no reason to kill it");
    let page = Page::read(at).await;
    assert!(page.sum("grpc_server_started_total", &[]) >= held.len() as f64);
    drop((held, raw));
    assert_eq!(server.ending().await, Ending::Graceful);
    TcpStream::connect(at).await.unwrap_err();
}

#[tokio::test]
async fn other_paths_and_other_methods_are_refused() {
    let server = start().await;
    let at = server.metrics();
    for path in ["/", "/metrics/", "/metricsx", "/readyz/x", "//metrics"] {
        assert_eq!(get(at, path).await.status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let told = ask(at, &format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(told.status, 405, "{method}");
        assert!(told.head.contains("allow: get, head"), "{}", told.head);
    }
    let told = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((told.status, &*told.body), (200, ""));
    // HTTP/1.0, and a query as some scrapers send it.
    assert_eq!(ask(at, "GET /metrics?x=1 HTTP/1.0\r\n\r\n").await.status, 200);
    // Too much to be a request.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    assert!(ask(at, &long).await.status >= 400);
}

#[tokio::test]
async fn scrapers_get_the_format_that_they_accept() {
    let server = start().await;
    let accepting = |types: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {types}\r\n\r\n");
        let at = server.metrics();
        async move { ask(at, &request).await }
    };
    // What Prometheus 2.50 says.
    let open = accepting(
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
         q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    )
    .await;
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.body.contains("# TYPE grpc_server_started counter\n"));
    let text = accepting("text/plain").await;
    assert!(text.head.contains("content-type: text/plain; version=0.0.4"));
    assert!(!text.body.contains("# EOF"));
    assert!(text.body.contains("# TYPE grpc_server_started_total counter\n"));
}

#[tokio::test]
async fn scrapers_that_say_nothing_hold_nobody_up() {
    let server = start().await;
    let mut silent = Vec::new();
    for _ in 0..METRICS_CONNECTIONS_MAX {
        silent.push(TcpStream::connect(server.metrics()).await.unwrap());
    }

    let mut one_more = TcpStream::connect(server.metrics()).await.unwrap();

    let read = within("it is closed", one_more.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    drop(silent);
    within("there is room again", async {
        while TcpStream::connect(server.metrics()).await.is_err()
            || tokio::spawn(get(server.metrics(), "/healthz")).await.is_err()
        {}
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be_taken() {
    let server = start().await;
    let taken = server.metrics();
    let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.metrics_listen = Some(taken);

    let refused = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("two servers on one port"))
    });

    match refused.await.unwrap() {
        Err(ServerError::Listen { place, source }) => {
            assert_eq!(place, Listen::Tcp(taken));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}
