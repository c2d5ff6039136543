//! What a run found, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::output::View;
use super::super::refusal::code_name;
use super::plan::{Mode, Plan};
use super::stats::Stats;

/// What is told of a distribution besides its count, mean and maximum.
const PERCENTILES: [(f64, &str); 4] =
    [(50.0, "p50_us"), (90.0, "p90_us"), (99.0, "p99_us"), (99.9, "p99_9_us")];

/// What a run found.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    /// The name of the run: what its sessions are labelled with.
    pub(super) run: &'a str,
    /// How long was measured.
    pub(super) length: Duration,
    /// Whether it was stopped before its time.
    pub(super) stopped: bool,
    /// How many sessions could not be ended.
    pub(super) left: usize,
    pub(super) stats: Stats,
}

impl Report<'_> {
    /// Whether all went as it should.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let errors = self.stats.failures();
        let sentence = match (errors, self.left) {
            (0, 0) => return Ok(()),
            (0, left) => format!("{left} sessions could not be ended"),
            (errors, 0) => format!("{errors} operations failed"),
            (errors, left) => {
                format!("{errors} operations failed, {left} sessions could not be ended")
            }
        };
        Err(Failure::Bench(sentence))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let (plan, stats) = (self.plan, &self.stats);
        let rate = |count| {
            let rate = self.per_second(count);
            if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
        };
        let mut rows = vec![("load", self.load())];
        if self.stopped {
            rows.push(("stopped after", format!("{:.2?}", self.length)));
        }
        rows.push(("operations/s", rate(stats.done)));
        rows.push(match plan.mode {
            Mode::Unary => ("calls/s", rate(stats.requests)),
            Mode::Pipeline => ("messages/s", rate(stats.requests)),
        });
        if plan.contend {
            rows.push(("refusals/s", rate(stats.refusals)));
        }
        rows.push(("errors", stats.failures().to_string()));
        let mut parts = vec![View::properties(rows).to_string()];

        let latencies: Vec<Vec<String>> = stats
            .latencies()
            .map(|(kind, latencies)| {
                let shown = PERCENTILES.map(|(percent, _)| latencies.percentile(percent));
                let shown = shown.into_iter().chain([latencies.max()]);
                let mut row = vec![kind.to_uppercase(), latencies.count().to_string()];
                row.extend(shown.map(|latency| format!("{latency:.2?}")));
                row
            })
            .collect();
        if !latencies.is_empty() {
            const HEAD: &[&str] = &["LATENCY", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"];
            parts.push(View::Table(HEAD, latencies).to_string());
        }
        if !stats.errors.is_empty() {
            let rows = stats.errors.iter().map(|(cause, errors)| {
                let jet = cause.jet.map_or_else(|| "-".to_owned(), |jet| jet.to_string());
                let code = code_name(cause.code()).to_owned();
                vec![code, jet, errors.count.to_string(), errors.message.clone()]
            });
            const HEAD: &[&str] = &["ERROR", "JET", "COUNT", "FIRST"];
            parts.push(View::Table(HEAD, rows.collect()).to_string());
        }
        parts.join("\n\n")
    }

    /// What was run, in one line.
    fn load(&self) -> String {
        let Plan { mode, clients, connections, in_flight, operations, .. } = self.plan;
        let mut load = format!("{}, {clients} clients on {connections} connections", mode.as_str());
        if *mode == Mode::Pipeline {
            load.push_str(&format!(", {in_flight} messages of {operations} in flight on each"));
        }
        if self.plan.contend {
            load.push_str(&format!(", {} sessions to fight for", self.plan.sessions));
        }
        if let Some(rate) = self.plan.rate {
            load.push_str(&format!(", {rate} operations/s asked for"));
        }
        load
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let (plan, stats) = (self.plan, &self.stats);
        let latency = stats.latencies().map(|(kind, latencies)| {
            let mut object = json!({
                "count": latencies.count(),
                "mean_us": micros(latencies.mean()),
                "max_us": micros(latencies.max()),
            });
            for (percent, name) in PERCENTILES {
                object[name] = micros(latencies.percentile(percent)).into();
            }
            (kind.to_owned(), object)
        });
        let errors = stats.errors.iter().map(|(cause, errors)| {
            json!({
                "grpc_code": code_name(cause.code()),
                "jet_error": cause.jet,
                "jet_error_name": cause.jet_err().map(|err| err.name()),
                "count": errors.count,
                "message": errors.message,
            })
        });
        json!({
            "run": self.run,
            "mode": plan.mode.as_str(),
            "instance": plan.instance.name(),
            "clients": plan.clients,
            "sessions": plan.sessions,
            "connections": plan.connections,
            "threads": plan.threads,
            "in_flight": plan.in_flight,
            "operations_per_request": plan.operations,
            "contend": plan.contend,
            "rate": plan.rate,
            "warm_up_seconds": plan.warm_up.as_secs_f64(),
            "seconds": self.length.as_secs_f64(),
            "stopped": self.stopped,
            "operations": stats.done,
            "operations_per_second": self.per_second(stats.done),
            "requests": stats.requests,
            "requests_per_second": self.per_second(stats.requests),
            "refusals": stats.refusals,
            "refusals_per_second": self.per_second(stats.refusals),
            "latency": latency.collect::<serde_json::Map<_, _>>(),
            "error_count": stats.failures(),
            "errors": errors.collect::<Vec<_>>(),
            "sessions_left": self.left,
        })
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.length.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

fn micros(length: Duration) -> f64 {
    length.as_nanos() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use crate::cli::bench::outcome::{Outcome, Trouble};
    use crate::cli::bench::plan::tests::plan;
    use crate::cli::bench::stats::Operation;
    use crate::cli::bench::window::Window;

    use super::*;

    const US: u64 = 1_000;

    fn stats() -> Stats {
        let window = Window::new(Duration::ZERO, Duration::from_secs(2));
        let mut stats = Stats::new();
        for latency in 1..=100 {
            stats.requests += 1;
            stats.record(&window, Operation::Set, Outcome::Done, 0, latency * 10 * US);
        }
        stats.record(&window, Operation::Set, Outcome::Refused, 0, 50 * US);
        stats
    }

    fn broken(mut stats: Stats) -> Stats {
        let mut held = Status::failed_precondition("held by another");
        held.metadata_mut().insert("jet-error", "-1912".parse().unwrap());
        stats.fail(Trouble::from(&held), 3);
        stats.fail(Trouble::from(&Status::unavailable("gone")), 1);
        stats
    }

    #[test]
    fn a_report_is_a_page() {
        let plan = plan("--contend --sessions 4").unwrap();
        let length = Duration::from_secs(2);
        let report =
            Report { plan: &plan, run: "r", length, stopped: false, left: 0, stats: stats() };
        expect_test::expect![[r#"
            load          unary, 64 clients on 8 connections, 4 sessions to fight for
            operations/s  50.0
            calls/s       50.0
            refusals/s    0.5
            errors        0

            LATENCY  COUNT  P50       P90       P99       P99.9    MAX
            SET      100    500.22µs  900.10µs  990.21µs  1.00ms   1.00ms
            REFUSED  1      50.18µs   50.18µs   50.18µs   50.18µs  50.18µs"#]]
        .assert_eq(&report.text());
        assert!(report.verdict().is_ok());
    }

    #[test]
    fn errors_are_counted_by_their_codes() {
        let plan = plan("--mode pipeline --rate 100").unwrap();
        let (length, stats) = (Duration::from_millis(1_500), broken(stats()));
        let report = Report { plan: &plan, run: "r", length, stopped: true, left: 2, stats };
        expect_test::expect![[r#"
            load           pipeline, 64 clients on 8 connections, 64 messages of 16 in flight on each, 100 operations/s asked for
            stopped after  1.50s
            operations/s   66.7
            messages/s     66.7
            errors         4

            LATENCY  COUNT  P50       P90       P99       P99.9    MAX
            SET      100    500.22µs  900.10µs  990.21µs  1.00ms   1.00ms
            REFUSED  1      50.18µs   50.18µs   50.18µs   50.18µs  50.18µs

            ERROR                JET    COUNT  FIRST
            FAILED_PRECONDITION  -1912  3      held by another
            UNAVAILABLE          -      1      gone"#]].assert_eq(&report.text());
        let failure = report.verdict().unwrap_err();
        expect_test::expect!["error: 4 operations failed, 2 sessions could not be ended"]
            .assert_eq(&failure.text().unwrap());
    }

    #[test]
    fn programs_read_numbers() {
        let plan = plan("").unwrap();
        let (length, stats) = (Duration::from_secs(2), broken(stats()));
        let report = Report { plan: &plan, run: "r", length, stopped: false, left: 0, stats };
        expect_test::expect![[r#"
            {
              "clients": 64,
              "connections": 8,
              "contend": false,
              "error_count": 4,
              "errors": [
                {
                  "count": 3,
                  "grpc_code": "FAILED_PRECONDITION",
                  "jet_error": -1912,
                  "jet_error_name": "JET_errSessionContextAlreadySet",
                  "message": "held by another"
                },
                {
                  "count": 1,
                  "grpc_code": "UNAVAILABLE",
                  "jet_error": null,
                  "jet_error_name": null,
                  "message": "gone"
                }
              ],
              "in_flight": 64,
              "instance": "instances/main",
              "latency": {
                "refused": {
                  "count": 1,
                  "max_us": 50.175,
                  "mean_us": 49.92,
                  "p50_us": 50.175,
                  "p90_us": 50.175,
                  "p99_9_us": 50.175,
                  "p99_us": 50.175
                },
                "set": {
                  "count": 100,
                  "max_us": 1000.447,
                  "mean_us": 505.011,
                  "p50_us": 500.223,
                  "p90_us": 900.095,
                  "p99_9_us": 1000.447,
                  "p99_us": 990.207
                }
              },
              "mode": "unary",
              "operations": 100,
              "operations_per_request": 1,
              "operations_per_second": 50.0,
              "rate": null,
              "refusals": 1,
              "refusals_per_second": 0.5,
              "requests": 100,
              "requests_per_second": 50.0,
              "run": "r",
              "seconds": 2.0,
              "sessions": 64,
              "sessions_left": 0,
              "stopped": false,
              "threads": 2,
              "warm_up_seconds": 1.0
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&report.json()).unwrap());
    }

    #[test]
    fn nothing_measured_is_no_division_by_nothing() {
        let plan = plan("").unwrap();
        let length = Duration::ZERO;
        let report =
            Report { plan: &plan, run: "r", length, stopped: true, left: 0, stats: stats() };
        assert_eq!(report.json()["operations_per_second"], 0.0);
    }
}
