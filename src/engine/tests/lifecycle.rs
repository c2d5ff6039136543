//! Initialise, stop, resume, terminate, and what a restart of the server brings back.

use crate::domain::access::Scope;
use crate::domain::call::session::GetSession;
use crate::domain::instance::TerminateRefusal;
use crate::domain::jet_err::JetErr;
use crate::domain::refusal::{Cause, Retry};

use super::scripted::{Fate, Op};
use super::*;

#[tokio::test(start_paused = true)]
async fn initialise_answers_when_the_store_is_open_and_until_then_the_phase_answers() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let gate = world.store.stall(Op::Open, "a");
    let mut init = sent(world.initialize("a"));
    gate.reached().await;

    assert_eq!(world.phase("a"), Phase::Initializing);
    assert_eq!(world.set(1, "t").await, Err(NOT_INITIALIZED));
    assert_eq!(world.reset(1, "t").await, Err(NOT_INITIALIZED));
    assert_eq!(world.begin_session("a").await, Err(NOT_INITIALIZED));
    assert_eq!(world.initialize("a").await, Err(INIT_IN_PROGRESS));
    assert_eq!(world.delete("a").await, Err(INIT_IN_PROGRESS));
    assert_eq!(world.stop("a").await, Err(NOT_INITIALIZED));
    for mode in [TerminateMode::Complete, TerminateMode::Abrupt, TerminateMode::Force] {
        assert_eq!(world.terminate("a", mode).await, Err(NOT_INITIALIZED));
    }
    assert_unanswered(&mut init);

    gate.open();

    assert_eq!(init.await, Ok(Phase::Ready));
    assert_eq!(world.begin_session("a").await, Ok(1));
    assert_eq!(world.initialize("a").await, Err(ALREADY_INITIALIZED));
    assert_eq!(world.resting("a").await, Some(Resting::Ready));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_arrives_as_the_opening_ends_finds_the_instance_ready() {
    // Chance must not decide it, so it is tried often.
    for _ in 0..32 {
        let world = World::empty().await;
        world.create("a").await.unwrap();
        let gate = world.store.stall(Op::Open, "a");
        let init = sent(world.initialize("a"));
        gate.reached().await;
        let begun = sent(world.begin_session("a"));

        gate.open();

        assert_eq!(begun.await, Ok(1));
        assert_eq!(init.await, Ok(Phase::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_seen_while_the_store_opens() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    // Opening is over, recording that the instance is initialised is not.
    let gate = world.store.stall(Op::Update, "a");
    let init = sent(world.initialize("a"));
    gate.reached().await;

    assert_eq!((world.phase("a"), world.view("a").progress), (Phase::Initializing, 100));

    gate.open();
    assert_eq!(init.await, Ok(Phase::Ready));
    assert_eq!(world.view("a").progress, 0, "it is over");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_while_the_store_opens_says_when_to_come_back() {
    let world = World::empty().await;
    world.create("a").await.unwrap();
    let retry = async || {
        let call = world.raw("a", GetSession { session: session(1) }).await.unwrap_err().facts();
        let init = world.engine.initialize(&name("a"), nobody()).await.unwrap_err().facts();
        let delete = world.engine.delete(name("a"), nobody()).await.unwrap_err().facts();
        assert_eq!((init.retry, delete.retry), (call.retry, call.retry));
        call.retry
    };
    let (open, update) = (world.store.stall(Op::Open, "a"), world.store.stall(Op::Update, "a"));
    let init = sent(world.initialize("a"));
    open.reached().await;
    assert_eq!(retry().await, Retry::Soon, "nothing is known yet");
    open.open();
    update.reached().await;
    assert_eq!(retry().await, Retry::After(Duration::from_millis(50)), "nearly done");
    update.open();
    init.await.unwrap();
    world.terminate("a", TerminateMode::Complete).await.unwrap();

    let created = world.raw("a", GetSession { session: session(1) }).await.unwrap_err();
    assert_eq!(created.facts().retry, Retry::No, "somebody must initialise it");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_opened_has_failed_with_the_reason() {
    for (op, error) in [
        (Op::Open, JetErr::LogFileCorrupt),
        (Op::Open, JetErr::MissingLogFile),
        (Op::Update, JetErr::DiskIO),
    ] {
        let world = World::empty().await;
        world.create("a").await.unwrap();
        world.store.next(op, "a", Fate::Unavailable(error));

        assert_eq!(world.initialize("a").await, Err(error.code()));

        assert_eq!(world.failure("a").unwrap().error, error);
        assert_eq!(world.begin_session("a").await, Err(UNAVAILABLE));
        assert_eq!(world.resting("a").await, Some(Resting::Created));
        assert_eq!(world.store.open_journals(), 0, "{op:?}");
        assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
        assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
        assert_eq!(world.begin_session("a").await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_remembered_and_repeating_it_is_success() {
    let world = World::ready().await;
    world.set(1, "t").await.unwrap();
    world.store.seen();

    assert_eq!(world.stop("a").await, Ok(Phase::Stopped));
    assert_eq!(world.resting("a").await, Some(Resting::Stopped));
    assert_eq!(world.view("a").record.resting, Resting::Stopped);
    assert_eq!(world.stop("a").await, Ok(Phase::Stopped));
    assert_eq!(world.store.seen(), ["update a Stopped"], "once");

    assert_eq!(world.set(2, "t").await, Err(STOPPED));
    assert_eq!(world.begin_session("a").await, Err(STOPPED));
    assert!(world.reset(1, "t").await.is_ok());
    assert_eq!(world.initialize("a").await, Err(ALREADY_INITIALIZED));
    world.store.seen();

    assert_eq!(world.resume("a").await, Ok(Phase::Ready));
    assert_eq!(world.resting("a").await, Some(Resting::Ready));
    assert_eq!(world.resume("a").await, Ok(Phase::Ready));
    assert_eq!(world.store.seen(), ["update a Ready"], "once");
    assert!(world.set(2, "t").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_cannot_be_remembered_fails_the_instance() {
    for (fate, code) in [
        (Fate::Unavailable(JetErr::DiskIO), UNAVAILABLE),
        (
            Fate::UnknownWritten(JetErr::InstanceUnavailableDueToFatalLogDiskFull),
            UNAVAILABLE_DISK_FULL,
        ),
    ] {
        let world = World::ready().await;
        world.store.next(Op::Update, "a", fate);

        assert_eq!(world.stop("a").await, Err(code));

        assert!(world.failure("a").is_some());
        assert_eq!(world.reset(1, "t").await, Err(code));
        assert_eq!(world.store.open_journals(), 1, "only that of b");
    }
}

#[tokio::test(start_paused = true)]
async fn terminate_answers_when_the_store_is_closed_and_until_then_the_phase_answers() {
    for op in [Op::Commit, Op::Update, Op::Close] {
        let world = World::ready().await;
        let gate = world.store.stall(op, "a");
        let mut terminated = sent(world.terminate("a", TerminateMode::Complete));
        gate.reached().await;

        assert_eq!(world.phase("a"), Phase::Terminating);
        assert_eq!(world.set(1, "t").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.reset(1, "t").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.begin_session("a").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.initialize("a").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.stop("a").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.delete("a").await, Err(TERM_IN_PROGRESS));
        assert_eq!(world.terminate("a", TerminateMode::Force).await, Err(TERM_IN_PROGRESS));
        assert_unanswered(&mut terminated);

        gate.open();

        assert_eq!(terminated.await, Ok(Phase::Created));
        assert_eq!(world.resting("a").await, Some(Resting::Created));
        assert_eq!(world.store.seen(), ["commit a 1", "update a Created", "close a"]);
        assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
        assert_eq!(world.store.seen(), Vec::<String>::new(), "it was not initialised");
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_terminated_instance_have_ended_and_numbers_go_on() {
    for mode in [TerminateMode::Complete, TerminateMode::Abrupt, TerminateMode::Force] {
        let world = World::ready().await;
        let token = world.set(2, "t").await.unwrap();
        assert_eq!(
            world.terminate("a", mode).await,
            Ok(Phase::Created),
            "a context is no hindrance"
        );
        let view = world.view("a");
        assert_eq!((view.session_count, view.bound_count), (0, 0));
        assert_eq!(view.revision.get(), token + 1, "one event ended them all");

        assert_eq!(world.initialize("a").await, Ok(Phase::Ready));

        for (sesid, cause) in [(2, Cause::Ended), (4, Cause::NeverExisted)] {
            let call = GetSession { session: session(sesid) };
            let refusal = world.raw("a", call).await.unwrap_err();
            assert_eq!(refusal.jet_err(), JetErr::InvalidSesid);
            assert_eq!(refusal.facts().cause, Some(cause));
        }
        assert_eq!(world.begin_session("a").await, Ok(4));
        let next = world.set(4, "t").await.unwrap();
        assert!(next > token + 2, "the end of all sessions and the begin of one came between");
    }
}

#[tokio::test(start_paused = true)]
async fn open_transactions_refuse_a_terminate_that_is_not_forced() {
    for stopped in [false, true] {
        let world = World::ready().await;
        world.begin_transaction(1, "t").await.unwrap();
        world.begin_transaction(3, "t").await.unwrap();
        if stopped {
            world.stop("a").await.unwrap();
        }
        let before = (world.view("a"), world.sessions("a").await.unwrap());
        world.store.seen();
        for mode in [TerminateMode::Complete, TerminateMode::Abrupt] {
            let refusal = world.engine.terminate(&name("a"), mode, nobody()).await.unwrap_err();
            assert_eq!(refusal.jet_err().code(), TOO_MANY_ACTIVE_USERS);
            let Unanswered::Refused(TerminateRefusal::TooManyActiveUsers(blocking)) = refusal
            else {
                panic!("{refusal:?}")
            };
            assert_eq!((blocking.count, blocking.first), (2, vec![session(1), session(3)]));
        }
        assert_eq!((world.view("a"), world.sessions("a").await.unwrap()), before);
        assert_eq!(world.store.seen(), Vec::<String>::new());

        assert_eq!(world.terminate("a", TerminateMode::Force).await, Ok(Phase::Created));

        assert_eq!(world.initialize("a").await, Ok(Phase::Ready), "a terminate ends the stop");
        assert_eq!(world.sessions("a").await, Ok(Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_cannot_be_written_fails_the_instance() {
    for (op, fate, ended) in [
        (Op::Commit, Fate::Unavailable(JetErr::LogWriteFail), false),
        (Op::Commit, Fate::UnknownLost(JetErr::DiskIO), false),
        (Op::Commit, Fate::UnknownWritten(JetErr::DiskIO), true),
        (Op::Update, Fate::Unavailable(JetErr::DiskIO), true),
        (Op::Close, Fate::Unavailable(JetErr::DiskIO), true),
    ] {
        let world = World::ready().await;
        world.store.next(op, "a", fate);

        let refused = world.terminate("a", TerminateMode::Complete).await;

        assert_eq!(refused, Err(UNAVAILABLE), "{op:?} {fate:?}");
        assert!(world.failure("a").is_some());
        assert_eq!(world.begin_session("a").await, Err(UNAVAILABLE));
        assert_eq!(world.store.open_journals(), 1, "only that of b");
        assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
        assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
        assert_eq!(world.sessions("a").await.unwrap().is_empty(), ended, "{op:?} {fate:?}");
        assert_eq!(world.begin_session("a").await, Ok(4));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_brings_every_instance_back_as_it_was() {
    let world = World::ready().await;
    world.create("c").await.unwrap();
    let token = world.set(1, "t").await.unwrap();
    world.begin_transaction(1, "t").await.unwrap();
    world.begin_session("b").await.unwrap();
    world.stop("b").await.unwrap();
    let sessions = (world.sessions("a").await, world.sessions("b").await);
    let uids = |world: &World| {
        world.engine.instances(&Scope::All, None, 9).into_iter().map(|it| it.record.uid)
    };
    let before: Vec<_> = uids(&world).collect();

    let world = world.restarted().await;
    world.until("a", "READY").await;
    world.until("b", "STOPPED").await;

    assert_eq!(world.phase("c"), Phase::Created);
    assert_eq!((world.sessions("a").await, world.sessions("b").await), sessions);
    assert_eq!(uids(&world).collect::<Vec<_>>(), before);
    assert_eq!(world.begin_session("b").await, Err(STOPPED));
    assert_eq!(world.begin_session("c").await, Err(NOT_INITIALIZED));
    assert!(world.set(2, "t").await.unwrap() > token);
    assert_eq!(world.resume("b").await, Ok(Phase::Ready));
    assert_eq!(world.begin_session("b").await, Ok(2));
    assert_eq!(world.create("d").await.err(), Some(TOO_MANY_INSTANCES));
}

#[tokio::test(start_paused = true)]
async fn a_failed_instance_comes_back_with_a_restart() {
    let world = World::ready().await;
    world.stop("a").await.unwrap();
    world.resume("a").await.unwrap();
    let acknowledged = world.sessions("a").await;
    world.store.next(Op::Commit, "a", Fate::UnknownLost(JetErr::DiskIO));
    assert_eq!(world.set(1, "t").await, Err(UNAVAILABLE));

    let world = world.restarted().await;
    world.until("a", "READY").await;

    assert_eq!(world.sessions("a").await, acknowledged);
}

#[tokio::test(start_paused = true)]
async fn a_stop_outlives_a_failure() {
    let world = World::ready().await;
    world.set(1, "t").await.unwrap();
    world.stop("a").await.unwrap();
    world.store.next(Op::Commit, "a", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.reset(1, "t").await, Err(UNAVAILABLE));
    world.terminate("a", TerminateMode::Complete).await.unwrap();

    assert_eq!(world.initialize("a").await, Ok(Phase::Stopped));

    assert!(world.reset(1, "t").await.is_ok());
    assert_eq!(world.set(1, "t").await, Err(STOPPED));
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_instance_cannot_be_opened_starts_with_the_others() {
    let world = World::ready().await;
    world.store.next(Op::Open, "a", Fate::Unavailable(JetErr::LogFileCorrupt));

    let world = world.restarted().await;
    world.until("a", "FAILED").await;
    world.until("b", "READY").await;

    assert_eq!(world.failure("a").unwrap().error, JetErr::LogFileCorrupt);
    assert_eq!(world.begin_session("b").await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_record_is_damaged_has_failed_and_the_others_serve() {
    let world = World::ready().await;
    world.store.damage("a", JetErr::LogFileCorrupt);

    let world = world.restarted().await;
    world.until("b", "READY").await;

    let failure = world.failure("a").unwrap();
    assert_eq!(failure.error, JetErr::LogFileCorrupt);
    assert!(failure.cause.contains("it says so"), "{}", failure.cause);
    assert_eq!(world.begin_session("b").await, Ok(1));
    assert_eq!(world.begin_session("a").await, Err(UNAVAILABLE));
    assert_eq!(world.initialize("a").await, Err(ALREADY_INITIALIZED));
    assert_eq!(world.create("a").await, Err(NAME_IN_USE));
    world.store.seen();
    // A terminate writes nothing, and the next initialise says what is true then.
    assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
    assert_eq!(world.initialize("a").await, Err(JetErr::LogFileCorrupt.code()));
    assert_eq!(world.failure("a").unwrap().error, JetErr::LogFileCorrupt);
    assert_eq!(world.store.seen(), ["open a"]);
    assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));

    assert_eq!(world.delete("a").await, Ok(()));
    assert_eq!(world.create("a").await.unwrap().phase, Phase::Created);
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_the_end_of_the_process_cut_off_is_finished_at_the_start() {
    for stopped in [false, true] {
        let world = World::ready().await;
        let token = world.set(1, "t").await.unwrap();
        if stopped {
            world.stop("a").await.unwrap();
        }
        let resting = world.resting("a").await;
        let gate = world.store.stall(Op::Update, "a");
        let terminate = sent(world.terminate("a", TerminateMode::Complete));
        gate.reached().await;
        assert_eq!(world.resting("a").await, resting, "the record does not say so yet");

        drop(terminate);
        let world = world.restarted().await;
        world.until("a", "CREATED").await;
        world.until("b", "READY").await;

        assert_eq!(world.resting("a").await, Some(Resting::Created));
        assert_eq!(world.begin_session("a").await, Err(NOT_INITIALIZED));
        assert_eq!(world.store.open_journals(), 1, "only that of b");
        assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
        assert_eq!(world.sessions("a").await, Ok(Vec::new()));
        assert_eq!(world.begin_session("a").await, Ok(4));
        assert!(world.set(4, "t").await.unwrap() > token);
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminate_that_cannot_be_finished_at_the_start_fails_the_instance() {
    let world = World::ready().await;
    let gate = world.store.stall(Op::Update, "a");
    drop(sent(world.terminate("a", TerminateMode::Complete)));
    gate.reached().await;
    world.store.next(Op::Update, "a", Fate::Unavailable(JetErr::DiskIO));

    let world = world.restarted().await;
    world.until("a", "FAILED").await;

    assert_eq!(world.failure("a").unwrap().error, JetErr::DiskIO);
    assert_eq!(world.terminate("a", TerminateMode::Complete).await, Ok(Phase::Created));
    assert_eq!(world.initialize("a").await, Ok(Phase::Ready), "whoever asks for it gets it");
    assert_eq!(world.sessions("a").await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_initialised_after_its_terminate_comes_back_ready() {
    // Nothing has happened in it since, so its history ends with the end of all sessions.
    let world = World::ready().await;
    world.terminate("a", TerminateMode::Complete).await.unwrap();
    world.initialize("a").await.unwrap();
    world.store.next(Op::Close, "b", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.terminate("b", TerminateMode::Complete).await, Err(UNAVAILABLE));
    world.terminate("b", TerminateMode::Complete).await.unwrap();
    world.initialize("b").await.unwrap();

    let world = world.restarted().await;

    world.until("a", "READY").await;
    world.until("b", "READY").await;
}
