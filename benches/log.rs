//! What durability costs: the embedded log against the bare disk, recovery, and memory.
//!
//! `cargo bench --bench log [-- --seconds S --rounds N --sessions N]`
//!
//! Both sides of a ratio run in this process, in turn, on the same disk and the same cores. A *record*
//! is a Set or a Reset. The bare disk writes as many bytes as the log does for as many records, at the
//! end of a file of zeros, and syncs: no program that syncs before it answers can do more of those.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and says what it found"
)]

#[path = "support/still.rs"]
mod still;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::session::BeginSession;
use jet_session::domain::event::{Change, SessionEvent};
use jet_session::domain::id::{
    ContextValue, InstanceId, Labels, Owner, Principal, Revision, SessionId, ThreadId, Uid,
};
use jet_session::domain::instance::{Durability, InstanceRecord, Resting};
use jet_session::domain::table::{Floor, SessionTable};
use jet_session::domain::time::Timestamp;
use jet_session::engine::{Asker, Engine, NewInstance, Settings};
use jet_session::proto::api as pb;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::store::log::disk::RealDisk;
use jet_session::store::log::{LogStore, Work};
use jet_session::store::{Journal, Progress, Store};
use still::Still;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// What a frame takes beside its records, and what a record takes, on average.
const FRAME_BYTES: usize = 40;
const RECORD_BYTES: usize = 48;

struct Plan {
    seconds: u64,
    rounds: usize,
    sessions: u64,
}

fn main() {
    let plan = plan();
    commits(&plan);
    recovery(&plan);
    server(&plan);
}

fn plan() -> Plan {
    let mut plan = Plan { seconds: 2, rounds: 5, sessions: 1_000_000 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u64>().ok()).expect("a number");
        match word.as_str() {
            "--seconds" => plan.seconds = number(),
            "--rounds" => plan.rounds = usize::try_from(number()).expect("a small number"),
            "--sessions" => plan.sessions = number(),
            // cargo bench says `--bench` to every bench.
            _ => {}
        }
    }
    plan
}

/// Records a second through the engine, against the bare disk.
fn commits(plan: &Plan) {
    println!("records a second, {} rounds of {} s", plan.rounds, plan.seconds);
    println!(
        "{:>8} {:>12} {:>12} {:>8} {:>14} {:>14}",
        "waiters", "log", "bare disk", "ratio", "log CPU/rec", "disk CPU/rec"
    );
    for waiters in [1, 16, 64, 256] {
        let mut of: [Vec<f64>; 4] = Default::default();
        for _ in 0..plan.rounds {
            let (rate, cpu) = through_the_log(waiters, plan.seconds);
            let (bare_rate, bare_cpu) = bare_disk(waiters, plan.seconds);
            for (figures, figure) in of.iter_mut().zip([rate, bare_rate, cpu, bare_cpu]) {
                figures.push(figure);
            }
        }
        let [rate, bare_rate, cpu, bare_cpu] = of.map(median);
        println!(
            "{waiters:>8} {rate:>12.0} {bare_rate:>12.0} {:>8.2} {:>11.2} µs {:>11.2} µs",
            rate / bare_rate,
            cpu * 1e6,
            bare_cpu * 1e6,
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Callers that do Set and Reset in turn, each on a session of its own: records and CPU seconds a
/// record.
fn through_the_log(waiters: usize, seconds: u64) -> (f64, f64) {
    let dir = directory();
    let runtime = runtime();
    runtime.block_on(async {
        let store = LogStore::new(RealDisk, dir.path(), Work::Pool);
        let settings = Settings { max_instances: 1, max_sessions: 1_000 };
        let engine = Engine::start(store, Arc::new(Still), settings).await.expect("empty");
        let id: InstanceId = "bench".parse().expect("a good id");
        let wanted = NewInstance {
            id: id.clone(),
            labels: Labels::default(),
            max_sessions: None,
            durability: Durability::Flush,
            ready: true,
        };
        engine.create(wanted, Asker::once(Principal::anonymous())).await.expect("the first");
        let done = Arc::new(AtomicU64::new(0));
        for _ in 0..waiters {
            let begin = BeginSession { labels: Labels::default() };
            let begun = engine.ask(&id, Asker::once(Principal::anonymous()), begin).await;
            let session = begun.expect("below the limit").session.id;
            let (engine, id, done) = (engine.clone(), id.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let thread: ThreadId = "worker/1".parse().expect("a good thread id");
                loop {
                    let set = SetContext::new(session, thread.clone(), 7);
                    engine.ask(&id, Asker::once(Principal::anonymous()), set).await.expect("free");
                    let reset = ResetContext { session, thread: thread.clone(), token: None };
                    engine
                        .ask(&id, Asker::once(Principal::anonymous()), reset)
                        .await
                        .expect("held");
                    done.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (begin, before, cpu) = (Instant::now(), done.load(Ordering::Relaxed), cpu_seconds());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let records = (done.load(Ordering::Relaxed) - before) as f64;
        (records / begin.elapsed().as_secs_f64(), (cpu_seconds() - cpu) / records)
    })
}

/// As many bytes as the log writes for a batch of so many records, and a sync, again and again.
fn bare_disk(waiters: usize, seconds: u64) -> (f64, f64) {
    const LEN: u64 = 64 * 1024 * 1024;
    let dir = directory();
    let file = File::create_new(dir.path().join("file")).expect("a new file");
    file.write_all_at(&vec![0; usize::try_from(LEN).expect("fits")], 0).expect("room");
    file.sync_all().expect("a disk");
    let frame = vec![1; FRAME_BYTES + waiters * RECORD_BYTES];
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let (mut at, mut records) = (0, 0);
    while begin.elapsed() < Duration::from_secs(seconds) {
        if at + frame.len() as u64 > LEN {
            at = 0;
        }
        file.write_all_at(&frame, at).expect("room");
        file.sync_data().expect("a disk");
        at += frame.len() as u64;
        records += waiters;
    }
    let records = records as f64;
    (records / begin.elapsed().as_secs_f64(), (cpu_seconds() - cpu) / records)
}

/// How long an instance takes to open.
fn recovery(plan: &Plan) {
    let runtime = runtime();
    runtime.block_on(async {
        let dir = directory();
        let store = LogStore::new(RealDisk, dir.path(), Work::Pool);
        store.load().await.expect("an empty directory");
        let record = record("snapshot");
        store.create(&record).await.expect("a new name");
        store.replace(&record, table(plan.sessions)).await.expect("room");
        println!("\nopening, medians of {} rounds", plan.rounds);
        opening(&store, &record, plan, "sessions in a snapshot").await;

        let record = self::record("log");
        store.create(&record).await.expect("a new name");
        let mut journal = store.open(&record, Progress::ignored()).await.expect("empty").journal;
        let mut changes = Vec::new();
        for change in history(plan.sessions / 2) {
            changes.push(change);
            if changes.len() == 1_000 {
                journal.commit(&changes).await.expect("room");
                changes.clear();
            }
        }
        journal.close().await.expect("room");
        opening(&store, &record, plan, "records in a log").await;
    });
}

async fn opening(store: &LogStore, record: &InstanceRecord, plan: &Plan, what: &str) {
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let (begin, cpu) = (Instant::now(), cpu_seconds());
        let opened = store.open(record, Progress::ignored()).await.expect("it opens");
        times.push(begin.elapsed().as_secs_f64());
        cpus.push(cpu_seconds() - cpu);
        opened.journal.close().await.expect("it closes");
    }
    let (time, cpu) = (median(times), median(cpus));
    println!("{:>10} {what}: {time:.3} s, {cpu:.2} s of CPU", plan.sessions);
}

/// The real program on a directory with so many sessions: until it is ready, and what it takes.
fn server(plan: &Plan) {
    let dir = directory();
    let runtime = runtime();
    runtime.block_on(async {
        let store = LogStore::new(RealDisk, dir.path(), Work::Pool);
        store.load().await.expect("an empty directory");
        store.create(&record("main")).await.expect("a new name");
        store.replace(&record("main"), table(plan.sessions)).await.expect("room");
    });
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_jet-session"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let address = address(&mut child);
    let listening = begin.elapsed();
    runtime.block_on(async {
        let mut client = InstanceServiceClient::connect(address).await.expect("it listens");
        let ready = pb::instance::State::Ready;
        let mut watch = client
            .watch_instances(pb::WatchInstancesRequest::default())
            .await
            .expect("it is served")
            .into_inner();
        loop {
            let message = watch.message().await.expect("it goes on").expect("it goes on");
            if message.instance.is_some_and(|instance| instance.state() == ready) {
                break;
            }
        }
    });
    let resident = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux tells");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number")
            / 1024.0
    };
    println!(
        "\nserver with {} sessions: listening after {:.3} s, ready after {:.3} s, {:.0} MiB resident, {:.0} at most",
        plan.sessions,
        listening.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        resident("VmRSS:"),
        resident("VmHWM:"),
    );
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
}

fn address(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on ").expect("the address").to_owned();
    format!("http://{address}")
}

/// Sessions, each held by one of a thousand threads.
fn table(sessions: u64) -> SessionTable {
    let mut table = SessionTable::default();
    history(sessions).for_each(|change| table.apply(&change));
    table
}

/// Begin and Set of so many sessions.
fn history(sessions: u64) -> impl Iterator<Item = Change> {
    (1..=sessions).flat_map(|sesid| {
        let session = SessionId::new(sesid).expect("not 0");
        let thread = format!("worker-{}/4711/12", sesid % 1_000).parse().expect("a good id");
        let owner = Owner::new(Principal::anonymous(), thread);
        let context = ContextValue::new(sesid).expect("a good word");
        let change = |revision, event| Change {
            revision: Revision::new(revision),
            time: Timestamp::from_micros(1_700_000_000_000_000),
            by: Principal::anonymous(),
            event,
            made: Vec::new(),
        };
        [
            change(2 * sesid - 1, SessionEvent::Began { session, labels: Labels::default() }),
            change(2 * sesid, SessionEvent::ContextSet { session, owner, context }),
        ]
    })
}

fn record(id: &str) -> InstanceRecord {
    InstanceRecord {
        id: id.parse().expect("a good id"),
        uid: Uid::new("bench"),
        labels: Labels::default(),
        max_sessions: 10_000_000,
        durability: Durability::Flush,
        created: Timestamp::default(),
        updated: Timestamp::default(),
        floor: Floor::default(),
        resting: Resting::Ready,
        ended: Revision::ZERO,
        created_by: None,
        replays: Default::default(),
    }
}

/// A directory on the disk that the repository is on.
fn directory() -> TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("room")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What this process has used so far, by the clock of the system's accounting.
fn cpu_seconds() -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // Behind the name, which is in parentheses: state is the first word, utime and stime are 12 and 13.
    let words = stat.rsplit(')').next().expect("it has a name").split_whitespace();
    let ticks = words.skip(11).take(2).map(|word| word.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / TICKS_A_SECOND
}
