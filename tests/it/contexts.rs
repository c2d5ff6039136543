//! SetSessionContext, ResetSessionContext, and the sessions they are about.

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use tonic::{Code, Status};

use crate::support::call::{on_instance, on_session, on_sessions_of};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, holds};

/// Asserts a refusal by whom or what the session is bound to.
#[track_caller]
fn is_about_binding(refusal: &Status, jet: JetErr, cause: &str, holder: &str) {
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
    assert_eq!(refusal.jet_err(), jet);
    assert_eq!(refusal.fact("cause"), cause);
    assert_eq!(refusal.fact("holder_thread_id"), holder);
    let told = refusal.told();
    let violations = told.precondition_failure().map(|failure| &failure.violations[..]);
    assert!(matches!(violations, Some([one]) if one.r#type == "SESSION_CONTEXT"), "{told:?}");
    // Nobody's lease ends soon: coming back at once helps nobody.
    assert!(refusal.told().retry_info().is_none());
}

#[tokio::test]
async fn a_set_binds_word_and_thread_and_a_reset_lets_go() {
    let server = TestServer::start().await;
    let session = server.session().await;
    assert_eq!(session.binding().await, None);

    let token = session.set_context(THREAD_A, 7).await.unwrap();

    let bound = session.look().await.unwrap();
    let binding = bound.binding.unwrap();
    assert_eq!((&*binding.thread_id, binding.context), (THREAD_A, 7));
    assert_eq!(binding.fencing_token, token);
    assert_eq!(bound.revision, token, "the token is the revision of the event");
    assert_eq!(binding.principal, "anonymous");
    assert!(binding.set_time.is_some());
    assert_eq!(server.instance(MAIN).await.unwrap().bound_count, 1);

    let revision = session.reset_context(THREAD_A).await.unwrap();
    assert!(revision > token);
    assert_eq!(session.binding().await, None);
    assert_eq!(session.look().await.unwrap().revision, revision);
    assert_eq!(server.instance(MAIN).await.unwrap().bound_count, 0);
}

#[tokio::test]
async fn a_second_set_is_refused_whoever_asks_for_whatever_word() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let token = session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;

    for (thread, word) in [(THREAD_A, 7), (THREAD_A, 8), (THREAD_B, 7), (THREAD_B, 8)] {
        let refusal = session.set_context(thread, word).await.unwrap_err();
        is_about_binding(&refusal, JetErr::SessionContextAlreadySet, "", THREAD_A);
        assert_eq!(refusal.fact("fencing_token"), token.to_string());
        assert!(refusal.fact("held_for").ends_with('s'));
        assert_eq!(refusal.fact("thread_id"), thread);
        let resource = refusal.told().resource_info().unwrap().clone();
        assert_eq!(resource.resource_name, session.name());
        assert_eq!(resource.owner, THREAD_A);
        assert_eq!(server.picture().await, before);
    }
    assert_eq!(session.binding().await, holds(THREAD_A, 7));
}

#[tokio::test]
async fn only_the_holder_resets() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let refused = |cause: &'static str, holder: &'static str| {
        let session = session.clone();
        let server = &server;
        async move {
            let before = server.picture().await;
            let refusal = session.reset_context(THREAD_B).await.unwrap_err();
            let jet = JetErr::SessionContextNotSetByThisThread;
            is_about_binding(&refusal, jet, cause, holder);
            assert_eq!(refusal.told().resource_info().unwrap().resource_name, session.name());
            assert_eq!(server.picture().await, before);
        }
    };

    refused("never_set", "").await;
    session.set_context(THREAD_A, 7).await.unwrap();
    refused("held_by_other", THREAD_A).await;
    session.reset_context(THREAD_A).await.unwrap();
    refused("already_reset", "").await;
    // The one who did reset has nothing left to reset either.
    let refusal = session.reset_context(THREAD_A).await.unwrap_err();
    assert_eq!(refusal.fact("cause"), "already_reset");
}

#[tokio::test]
async fn a_token_that_is_not_the_current_one_is_stale() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let never = server.session().await;
    let old = session.set_context(THREAD_A, 7).await.unwrap();
    session.reset_context_with(THREAD_A, old).await.unwrap();
    let stale = |refusal: Status| {
        assert_eq!(refusal.code(), Code::Aborted);
        assert_eq!(refusal.reason(), "STALE_FENCING_TOKEN");
        assert_eq!(refusal.jet_err(), JetErr::SessionContextNotSetByThisThread);
    };
    let not_yours = |refusal: Status| {
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        assert_eq!(refusal.reason(), "SESSION_CONTEXT_NOT_SET_BY_THIS_THREAD");
    };

    // Unbound.
    stale(session.reset_context_with(THREAD_A, old).await.unwrap_err());
    stale(never.reset_context_with(THREAD_A, 1).await.unwrap_err());
    not_yours(session.reset_context_with(THREAD_A, 0).await.unwrap_err());
    let token = session.set_context(THREAD_A, 8).await.unwrap();
    let before = server.picture().await;
    // The holder.
    stale(session.reset_context_with(THREAD_A, old).await.unwrap_err());
    stale(session.reset_context_with(THREAD_A, u64::MAX).await.unwrap_err());
    // Not the holder.
    stale(session.reset_context_with(THREAD_B, old).await.unwrap_err());
    not_yours(session.reset_context_with(THREAD_B, 0).await.unwrap_err());
    not_yours(session.reset_context_with(THREAD_B, token).await.unwrap_err());

    assert_eq!(server.picture().await, before);
    session.reset_context_with(THREAD_A, token).await.unwrap();
    assert_eq!(session.binding().await, None);
}

#[tokio::test]
async fn words_are_only_compared() {
    let server = TestServer::start().await;
    // Two sessions may carry one word, one thread may hold both, and all but two words are legal.
    for word in [1, 7, 7, 0xFFFF_FFFF, u64::MAX - 1] {
        let session = server.session().await;
        session.set_context(THREAD_A, word).await.unwrap();
        assert_eq!(session.binding().await, holds(THREAD_A, word));
    }
}

#[tokio::test]
async fn reserved_words_are_refused_once_the_session_is_found_but_before_its_state() {
    let server = TestServer::start().await;
    let (free, bound, ended) =
        (server.session().await, server.session().await, server.session().await);
    bound.set_context(THREAD_A, 7).await.unwrap();
    ended.end(THREAD_A).await.unwrap();
    let before = server.picture().await;

    for word in [0, u64::MAX] {
        let refusal = ended.set_context(THREAD_A, word).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::InvalidSesid);
        for session in [&free, &bound] {
            let refusal = session.set_context(THREAD_A, word).await.unwrap_err();
            refusal.is_about_fields(&["context"]);
        }
    }
    assert_eq!(server.picture().await, before);
    server.stop(MAIN).await.unwrap();
    let refusal = free.set_context(THREAD_A, 0).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
}

#[tokio::test]
async fn a_session_that_ended_is_told_from_one_that_never_was() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.end(THREAD_A).await.unwrap();
    let before = server.picture().await;
    let never = |sesid: u64| format!("{MAIN}/sessions/{sesid}");

    for (name, cause) in [
        (session.name().to_owned(), "ended"),
        (never(session.sesid() + 1), "never_existed"),
        (never(u64::MAX), "never_existed"),
    ] {
        for call in on_session(&name, THREAD_A) {
            let refusal = server.ask(&call).await.unwrap_err();
            assert_eq!(refusal.code(), Code::NotFound, "{}", call.method);
            assert_eq!(refusal.jet_err(), JetErr::InvalidSesid);
            assert_eq!(refusal.fact("cause"), cause, "{}", call.method);
            assert_eq!(refusal.fact("session"), name);
            assert_eq!(refusal.told().resource_info().unwrap().resource_name, name);
        }
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn an_unknown_instance_is_said_to_be_unknown_by_every_call() {
    let server = TestServer::start().await;
    let before = server.picture().await;
    let calls = [
        on_session("instances/nowhere/sessions/1", THREAD_A),
        on_sessions_of("instances/nowhere"),
        on_instance("instances/nowhere"),
    ];
    for call in calls.iter().flatten() {
        let refusal = server.ask(call).await.unwrap_err();
        assert_eq!(refusal.code(), Code::NotFound, "{}", call.method);
        assert_eq!(refusal.jet_err(), JetErr::InvalidInstance, "{}", call.method);
        assert_eq!(refusal.fact("instance"), "instances/nowhere");
        assert!(refusal.told().resource_info().is_some(), "{}", call.method);
    }
    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_session_does_not_end_while_a_context_is_set_be_it_ones_own() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;

    for thread in [THREAD_A, THREAD_B] {
        let refusal = session.end(thread).await.unwrap_err();
        is_about_binding(&refusal, JetErr::SessionInUse, "", THREAD_A);
        assert_eq!(server.picture().await, before);
    }
    session.reset_context(THREAD_A).await.unwrap();
    session.end(THREAD_B).await.unwrap();
    assert_eq!(session.look().await.unwrap_err().jet_err(), JetErr::InvalidSesid);
}

#[tokio::test]
async fn force_ends_a_session_whatever_holds_it_if_a_reason_is_given() {
    let server = TestServer::start().await;
    let session = server.session().await;
    session.begin_transaction(THREAD_B).await.unwrap();
    session.set_context(THREAD_A, 7).await.unwrap();
    let before = server.picture().await;
    for reason in ["", "   ", "two\nlines", &"x".repeat(257)] {
        let refusal = session.end_by_force(reason).await.unwrap_err();
        refusal.is_about_fields(&["reason"]);
        assert_eq!(server.picture().await, before);
    }

    session.end_by_force("its host is gone").await.unwrap();

    assert_eq!(session.look().await.unwrap_err().fact("cause"), "ended");
    let main = server.instance(MAIN).await.unwrap();
    assert_eq!((main.session_count, main.bound_count), (0, 0));
}

#[tokio::test]
async fn a_duplicate_inherits_nothing() {
    let server = TestServer::start().await;
    let request = pb::BeginSessionRequest {
        instance: MAIN.to_owned(),
        labels: [("pool".to_owned(), "blue".to_owned())].into(),
        ..Default::default()
    };
    let begun = server.sessions().begin_session(request).await.unwrap().into_inner();
    let source = crate::support::TestSession::new(server.sessions(), begun.session.unwrap());
    source.set_context(THREAD_A, 7).await.unwrap();
    source.begin_transaction(THREAD_A).await.unwrap();

    let twin = source.duplicate().await.unwrap();

    let seen = twin.look().await.unwrap();
    assert!(seen.sesid > source.sesid());
    assert!(seen.labels.is_empty());
    assert_eq!((seen.binding, seen.transaction_binding), (None, None));
    assert_eq!(seen.transaction_level, 0);
    assert_eq!(source.binding().await, holds(THREAD_A, 7));
}
