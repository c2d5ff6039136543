//! The sending half of a pipeline: messages as long as there is room for them, at their time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Sleep, sleep_until};

use super::flight::{Flight, Script};
use super::pace::Pace;
use super::stats::Operation;
use super::window::{Clock, Nanos, Window};
use super::wire;

/// What the two halves of a stream share.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) flight: Flight,
    pub(super) pace: Pace,
    /// Messages that began within the window.
    pub(super) requests: u64,
    /// Since when the server has had something to answer and has answered nothing.
    pub(super) silent_since: Nanos,
    /// The sending half, while it waits.
    waiting: Option<Waker>,
}

/// A line that both halves have. Neither keeps it while it waits.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Line>>);

impl Shared {
    pub(super) fn new(flight: Flight, pace: Pace) -> Self {
        let line = Line { flight, pace, requests: 0, silent_since: 0, waiting: None };
        Self(Arc::new(Mutex::new(line)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Line> {
        // The other half broke while it had the line; nothing in it can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the sending half look again at what it waits for.
    pub(super) fn wake(&self) {
        let waiting = self.lock().waiting.take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// The requests of a client, encoded.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) set: Bytes,
    pub(super) reset: Bytes,
}

/// The messages of a stream. It ends when the window is closed and every context that it set is reset.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) shared: Shared,
    pub(super) script: Script,
    pub(super) clients: Vec<Encoded>,
    pub(super) operations: u64,
    pub(super) clock: Clock,
    pub(super) window: Arc<Window>,
    pub(super) sleep: Option<Pin<Box<Sleep>>>,
}

impl Stream for Outbound {
    type Item = wire::Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<wire::Request>> {
        let this = &mut *self;
        let mut line = this.shared.lock();
        let (began, first, count) = loop {
            let now = this.clock.now();
            let first = line.flight.next();
            let over = this.window.is_over(now);
            // The last messages only reset what is set; there is no hurry to measure them.
            let left = if over { this.script.left_in_round(first) } else { this.operations };
            if left == 0 {
                return Poll::Ready(None);
            }
            if !line.flight.has_room() {
                line.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let early = if over { None } else { line.pace.wait(now) };
            let Some(until) = early else {
                let began = if over { now } else { line.pace.begin(now) };
                if line.flight.unanswered() == 0 {
                    line.silent_since = now;
                }
                break (began, first, left.min(this.operations));
            };
            let until = this.clock.instant(until.min(this.window.closes()));
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if sleep.deadline() != until {
                sleep.as_mut().reset(until);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                line.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        line.flight.send(count, began);
        line.requests += u64::from(this.window.holds(began));
        drop(line);
        let operations = (first..first + count).map(|id| {
            let (operation, client) = this.script.operation(id);
            let client = &this.clients[client];
            match operation {
                Operation::Set => {
                    wire::Operation { id, set: Some(client.set.clone()), reset: None }
                }
                Operation::Reset => {
                    wire::Operation { id, set: None, reset: Some(client.reset.clone()) }
                }
            }
        });
        Poll::Ready(Some(wire::Request { operations: operations.collect() }))
    }
}
