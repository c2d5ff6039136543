//! `jet-session bench`: drives a running server, and says how fast it answered.
//!
//! Reading order: this file for the course of a run, `plan` for what can be asked for, `load` for the
//! threads, `unary` and `pipeline` for what a client does, `stats` and `report` for what comes out.
//! `pace`, `flight`, `window` and `stats` read no clock and send nothing.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::thread;

use clap::Args;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::proto::api::{ResetSessionContextRequest, SetSessionContextRequest};

use super::connect::{self, DECIDED};
use super::failure::Failure;
use super::output::Output;

mod conduct;
mod flight;
mod load;
mod outbound;
mod outcome;
mod pace;
mod pipeline;
mod plan;
mod report;
mod sessions;
mod stats;
mod unary;
mod window;
mod wire;

use conduct::{Orders, Signals};
use load::{Client, Counter, Load, Order};
use plan::Plan;
use report::Report;
use stats::Stats;
use window::Window;

/// Most clients: as many sessions are begun, and each costs this side a kilobyte.
const CLIENTS_MAX: usize = 100_000;

/// Most connections: file descriptors are often limited to 1,024.
const CONNECTIONS_MAX: usize = 1_000;

/// Most threads: more than any machine has cores to give.
const THREADS_MAX: usize = 256;

/// Most messages under way on a stream: 64 times what saturates one.
const IN_FLIGHT_MAX: usize = 4_096;

/// Most operations in a message: with the longest names they fit into the server's 64 KiB.
const OPERATIONS_MAX: usize = 256;

/// Most operations a second that can be asked for: more than one machine can send.
const RATE_MAX: u32 = 100_000_000;

/// The word that clients set. Any will do.
const CONTEXT: u64 = 7;

// Short lines: a terminal of 100 columns must not wrap them again.
const AFTER_HELP: &str = "\
What is measured:
  Clients set the context of a session and reset it again. Their sessions are begun before and
  ended after; neither is measured. Ctrl-C ends a run early; a second one drops everything, and
  the sessions that are left have the label bench.

  operations/s  Sets and Resets that were done within the duration
  calls/s       calls that began within it; in a pipeline messages/s
  refusals/s    operations that were refused because clients contend: -1912, and in a pipeline
                also -1913 for the Reset that follows a refused Set. They are no errors
  errors        everything else that was refused, failed or stayed unanswered, from the start
  latency       from when a request is given to its connection until its answer is read, of all
                that began within the duration, however late they were answered

  Without --rate the loop is closed: a client sends when it was answered. While a server stalls
  nobody sends, so few requests see the stall, and percentiles look better than independent users
  would find them (coordinated omission). With --rate the loop is open: requests have a schedule,
  and one that is late because those before it took long counts from when it was to begin.

Exit code 1 if there were errors.";

/// What `bench` takes.
#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    options: plan::Options,
}

impl BenchArgs {
    /// Runs the benchmark and shows what it found.
    pub(super) fn run(
        self,
        options: &connect::Options,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let plan = Plan::new(self.options, cores).map_err(Failure::Usage)?;
        // Threads and sessions of two runs never meet.
        let run = Uuid::new_v4().simple().to_string();
        let run = &run[..12];
        let window = Arc::new(Window::new(plan.warm_up, plan.duration));
        let orders = Orders::new(Arc::clone(&window));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::Runtime)?;
        let signals = {
            let _inside = runtime.enter();
            Signals::hear().map_err(Failure::Runtime)?
        };
        runtime.spawn(signals.obey(orders.clone()));

        let server = runtime.block_on(orders.unless(Order::is_stop, options.connect(DECIDED)));
        let server = server.ok_or_else(nothing_measured)??;
        let names = RefCell::new(Vec::new());
        let begin = sessions::begin(&server, &plan, run, &names, || orders.is_stop());
        let begun = runtime.block_on(orders.unless(Order::is_leave, begin));
        let names = names.into_inner();
        let clients = clients(&plan, &names, run);
        let measured = match begun {
            Some(Err(refused)) => Err(refused),
            Some(Ok(())) if !orders.is_stop() => {
                drive(&plan, options, &clients, &window, &orders, &runtime)
            }
            Some(Ok(())) | None => Err(nothing_measured()),
        };

        let ended = Cell::new(0);
        let thread = thread_id(run, 0);
        let end = sessions::end(&server, &names, &thread, &ended);
        let why = runtime.block_on(orders.unless(Order::is_leave, end));
        let left = names.len() - ended.get();
        if left > 0 {
            let why = why.flatten().map(|trouble| trouble.message);
            let why = why.unwrap_or_else(|| "a second signal".to_owned());
            out.note(&format!("{left} sessions labelled bench={run} are left: {why}"))?;
        }
        let (stats, stopped) = measured?;
        let report = Report { plan: &plan, run, length: window.length(), stopped, left, stats };
        out.value(&report.json(), &report.text())?;
        report.verdict()
    }
}

/// Runs the load on threads of its own. Answers what they saw, and whether they were stopped early.
fn drive(
    plan: &Plan,
    options: &connect::Options,
    clients: &[Client],
    window: &Arc<Window>,
    orders: &Orders,
    runtime: &tokio::runtime::Runtime,
) -> Result<(Stats, bool), Failure> {
    let counters: Vec<Counter> = (0..plan.threads).map(|_| Counter::default()).collect();
    let (tell, events) = mpsc::channel(2 * plan.threads);
    let order = orders.follow();
    let load = Load { plan, options, clients, window, counters: &counters, order };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut failure = None;
        for number in 0..plan.threads {
            let (load, tell) = (&load, tell.clone());
            let thread = thread::Builder::new().name(format!("bench-{number}"));
            match thread.spawn_scoped(scope, move || load.work(number, &tell)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    orders.stop();
                    failure = Some(Failure::Runtime(error));
                    break;
                }
            }
        }
        drop(tell);
        runtime.block_on(conduct::conduct(orders, events, threads.len(), window, &counters));
        let mut sum = Stats::new();
        for thread in threads {
            match thread.join() {
                Ok(Ok(stats)) => sum.add(stats),
                Ok(Err(why)) => {
                    failure.get_or_insert(why);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok((sum, orders.is_stop())),
        }
    })
}

fn nothing_measured() -> Failure {
    Failure::Bench("stopped before anything was measured".to_owned())
}

fn thread_id(run: &str, client: usize) -> String {
    format!("bench/{run}/{client}")
}

/// The clients, each with its session; if there are fewer sessions, they share.
fn clients(plan: &Plan, sessions: &[String], run: &str) -> Vec<Client> {
    let lease_ttl = plan.lease.map(|lease| prost_types::Duration {
        seconds: i64::try_from(lease.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(lease.subsec_nanos()).unwrap_or(0),
    });
    let client = |(number, session): (usize, &String)| Client {
        set: SetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id(run, number),
            context: CONTEXT,
            lease_ttl,
            ..SetSessionContextRequest::default()
        },
        reset: ResetSessionContextRequest {
            session: session.clone(),
            thread_id: thread_id(run, number),
            ..ResetSessionContextRequest::default()
        },
    };
    sessions.iter().cycle().take(plan.clients).enumerate().map(client).collect()
}

#[cfg(test)]
mod tests {
    use crate::domain::id::ThreadId;

    use super::*;

    #[test]
    fn clients_have_threads_of_their_own_and_share_the_sessions_there_are() {
        let plan = plan::tests::plan("--clients 3 --contend --sessions 2 --lease 1s500ms").unwrap();
        let sessions = ["a", "b"].map(str::to_owned);

        let clients = clients(&plan, &sessions, "0123456789ab");

        let sets: Vec<_> = clients.iter().map(|c| (&*c.set.session, &*c.set.thread_id)).collect();
        let wanted = [
            ("a", "bench/0123456789ab/0"),
            ("b", "bench/0123456789ab/1"),
            ("a", "bench/0123456789ab/2"),
        ];
        assert_eq!(sets, wanted);
        let lease = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
        for Client { set, reset } in &clients {
            assert_eq!((&set.session, &set.thread_id), (&reset.session, &reset.thread_id));
            assert!(set.thread_id.parse::<ThreadId>().is_ok());
            assert_eq!(set.lease_ttl, Some(lease));
        }
    }
}
