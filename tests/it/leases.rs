//! Leases: how a session becomes free again when its holder is no more.

use std::time::Duration;

use jet_session::config::StoreKind;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::session_event::Cause;
use jet_session::server::Ending;
use tonic::Code;

use crate::support::taking::{answered, seconds, stores};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, holds, within};

/// A lease that no test outlives.
const LONG: i64 = 3_600;

fn micros(time: prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

#[tokio::test]
async fn a_lease_that_ends_lets_go_and_everybody_is_told() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let session = server.session().await;
        let token = session.set_leased(THREAD_A, 1).await.unwrap();
        session.begin_transaction(THREAD_A).await.unwrap();
        let binding = session.look().await.unwrap().binding.unwrap();
        assert_eq!(binding.lease_ttl, seconds(1));
        let set_time = binding.set_time.unwrap();

        session.is_free().await;

        // The session says so, its transaction is still there.
        let after = session.look().await.unwrap();
        assert!(after.abandoned && after.revision > token);
        assert_eq!(after.transaction_level, 1);
        // The one who lost it is told when it comes back.
        let refusal = session.reset_context(THREAD_A).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::SessionContextNotSetByThisThread);
        assert_eq!(refusal.fact("cause"), "lease_expired");
        assert!(refusal.fact("time").ends_with('Z'), "{refusal:?}");
        assert_eq!(refusal.fact("by_principal"), "", "nobody did it");
        let refusal = session.check(THREAD_A, token).await.unwrap_err();
        assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
        // So is its next heartbeat, and each one after it.
        for _ in 0..2 {
            let kept = server.keep_alive(&[THREAD_A], 1).await.unwrap();
            assert_eq!((kept[0].held_count, &*kept[0].held), (0, &[][..]));
            let [lost] = &kept[0].lost[..] else { panic!("{kept:?}") };
            assert_eq!(lost.session, session.name());
            assert_eq!((lost.cause(), lost.fencing_token), (Cause::LeaseExpired, token));
            let held = micros(lost.time.unwrap()) - micros(set_time);
            assert!(held >= 1_000_000, "a lease never ends early: {held} µs");
        }
        // And so is the next owner, until it has put the session in order.
        let next = session.send(session.set_request(THREAD_B));
        assert!(answered(next).await.unwrap().abandoned);
        session.rollback(THREAD_B, true).await.unwrap();
        assert!(!session.look().await.unwrap().abandoned);
        session.reset_context(THREAD_B).await.unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_is_renewed_goes_on_and_others_do_not() {
    let server = TestServer::start().await;
    let (kept, lost) = (server.session().await, server.session().await);
    let token = kept.set_leased(THREAD_A, 1).await.unwrap();
    lost.set_leased(THREAD_B, 1).await.unwrap();

    within("the other lease ends", async {
        while lost.binding().await.is_some() {
            let renewed = server.keep_alive(&[THREAD_A], 1).await.unwrap();
            assert_eq!(renewed[0].lease_remaining, seconds(1));
        }
    })
    .await;

    kept.check(THREAD_A, token).await.unwrap();
}

#[tokio::test]
async fn a_thread_without_a_lease_lives_for_ever_and_one_with_a_lease_has_all_under_it() {
    let server = TestServer::start().await;
    let (first, second) = (server.session().await, server.session().await);
    first.set_context(THREAD_A, 7).await.unwrap();
    let binding = first.look().await.unwrap().binding.unwrap();
    assert_eq!((binding.lease_ttl, binding.lease_remaining), (None, None));

    second.set_leased(THREAD_A, LONG).await.unwrap();

    for session in [&first, &second] {
        let binding = session.look().await.unwrap().binding.unwrap();
        assert_eq!(binding.lease_ttl, seconds(LONG));
        let remaining = binding.lease_remaining.unwrap();
        assert!((LONG - 60..=LONG).contains(&remaining.seconds), "{remaining:?}");
    }
    // A Set that says nothing leaves the lease as it is, and falls under it.
    let third = server.session().await;
    third.set_context(THREAD_A, 7).await.unwrap();
    assert_eq!(third.look().await.unwrap().binding.unwrap().lease_ttl, seconds(LONG));
    // A lease may begin before there is anything under it.
    server.keep_alive(&[THREAD_B], LONG).await.unwrap();
    let fourth = server.session().await;
    fourth.set_context(THREAD_B, 7).await.unwrap();
    assert_eq!(fourth.look().await.unwrap().binding.unwrap().lease_ttl, seconds(LONG));
}

#[tokio::test]
async fn a_refusal_says_when_the_lease_of_the_holder_ends() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_leased(THREAD_A, LONG).await.unwrap();

    let refusal = session.set_context(THREAD_B, 7).await.unwrap_err();

    assert_eq!(refusal.jet_err(), JetErr::SessionContextAlreadySet);
    assert!(refusal.fact("lease_remaining").ends_with('s'));
    let retry = refusal.told().retry_info().unwrap().retry_delay.unwrap();
    let bounds = Duration::from_secs(3_540)..=Duration::from_secs(3_600);
    assert!(bounds.contains(&retry), "{retry:?}");
    assert!(refusal.message().contains("left of its lease"), "{}", refusal.message());
}

#[tokio::test]
async fn who_waits_gets_what_a_lease_lets_go() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let token = session.set_leased(THREAD_A, 1).await.unwrap();
    let waiting = session.wait_as_nth(THREAD_B, 1).await;

    let granted = answered(waiting).await.unwrap();

    assert!(granted.abandoned && granted.fencing_token > token);
    assert_eq!(session.binding().await, holds(THREAD_B, 7));
    let refusal = session.reset_context(THREAD_A).await.unwrap_err();
    assert_eq!(refusal.fact("cause"), "lease_expired");
    assert_eq!(refusal.fact("holder_thread_id"), THREAD_B);
}

#[tokio::test]
async fn leases_are_renewed_and_end_in_a_stopped_instance_too() {
    let server = TestServer::start().await;
    let (kept, lost) = (server.session().await, server.session().await);
    kept.set_leased(THREAD_A, 1).await.unwrap();
    lost.set_leased(THREAD_B, 1).await.unwrap();
    server.stop(MAIN).await.unwrap();

    within("the other lease ends", async {
        while lost.binding().await.is_some() {
            server.keep_alive(&[THREAD_A], 1).await.unwrap();
        }
    })
    .await;

    assert_eq!(kept.binding().await, holds(THREAD_A, 7));
}

#[tokio::test]
async fn a_lease_survives_the_server_and_then_has_its_full_length() {
    let dir = tempfile::tempdir().unwrap();
    let store = || StoreKind::Log(dir.path().join("data"));
    let mut server = TestServer::start_with(|config| config.store = store()).await;
    let (long, short) = (server.session().await, server.session().await);
    long.set_leased(THREAD_A, LONG).await.unwrap();
    let token = short.set_leased(THREAD_B, 3).await.unwrap();
    server.order_to_end().await;
    assert_eq!(server.ending().await, Ending::Graceful);
    drop(server);

    let server = TestServer::start_with(|config| config.store = store()).await;
    server.until(MAIN, State::Ready).await;
    let [long, short] = [long, short].map(|session| session.at(&server));

    let binding = long.look().await.unwrap().binding.unwrap();
    assert_eq!(binding.lease_ttl, seconds(LONG));
    // The end is spread over ten seconds at most, and never early.
    assert!(binding.lease_remaining.unwrap().seconds >= LONG - 60);
    short.check(THREAD_B, token).await.unwrap();
    short.is_free().await;
    let kept = server.keep_alive(&[THREAD_B], 1).await.unwrap();
    assert_eq!(kept[0].lost[0].fencing_token, token);
    assert_eq!(long.binding().await, holds(THREAD_A, 7));
}

#[tokio::test]
async fn threads_that_end_hold_nothing_and_have_no_lease() {
    let server = TestServer::start().await;
    let sessions = [server.session().await, server.session().await];
    for session in &sessions {
        session.set_leased(THREAD_A, LONG).await.unwrap();
    }
    let other = server.session().await;
    other.set_leased(THREAD_B, LONG).await.unwrap();

    for _ in 0..2 {
        server.end_threads(&[THREAD_A, "unknown", THREAD_A]).await.unwrap();
        for session in &sessions {
            let seen = session.look().await.unwrap();
            assert_eq!((seen.binding, seen.abandoned), (None, false));
        }
    }

    assert_eq!(server.thread(THREAD_A).await.lease_ttl, None);
    let kept = server.keep_alive(&[THREAD_A], LONG).await.unwrap();
    assert_eq!(kept[0].lost, vec![], "it let go by itself");
    assert_eq!(other.binding().await, holds(THREAD_B, 7));
}

#[tokio::test]
async fn what_threads_hold_by_the_thousand_is_let_go_in_one_call() {
    let server = TestServer::start().await;
    let mut sessions = server.sessions();
    for _ in 0..2 {
        let instance = MAIN.to_owned();
        let batch = pb::BatchBeginSessionsRequest { instance, count: 1_000, ..Default::default() };
        for session in sessions.batch_begin_sessions(batch).await.unwrap().into_inner().sessions {
            let set = pb::SetSessionContextRequest {
                session: session.name,
                thread_id: THREAD_A.to_owned(),
                context: 7,
                ..Default::default()
            };
            sessions.set_session_context(set).await.unwrap();
        }
    }
    let kept = server.keep_alive(&[THREAD_A], LONG).await.unwrap();
    assert_eq!((kept[0].held_count, kept[0].held.len()), (2_000, 1_000));

    server.end_threads(&[THREAD_A]).await.unwrap();

    assert_eq!(server.instance(MAIN).await.unwrap().bound_count, 0);
    assert_eq!(server.thread(THREAD_A).await, unknown(THREAD_A));
}

fn unknown(thread: &str) -> pb::Thread {
    let (thread_id, principal) = (thread.to_owned(), "anonymous".to_owned());
    pb::Thread { thread_id, principal, ..Default::default() }
}

#[tokio::test]
async fn a_thread_that_nobody_knows_is_kept_alive_all_the_same() {
    let server = TestServer::start_with(|config| config.default_instance = false).await;
    assert_eq!(server.thread(THREAD_A).await, unknown(THREAD_A));

    let kept = server.keep_alive(&[THREAD_A], 60).await.unwrap();

    let alive = pb::KeptThread {
        thread_id: THREAD_A.to_owned(),
        lease_remaining: seconds(60),
        ..Default::default()
    };
    assert_eq!(kept, [alive]);
    let refusal = server.keep_alive(&[], 60).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
}
