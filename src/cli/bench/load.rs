//! The load: threads that connect, wait for the start, and run their clients until it is over.
//!
//! Each thread has a runtime of its own and a share of the connections, and a client stays with its
//! connection, so no client is ever handed from core to core. The threads share a clock, a window, and
//! nothing that is written for each operation but one counter each.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::{mpsc, watch};

use crate::domain::jet_err::JetErr;
use crate::proto::api::{ResetSessionContextRequest, SetSessionContextRequest};

use super::super::connect::{Connection, DECIDED, Options};
use super::super::failure::Failure;
use super::outcome::{Outcome, Trouble};
use super::pace::Pace;
use super::plan::{Mode, Plan};
use super::stats::{Operation, Stats};
use super::window::{Clock, Nanos, Window, nanos};
use super::{pipeline, unary};

/// How long a client rests after an error: a server in trouble is not stormed.
const REST: Duration = Duration::from_millis(10);

/// What the threads are told, each time something later than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Connect, and wait.
    Prepare,
    /// Run by this clock.
    Go(Clock),
    /// Begin nothing more and finish what has begun.
    Stop,
    /// Drop everything.
    Leave,
}

impl Order {
    pub(super) fn is_stop(&self) -> bool {
        matches!(self, Self::Stop | Self::Leave)
    }

    pub(super) fn is_leave(&self) -> bool {
        *self == Self::Leave
    }
}

/// What a thread tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Connected,
    Ended { well: bool },
}

/// A client: its requests, prepared once.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) set: SetSessionContextRequest,
    pub(super) reset: ResetSessionContextRequest,
}

/// How many operations a thread has seen answered, for whoever looks on. On a cache line of its own:
/// each thread writes to its own for each operation.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) clients: &'a [Client],
    pub(super) window: &'a Arc<Window>,
    pub(super) counters: &'a [Counter],
    pub(super) order: watch::Receiver<Order>,
}

impl Load<'_> {
    /// Runs one thread of the load, and answers with what it saw.
    pub(super) fn work(
        &self,
        thread: usize,
        events: &mpsc::Sender<Event>,
    ) -> Result<Stats, Failure> {
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::Runtime)
            .and_then(|runtime| runtime.block_on(self.run(thread, events)));
        // There is room for all that all threads tell.
        events.try_send(Event::Ended { well: outcome.is_ok() }).ok();
        outcome
    }

    async fn run(&self, thread: usize, events: &mpsc::Sender<Event>) -> Result<Stats, Failure> {
        let mut order = self.order.clone();
        let connect = (thread..self.plan.connections)
            .step_by(self.plan.threads)
            .map(|number| self.connect(number));
        let connected = tokio::select! {
            connected = try_join_all(connect) => connected?,
            _ = order.wait_for(Order::is_stop) => return Ok(Stats::new()),
        };
        events.try_send(Event::Connected).ok();

        // A sender that is gone gives no more orders: what it gave last stands.
        let go = order.wait_for(|order| *order != Order::Prepare).await.map(|order| *order);
        let Ok(Order::Go(clock)) = go else {
            return Ok(Stats::new());
        };
        let site = Site {
            plan: self.plan,
            clock,
            window: self.window,
            order: order.clone(),
            counter: &self.counters[thread],
            stats: RefCell::new(Stats::new()),
        };
        let outcome = tokio::select! {
            outcome = self.drive(&site, &connected) => outcome,
            _ = order.wait_for(Order::is_leave) => Ok(()),
        };
        outcome?;
        Ok(site.stats.into_inner())
    }

    async fn connect(&self, number: usize) -> Result<(usize, Connection), Failure> {
        Ok((number, self.options.connect(DECIDED).await?))
    }

    /// Runs the clients of these connections, all at once on this thread.
    async fn drive(
        &self,
        site: &Site<'_>,
        connected: &[(usize, Connection)],
    ) -> Result<(), Failure> {
        let plan = self.plan;
        match plan.mode {
            Mode::Unary => {
                let clients = connected.iter().flat_map(|(number, server)| {
                    let mine = self.clients.iter().enumerate();
                    mine.skip(*number).step_by(plan.connections).map(move |(turn, client)| {
                        unary::run(site, server, client, plan.pace(turn, plan.clients))
                    })
                });
                join_all(clients).await;
            }
            Mode::Pipeline => {
                let streams = connected.iter().map(|(number, server)| {
                    let mine = self.clients.iter().skip(*number).step_by(plan.connections);
                    let pace = plan.pace(*number, plan.connections);
                    pipeline::run(site, server, mine.collect(), pace)
                });
                try_join_all(streams).await?;
            }
        }
        Ok(())
    }
}

/// Where the clients of one thread are: what they read, and where they write down what they see.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clock: Clock,
    pub(super) window: &'a Arc<Window>,
    pub(super) order: watch::Receiver<Order>,
    counter: &'a Counter,
    stats: RefCell<Stats>,
}

/// What came of an operation, for the client that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Done,
    Refused,
    /// It may have been done or not.
    Failed,
}

impl Site<'_> {
    /// Waits for the next turn. Answers when it began, or nothing if there are to be no more.
    pub(super) async fn turn(&self, pace: &mut Pace) -> Option<Nanos> {
        let now = self.clock.now();
        let now = match pace.wait(now) {
            None => now,
            Some(until) => {
                self.sleep(until.min(self.window.closes())).await;
                self.clock.now()
            }
        };
        if self.window.is_over(now) { None } else { Some(pace.begin(now)) }
    }

    /// Rests after an error.
    pub(super) async fn rest(&self) {
        self.sleep(self.clock.now().saturating_add(nanos(REST))).await;
    }

    /// Sleeps until then, or until the order to stop.
    async fn sleep(&self, until: Nanos) {
        tokio::select! {
            () = tokio::time::sleep_until(self.clock.instant(until)) => {}
            () = self.stopped() => {}
        }
    }

    /// Waits for the order to stop.
    pub(super) async fn stopped(&self) {
        // Nobody left to give orders is an order too.
        self.order.clone().wait_for(Order::is_stop).await.ok();
    }

    /// Takes down that requests were sent that began within the window.
    pub(super) fn sent(&self, requests: u64) {
        self.stats.borrow_mut().requests += requests;
    }

    /// Takes down how an operation went.
    pub(super) fn record(
        &self,
        operation: Operation,
        answer: Result<(), Trouble>,
        began: Nanos,
        ended: Nanos,
    ) -> Came {
        let (outcome, came) = match answer {
            Ok(()) => (Outcome::Done, Came::Done),
            Err(trouble) if self.expects(operation, trouble.jet_err()) => {
                (Outcome::Refused, Came::Refused)
            }
            Err(trouble) => (Outcome::Failed(trouble), Came::Failed),
        };
        self.counter.0.fetch_add(u64::from(came != Came::Failed), Ordering::Relaxed);
        self.stats.borrow_mut().record(self.window, operation, outcome, began, ended);
        came
    }

    /// Takes down that `count` operations went wrong.
    pub(super) fn fail(&self, trouble: Trouble, count: u64) {
        self.stats.borrow_mut().fail(trouble, count);
    }

    /// Whether this refusal is part of the load. In a pipeline a Reset is sent before it is known
    /// whether the Set before it won.
    fn expects(&self, operation: Operation, error: Option<JetErr>) -> bool {
        let expected = match (operation, self.plan.mode) {
            (Operation::Set, _) => JetErr::SessionContextAlreadySet,
            (Operation::Reset, Mode::Pipeline) => JetErr::SessionContextNotSetByThisThread,
            (Operation::Reset, Mode::Unary) => return false,
        };
        self.plan.contend && error == Some(expected)
    }
}
