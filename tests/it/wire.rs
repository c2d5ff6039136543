//! What clients can do to a server below the level of messages, and what it answers.

use std::time::Duration;

use bytes::Bytes;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use prost::Message;
use tonic::{Code, Request};

use crate::support::call::{Call, ask, call, on_instance, on_session, on_sessions_of, path};
use crate::support::raw::{Raw, framed};
use crate::support::{MAIN, Refusal, THREAD_A, TestServer};

/// The largest request that the API promises to take.
const REQUEST_BYTES: usize = 64 * 1024;

const BEGIN: &str = "/jet.session.v1.SessionService/BeginSession";
const SET: &str = "/jet.session.v1.SessionService/SetSessionContext";

/// A message of so many bytes, all of them in a field that no request has.
fn padded(bytes: usize) -> Bytes {
    const TAG: [u8; 2] = [0xA2, 0x06];
    let payload = bytes - TAG.len() - 3;
    let mut message = TAG.to_vec();
    prost::encode_length_delimiter(payload, &mut message).expect("a Vec grows");
    message.resize(bytes, b'x');
    message.into()
}

fn begin() -> pb::BeginSessionRequest {
    pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_lives() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let info = |bytes| Call { method: "InstanceService/GetServerInfo", message: padded(bytes) };

    server.ask(&info(REQUEST_BYTES)).await.unwrap();
    for bytes in [REQUEST_BYTES + 1, 1024 * 1024, 5 * 1024 * 1024] {
        let refusal = server.ask(&info(bytes)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
        assert_eq!(refusal.reason(), "MESSAGE_TOO_LARGE");
        // On the same connection, and quite as before.
        assert_eq!(server.picture().await, before);
    }

    // And the very same connection, beyond doubt.
    let raw = Raw::connect(server.address()).await;
    for _ in 0..3 {
        let mut call = raw.begin(BEGIN, &[]).await;
        call.send(framed(&padded(REQUEST_BYTES + 1)), true);
        assert_eq!(call.answer().await.status().code(), Code::ResourceExhausted);
        raw.settle().await;
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_the_connection_lives() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let raw = Raw::connect(server.address()).await;
    let framed = |message: &[u8]| framed(message).to_vec();
    let mut compressed = framed(&begin().encode_to_vec());
    compressed[0] = 1;
    let mut neither = compressed.clone();
    neither[0] = 7;
    let whole = framed(&begin().encode_to_vec());

    for (what, bytes) in [
        ("text that is not UTF-8", framed(b"\x0a\x02\xC3\x28")),
        ("a field that ends too early", framed(b"\x0a\x05ab")),
        ("a field of another type", framed(b"\x08\x01")),
        ("no field at all", framed(b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")),
        ("groups without end", framed(&[0xA3; 400])),
        ("a message that ends too early", whole[..whole.len() - 1].to_vec()),
        ("a frame that ends too early", whole[..3].to_vec()),
        ("nothing", Vec::new()),
        ("a compressed message without its coding", compressed),
        ("a message neither compressed nor not", neither),
    ] {
        let mut call = raw.begin(BEGIN, &[]).await;
        call.send(bytes.into(), true);
        let refusal = call.answer().await.status();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{what}: {refusal:?}");
        assert_eq!(refusal.jet_err(), JetErr::InvalidParameter, "{what}");
        assert!(refusal.told().bad_request().is_some(), "{what}");
        raw.settle().await;
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_method_or_a_service_that_does_not_exist_is_unimplemented() {
    let server = TestServer::start().await;
    for path in
        ["/jet.session.v1.SessionService/Nonsense", "/jet.session.v2.Nonsense/Get", "/", "/a/b/c"]
    {
        let refusal = ask(server.channel(), path, Request::new(Bytes::new())).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_ends_the_call_before_it_begins() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let raw = Raw::connect(server.address()).await;
    for timeout in ["0n", "0u", "0m", "0S", "0M", "0H", "00000000n"] {
        let answer = raw.call(BEGIN, &[("grpc-timeout", timeout)], &begin()).await;
        let refusal = answer.status();
        assert_eq!(refusal.code(), Code::DeadlineExceeded, "{timeout}");
        assert_eq!(refusal.reason(), "DEADLINE_EXCEEDED");
    }
    assert_eq!(server.picture().await, before);
    let answer = raw.call(BEGIN, &[("grpc-timeout", "99999999H")], &begin()).await;
    assert_eq!(answer.status().code(), Code::Ok);
}

#[tokio::test]
async fn a_deadline_that_passes_ends_a_call_whose_message_does_not_come() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let raw = Raw::connect(server.address()).await;

    let mut call = raw.begin(BEGIN, &[("grpc-timeout", "20m")]).await;
    call.send(framed(&begin().encode_to_vec()).slice(..4), false);

    assert_eq!(call.answer().await.status().code(), Code::DeadlineExceeded);
    raw.settle().await;
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_deadline_that_passes_ends_a_stream() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address()).await;
    let watch = "/jet.session.v1.InstanceService/WatchInstances";

    let headers = [("grpc-timeout", "100m"), ("x-request-id", "watch-1")];
    let answer = raw.call(watch, &headers, &pb::WatchInstancesRequest::default()).await;

    assert!(!answer.body.is_empty(), "the present state comes first");
    assert_eq!(answer.status().code(), Code::DeadlineExceeded);
    assert_eq!(answer.trailers["x-request-id"], "watch-1");
}

#[tokio::test]
async fn a_deadline_that_is_no_duration_is_refused() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let raw = Raw::connect(server.address()).await;
    for timeout in ["", "5", "n", "1s", "-1S", "+1S", "1.5S", "1 S", "123456789n", "soon"] {
        let answer = raw.call(BEGIN, &[("grpc-timeout", timeout)], &begin()).await;
        answer.status().is_about_fields(&["grpc-timeout"]);
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn the_id_of_a_request_comes_back_whatever_becomes_of_it() {
    let server = TestServer::start().await;
    let raw = Raw::connect(server.address()).await;
    let longest = "i".repeat(128);
    for id in ["7", "018f5e0c-7d3a-7cc2-9d0a-000000000001", &longest] {
        let answer = raw.call(BEGIN, &[("x-request-id", id)], &begin()).await;
        assert_eq!(answer.status().code(), Code::Ok);
        assert_eq!(answer.trailers["x-request-id"], id);

        let unknown = pb::BeginSessionRequest { instance: "instances/nowhere".into(), ..begin() };
        for (path, refused) in [
            (BEGIN, unknown),
            (BEGIN, pb::BeginSessionRequest::default()),
            (SET, begin()),
            ("/jet.session.v1.SessionService/BatchBeginSessions", begin()),
            ("/jet.session.v1.ThreadService/ListThreads", begin()),
            ("/jet.session.v1.SessionService/CheckSessionContext", begin()),
        ] {
            let refusal = raw.call(path, &[("x-request-id", id)], &refused).await.status();
            assert_eq!(refusal.metadata().get("x-request-id").unwrap(), id, "{path}");
            let told = refusal.told();
            let info = told.request_info().unwrap_or_else(|| panic!("{path} has no RequestInfo"));
            assert_eq!(info.request_id, id, "{path}");
        }
    }
    // Not an id: left alone.
    for id in ["", "two words", &"i".repeat(129)] {
        let answer = raw.call(BEGIN, &[("x-request-id", id)], &begin()).await;
        assert_eq!(answer.status().code(), Code::Ok);
        assert!(!answer.trailers.contains_key("x-request-id"), "{id}");
    }
}

#[tokio::test]
async fn a_client_that_disconnects_in_mid_call_changes_nothing() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let before = server.picture().await;
    let set = pb::SetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        context: 7,
        ..Default::default()
    };
    let message = framed(&set.encode_to_vec());
    for sent in [0, 1, 5, message.len() - 1] {
        let raw = Raw::connect(server.address()).await;
        let mut call = raw.begin(SET, &[]).await;
        call.send(message.slice(..sent), false);
        raw.settle().await;
        drop(raw);
        assert_eq!(server.picture().await, before);
    }
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_its_answer_tears_nothing() {
    let server = TestServer::start().await;
    let mut raw = Raw::connect(server.address()).await;
    let mut others = Vec::new();
    for i in 0..40_usize {
        let session = server.session().await;
        let set = pb::SetSessionContextRequest {
            session: session.name().to_owned(),
            thread_id: THREAD_A.to_owned(),
            context: 7,
            ..Default::default()
        };
        let mut call = raw.begin(SET, &[]).await;
        call.send(framed(&set.encode_to_vec()), true);
        if i.is_multiple_of(2) {
            call.cancel();
        } else {
            drop(call);
            raw = Raw::connect(server.address()).await;
        }
        others.push(session);
    }
    raw.settle().await;
    // Whether a call was decided before its caller left is chance; that it was whole is not. Each
    // session can be taken now or is held by the one who left, and all counts agree.
    for session in &others {
        match session.set_context("worker-c/1/1", 8).await {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal.jet_err(), JetErr::SessionContextAlreadySet);
                assert_eq!(refusal.fact("holder_thread_id"), THREAD_A);
            }
        }
    }
    let main = server.instance(MAIN).await.unwrap();
    assert_eq!((main.session_count, main.bound_count), (40, 40));
}

/// Bytes near a request: a request with some of its bytes changed, cut off or followed by more.
fn near_requests(session: &str) -> impl Strategy<Value = (&'static str, Vec<u8>)> + use<> {
    let mut calls = on_session(session, THREAD_A);
    calls.extend(on_sessions_of(MAIN));
    calls.extend(on_instance("instances/pool"));
    calls.push(call("ErrorService/GetError", &pb::GetErrorRequest::default()));
    calls.push(call("ErrorService/ListErrors", &pb::ListErrorsRequest::default()));
    let calls: Vec<_> =
        calls.into_iter().map(|call| (call.method, call.message.to_vec())).collect();
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    (proptest::sample::select(calls), bytes, any::<proptest::sample::Index>()).prop_flat_map(
        |((method, message), noise, at)| {
            let mut changed = message.clone();
            let mut cut = message;
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] = noise.first().copied().unwrap_or(0xFF);
                cut.truncate(at);
            }
            cut.extend(&noise);
            prop_oneof![Just((method, noise)), Just((method, changed)), Just((method, cut))]
        },
    )
}

#[test]
fn bytes_at_random_break_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::start());
    let session = runtime.block_on(server.session());
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let passed = runner.run(&near_requests(session.name()), |(method, bytes)| {
        let mut request = Request::new(Bytes::from(bytes));
        // Some ask to wait.
        request.set_timeout(Duration::from_secs(1));
        match runtime.block_on(ask(server.channel(), &path(method), request)) {
            Ok(_) => {}
            Err(refusal) => {
                let code = refusal.code();
                assert!(
                    !matches!(code, Code::Internal | Code::Unknown | Code::Unavailable)
                        || refusal.metadata().contains_key("jet-error"),
                    "{method}: {refusal:?}",
                );
                assert!(refusal.told().error_info().is_some(), "{method}: {refusal:?}");
            }
        }
        Ok(())
    });
    passed.unwrap();
    runtime.block_on(async { assert!(server.instance(MAIN).await.is_ok()) });
    let _in_its_runtime = runtime.enter();
    drop(server);
}
