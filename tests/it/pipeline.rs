//! PipelineSessionContexts: many operations a message, many messages a stream.

use std::collections::BTreeMap;

use jet_session::domain::limits::{PIPELINE_OPERATIONS_MAX, REQUEST_BYTES_MAX};
use jet_session::proto::api as pb;
use jet_session::proto::api::pipeline_operation::Operation;
use jet_session::proto::api::pipeline_result::Result as Told;
use prost::Message as _;
use prost_types::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, TestSession, within};

struct Pipeline {
    operations: mpsc::Sender<pb::PipelineSessionContextsRequest>,
    results: Streaming<pb::PipelineSessionContextsResponse>,
    /// Results that came in one message with those that were asked for.
    more: Vec<pb::PipelineResult>,
}

async fn pipeline(server: &TestServer) -> Pipeline {
    let (operations, sent) = mpsc::channel(64);
    let results = server.sessions().pipeline_session_contexts(ReceiverStream::new(sent)).await;
    Pipeline { operations, results: results.expect("a stream").into_inner(), more: Vec::new() }
}

impl Pipeline {
    async fn send(&self, operations: impl IntoIterator<Item = (u64, Operation)>) {
        let operation = |(id, operation)| pb::PipelineOperation { id, operation: Some(operation) };
        let operations = operations.into_iter().map(operation).collect();
        let message = pb::PipelineSessionContextsRequest { operations };
        self.operations.send(message).await.expect("the stream is open");
    }

    /// The next results, whatever messages they come in.
    async fn take(&mut self, count: usize) -> Vec<(u64, Told)> {
        while self.more.len() < count {
            let message = within("results", self.results.message()).await.expect("no end");
            self.more.extend(message.expect("no end").results);
        }
        let rest = self.more.split_off(count);
        let taken = std::mem::replace(&mut self.more, rest);
        taken.into_iter().map(|result| (result.id, result.result.expect("a result"))).collect()
    }

    async fn next(&mut self) -> (u64, Told) {
        self.take(1).await.remove(0)
    }

    /// How the stream ends when nothing more is sent.
    async fn end(self) -> Result<(), Status> {
        drop(self.operations);
        let mut results = self.results;
        match within("the end", results.message()).await? {
            None => Ok(()),
            Some(message) => panic!("not the end: {message:?}"),
        }
    }
}

fn set(session: &TestSession, thread: &str) -> pb::SetSessionContextRequest {
    pb::SetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: thread.to_owned(),
        context: 7,
        ..Default::default()
    }
}

fn reset(session: &TestSession, thread: &str) -> Operation {
    Operation::Reset(pb::ResetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: thread.to_owned(),
        ..Default::default()
    })
}

fn token(told: &Told) -> u64 {
    match told {
        Told::Set(set) => set.fencing_token,
        Told::Claim(claim) => claim.fencing_token,
        Told::Transfer(transfer) => transfer.fencing_token,
        Told::Reset(reset) => reset.revision,
        Told::Check(_) | Told::Error(_) => panic!("no token: {told:?}"),
    }
}

/// A refusal as the unary call would have answered it.
fn refusal(told: Told) -> Status {
    match told {
        Told::Error(error) => {
            let details = error.encode_to_vec().into();
            Status::with_details(Code::from_i32(error.code), error.message, details)
        }
        Told::Set(_) | Told::Reset(_) | Told::Transfer(_) | Told::Check(_) | Told::Claim(_) => {
            panic!("not a refusal: {told:?}")
        }
    }
}

#[tokio::test]
async fn every_operation_answers_as_its_unary_call_does() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let name = session.name().to_owned();
    let mut pipeline = pipeline(&server).await;

    pipeline.send([(1, Operation::Set(set(&session, THREAD_A)))]).await;
    let (_, Told::Set(first)) = pipeline.next().await else { panic!("not a Set") };
    let looked = session.look().await.unwrap();
    assert_eq!(first.session.as_ref(), Some(&looked));

    let transfer = pb::TransferSessionContextRequest {
        session: name.clone(),
        thread_id: THREAD_A.to_owned(),
        to_thread_id: THREAD_B.to_owned(),
        fencing_token: first.fencing_token,
        ..Default::default()
    };
    pipeline.send([(2, Operation::Transfer(transfer))]).await;
    let (_, transferred) = pipeline.next().await;
    let current = token(&transferred);
    assert!(current > first.fencing_token);

    let check = |fencing_token| {
        let (session, thread_id) = (name.clone(), THREAD_B.to_owned());
        Operation::Check(pb::CheckSessionContextRequest { session, thread_id, fencing_token })
    };
    pipeline.send([(3, check(current)), (4, check(first.fencing_token))]).await;
    let mut checked = pipeline.take(2).await;
    let stale = refusal(checked.remove(1).1);
    assert_eq!((stale.code(), &*stale.reason()), (Code::Aborted, "STALE_FENCING_TOKEN"));
    let Told::Check(checked) = checked.remove(0).1 else { panic!("not a Check") };
    assert_eq!(checked.session, Some(session.look().await.unwrap()));

    pipeline.send([(5, reset(&session, THREAD_B))]).await;
    assert!(token(&pipeline.next().await.1) > current);

    let claim = pb::ClaimSessionContextRequest {
        parent: MAIN.to_owned(),
        thread_id: THREAD_A.to_owned(),
        context: 9,
        ..Default::default()
    };
    pipeline.send([(6, Operation::Claim(claim))]).await;
    let (_, Told::Claim(claimed)) = pipeline.next().await else { panic!("not a Claim") };
    assert_eq!(claimed.session, Some(session.look().await.unwrap()));
    pipeline.end().await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_one_result_and_not_the_end() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let mut pipeline = pipeline(&server).await;
    let unknown = pb::SetSessionContextRequest {
        session: "instances/nowhere/sessions/1".to_owned(),
        ..set(&session, THREAD_B)
    };
    let malformed = pb::SetSessionContextRequest {
        session: "sessions/1".to_owned(),
        thread_id: String::new(),
        ..Default::default()
    };
    let operations = [
        Operation::Set(set(&session, THREAD_B)),
        reset(&session, THREAD_B),
        Operation::Set(unknown),
        Operation::Set(malformed),
        reset(&session, THREAD_A),
    ];
    pipeline.send((1..).zip(operations)).await;
    let nothing = pb::PipelineOperation { id: 6, operation: None };
    let message = pb::PipelineSessionContextsRequest { operations: vec![nothing] };
    pipeline.operations.send(message).await.unwrap();

    let told = pipeline.take(6).await;
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let mut told = told.into_iter().map(|(_, told)| told);
    let mut refused = || refusal(told.next().unwrap());
    let held = refused();
    assert_eq!((held.code(), &*held.fact("jet_error")), (Code::FailedPrecondition, "-1912"));
    assert_eq!(refused().fact("jet_error"), "-1913");
    assert_eq!(refused().fact("jet_error"), "-1115");
    assert_eq!(refused().bad_fields(), ["session", "thread_id", "context"]);
    assert!(token(&told.next().unwrap()) > 0);
    let nothing = refusal(told.next().unwrap());
    assert_eq!(nothing.bad_fields(), ["operation"]);
    pipeline.end().await.unwrap();
}

#[tokio::test]
async fn operations_are_decided_in_their_order_and_answered_in_it() {
    const PAIRS: usize = 500;
    let server = TestServer::start().await;
    server.create("other").await.unwrap();
    server.initialize("instances/other").await.unwrap();
    let sessions = [
        server.session().await,
        server.begin("instances/other").await.unwrap(),
        server.session().await,
    ];
    let mut pipeline = pipeline(&server).await;
    let mut ids = 0..;
    for _ in 0..PAIRS {
        let mut operations = Vec::new();
        for session in &sessions {
            operations.push(Operation::Set(set(session, THREAD_A)));
            operations.push(reset(session, THREAD_A));
        }
        pipeline.send(ids.by_ref().zip(operations)).await;
        if pipeline.operations.capacity() == 0 {
            pipeline.more.extend(
                within("results", pipeline.results.message()).await.unwrap().unwrap().results,
            );
        }
    }
    let told = pipeline.take(PAIRS * 6).await;
    let mut last = BTreeMap::new();
    for ((id, told), expected) in told.iter().zip(0_u64..) {
        assert_eq!(*id, expected, "results come in the order of operations");
        // Two of three sessions share an instance and its revisions.
        let instance = id / 2 % 3 == 1;
        let revision = token(told);
        assert!(last.insert(instance, revision).is_none_or(|last| last < revision), "{told:?}");
    }
    pipeline.end().await.unwrap();
}

#[tokio::test]
async fn an_operation_that_waits_holds_nobody_up() {
    let server = TestServer::start().await;
    let (held, free) = (server.session().await, server.session().await);
    held.set_context(THREAD_A, 7).await.unwrap();
    let mut pipeline = pipeline(&server).await;
    let wait_timeout = Some(Duration { seconds: 3_600, nanos: 0 });
    let waits = pb::SetSessionContextRequest { wait_timeout, ..set(&held, THREAD_B) };
    pipeline
        .send([
            (1, Operation::Set(waits)),
            (2, Operation::Set(set(&free, THREAD_B))),
            (3, Operation::Set(set(&held, THREAD_B))),
            (4, reset(&free, THREAD_B)),
        ])
        .await;
    let told = pipeline.take(3).await;
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(held.look().await.unwrap().waiters, 1);

    pipeline.send([(5, reset(&held, THREAD_A))]).await;
    let mut told = pipeline.take(2).await;
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(token(&told[0].1), token(&told[1].1) + 1, "one release, one grant");
    pipeline.end().await.unwrap();
}

#[tokio::test]
async fn whoever_leaves_a_pipeline_waits_no_more() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let mut leaving = pipeline(&server).await;
    let wait_timeout = Some(Duration { seconds: 3_600, nanos: 0 });
    let waits = pb::SetSessionContextRequest { wait_timeout, ..set(&session, THREAD_B) };
    leaving.send([(1, Operation::Set(waits)), (2, reset(&session, THREAD_B))]).await;
    assert_eq!(leaving.next().await.0, 2);
    assert_eq!(session.look().await.unwrap().waiters, 1);
    drop(leaving);
    within("the queue to be empty", async { while session.look().await.unwrap().waiters > 0 {} })
        .await;
    session.reset_context(THREAD_A).await.unwrap();
    assert_eq!(session.binding().await, None);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_either() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let mut pipeline = pipeline(&server).await;
    let operations = |n: u64| (n * 100..(n + 1) * 100).map(|id| (id, reset(&session, THREAD_A)));
    let mut sent = 0;
    // Refusals are large, so the streams of both directions fill up.
    while let Ok(()) =
        tokio::time::timeout(std::time::Duration::from_millis(300), pipeline.send(operations(sent)))
            .await
    {
        sent += 1;
        assert!(sent < 10_000, "nothing holds the client back");
    }
    assert!(server.session().await.set_context(THREAD_A, 7).await.is_ok(), "others are served");
    let all = usize::try_from(sent).unwrap() * 100;
    assert!(all > PIPELINE_OPERATIONS_MAX);
    let told = pipeline.take(all).await;
    assert!(told.iter().map(|(id, _)| *id).eq(0..all as u64), "and nothing is lost");
}

#[tokio::test]
async fn a_message_that_cannot_be_taken_ends_the_stream_after_what_came_before() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let mut pipeline = pipeline(&server).await;
    let large = pb::SetSessionContextRequest {
        thread_id: "x".repeat(REQUEST_BYTES_MAX),
        ..set(&session, THREAD_A)
    };
    pipeline.send([(1, Operation::Set(set(&session, THREAD_A)))]).await;
    pipeline.send([(2, Operation::Set(large))]).await;
    assert_eq!(pipeline.next().await.0, 1);
    let status = pipeline.end().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(session.binding().await.unwrap().0, THREAD_A);
}

#[tokio::test]
async fn a_draining_server_answers_what_it_has_taken_and_ends_the_stream() {
    let mut server = TestServer::start().await;
    let session = server.session().await;
    let mut pipeline = pipeline(&server).await;
    pipeline.send([(1, Operation::Set(set(&session, THREAD_A)))]).await;
    assert_eq!(pipeline.next().await.0, 1);
    server.order_to_end().await;
    let status = within("the end", pipeline.results.message()).await.unwrap_err();
    assert_eq!((status.code(), &*status.fact("jet_error")), (Code::Unavailable, "-1329"));
    within("the server to end", server.ending()).await;
}
