//! What watchers cost: calls of 64 callers with 0, 1, 100 and 1,000 watches of the same instance, and how
//! many events reach their readers. Memory store, no network, one thread: the share of the engine.
//!
//! `cargo bench --bench watch`; read the times as multiples of that without watches.

#[path = "support/still.rs"]
mod still;

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::session::{BeginSession, SessionFilter};
use jet_session::domain::id::{InstanceId, Labels, Principal, Revision, SessionId, ThreadId};
use jet_session::domain::instance::Durability;
use jet_session::engine::sessions::{SessionWatch, Watched};
use jet_session::engine::{Asker, Engine, NewInstance, Settings};
use jet_session::store::memory::MemoryStore;
use still::Still;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const CALLERS: usize = 64;

/// Pairs that each caller does in one iteration.
const PAIRS: usize = 16;

const EVENTS: usize = 2 * CALLERS * PAIRS;

fn main() {
    divan::main();
}

/// Every watch is read as fast as it is told; an iteration ends when all have been told everything.
#[divan::bench(args = [0, 1, 100, 1_000])]
fn read(bencher: Bencher<'_, '_>, watches: usize) {
    let world = World::new();
    let mut readers = world.watch(watches, &SessionFilter::default());
    let told = ItemsCount::new(EVENTS * watches.max(1));
    bencher.counter(told).bench_local(|| {
        world.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for mut watch in readers.drain(..) {
                tasks.spawn(async move {
                    let mut told = 0;
                    while told < EVENTS {
                        let next = watch.next().await.expect("it goes on").expect("it goes on");
                        told += usize::from(matches!(next, Watched::Event(_)));
                    }
                    watch
                });
            }
            world.pairs().await;
            readers.extend(tasks.join_all().await);
        });
    });
}

/// No watch is read: what they cost the calls by being there.
#[divan::bench(args = [0, 1, 100, 1_000])]
fn stalled(bencher: Bencher<'_, '_>, watches: usize) {
    let world = World::new();
    let readers = world.watch(watches, &SessionFilter::default());
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        world.runtime.block_on(world.pairs());
    });
    drop(readers);
}

struct World {
    runtime: Runtime,
    engine: Engine,
    id: InstanceId,
    sessions: Vec<SessionId>,
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let id: InstanceId = "bench".parse().expect("a good id");
        let (engine, sessions) = runtime.block_on(async {
            let settings = Settings { max_instances: 1, max_sessions: 1_000 };
            let engine = Engine::start(MemoryStore::default(), Arc::new(Still), settings)
                .await
                .expect("an empty store");
            let wanted = NewInstance {
                id: id.clone(),
                labels: Labels::default(),
                max_sessions: None,
                durability: Durability::default(),
                ready: true,
            };
            engine.create(wanted, Asker::once(Principal::anonymous())).await.expect("the first");
            let mut sessions = Vec::new();
            for _ in 0..CALLERS {
                let begin = BeginSession { labels: Labels::default() };
                let session = engine.ask(&id, Asker::once(Principal::anonymous()), begin).await;
                sessions.push(session.expect("below the limit").session.id);
            }
            (engine, sessions)
        });
        Self { runtime, engine, id, sessions }
    }

    fn watch(&self, watches: usize, filter: &SessionFilter) -> Vec<SessionWatch> {
        let from = Revision::new(CALLERS as u64 + 1);
        self.runtime.block_on(async {
            let mut begun = Vec::new();
            for _ in 0..watches {
                let watch = self.engine.watch_sessions(&self.id, from, filter.clone()).await;
                begun.push(watch.expect("it is ready"));
            }
            begun
        })
    }

    /// Every caller does its pairs.
    async fn pairs(&self) {
        let mut tasks = JoinSet::new();
        for session in &self.sessions {
            tasks.spawn(pairs(self.engine.clone(), self.id.clone(), *session));
        }
        tasks.join_all().await;
    }
}

async fn pairs(engine: Engine, id: InstanceId, session: SessionId) {
    let thread: ThreadId = "worker/1".parse().expect("a good thread id");
    for _ in 0..PAIRS {
        let set = SetContext::new(session, thread.clone(), 7);
        engine.ask(&id, Asker::once(Principal::anonymous()), set).await.expect("free");
        let reset = ResetContext { session, thread: thread.clone(), token: None };
        engine.ask(&id, Asker::once(Principal::anonymous()), reset).await.expect("held");
    }
}
