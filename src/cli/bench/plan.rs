//! What is to be run: the options, checked against each other.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};

use crate::domain::id::InstanceId;

use super::super::notation;
use super::pace::Pace;
use super::{CLIENTS_MAX, CONNECTIONS_MAX, IN_FLIGHT_MAX, OPERATIONS_MAX, RATE_MAX, THREADS_MAX};

/// Messages under way on each stream when nothing else is said.
const IN_FLIGHT: usize = 64;

/// Operations in each message when nothing else is said.
const OPERATIONS: usize = 16;

/// How clients call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Each client makes one call after the other
    Unary,
    /// Each connection has one stream, which carries the operations of its clients
    Pipeline,
}

impl Mode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Pipeline => "pipeline",
        }
    }
}

fn up_to(max: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max as u64)
}

/// What `bench` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// How to call
    #[arg(long, value_enum, default_value = "unary")]
    mode: Mode,
    /// Clients, each a thread of execution with a thread id of its own; in unary mode so many calls are
    /// under way at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = up_to(CLIENTS_MAX))]
    clients: usize,
    /// Connections, over which the clients are spread; at most one for each client
    #[arg(long, value_name = "N", default_value = "8", value_parser = up_to(CONNECTIONS_MAX))]
    connections: usize,
    /// Operating-system threads that run the clients; at most one for each connection [default: one
    /// for each core]
    #[arg(long, value_name = "N", value_parser = up_to(THREADS_MAX))]
    threads: Option<usize>,
    /// Messages under way on each stream of a pipeline [default: 64]
    #[arg(long, value_name = "N", value_parser = up_to(IN_FLIGHT_MAX))]
    in_flight: Option<usize>,
    /// Operations in each message of a pipeline [default: 16]
    #[arg(long, value_name = "N", value_parser = up_to(OPERATIONS_MAX))]
    operations: Option<usize>,
    /// How long to measure
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = notation::duration)]
    duration: Duration,
    /// How long to run before measuring begins; 0s for not at all
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = warm_up)]
    warm_up: Duration,
    /// Operations a second, by a schedule (open loop) [default: as many as are answered]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: Option<u32>,
    /// Let the clients fight for a few sessions instead of giving each its own
    #[arg(long)]
    contend: bool,
    /// Sessions to fight for [default: 1]
    #[arg(long, value_name = "N", requires = "contend", value_parser = up_to(CLIENTS_MAX))]
    sessions: Option<usize>,
    /// Put each thread under a lease of this length with every Set
    #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
    lease: Option<Duration>,
    /// Instance to work in
    #[arg(long, value_name = "INSTANCE", env = "JET_SESSION_INSTANCE", default_value = "main")]
    #[arg(value_parser = notation::instance)]
    instance: InstanceId,
}

/// Reads a duration that may be none.
fn warm_up(text: &str) -> Result<Duration, String> {
    if ["0", "0s", "0ms"].contains(&text) { Ok(Duration::ZERO) } else { notation::duration(text) }
}

/// What is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) clients: usize,
    pub(super) connections: usize,
    pub(super) threads: usize,
    /// Messages on each stream; in unary mode calls of all clients.
    pub(super) in_flight: usize,
    /// Operations in each message; in unary mode 1.
    pub(super) operations: usize,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    pub(super) rate: Option<u32>,
    pub(super) contend: bool,
    pub(super) sessions: usize,
    pub(super) lease: Option<Duration>,
    pub(super) instance: InstanceId,
}

impl Plan {
    /// Checks the options, for a machine with so many cores.
    pub(super) fn new(options: Options, cores: usize) -> Result<Self, String> {
        let Options { mode, clients, duration, warm_up, rate, contend, lease, instance, .. } =
            options;
        let connections = options.connections.min(clients);
        let threads = options.threads.unwrap_or(cores).clamp(1, connections);
        let (in_flight, operations) = match (mode, options.in_flight, options.operations) {
            (Mode::Unary, None, None) => (clients, 1),
            (Mode::Unary, _, _) => {
                return Err("--in-flight and --operations are for --mode pipeline; in unary mode \
                            --clients says how many calls are under way"
                    .to_owned());
            }
            (Mode::Pipeline, in_flight, operations) => {
                (in_flight.unwrap_or(IN_FLIGHT), operations.unwrap_or(OPERATIONS))
            }
        };
        let sessions = if contend { options.sessions.unwrap_or(1) } else { clients };
        if sessions > clients {
            return Err("--sessions is at most --clients: nobody would use the others".to_owned());
        }
        Ok(Self {
            mode,
            clients,
            connections,
            threads,
            in_flight,
            operations,
            duration,
            warm_up,
            rate,
            contend,
            sessions,
            lease,
            instance,
        })
    }

    /// When number `turn` of `of` clients, or streams, sends its messages.
    pub(super) fn pace(&self, turn: usize, of: usize) -> Pace {
        match self.rate {
            None => Pace::closed(),
            Some(rate) => Pace::open(f64::from(rate) / self.operations as f64, turn, of),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// The plan of a command line, on two cores.
    pub(in super::super) fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Plan::new(line.options, 2)
    }

    #[test]
    fn connections_and_threads_are_no_more_than_can_be_used() {
        for (line, connections, threads) in [
            ("", 8, 2),
            ("--clients 1", 1, 1),
            ("--connections 1", 1, 1),
            ("--clients 3 --threads 200", 3, 3),
            ("--threads 1", 8, 1),
        ] {
            let plan = plan(line).unwrap();
            assert_eq!((plan.connections, plan.threads), (connections, threads), "{line}");
        }
    }

    #[test]
    fn what_is_under_way_depends_on_the_mode() {
        for (line, in_flight, operations) in [
            ("--clients 7", 7, 1),
            ("--mode pipeline", 64, 16),
            ("--mode pipeline --in-flight 2 --operations 1", 2, 1),
        ] {
            let plan = plan(line).unwrap();
            assert_eq!((plan.in_flight, plan.operations), (in_flight, operations), "{line}");
        }
    }

    #[test]
    fn sessions_are_shared_only_by_those_who_contend() {
        for (line, sessions) in [("", 64), ("--contend", 1), ("--contend --sessions 64", 64)] {
            assert_eq!(plan(line).unwrap().sessions, sessions, "{line}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for line in [
            "--operations 2",
            "--in-flight 2",
            "--sessions 2",
            "--contend --sessions 65",
            "--clients 0",
            "--rate 0",
            "--duration 0s",
            "--mode pipeline --operations 257",
            "--mode other",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
        assert_eq!(plan("--warm-up 0s").unwrap().warm_up, Duration::ZERO);
    }
}
