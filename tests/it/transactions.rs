//! BeginTransaction, CommitTransaction, RollbackTransaction: nesting and ownership.

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api::transaction_binding::Owner;
use tonic::{Code, Status};

use crate::support::{
    MAIN, Refusal, THREAD_A as T1, THREAD_B as T2, TestServer, TestSession, holds,
};

const C: u64 = 7;
const D: u64 = 8;

/// What happens to a session before somebody goes on with its transaction.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(&'static str),
    Set(&'static str, u64),
    Reset(&'static str),
}
use Step::{Begin, Reset, Set};

/// Section 4 of the contract: the steps, and whether T1 and T2 may then go on.
const TABLE: [(&[Step], bool, bool); 7] = [
    (&[Begin(T1)], true, false),
    (&[Begin(T1), Set(T1, C), Reset(T1), Set(T2, C)], true, false),
    (&[Set(T1, C), Begin(T1)], true, false),
    (&[Set(T1, C), Begin(T2)], true, false),
    (&[Set(T1, C), Begin(T1), Reset(T1)], false, false),
    (&[Set(T1, C), Begin(T1), Reset(T1), Set(T2, C)], false, true),
    (&[Set(T1, C), Begin(T1), Reset(T1), Set(T2, D)], false, false),
];

async fn after(server: &TestServer, steps: &[Step]) -> TestSession {
    let session = server.session().await;
    for step in steps {
        let done = match *step {
            Begin(thread) => session.begin_transaction(thread).await.map(drop),
            Set(thread, word) => session.set_context(thread, word).await.map(drop),
            Reset(thread) => session.reset_context(thread).await.map(drop),
        };
        done.expect("every step of the table is allowed");
    }
    session
}

#[tokio::test]
async fn whoever_owns_a_transaction_goes_on_with_it_and_nobody_else() {
    let server = TestServer::start().await;
    for (steps, first, second) in TABLE {
        for (thread, may) in [(T1, first), (T2, second)] {
            for verb in ["commit", "roll back", "roll back all", "begin"] {
                let session = after(&server, steps).await;
                let before = server.picture().await;
                let result = match verb {
                    "commit" => session.commit(thread).await,
                    "roll back" => session.rollback(thread, false).await,
                    "roll back all" => session.rollback(thread, true).await,
                    _ => session.begin_transaction(thread).await,
                };
                match result {
                    Ok(level) => {
                        assert!(may, "{steps:?}: {thread} may {verb}");
                        assert_eq!(level, if verb == "begin" { 2 } else { 0 });
                        assert_eq!(session.level().await, level);
                    }
                    Err(refusal) => {
                        assert!(!may, "{steps:?}: {thread} may not {verb}");
                        is_sharing_violation(&refusal);
                        assert_eq!(server.picture().await, before);
                    }
                }
                session.end_by_force("the next row comes").await.unwrap();
            }
        }
    }
}

#[track_caller]
fn is_sharing_violation(refusal: &Status) {
    assert_eq!(refusal.code(), Code::Aborted, "{refusal:?}");
    assert_eq!(refusal.jet_err(), JetErr::SessionSharingViolation);
    assert_eq!(refusal.reason(), "SESSION_SHARING_VIOLATION");
    assert!(refusal.told().retry_info().is_none());
}

#[tokio::test]
async fn seven_levels_are_fine_and_the_eighth_is_too_deep_for_anybody() {
    let server = TestServer::start().await;
    let session = server.session().await;
    for level in 1..=7 {
        assert_eq!(session.begin_transaction(T1).await.unwrap(), level);
    }
    let before = server.picture().await;

    // Too deep wins over not yours.
    for thread in [T1, T2] {
        let refusal = session.begin_transaction(thread).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.jet_err(), JetErr::TransTooDeep);
        assert_eq!(server.picture().await, before);
    }
    for level in (0..7).rev() {
        assert_eq!(session.commit(T1).await.unwrap(), level);
    }
    assert_eq!(session.look().await.unwrap().transaction_binding, None);
}

#[tokio::test]
async fn at_level_0_there_is_nothing_to_commit_or_roll_back() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let before = server.picture().await;

    for result in [
        session.commit(T1).await,
        session.rollback(T1, false).await,
        session.rollback(T1, true).await,
    ] {
        let refusal = result.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.jet_err(), JetErr::NotInTransaction);
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_rollback_goes_one_level_up_or_all_the_way() {
    let server = TestServer::start().await;
    let session = server.session().await;
    for _ in 0..5 {
        session.begin_transaction(T1).await.unwrap();
    }
    assert_eq!(session.rollback(T1, false).await.unwrap(), 4);
    assert_eq!(session.rollback(T1, true).await.unwrap(), 0);
    assert_eq!(session.level().await, 0);
}

#[tokio::test]
async fn a_transaction_shows_what_it_is_bound_to_until_level_0() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let owner = || async {
        let seen = session.look().await.unwrap();
        seen.transaction_binding.and_then(|binding| binding.owner)
    };
    session.begin_transaction(T1).await.unwrap();
    assert_eq!(owner().await, Some(Owner::ThreadId(T1.to_owned())));
    // A context set afterwards does not rebind it.
    session.set_context(T2, C).await.unwrap();
    assert_eq!(owner().await, Some(Owner::ThreadId(T1.to_owned())));
    session.commit(T1).await.unwrap();
    assert_eq!(owner().await, None);
    session.begin_transaction(T1).await.unwrap();
    assert_eq!(owner().await, Some(Owner::Context(C)));
    session.rollback(T2, true).await.unwrap();
    assert_eq!(owner().await, None);
    assert_eq!(session.binding().await, holds(T2, C), "the context is never touched");
}

#[tokio::test]
async fn a_transaction_is_carried_over_threads_by_its_context() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(T1, C).await.unwrap();
    session.begin_transaction(T1).await.unwrap();
    for (from, to) in [(T1, T2), (T2, T1), (T1, T2)] {
        session.reset_context(from).await.unwrap();
        is_sharing_violation(&session.commit(from).await.unwrap_err());
        session.set_context(to, C).await.unwrap();
        assert_eq!(session.begin_transaction(to).await.unwrap(), 2);
        assert_eq!(session.commit(to).await.unwrap(), 1);
    }
    assert_eq!(session.commit(T2).await.unwrap(), 0);
    assert_eq!(session.binding().await, holds(T2, C));
}

#[tokio::test]
async fn a_session_ends_by_its_transactions_owner_or_by_anybody_once_its_context_is_reset() {
    let server = TestServer::start().await;
    let by_thread = after(&server, &[Begin(T1)]).await;
    let before = server.picture().await;
    is_sharing_violation(&by_thread.end(T2).await.unwrap_err());
    assert_eq!(server.picture().await, before);
    by_thread.end(T1).await.unwrap();

    let by_context = after(&server, &[Set(T1, C), Begin(T1), Reset(T1)]).await;
    by_context.end(T2).await.unwrap();
    assert_eq!(server.instance(MAIN).await.unwrap().session_count, 0);
}
