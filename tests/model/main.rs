//! A model of leases, tokens, transfer, waiting, retries and restarts, explored exhaustively: whatever
//! the order in which calls arrive, answers are heard, time passes and the server dies, its promises
//! hold.
//!
//! It models the protocol as the API describes it, not the program: one session, two or three threads
//! that may pause or die at any moment, a resource that checks tokens, and a server of which only what
//! became durable survives. A thread that pauses is one whose next step comes late, and one that died
//! takes none: neither needs an action of its own. The one thing that is left out of time is that
//! answers are forgotten after a while; here they are kept for ever.
//!
//! What keeps the model honest: each scope must reach what it is there for, and each [`Fault`] must be
//! found. In reading order:
//!
//! - `server`: the protocol, with its faults
//! - `world`: everything that may happen around it
//! - `monitor`: the promises

mod monitor;
mod server;
mod world;

use stateright::{Checker, HasDiscoveries, Model};

use world::{Protocol, Scope};

/// A lease's time, and how late its end may come.
const TTL: u8 = 2;
const LATE: i8 = 1;

/// Something that could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    /// A Set is decided on what is durable, although its batch has given the session away already.
    DoubleGrant,
    /// After a restart revisions go on behind the highest that is still in use.
    TokenReused,
    /// Answers for retries do not survive a restart.
    AnswersForgotten,
    /// Answers leave before their batch is durable.
    AnswersBeforeSync,
    /// A lease ends one unit of time early.
    EarlyExpiry,
    /// A thread counts its lease from when the renewal was answered.
    CountsFromAnswer,
    /// Every restart gives a lease its full time.
    RestartGrantsAlways,
    /// The first restart counts the time that was used.
    RestartGrantsNothing,
    /// The newest waiter is served first.
    WaiterOvertaken,
    /// A waiter that has left keeps its place.
    WaiterKept,
    /// Reset and Transfer look at the thread and not at the token.
    StaleReset,
    /// The guarded resource takes every write.
    Unfenced,
}

/// One thread that has the session for the asking: what the other scopes add to.
const ALONE: Scope = Scope {
    threads: 1,
    calls: 3,
    retries: 0,
    crashes: 0,
    queue: 0,
    transfers: false,
    forces: 0,
    writes: 0,
    time: false,
    batches: false,
};

/// Two threads that wait, transfer and retry, and a server that dies.
const HANDING_OVER: Scope =
    Scope { threads: 2, retries: 2, crashes: 1, queue: 1, transfers: true, ..ALONE };

/// The same, of which several decisions become durable together, or none.
const BATCHES: Scope = Scope { retries: 1, batches: true, ..HANDING_OVER };

/// An operator between two threads that write to the guarded resource.
const FORCED: Scope =
    Scope { threads: 2, queue: 1, transfers: true, forces: 1, writes: 1, ..ALONE };

/// Leases, and holders that do not notice their end.
const LEASES: Scope = Scope { threads: 2, writes: 1, time: true, ..ALONE };

/// Leases, transfer and a server that dies.
const SUCCESSION: Scope =
    Scope { threads: 2, calls: 2, crashes: 1, queue: 1, transfers: true, time: true, ..ALONE };

/// One holder, and a server that dies again and again.
const RESTARTS: Scope = Scope { retries: 1, crashes: 4, time: true, ..ALONE };

/// More threads than the queue has places for.
const QUEUE: Scope = Scope { threads: 4, calls: 2, queue: 2, ..ALONE };

/// All states of a scope: every promise is kept in all of them, and everything that must be possible
/// is so in one.
#[expect(clippy::print_stderr, reason = "whoever runs it wants to know how much was explored")]
fn explore(scope: Scope) {
    let checker = Protocol { scope, fault: None }.checker().threads(2).spawn_bfs().join();
    eprintln!("{} states, {} steps deep", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// A fault is found, as what it breaks.
fn finds(fault: Fault, scope: Scope, promise: &'static str) {
    let checker = Protocol { scope, fault: Some(fault) }.checker();
    let wanted = HasDiscoveries::AnyOf([promise].into());
    let checker = checker.finish_when(wanted).spawn_bfs().join();
    assert!(checker.discovery(promise).is_some(), "{fault:?} does not break that {promise}");
}

#[test]
fn handing_over_keeps_its_promises() {
    explore(HANDING_OVER);
}

#[test]
fn forced_resets_keep_their_promises() {
    explore(FORCED);
}

#[test]
fn successions_keep_their_promises() {
    explore(SUCCESSION);
}

#[test]
fn leases_keep_their_promises() {
    explore(LEASES);
}

#[test]
fn restarts_keep_their_promises() {
    explore(RESTARTS);
}

#[test]
fn queues_keep_their_promises() {
    explore(QUEUE);
}

#[test]
fn batches_keep_their_promises() {
    explore(BATCHES);
}

#[test]
fn a_double_grant_is_found() {
    finds(Fault::DoubleGrant, BATCHES, "one holder at most");
}

#[test]
fn a_token_that_comes_twice_is_found() {
    finds(Fault::TokenReused, HANDING_OVER, "revisions rise, for ever");
}

#[test]
fn a_retry_that_is_applied_twice_is_found() {
    finds(Fault::AnswersForgotten, HANDING_OVER, "one effect per request id");
}

#[test]
fn an_answer_that_is_not_durable_is_found() {
    finds(Fault::AnswersBeforeSync, BATCHES, "an answer is durable");
}

#[test]
fn an_expiry_before_its_time_is_found() {
    finds(Fault::EarlyExpiry, LEASES, "a lease lasts its time as the server serves");
    finds(Fault::EarlyExpiry, LEASES, "a lease lasts its time as its holder counts");
}

#[test]
fn a_holder_that_counts_from_the_answer_is_found() {
    finds(Fault::CountsFromAnswer, LEASES, "a lease lasts its time as its holder counts");
}

#[test]
fn restarts_that_keep_a_lease_for_ever_are_found() {
    finds(Fault::RestartGrantsAlways, RESTARTS, "a lease ends, whatever restarts come between");
}

#[test]
fn a_restart_that_gives_no_full_time_is_found() {
    finds(Fault::RestartGrantsNothing, RESTARTS, "three restarts give a lease its full time");
}

#[test]
fn a_waiter_that_is_overtaken_is_found() {
    finds(Fault::WaiterOvertaken, QUEUE, "first come, first served");
}

#[test]
fn a_grant_to_somebody_who_left_is_found() {
    finds(Fault::WaiterKept, QUEUE, "who left is not granted anything");
}

#[test]
fn a_stale_reset_that_is_accepted_is_found() {
    finds(Fault::StaleReset, RESTARTS, "a stale token changes nothing");
}

#[test]
fn a_resource_that_checks_no_tokens_is_found() {
    finds(Fault::Unfenced, LEASES, "a stale write is refused once a newer was seen");
}
