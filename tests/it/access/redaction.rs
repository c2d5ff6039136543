//! Who may not observe learns of nobody else.

use bytes::Bytes;
use jet_session::proto::api as pb;
use tonic::{Request, Status};

use crate::support::call::{Call, ask, call, on_session, on_sessions_of, path};
use crate::support::ruled::rule;
use crate::support::{MAIN, Refusal, TestServer};

/// What alice must not learn: the principals that use and operate main beside her, and the thread of one.
const SECRETS: [&str; 3] = ["bob", "xyzzy", "carol"];
const BOBS: &str = "xyzzy/4711/1";
const ALICES: &str = "mine/4712/9";

/// `alice` uses main, and with `observes` she observes it too.
async fn server(observes: bool) -> TestServer {
    let alices: &[&str] = if observes { &["use", "observe"] } else { &["use"] };
    let rules = [
        rule(&["alice"], &["main"], alices),
        rule(&["bob"], &["main"], &["use"]),
        rule(&["carol"], &["main"], &["operate"]),
    ];
    TestServer::ruled(&rules, &["alice", "bob", "carol"]).await
}

/// What can have become of a session.
#[derive(Debug, Clone, Copy)]
enum State {
    HeldByBob,
    HeldByBobWithALease,
    TakenFromAlice,
    TakenFromAliceAndHeldByBob,
    HandedToBob,
    TransactionOfBob,
    TransactionOfBobWhoHoldsIt,
}

const STATES: [State; 7] = [
    State::HeldByBob,
    State::HeldByBobWithALease,
    State::TakenFromAlice,
    State::TakenFromAliceAndHeldByBob,
    State::HandedToBob,
    State::TransactionOfBob,
    State::TransactionOfBobWhoHoldsIt,
];

/// A new session in this state.
async fn session(server: &TestServer, state: State) -> String {
    let (alice, bob, carol) = (server.by("alice"), server.by("bob"), server.by("carol"));
    let session = alice.begin().await;
    let begin_transaction = async || {
        let request = pb::BeginTransactionRequest {
            session: session.clone(),
            thread_id: BOBS.to_owned(),
            ..Default::default()
        };
        bob.sessions().begin_transaction(request).await.expect("it may");
    };
    match state {
        State::HeldByBob => drop(bob.set(&session, BOBS).await.expect("it may")),
        State::HeldByBobWithALease => {
            let request = pb::SetSessionContextRequest {
                session: session.clone(),
                thread_id: BOBS.to_owned(),
                context: 7,
                lease_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
                ..Default::default()
            };
            bob.sessions().set_session_context(request).await.expect("it may");
        }
        State::TakenFromAlice | State::TakenFromAliceAndHeldByBob => {
            let token = alice.set(&session, ALICES).await.expect("it may");
            carol.force(&session, token).await.expect("it may");
            if matches!(state, State::TakenFromAliceAndHeldByBob) {
                bob.set(&session, BOBS).await.expect("it may");
            }
        }
        State::HandedToBob => {
            alice.set(&session, ALICES).await.expect("it may");
            alice.transfer(&session, (ALICES, BOBS), "bob").await.expect("it may");
        }
        State::TransactionOfBob => begin_transaction().await,
        State::TransactionOfBobWhoHoldsIt => {
            begin_transaction().await;
            bob.set(&session, BOBS).await.expect("it may");
        }
    }
    session
}

/// Every call of alice's on a session, and on sessions and threads.
fn calls(session: &str) -> Vec<Call> {
    let stale = pb::ResetSessionContextRequest {
        session: session.to_owned(),
        thread_id: ALICES.to_owned(),
        fencing_token: 1,
        ..Default::default()
    };
    let pipelined = |operation| pb::PipelineSessionContextsRequest {
        operations: vec![pb::PipelineOperation { id: 1, operation: Some(operation) }],
    };
    let set = pipelined(pb::pipeline_operation::Operation::Set(pb::SetSessionContextRequest {
        session: session.to_owned(),
        thread_id: ALICES.to_owned(),
        context: 7,
        ..Default::default()
    }));
    let reset = pipelined(pb::pipeline_operation::Operation::Reset(stale.clone()));
    let threads = vec![ALICES.to_owned(), BOBS.replace("xyzzy", "other")];
    let keep = pb::KeepThreadsAliveRequest {
        thread_ids: threads,
        lease_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        include_held: true,
    };
    let mut calls = on_session(session, ALICES);
    calls.extend(on_sessions_of(MAIN));
    calls.extend([
        call("SessionService/ResetSessionContext", &stale),
        call("SessionService/PipelineSessionContexts", &set),
        call("SessionService/PipelineSessionContexts", &reset),
        call("ThreadService/KeepThreadsAlive", &keep),
        call("ThreadService/GetThread", &pb::GetThreadRequest { thread_id: ALICES.to_owned() }),
        call("ThreadService/ListThreads", &pb::ListThreadsRequest::default()),
    ]);
    calls
}

/// Everything that an answer of alice's says, as bytes.
async fn told(server: &TestServer, call: &Call) -> Vec<u8> {
    let mut request = Request::new(call.message.clone());
    request
        .metadata_mut()
        .insert("authorization", "Bearer alice".parse().expect("a token is fit for metadata"));
    let answer: Result<Bytes, Status> = ask(server.channel(), &path(call.method), request).await;
    match answer {
        Ok(message) => message.to_vec(),
        Err(status) => {
            let metadata = format!("{:?}", status.metadata());
            [status.details(), status.message().as_bytes(), metadata.as_bytes()].concat()
        }
    }
}

/// What of the secrets is told, over all states and calls.
async fn learned(observes: bool) -> Vec<String> {
    let server = server(observes).await;
    let mut learned = Vec::new();
    for state in STATES {
        let count = calls("").len();
        for nth in 0..count {
            let session = session(&server, state).await;
            let call = &calls(&session)[nth];
            let told = told(&server, call).await;
            for secret in SECRETS {
                if told.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                    learned.push(format!("{secret} by {} {state:?}", call.method));
                }
            }
        }
    }
    learned
}

#[tokio::test]
async fn who_may_not_observe_learns_of_nobody_else() {
    let learned = learned(false).await;
    assert!(learned.is_empty(), "{}", learned.join("\n"));
}

#[tokio::test]
async fn who_may_observe_learns_of_everybody() {
    let learned = learned(true).await;
    for secret in SECRETS {
        assert!(learned.iter().any(|it| it.starts_with(secret)), "nothing of {secret}");
    }
    for method in ["SetSessionContext", "ResetSessionContext", "PipelineSessionContexts"] {
        assert!(learned.iter().any(|it| it.contains(method)), "{method} tells nothing");
    }
}

#[tokio::test]
async fn what_is_left_out_leaves_the_answer_of_the_same_use() {
    let server = server(false).await;
    let alice = server.by("alice");
    let held = session(&server, State::HeldByBobWithALease).await;
    let refused = alice.set(&held, ALICES).await.unwrap_err();
    assert_eq!(refused.jet_err().code(), -1912);
    assert_eq!(refused.fact("holder_thread_id"), "");
    assert!(!refused.fact("fencing_token").is_empty() && !refused.fact("held_for").is_empty());
    assert!(refused.told().retry_info().is_some(), "the end of the lease is known");
    assert!(refused.message().contains("held by another principal under token"), "{refused}");

    let taken = session(&server, State::TakenFromAlice).await;
    let refused = alice.reset(&taken, ALICES).await.unwrap_err();
    assert_eq!((refused.jet_err().code(), &*refused.fact("cause")), (-1913, "forced"));
    assert_eq!(
        (&*refused.fact("by_principal"), &*refused.fact("reason")),
        ("", "its host is gone")
    );
    let told = format!("another principal took {taken} from thread {ALICES}");
    assert!(refused.message().contains(&told), "{refused}");
}
