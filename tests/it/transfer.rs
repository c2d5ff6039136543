//! Tokens and operators: handing a session over, asking who holds it, taking it away.

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::session_event::Cause;
use tonic::{Code, Status};

use crate::support::taking::{answered, seconds, stores};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, holds};

#[track_caller]
fn is_stale(refusal: &Status) {
    assert_eq!(refusal.code(), Code::Aborted, "{refusal:?}");
    assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
    assert_eq!(refusal.jet_err(), JetErr::SessionContextNotSetByThisThread);
}

#[track_caller]
fn is_not_held(refusal: &Status, cause: &str) {
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
    assert_eq!(refusal.jet_err(), JetErr::SessionContextNotSetByThisThread);
    assert_eq!(refusal.fact("cause"), cause);
}

#[tokio::test]
async fn a_transfer_keeps_the_word_and_gives_a_new_token() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let session = server.session().await;
        let first = session.set_context(THREAD_A, 42).await.unwrap();
        session.begin_transaction(THREAD_A).await.unwrap();

        let second = session.transfer(THREAD_A, THREAD_B, first).await.unwrap();

        assert!(second > first);
        let after = session.look().await.unwrap();
        assert_eq!(after.revision, second, "it is one event");
        let binding = after.binding.unwrap();
        assert_eq!((&*binding.thread_id, binding.context), (THREAD_B, 42));
        assert_eq!(binding.fencing_token, second);
        // The transaction belongs to the word, and goes on with it.
        assert_eq!(session.commit(THREAD_B).await.unwrap(), 0);
        // The one who handed it over is told so.
        let refusal = session.reset_context(THREAD_A).await.unwrap_err();
        is_not_held(&refusal, "transferred");
        assert_eq!(refusal.fact("holder_thread_id"), THREAD_B);
        assert_eq!(refusal.fact("by_principal"), "anonymous");
        is_stale(&session.reset_context_with(THREAD_B, first).await.unwrap_err());
        is_stale(&session.transfer(THREAD_B, THREAD_A, first).await.unwrap_err());
        // To oneself: a new token, and nothing else.
        let third = session.transfer(THREAD_B, THREAD_B, 0).await.unwrap();
        assert!(third > second);
        session.reset_context_with(THREAD_B, third).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_holder_hands_over_and_a_refusal_changes_nothing() {
    let server = TestServer::start().await;
    let (never, session) = (server.session().await, server.session().await);
    let old = session.set_context(THREAD_A, 7).await.unwrap();
    session.reset_context(THREAD_A).await.unwrap();
    is_not_held(&never.transfer(THREAD_A, THREAD_B, 0).await.unwrap_err(), "never_set");
    is_not_held(&session.transfer(THREAD_A, THREAD_B, 0).await.unwrap_err(), "already_reset");
    is_stale(&session.transfer(THREAD_A, THREAD_B, old).await.unwrap_err());
    let token = session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;

    is_not_held(&session.transfer(THREAD_B, THREAD_B, 0).await.unwrap_err(), "held_by_other");
    is_not_held(&session.transfer(THREAD_B, THREAD_B, token).await.unwrap_err(), "held_by_other");
    is_stale(&session.transfer(THREAD_A, THREAD_B, old).await.unwrap_err());
    is_stale(&session.transfer(THREAD_B, THREAD_B, old).await.unwrap_err());

    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_successor_that_waits_has_what_it_waits_for() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let session = server.session().await;
        let token = session.set_context(THREAD_A, 7).await.unwrap();
        let patient = session.wait_as_nth("somebody/else", 1).await;
        let same = session.wait_as_nth(THREAD_B, 2).await;
        let word = pb::SetSessionContextRequest { context: 8, ..session.waiting_request(THREAD_B) };
        let word = session.send(word);
        session.has_waiters(3).await;

        let given = session.transfer(THREAD_A, THREAD_B, token).await.unwrap();

        // It passes the queue.
        let granted = answered(same).await.unwrap();
        assert_eq!(granted.fencing_token, given);
        assert_eq!(session.binding().await, holds(THREAD_B, 7));
        let refusal = answered(word).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::SessionContextAlreadySet);
        session.has_waiters(1).await;
        session.reset_context_with(THREAD_B, given).await.unwrap();
        answered(patient).await.unwrap();
    }
}

#[tokio::test]
async fn a_successor_with_a_lease_holds_under_it() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_leased(THREAD_A, 3_600).await.unwrap();

    session.transfer(THREAD_A, THREAD_B, 0).await.unwrap();
    assert_eq!(session.look().await.unwrap().binding.unwrap().lease_ttl, None);

    server.keep_alive(&["leased"], 60).await.unwrap();
    session.transfer(THREAD_B, "leased", 0).await.unwrap();
    assert_eq!(session.look().await.unwrap().binding.unwrap().lease_ttl, seconds(60));
}

#[tokio::test]
async fn a_session_can_be_handed_to_another_principal() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let request = pb::TransferSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        to_thread_id: THREAD_A.to_owned(),
        to_principal: "spiffe://example.org/billing".to_owned(),
        ..Default::default()
    };

    let given = session.client().transfer_session_context(request).await.unwrap().into_inner();

    let binding = session.look().await.unwrap().binding.unwrap();
    assert_eq!(binding.principal, "spiffe://example.org/billing");
    // Our thread of that name is another thread now.
    is_not_held(&session.reset_context(THREAD_A).await.unwrap_err(), "transferred");
    // Whoever guards a resource may ask about anybody's.
    session.check(THREAD_A, given.fencing_token).await.unwrap();
}

#[tokio::test]
async fn a_check_tells_whether_a_thread_holds_now() {
    let server = TestServer::start().await;
    let (never, session) = (server.session().await, server.session().await);
    is_stale(&never.check(THREAD_A, 1).await.unwrap_err());
    let old = session.set_context(THREAD_A, 7).await.unwrap();
    session.reset_context(THREAD_A).await.unwrap();
    is_stale(&session.check(THREAD_A, old).await.unwrap_err());
    let token = session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;

    let held = session.check(THREAD_A, token).await.unwrap();

    assert_eq!(held.binding.unwrap().fencing_token, token);
    is_stale(&session.check(THREAD_A, old).await.unwrap_err());
    is_stale(&session.check(THREAD_B, old).await.unwrap_err());
    is_not_held(&session.check(THREAD_B, token).await.unwrap_err(), "held_by_other");
    session.check(THREAD_A, 0).await.unwrap_err().is_about_fields(&["fencing_token"]);
    assert_eq!(server.picture().await, before);
    server.stop(MAIN).await.unwrap();
    session.check(THREAD_A, token).await.unwrap();
}

#[tokio::test]
async fn an_operator_takes_a_session_away_and_its_holder_is_told_by_whom_and_why() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let session = server.session().await;
        let refusal = session.force_reset(1, "a look around").await.unwrap_err();
        is_not_held(&refusal, "never_set");
        let old = session.set_context(THREAD_A, 7).await.unwrap();
        session.transfer(THREAD_A, THREAD_A, 0).await.unwrap();
        let token = session.look().await.unwrap().binding.unwrap().fencing_token;
        let before = server.picture().await;
        is_stale(&session.force_reset(old, "its host is gone").await.unwrap_err());
        for reason in ["", " ", "two\nlines", &"x".repeat(257)] {
            session.force_reset(token, reason).await.unwrap_err().is_about_fields(&["reason"]);
        }
        assert_eq!(server.picture().await, before);
        server.stop(MAIN).await.unwrap();

        let revision = session.force_reset(token, "its host is gone").await.unwrap();

        let after = session.look().await.unwrap();
        assert_eq!((after.binding, after.revision), (None, revision));
        assert!(after.abandoned);
        for refusal in [
            session.reset_context(THREAD_A).await.unwrap_err(),
            session.reset_context_with(THREAD_A, token).await.unwrap_err(),
        ] {
            assert_eq!(refusal.jet_err(), JetErr::SessionContextNotSetByThisThread);
            assert_eq!(refusal.fact("cause"), "forced");
            assert_eq!(refusal.fact("by_principal"), "anonymous");
            assert_eq!(refusal.fact("reason"), "its host is gone");
            assert!(refusal.message().contains("its host is gone"), "{}", refusal.message());
        }
        let kept = server.keep_alive(&[THREAD_A], 60).await.unwrap();
        assert_eq!(kept[0].lost[0].cause(), Cause::Forced);
        server.resume(MAIN).await.unwrap();
        // What the next one does is no business of the last one's.
        let next = answered(session.send(session.set_request(THREAD_B))).await.unwrap();
        assert!(next.abandoned);
        session.reset_context(THREAD_B).await.unwrap();
        is_not_held(&session.reset_context(THREAD_A).await.unwrap_err(), "already_reset");
    }
}

#[tokio::test]
async fn tokens_rise_for_ever_whoever_gets_them() {
    let server = TestServer::start().await;
    let sessions = [server.session().await, server.session().await];
    let mut last = 0;
    for round in 0..20 {
        let session = &sessions[round % 2];
        let token = session.set_context(THREAD_A, 7).await.unwrap();
        assert!(token > last);
        last = session.transfer(THREAD_A, THREAD_B, token).await.unwrap();
        assert!(last > token);
        let reset = session.reset_context_with(THREAD_B, last).await.unwrap();
        assert!(reset > last);
    }
}
