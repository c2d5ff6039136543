//! Rounds of many clients on one directory: each ends with the death of the server. What was answered
//! in all of them must fit sessions that are asked one thing at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::history::{Operation, Outcome, Thread};
use super::recorder::Recorder;
use super::wire::{Errand, Process, Wire};
use super::worker::{Common, Mix, PROCESSES, Pending, Worker, begin};
use super::{What, check};
use crate::campaign::{long, ready, some_time};
use crate::clients::{MAIN, connect, lock};
use crate::random::Random;
use crate::server::{RealServer, now, within};

/// Clients of this process, and those that are processes of their own.
pub(crate) const THREADS: Thread = 12;
pub(crate) const CHILDREN: Thread = 3;
const SESSIONS: usize = 3;

/// What every server serves.
const BASIC: Mix = Mix {
    waits: false,
    transfers: false,
    checks: false,
    forces: false,
    leases: false,
    retries: false,
};

/// How long a campaign is.
#[derive(Debug, Clone, Copy)]
struct Size {
    rounds: u32,
    /// Answers in a round, before the server is killed.
    answers: (u64, u64),
}

struct Campaign {
    common: Arc<Common>,
    random: Random,
    seed: u64,
    directory: tempfile::TempDir,
    /// Calls to be made again, by thread.
    pending: Vec<(Thread, Pending)>,
}

/// The processes of a round, for whoever stops and kills them.
type Processes = Arc<std::sync::Mutex<Vec<Arc<Process>>>>;

impl Campaign {
    fn new(mix: Mix, forge: Option<u64>) -> Self {
        let seed = match std::env::var("TESTS_SEED") {
            Ok(seed) => seed.parse().expect("TESTS_SEED is a number"),
            Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let common = Arc::new(Common {
            mix,
            recorder: Recorder::new(forge),
            sessions: Mutex::default(),
            down: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            enough_at: AtomicU64::new(0),
            enough: Notify::new(),
            request_ids: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        });
        let directory = tempfile::tempdir().expect("a directory");
        Self { common, random: Random::new(seed), seed, directory, pending: Vec::new() }
    }

    /// Everything that anybody asked and was told.
    async fn run(mut self, size: Size) -> Vec<Operation> {
        for _ in 0..size.rounds {
            let (server, channels) = self.start().await;
            self.round(server, &channels, size).await;
        }
        let (server, channels) = self.start().await;
        for (_, pending) in self.pending.drain(..) {
            self.common.recorder.told(pending.asked, Outcome::Unknown);
        }
        let wire = Wire::Own(channels[0].clone());
        within("the last look", Worker::new(0, wire, &self.common, self.random.fork()).look())
            .await;
        server.kill().await;
        self.common.recorder.history()
    }

    async fn start(&mut self) -> (RealServer, Vec<Channel>) {
        let log = self.directory.path().join("server.log");
        let server = RealServer::start(&self.directory.path().join("data"), &log).await;
        let channels = connect(server.address()).await;
        ready(&channels[0], MAIN, &log).await;
        let mut sessions = self.common.sessions.lock().await;
        while sessions.len() < SESSIONS {
            let begun = begin(&mut Wire::Own(channels[0].clone())).await;
            sessions.push(begun.expect("a server that nobody kills answers"));
        }
        drop(sessions);
        (server, channels)
    }

    async fn round(&mut self, server: RealServer, channels: &[Channel], size: Size) {
        let common = &self.common;
        common.down.store(false, Ordering::Relaxed);
        common.answers.store(0, Ordering::Relaxed);
        let enough = self.random.within(size.answers.0..size.answers.1);
        common.enough_at.store(enough, Ordering::Relaxed);
        let processes = Processes::default();
        let mut workers = JoinSet::new();
        for thread in (0..THREADS).chain(PROCESSES..PROCESSES + CHILDREN) {
            let pending = self.pending.iter().position(|(of, _)| *of == thread);
            let pending = pending.map(|at| self.pending.swap_remove(at).1);
            let (common, random) = (Arc::clone(common), self.random.fork());
            if thread < PROCESSES {
                let wire = Wire::Own(channels[thread as usize % channels.len()].clone());
                let worker = Worker::new(thread, wire, &common, random);
                workers.spawn(async move { (thread, worker.run(pending).await) });
            } else {
                let (server, processes) = (server.address(), Arc::clone(&processes));
                workers.spawn(async move {
                    (thread, lives(thread, server, pending, &common, random, &processes).await)
                });
            }
        }
        let trouble = tokio::spawn(trouble(processes, Arc::clone(common), self.random.fork()));
        let done = within("enough answers", async {
            loop {
                tokio::select! {
                    () = common.enough.notified() => break true,
                    ended = workers.join_next() => match ended {
                        Some(ended) => self.pending.extend(ended_well(ended)),
                        None => break false,
                    }
                }
            }
        });
        assert!(done.await, "all clients have stopped, and nobody stopped the server");
        some_time(&mut self.random, Duration::from_millis(2)).await;
        common.down.store(true, Ordering::Relaxed);
        server.kill().await;
        let died = common.recorder.nanos();
        trouble.await.expect("nothing panics");
        within("the clients have stopped", async {
            while let Some(ended) = workers.join_next().await {
                self.pending.extend(ended_well(ended));
            }
        })
        .await;
        common.recorder.died(died);
    }
}

type Ended = (Thread, Option<Pending>);

/// What a client found wrong ends the test.
fn ended_well(ended: Result<Ended, tokio::task::JoinError>) -> Option<(Thread, Pending)> {
    match ended {
        Ok((thread, pending)) => pending.map(|pending| (thread, pending)),
        Err(wrong) => std::panic::resume_unwind(wrong.into_panic()),
    }
}

/// A client that is a process, and another one when that was killed.
async fn lives(
    thread: Thread,
    server: std::net::SocketAddr,
    mut pending: Option<Pending>,
    common: &Arc<Common>,
    mut random: Random,
    processes: &Processes,
) -> Option<Pending> {
    loop {
        let errand = Errand::begin(server).await;
        lock(processes).push(errand.process());
        let worker = Worker::new(thread, Wire::Child(errand), common, random.fork());
        pending = worker.run(pending.take()).await;
        if common.down.load(Ordering::Relaxed) {
            return pending;
        }
        if let Some(pending) = &mut pending {
            pending.stray = true;
        }
    }
}

/// Stops processes for a while, and kills some.
async fn trouble(processes: Processes, common: Arc<Common>, mut random: Random) {
    const BETWEEN: Duration = Duration::from_millis(60);
    const SHORT: Duration = Duration::from_millis(40);
    /// Longer than a lease and the lateness of its end.
    const LONG: Duration = Duration::from_secs(4);
    while !common.down.load(Ordering::Relaxed) {
        some_time(&mut random, BETWEEN).await;
        let alive = lock(&processes).clone();
        if alive.is_empty() {
            continue;
        }
        let process = random.one_of(&alive);
        if random.percent(20) {
            lock(&processes).retain(|other| !Arc::ptr_eq(other, process));
            process.signal(Signal::KILL);
        } else {
            process.signal(Signal::STOP);
            let long = common.mix.leases && random.percent(10);
            some_time(&mut random, if long { LONG } else { SHORT }).await;
            process.signal(Signal::CONT);
        }
    }
}

/// Runs a campaign, says what it tried, and checks what came of it.
#[expect(clippy::print_stderr, reason = "whoever runs a campaign wants to know what it tried")]
async fn campaign(mix: Mix, size: Size) {
    let campaign = Campaign::new(mix, None);
    let (common, seed) = (Arc::clone(&campaign.common), campaign.seed);
    eprintln!("TESTS_SEED={seed}");
    let history = campaign.run(size).await;
    let began = now();
    let checked = check(&history);
    let took = now().duration_since(began);
    let checked = checked.unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(checked.unknown > 0, "no call was under way when a server died");
    let retried = common.retried.load(Ordering::Relaxed);
    eprintln!(
        "{size:?}: {checked:?}, {retried} answers lost and asked for again; checked in {took:?}"
    );
}

fn size() -> Size {
    if long() {
        Size { rounds: 200, answers: (100, 4_000) }
    } else {
        Size { rounds: 6, answers: (100, 1_500) }
    }
}

#[tokio::test]
async fn what_many_were_answered_happened_one_after_the_other() {
    campaign(BASIC, size()).await;
}

#[tokio::test]
async fn a_grant_that_never_was_is_found() {
    const REFUSAL: u64 = 20;
    let campaign = Campaign::new(BASIC, Some(REFUSAL));
    let history = campaign.run(Size { rounds: 1, answers: (1_000, 1_001) }).await;
    let wrong = check(&history).expect_err("somebody was told that he holds what another holds");
    assert_ne!(wrong.what, What::GaveUp, "{wrong}");
}
