//! What ownership over a network costs: handing a session over to those who wait for it, and taking back
//! what many threads hold whose leases end in the same moment.
//!
//! `cargo bench --bench ownership [-- --leases N --rounds N]`
//!
//! Everything runs through the engine, on one thread, without a network. A hand-over is measured from the
//! call that releases to the answer of the one who waited, and compared with a Set that need not wait; it
//! must not grow with the queue. In the storm of expiries, what counts is how long others wait for their
//! calls while it lasts.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and says what it found"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::pool::{BatchBeginSessions, ClaimContext};
use jet_session::domain::call::session::GetSession;
use jet_session::domain::id::{InstanceId, Labels, Principal, SessionId, ThreadId, Uid};
use jet_session::domain::instance::Durability;
use jet_session::domain::time::Timestamp;
use jet_session::engine::patience::Patience;
use jet_session::engine::{Asker, Engine, Environment, NewInstance, Settings};
use jet_session::store::Store;
use jet_session::store::log::disk::RealDisk;
use jet_session::store::log::{LogStore, Work};
use jet_session::store::memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Sessions that one call begins.
const BATCH: u32 = 1_000;

fn main() {
    let (mut leases, mut rounds) = (100_000, 5);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u32>().ok()).expect("a number");
        match word.as_str() {
            "--leases" => leases = number(),
            "--rounds" => rounds = number(),
            // cargo bench says `--bench` to every bench.
            _ => {}
        }
    }
    println!("hand-over, median of {rounds} rounds of 2,000:");
    let alone = median((0..rounds).map(|_| set_and_reset()).collect());
    println!("{:>8}: {alone:?} for a Set and a Reset", "nobody");
    for waiters in [1, 100, 10_000] {
        let each = median((0..rounds).map(|_| hand_over(waiters)).collect());
        let ratio = each.as_secs_f64() / alone.as_secs_f64();
        println!("{waiters:>8}: {each:?} from release to grant, {ratio:.2} of that");
    }
    println!("{leases} leases that end in the same moment, one caller who sets and resets:");
    let dir = tempfile::tempdir().expect("a directory");
    for (name, storm) in
        [("memory", storm(MemoryStore::default(), leases)), ("log", storm(log(dir.path()), leases))]
    {
        let Storm { before, during, lasted } = storm;
        println!(
            "{name:>8}: at most {before:?} a call before, {during:?} during the {lasted:?} that it lasts"
        );
    }
}

fn median(mut found: Vec<Duration>) -> Duration {
    found.sort();
    found[found.len() / 2]
}

/// The real clock.
struct Clock(Instant);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn uid(&self) -> Uid {
        Uid::new("bench")
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn log(dir: &Path) -> LogStore<RealDisk> {
    LogStore::new(RealDisk, dir, Work::Pool)
}

/// An engine with one instance that has so many sessions.
async fn ready<S: Store>(store: S, sessions: u32) -> (Engine, InstanceId) {
    let settings = Settings { max_instances: 1, max_sessions: sessions };
    let engine = Engine::start(store, Arc::new(Clock(Instant::now())), settings).await;
    let engine = engine.expect("an engine");
    let id: InstanceId = "main".parse().expect("a good id");
    let main = NewInstance {
        id: id.clone(),
        labels: Labels::default(),
        max_sessions: None,
        durability: Durability::Flush,
        ready: true,
    };
    engine.create(main, caller()).await.expect("an instance");
    let mut left = sessions;
    while left > 0 {
        let begin = BatchBeginSessions { count: left.min(BATCH), labels: Labels::default() };
        left -= begin.count;
        engine.ask(&id, caller(), begin).await.expect("below the limit");
    }
    (engine, id)
}

fn caller() -> Asker {
    Asker::once(Principal::anonymous())
}

fn session(sesid: u32) -> SessionId {
    SessionId::new(sesid.into()).expect("not 0")
}

fn thread(n: u32) -> ThreadId {
    format!("host-17/4711/worker-{n}").parse().expect("a good id")
}

const HAND_OVERS: u32 = 2_000;

/// A Set and a Reset without anybody else.
fn set_and_reset() -> Duration {
    runtime().block_on(async {
        let (engine, id) = ready(MemoryStore::default(), 1).await;
        let (session, thread) = (session(1), thread(0));
        let began = Instant::now();
        for _ in 0..HAND_OVERS {
            let set = SetContext::new(session, thread.clone(), 7);
            engine.ask(&id, caller(), set).await.expect("free");
            let reset = ResetContext { session, thread: thread.clone(), token: None };
            engine.ask(&id, caller(), reset).await.expect("held");
        }
        began.elapsed() / HAND_OVERS
    })
}

/// A pool of one session and so many who wait for it: who gets it lets it go and queues again.
fn hand_over(waiters: u32) -> Duration {
    runtime().block_on(async {
        let (engine, id) = ready(MemoryStore::default(), 1).await;
        let claim = |engine: Engine, id: InstanceId, n: u32| async move {
            let claim = ClaimContext {
                labels: Labels::default(),
                thread: thread(n),
                context: 7,
                wait: true,
                lease: None,
            };
            let wait = Duration::from_secs(3_600);
            let patience = Patience { wait, deadline: None, room: None };
            engine.ask_patiently(&id, caller(), claim, patience).await.expect("granted");
            n
        };
        let mut holder = claim(engine.clone(), id.clone(), 0).await;
        let mut waiting = JoinSet::new();
        for n in 1..=waiters {
            waiting.spawn(claim(engine.clone(), id.clone(), n));
        }
        let look = || engine.ask(&id, caller(), GetSession { session: session(1) });
        look().await.expect("a session");
        while engine.waiting() < waiters as usize {
            tokio::task::yield_now().await;
        }
        let mut spent = Duration::ZERO;
        for _ in 0..HAND_OVERS {
            let reset = ResetContext { session: session(1), thread: thread(holder), token: None };
            let began = Instant::now();
            engine.ask(&id, caller(), reset).await.expect("held");
            let next = waiting.join_next().await.expect("somebody waits").expect("no panic");
            spent += began.elapsed();
            waiting.spawn(claim(engine.clone(), id.clone(), holder));
            holder = next;
            tokio::task::yield_now().await;
        }
        spent / HAND_OVERS
    })
}

/// The longest that a call took before and during a storm, and how long that lasted.
struct Storm {
    before: Duration,
    during: Duration,
    lasted: Duration,
}

fn storm<S: Store>(store: S, leases: u32) -> Storm {
    runtime().block_on(async {
        let (engine, id) = ready(store, leases + 1).await;
        // Long enough that all are set before the first ends.
        let ttl = Duration::from_secs(20);
        let mut setting = JoinSet::new();
        let began = Instant::now();
        for n in 1..=leases {
            let set = SetContext { lease: Some(ttl), ..SetContext::new(session(n), thread(n), 7) };
            let (engine, id) = (engine.clone(), id.clone());
            setting.spawn(async move { engine.ask(&id, caller(), set).await.expect("free") });
            while setting.len() >= 1_024 {
                setting.join_next().await;
            }
        }
        while setting.join_next().await.is_some() {}
        assert!(began.elapsed() < ttl, "the machine is too slow for so many");
        let probe = |until: Instant| {
            let (engine, id) = (engine.clone(), id.clone());
            async move {
                let (session, thread) = (session(leases + 1), thread(0));
                let mut longest = Duration::ZERO;
                while Instant::now() < until {
                    let began = Instant::now();
                    let set = SetContext::new(session, thread.clone(), 7);
                    engine.ask(&id, caller(), set).await.expect("free");
                    let reset = ResetContext { session, thread: thread.clone(), token: None };
                    engine.ask(&id, caller(), reset).await.expect("held");
                    longest = longest.max(began.elapsed() / 2);
                    tokio::task::yield_now().await;
                }
                longest
            }
        };
        let before = probe(Instant::now() + Duration::from_secs(1)).await;
        // All of them are to end in the same moment: each is renewed once more, together.
        let keep = |from: u32| jet_session::domain::call::thread::KeepAlive {
            threads: (from..(from + 400).min(leases + 1)).map(thread).collect(),
            ttl: Duration::from_secs(2),
            include_held: false,
        };
        for from in (1..=leases).step_by(400) {
            engine.ask(&id, caller(), keep(from)).await.expect("room for leases");
        }
        let bound = || engine.instance(&id).expect("an instance").bound_count;
        let mut during = Duration::ZERO;
        let (mut first, mut last) = (None, Instant::now());
        while bound() > 1 {
            let all = bound() >= leases as usize;
            during = during.max(probe(Instant::now() + Duration::from_millis(1)).await);
            last = Instant::now();
            if all {
                first = Some(last);
            }
        }
        let lasted = first.map_or(Duration::ZERO, |first| last - first);
        engine.close().await;
        Storm { before, during, lasted }
    })
}
