//! What a run found: how much was answered, how long it took, and what went wrong.
//!
//! Each thread keeps its own, in bounded memory; they are added up at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::outcome::{Cause, Outcome, Trouble};
use super::window::{Nanos, Window};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Set,
    Reset,
}

/// What a thread saw.
#[derive(Debug)]
pub(super) struct Stats {
    set: Latencies,
    reset: Latencies,
    refused: Latencies,
    /// Operations that were done within the window.
    pub(super) done: u64,
    /// Operations that were refused within the window, as those who fight for a session must expect.
    pub(super) refusals: u64,
    /// Request messages that began within the window.
    pub(super) requests: u64,
    /// What went wrong, in the warm-up too, and how often.
    pub(super) errors: BTreeMap<Cause, Errors>,
}

/// What went wrong in the same way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// What was said the first time.
    pub(super) message: String,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            set: Latencies::new(),
            reset: Latencies::new(),
            refused: Latencies::new(),
            done: 0,
            refusals: 0,
            requests: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Takes down how an operation went.
    ///
    /// Its latency counts if it began within the window, however late it was answered: what took
    /// longest must not be lost. The throughput counts what was answered within the window.
    pub(super) fn record(
        &mut self,
        window: &Window,
        operation: Operation,
        outcome: Outcome,
        began: Nanos,
        ended: Nanos,
    ) {
        let (latencies, answered) = match outcome {
            Outcome::Done if operation == Operation::Set => (&mut self.set, &mut self.done),
            Outcome::Done => (&mut self.reset, &mut self.done),
            Outcome::Refused => (&mut self.refused, &mut self.refusals),
            Outcome::Failed(trouble) => return self.fail(trouble, 1),
        };
        *answered += u64::from(window.holds(ended));
        if window.holds(began) {
            latencies.record(ended.saturating_sub(began));
        }
    }

    /// Takes down that `count` operations went wrong.
    pub(super) fn fail(&mut self, trouble: Trouble, count: u64) {
        let Trouble { cause, message } = trouble;
        self.errors.entry(cause).or_insert(Errors { count: 0, message }).count += count;
    }

    /// How much went wrong.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }

    /// Adds what another thread saw.
    pub(super) fn add(&mut self, other: Self) {
        self.set.add(&other.set);
        self.reset.add(&other.reset);
        self.refused.add(&other.refused);
        self.done += other.done;
        self.refusals += other.refusals;
        self.requests += other.requests;
        for (cause, Errors { count, message }) in other.errors {
            self.errors.entry(cause).or_insert(Errors { count: 0, message }).count += count;
        }
    }

    /// The latencies of each kind of answer that there was.
    pub(super) fn latencies(&self) -> impl Iterator<Item = (&'static str, &Latencies)> {
        let kinds = [("set", &self.set), ("reset", &self.reset), ("refused", &self.refused)];
        kinds.into_iter().filter(|(_, latencies)| latencies.count() > 0)
    }
}

/// How long something took, many times. Some 200 KiB, however often it is recorded; what is read from
/// it is within a thousandth of what was recorded.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// Shorter than a call can be, in nanoseconds.
const SHORTEST: u64 = 1_000;

/// Longer than anybody waits, in nanoseconds: an hour. What is longer is taken for this.
const LONGEST: u64 = 3_600_000_000_000;

impl Latencies {
    fn new() -> Self {
        Self(Histogram::new_with_bounds(SHORTEST, LONGEST, 3).expect("the bounds are apart"))
    }

    fn record(&mut self, latency: Nanos) {
        self.0.saturating_record(latency);
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// What `percent` of them were not longer than.
    pub(super) fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_percentile(percent))
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const US: u64 = 1_000;

    /// From 100 µs to 200 µs.
    fn window() -> Window {
        Window::new(Duration::from_micros(100), Duration::from_micros(100))
    }

    fn failed(message: &str) -> Trouble {
        let cause = Cause { grpc: Code::Unavailable.into(), jet: None };
        Trouble { cause, message: message.to_owned() }
    }

    #[test]
    fn rates_count_answers_in_the_window_and_latencies_what_began_in_it() {
        for (began, ended, done, measured) in [
            (10, 90, 0, 0),
            (90, 110, 1, 0),
            (110, 150, 1, 1),
            // What answers last is what a percentile must not lose.
            (150, 900, 0, 1),
            (200, 210, 0, 0),
        ] {
            let mut stats = Stats::new();
            stats.record(&window(), Operation::Set, Outcome::Done, began * US, ended * US);
            assert_eq!((stats.done, stats.set.count()), (done, measured), "{began} to {ended}");
        }
    }

    #[test]
    fn refusals_are_no_errors_and_no_sets() {
        let mut stats = Stats::new();
        stats.record(&window(), Operation::Set, Outcome::Refused, 110 * US, 120 * US);
        assert_eq!((stats.done, stats.refusals, stats.failures()), (0, 1, 0));
        let kinds: Vec<_> = stats.latencies().map(|(kind, of)| (kind, of.count())).collect();
        assert_eq!(kinds, [("refused", 1)]);
    }

    #[test]
    fn errors_count_in_the_warm_up_too_and_have_no_latency() {
        let mut stats = Stats::new();
        let outcome = Outcome::Failed(failed("gone"));
        stats.record(&window(), Operation::Reset, outcome, 0, 10 * US);
        assert_eq!((stats.failures(), stats.latencies().count()), (1, 0));
    }

    #[test]
    fn what_threads_saw_is_added_up() {
        let mut sum = Stats::new();
        for (latency, message) in [(10, "first"), (30, "second")] {
            let mut stats = Stats::new();
            let (began, ended) = (110 * US, (110 + latency) * US);
            stats.record(&window(), Operation::Reset, Outcome::Done, began, ended);
            stats.requests += 1;
            stats.fail(failed(message), 2);
            sum.add(stats);
        }
        assert_eq!((sum.done, sum.requests, sum.reset.count()), (2, 2, 2));
        let errors: Vec<_> = sum.errors.into_values().collect();
        assert_eq!(errors, [Errors { count: 4, message: "first".to_owned() }]);
        assert!(sum.reset.max() >= Duration::from_micros(30));
        assert!(sum.reset.percentile(50.0) < Duration::from_micros(11));
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for us in 1..=10_000 {
            latencies.record(us * US);
        }
        for (percent, us) in [(50.0, 5_000.0), (99.0, 9_900.0), (99.9, 9_990.0)] {
            let found = latencies.percentile(percent).as_secs_f64() * 1e6;
            assert!((found - us).abs() <= us / 1_000.0, "{percent}: {found} and not {us}");
        }
        latencies.record(u64::MAX);
        assert_eq!(latencies.count(), 10_001);
        assert!(latencies.max() >= Duration::from_secs(3_600));
    }
}
