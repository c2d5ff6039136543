//! Watches that go on in the log, because the ring does not reach back as far. On a real log, and in
//! real time: nothing here depends on how long anything takes.

use crate::domain::id::Revision;
use crate::domain::limits::HISTORY_READ_BYTES;
use crate::engine::sessions::{SessionWatch, Watched};
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Work};

use super::held::HeldStore;
use super::*;

/// A server on a log whose rings may keep next to nothing.
struct Logged {
    engine: Engine,
    _dir: tempfile::TempDir,
}

impl Logged {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::new(RealDisk, dir.path(), Work::Pool);
        Self::on(store, dir).await
    }

    async fn on(store: impl Store, dir: tempfile::TempDir) -> Self {
        let settings = Settings { max_instances: 1, max_sessions: 100_000 };
        let environment = Arc::<TestEnvironment>::default();
        let engine = Engine::start(store, environment, settings).await.unwrap();
        let wanted = NewInstance {
            id: name("a"),
            labels: Labels::default(),
            max_sessions: None,
            durability: Durability::Flush,
            ready: true,
        };
        engine.create(wanted, Asker::once(Principal::anonymous())).await.unwrap();
        // As if other instances had used up everything.
        engine.shared.watches.budget.exhaust();
        Self { engine, _dir: dir }
    }

    async fn begin(&self, sessions: usize) {
        let begin = || BeginSession { labels: Labels::default() };
        let ask = |_| self.engine.ask_as_nobody(begin());
        let begun = futures_util::future::join_all((0..sessions).map(ask)).await;
        assert!(begun.iter().all(Result::is_ok));
    }

    async fn watch(&self, from: u64) -> SessionWatch {
        let (from, all) = (Revision::new(from), SessionFilter::default());
        self.engine.watch_sessions(&name("a"), from, all).await.unwrap()
    }

    /// How many events the ring keeps.
    fn kept(&self) -> usize {
        self.engine.handle::<Failure>(&name("a")).unwrap().ring.kept().0
    }
}

impl Engine {
    async fn ask_as_nobody(
        &self,
        call: BeginSession,
    ) -> Result<(), Unanswered<Refused<<BeginSession as Call>::Refusal>>> {
        self.ask(&name("a"), Asker::once(Principal::anonymous()), call).await.map(drop)
    }
}

/// The revisions of the events that come next, which are no snapshot's.
async fn events(watch: &mut SessionWatch, count: usize) -> Vec<u64> {
    let mut revisions = Vec::new();
    while revisions.len() < count {
        match soon(watch.next()).await.unwrap().unwrap() {
            Watched::Event(told) => revisions.push(told.revision.get()),
            other @ (Watched::Present(..) | Watched::UpTo(_)) => panic!("{other:?}"),
        }
    }
    revisions
}

#[tokio::test]
async fn what_the_ring_does_not_reach_is_read_from_the_log() {
    let server = Logged::new().await;
    for _ in 0..8 {
        server.begin(500).await;
    }
    assert!(server.kept() < 2_000, "{}", server.kept());
    for from in [1, 2, 499, 500, 501, 3_000, 4_000] {
        let mut watch = server.watch(from).await;
        let count = usize::try_from(4_001 - from).unwrap();
        assert!(events(&mut watch, count).await.into_iter().eq(from..=4_000), "from {from}");
    }
    // It goes on with what happens, whether the watch has come to the ring or not.
    let (mut early, mut late) = (server.watch(1).await, server.watch(4_001).await);
    server.begin(2_000).await;
    assert!(events(&mut early, 6_000).await.into_iter().eq(1..=6_000));
    server.begin(1).await;
    assert_eq!(events(&mut early, 1).await, [6_001]);
    // The ring has passed this one; it is told so, and can go on from the log.
    let refusal = soon(late.next()).await.unwrap().unwrap_err();
    let resume = refusal.facts().watch.resume.unwrap().get();
    assert_eq!(resume, 4_001);
    assert!(events(&mut server.watch(resume).await, 2_001).await.into_iter().eq(4_001..=6_001));
}

#[tokio::test]
async fn a_snapshot_that_takes_long_goes_on_in_the_log() {
    let server = Logged::new().await;
    for _ in 0..4 {
        server.begin(500).await;
    }
    let mut watch = server.watch(0).await;
    let present = |watched: Watched| match watched {
        Watched::Present(revision, view) => (revision.get(), view.session.id.get()),
        other @ (Watched::Event(_) | Watched::UpTo(_)) => panic!("{other:?}"),
    };
    assert_eq!(present(soon(watch.next()).await.unwrap().unwrap()), (2_000, 1));
    for _ in 0..4 {
        server.begin(500).await;
    }
    assert!(server.kept() < 2_000, "{}", server.kept());
    for sesid in 2..=2_000 {
        assert_eq!(present(soon(watch.next()).await.unwrap().unwrap()), (2_000, sesid));
    }
    let end = soon(watch.next()).await.unwrap().unwrap();
    assert_eq!(end, Watched::UpTo(Revision::new(2_000)));
    assert!(events(&mut watch, 2_000).await.into_iter().eq(2_001..=4_000));
}

/// Sessions that begin in one frame of the log, and what each takes of it at least.
const BATCH: usize = 512;
const BEGUN_BYTES_MIN: usize = 16;

#[tokio::test(start_paused = true)]
async fn a_watch_that_reads_the_log_is_not_told_what_is_not_committed_yet() {
    let dir = tempfile::tempdir().unwrap();
    let store = HeldStore::new(dir.path());
    let server = Logged::on(store.clone(), dir).await;
    // More of the log than is read at a time, so that its end is read while the commit is held up.
    let batches = HISTORY_READ_BYTES / BEGUN_BYTES_MIN / BATCH;
    for _ in 0..batches {
        server.begin(BATCH).await;
    }
    let before = u64::try_from(batches * BATCH).unwrap();
    let mut watch = soon(server.watch(1)).await;
    assert_eq!(events(&mut watch, 1).await, [1]);
    let gate = store.hold();
    let mut begun = Box::pin(server.begin(1));
    assert!((&mut begun).now_or_never().is_none());
    soon(gate.reached()).await;

    assert!(events(&mut watch, batches * BATCH - 1).await.into_iter().eq(2..=before));
    // All that can happen does before the clock of the test moves.
    let silence = Duration::from_secs(1);
    let early = tokio::time::timeout(silence, watch.next()).await;
    assert!(early.is_err(), "nobody knows yet whether it is safe: {early:?}");

    gate.open();
    soon(begun).await;
    assert_eq!(events(&mut watch, 1).await, [before + 1]);
    let again = tokio::time::timeout(silence, watch.next()).await;
    assert!(again.is_err(), "it was told once: {again:?}");
    server.begin(1).await;
    assert_eq!(events(&mut watch, 1).await, [before + 2]);
}
