//! How a server ends: orders, the drain and its deadline.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use jet_session::config::{Config, Listen};
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::server::{self, Ending, Orders, ServerError};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::call::{Call, on_session, on_sessions_of, path};
use crate::support::raw::{Raw, RawCall, framed};
use crate::support::{MAIN, Refusal, THREAD_A, TestServer, within};

/// Longer than any test: a drain that ends before was ended by something else.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// A drain that a test can wait for.
const SHORT: Duration = Duration::from_millis(300);

/// Begins calls without their messages: they are in flight until told more.
async fn in_flight(raw: &Raw, calls: impl IntoIterator<Item = Call>) -> Vec<(Call, RawCall)> {
    let mut begun = Vec::new();
    for call in calls {
        begun.push((call.clone(), raw.begin(&path(call.method), &[]).await));
    }
    raw.settle().await;
    begun
}

/// Orders the server to end and waits until it drains.
async fn drain(server: &TestServer) {
    let request = HealthCheckRequest { service: String::new() };
    let mut health = server.health().watch(request).await.expect("health").into_inner();
    server.order_to_end().await;
    within("the server drains", async {
        loop {
            let status = health.message().await.expect("the watch goes on").expect("a status");
            if status.status() == ServingStatus::NotServing {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_server_ends_at_the_first_order_and_frees_its_port() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    // Connections that are open and do nothing keep nobody.
    let idle = server.connect().await;
    let raw = Raw::connect(server.address()).await;
    raw.settle().await;
    server.session().await;

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::Graceful);
    TcpListener::bind(server.address()).unwrap();
    drop(idle);
}

#[tokio::test]
async fn an_open_watch_keeps_nobody() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let request = pb::WatchInstancesRequest::default();
    let mut watch = server.instances().watch_instances(request).await.unwrap().into_inner();
    watch.message().await.unwrap();

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::Graceful);
    let refusal = within("the end of the watch", watch.message()).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
}

#[tokio::test]
async fn calls_in_flight_are_answered_and_only_those_that_take_are_refused() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let session = server.session().await;
    let before = server.picture().await;
    let raw = Raw::connect(server.address()).await;
    let calls = on_session(session.name(), THREAD_A).into_iter().chain(on_sessions_of(MAIN));
    // The one that ends the session comes last.
    let (ending, calls): (Vec<_>, Vec<_>) =
        calls.partition(|call| call.method == "SessionService/EndSession");
    let info = Call { method: "InstanceService/GetInstance", message: Bytes::new() };
    let calls = in_flight(&raw, calls.into_iter().chain([info]).chain(ending)).await;
    drain(&server).await;

    for (call, mut open) in calls {
        let message = if call.method == "InstanceService/GetInstance" {
            pb::GetInstanceRequest { name: MAIN.to_owned() }.encode_to_vec().into()
        } else {
            call.message
        };
        open.send(framed(&message), true);
        let answer = open.answer().await;
        let status = answer.status();
        let code = match call.method {
            "SessionService/GetSession" | "SessionService/ListSessions" => 0,
            "SessionService/EndSession" => 0,
            "SessionService/ResetSessionContext"
            | "SessionService/CheckSessionContext"
            | "SessionService/ForceResetSessionContext" => -1913,
            "SessionService/RollbackTransaction" => -1054,
            "InstanceService/GetInstance" => {
                // The phase does not change because this process goes.
                let main = answer.message::<pb::GetInstanceResponse>().instance.unwrap();
                assert_eq!(Some(&main), before.instances().first());
                0
            }
            _ => -1329,
        };
        if code == 0 {
            assert_eq!(status.code(), Code::Ok, "{}", call.method);
            continue;
        }
        assert_eq!(status.jet_err().code(), code, "{}", call.method);
        if code == -1329 {
            assert_eq!(status.code(), Code::Unavailable, "{}", call.method);
            assert!(status.told().retry_info().is_some(), "another server may answer");
            assert!(!status.metadata().contains_key("grpc-retry-pushback-ms"));
        }
    }
    assert_eq!(server.ending().await, Ending::Graceful);
}

#[tokio::test]
async fn nobody_connects_to_a_draining_server() {
    let server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let raw = Raw::connect(server.address()).await;
    let held = in_flight(&raw, on_sessions_of(MAIN)).await;
    drain(&server).await;

    let refused = TcpStream::connect(server.address()).await;

    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    drop(held);
}

#[tokio::test]
async fn a_call_that_goes_on_is_cut_off_at_the_deadline_of_the_drain() {
    let mut server = TestServer::start_with(|config| config.drain = SHORT).await;
    let raw = Raw::connect(server.address()).await;
    let held = in_flight(&raw, on_sessions_of(MAIN)).await;

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::CutOff);
    drop(held);
}

#[tokio::test]
async fn a_peer_that_never_said_a_word_keeps_nobody_waiting() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let silent = TcpStream::connect(server.address()).await.unwrap();
    // The next connection is accepted after the silent one.
    Raw::connect(server.address()).await.settle().await;

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::Graceful);
    TcpListener::bind(server.address()).unwrap();
    drop(silent);
}

#[tokio::test]
async fn an_open_watch_of_health_does_not_spoil_the_end() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut health = server.health().watch(request).await.unwrap().into_inner();
    health.message().await.unwrap();

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::Graceful);
}

#[tokio::test]
async fn an_open_question_about_the_api_does_not_spoil_the_end() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let (_more, questions) = tokio::sync::mpsc::channel(1);
    let mut reflection = ServerReflectionClient::new(server.channel());
    let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
    let answers = reflection.server_reflection_info(questions).await;
    let mut answers = answers.unwrap().into_inner();

    server.order_to_end().await;

    assert!(within("the end of the stream", answers.message()).await.unwrap().is_none());
    assert_eq!(server.ending().await, Ending::Graceful);
}

#[tokio::test]
async fn a_peer_that_is_frozen_and_waits_for_nothing_keeps_nobody_for_long() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let mut frozen = TcpStream::connect(server.address()).await.unwrap();
    // It speaks HTTP/2, and then reads nothing, so it answers nothing.
    frozen.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    frozen.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    Raw::connect(server.address()).await.settle().await;

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::Graceful);
    drop(frozen);
}

#[tokio::test]
async fn a_second_order_ends_the_drain_at_once() {
    let mut server = TestServer::start_with(|config| config.drain = FOR_EVER).await;
    let raw = Raw::connect(server.address()).await;
    let held = in_flight(&raw, on_sessions_of(MAIN)).await;
    drain(&server).await;

    server.order_to_end().await;

    assert_eq!(server.ending().await, Ending::CutOff);
    drop(held);
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_to_be_taken() {
    let server = TestServer::start().await;
    let config = Config::new(server.address());

    let refused = tokio::task::spawn_blocking(move || {
        server::run(&config, || Ok(Orders::channel().1), |_| panic!("two servers on one port"))
    });

    match refused.await.unwrap() {
        Err(ServerError::Listen { place, source }) => {
            assert_eq!(place, Listen::Tcp(server.address()));
            assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        }
        other => panic!("{other:?}"),
    }
}
