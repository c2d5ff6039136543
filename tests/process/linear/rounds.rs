//! Rounds of many clients on one directory: each ends with the death of the server. What was answered
//! in all of them must fit sessions that are asked one thing at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::history::{Act, Operation, Outcome, Thread};
use super::recorder::Recorder;
use super::wire::{Errand, Process, Wire};
use super::worker::{ASLEEP, Common, Mix, PROCESSES, Pending, Worker, begin};
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

/// What a server serves that has the whole contract.
const FULL: Mix =
    Mix { waits: true, transfers: true, checks: true, forces: true, leases: true, retries: true };

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
    pending: BTreeMap<Thread, Vec<Pending>>,
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
        Self { common, random: Random::new(seed), seed, directory, pending: BTreeMap::new() }
    }

    /// Everything that anybody asked and was told.
    async fn run(mut self, size: Size) -> Vec<Operation> {
        for _ in 0..size.rounds {
            let (server, channels) = self.start().await;
            self.round(server, &channels, size).await;
        }
        let (server, channels) = self.start().await;
        for pending in std::mem::take(&mut self.pending).into_values().flatten() {
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
            let pending = self.pending.remove(&thread).unwrap_or_default();
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
        let trouble =
            tokio::spawn(trouble(Arc::clone(&processes), Arc::clone(common), self.random.fork()));
        let done = within("enough answers", async {
            loop {
                tokio::select! {
                    () = common.enough.notified() => break true,
                    ended = workers.join_next() => match ended {
                        Some(ended) => self.pending.extend([ended_well(ended)]),
                        None => break false,
                    }
                }
            }
        });
        let lasts = async {
            if common.mix.leases {
                tokio::time::sleep(2 * ASLEEP).await;
            }
        };
        let (done, ()) = tokio::join!(done, lasts);
        assert!(done, "all clients have stopped, and nobody stopped the server");
        some_time(&mut self.random, Duration::from_millis(2)).await;
        common.down.store(true, Ordering::Relaxed);
        server.kill().await;
        let died = common.recorder.nanos();
        trouble.await.expect("nothing panics");
        for process in lock(&processes).iter() {
            process.wakes_up();
        }
        within("the clients have stopped", async {
            while let Some(ended) = workers.join_next().await {
                self.pending.extend([ended_well(ended)]);
            }
        })
        .await;
        common.recorder.died(died);
    }
}

type Ended = (Thread, Vec<Pending>);

/// What a client found wrong ends the test.
fn ended_well(ended: Result<Ended, tokio::task::JoinError>) -> Ended {
    ended.unwrap_or_else(|wrong| std::panic::resume_unwind(wrong.into_panic()))
}

/// A client that is a process, and another one when that was killed.
async fn lives(
    thread: Thread,
    server: std::net::SocketAddr,
    mut pending: Vec<Pending>,
    common: &Arc<Common>,
    mut random: Random,
    processes: &Processes,
) -> Vec<Pending> {
    loop {
        let errand = Errand::begin(server).await;
        lock(processes).push(errand.process());
        let worker = Worker::new(thread, Wire::Child(errand), common, random.fork());
        pending = worker.run(pending).await;
        if common.down.load(Ordering::Relaxed) {
            return pending;
        }
        for call in &mut pending {
            call.stray = true;
        }
    }
}

/// Stops processes for a while, and kills some.
async fn trouble(processes: Processes, common: Arc<Common>, mut random: Random) {
    const BETWEEN: Duration = Duration::from_millis(60);
    const SHORT: Duration = Duration::from_millis(40);
    while !common.down.load(Ordering::Relaxed) {
        some_time(&mut random, BETWEEN).await;
        let mut awake = lock(&processes).clone();
        awake.retain(|process| !process.is_asleep());
        if awake.is_empty() {
            continue;
        }
        let process = random.one_of(&awake);
        if random.percent(20) {
            lock(&processes).retain(|other| !Arc::ptr_eq(other, process));
            process.signal(Signal::KILL);
        } else {
            process.signal(Signal::STOP);
            some_time(&mut random, SHORT).await;
            process.signal(Signal::CONT);
        }
    }
}

/// Runs a campaign, says what it tried, and checks what came of it.
#[expect(clippy::print_stderr, reason = "whoever runs a campaign wants to know what it tried")]
async fn campaign(mix: Mix) {
    let size = size(mix);
    let campaign = Campaign::new(mix, None);
    let (common, seed) = (Arc::clone(&campaign.common), campaign.seed);
    eprintln!("TESTS_SEED={seed}");
    let history = campaign.run(size).await;
    let began = now();
    let checked = check(&history);
    let took = now().duration_since(began);
    let checked = checked.unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(checked.unknown > 0, "no call was under way when a server died");
    assert_eq!(checked.expired > 0, mix.leases, "leases that ended");
    tried(mix, &history);
    let retried = common.retried.load(Ordering::Relaxed);
    eprintln!(
        "{size:?}: {checked:?}, {retried} answers lost and asked for again; checked in {took:?}"
    );
}

/// Every feature of the mix has had its effect.
fn tried(mix: Mix, history: &[Operation]) {
    let made = |act: fn(&Act) -> bool| {
        let made = |one: &&Operation| one.revision().is_some() || one.outcome == Outcome::Ok;
        history.iter().filter(made).any(|one| act(&one.act))
    };
    for (feature, wanted, made) in [
        ("waits", mix.waits, made(|act| matches!(act, Act::Set { wait: true, .. }))),
        ("transfers", mix.transfers, made(|act| matches!(act, Act::Transfer { .. }))),
        ("checks", mix.checks, made(|act| matches!(act, Act::Check { .. }))),
        ("forces", mix.forces, made(|act| matches!(act, Act::ForceReset { .. }))),
        ("leases", mix.leases, made(|act| matches!(act, Act::Set { lease: Some(_), .. }))),
    ] {
        assert_eq!(made, wanted, "{feature}");
    }
}

/// With leases a round takes its time.
fn size(mix: Mix) -> Size {
    match (long(), mix.leases) {
        (false, false) => Size { rounds: 6, answers: (100, 1_500) },
        (false, true) => Size { rounds: 3, answers: (100, 1_500) },
        (true, false) => Size { rounds: 200, answers: (100, 4_000) },
        (true, true) => Size { rounds: 80, answers: (100, 10_000) },
    }
}

#[tokio::test]
async fn what_many_were_answered_happened_one_after_the_other() {
    campaign(BASIC).await;
}

#[tokio::test]
async fn whatever_many_were_answered_happened_one_after_the_other() {
    campaign(FULL).await;
}

#[tokio::test]
async fn a_grant_that_never_was_is_found() {
    const REFUSAL: u64 = 20;
    let campaign = Campaign::new(BASIC, Some(REFUSAL));
    let history = campaign.run(Size { rounds: 1, answers: (1_000, 1_001) }).await;
    let wrong = check(&history).expect_err("somebody was told that he holds what another holds");
    assert_ne!(wrong.what, What::GaveUp, "{wrong}");
}
