//! Connections that are too many, that say nothing, or too much, beside those that work.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::raw::Raw;
use crate::support::{THREAD_A, TestServer, holds, within};

/// So long that a client that speaks at once is heard on the slowest machine, and a test can wait for it.
const SILENCE: Duration = Duration::from_secs(4);

const INFO: &str = "/jet.session.v1.InstanceService/GetServerInfo";

/// Waits until the server has ended this.
async fn ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // Whether it is an end or a reset depends on what had not been read by then.
    within("the connection is ended", stream.read_to_end(&mut rest)).await.ok();
}

/// A connection that says this and no more.
async fn saying(server: &TestServer, words: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.expect("the backlog has room");
    stream.write_all(words).await.expect("the server accepts connections");
    stream
}

#[tokio::test]
async fn a_thousand_silent_connections_hold_up_nobody_and_are_ended() {
    let server = TestServer::start_with(|config| config.silence = SILENCE).await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(saying(&server, b"").await);
        silent.push(saying(&server, b"PRI * HTTP/2.0\r\n").await);
    }

    // Who was there before works on, and who comes later is served.
    let session = server.session().await;
    Raw::connect(server.address()).await.settle().await;
    for number in 1..=50 {
        session.set_context(THREAD_A, number).await.expect("nobody else wants it");
        session.reset_context(THREAD_A).await.expect("it is ours");
    }
    for stream in silent {
        ended(stream).await;
    }

    session.set_context(THREAD_A, 7).await.expect("the connection that worked is still there");
    assert_eq!(session.binding().await, holds(THREAD_A, 7));
}

#[tokio::test]
async fn a_connection_too_many_is_ended_at_once_until_one_goes() {
    let server = TestServer::start_with(|config| config.max_connections = 3).await;
    let raw = Raw::connect(server.address()).await;
    raw.settle().await;
    // Silent ones count as well.
    let silent = saying(&server, b"").await;
    ended(saying(&server, b"").await).await;
    ended(saying(&server, b"").await).await;

    // Those that have their place keep it.
    raw.settle().await;
    server.session().await;

    drop(silent);
    within("a place is free again", async {
        while !is_served(&server).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Whether a new connection is let in.
async fn is_served(server: &TestServer) -> bool {
    let stream = TcpStream::connect(server.address()).await.expect("the server listens");
    let Ok((mut streams, connection)) = h2::client::handshake(stream).await else {
        return false;
    };
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://localhost/").body(()).expect("a request");
    let answered = match streams.send_request(request, true) {
        Ok((answer, _)) => answer.await.is_ok(),
        Err(_) => false,
    };
    connection.abort();
    answered
}

#[tokio::test]
async fn a_client_that_cancels_all_its_calls_at_once_goes_on() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address()).await;
    for _ in 0..10 {
        let mut calls = Vec::new();
        for _ in 0..100 {
            calls.push(raw.begin(INFO, &[]).await);
        }
        calls.into_iter().for_each(super::support::raw::RawCall::cancel);
    }

    raw.settle().await;
}

#[tokio::test]
async fn headers_have_a_bound_that_ends_no_connection() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address()).await;
    let message = jet_session::proto::api::GetServerInfoRequest {};

    let large = "x".repeat(12 * 1024);
    let answer = raw.call(INFO, &[("authorization", &large)], &message).await;
    assert_eq!(answer.status().code(), Code::Ok);

    let too_large = "x".repeat(17 * 1024);
    let call = raw.begin(INFO, &[("authorization", &too_large)]).await;
    assert!(!within("a refusal", call.taken()).await);
    raw.settle().await;
}
