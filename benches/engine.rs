//! What the way through the owner task costs: Set and Reset with the memory store, no network.
//!
//! `cargo bench --bench engine`

#[path = "support/still.rs"]
mod still;

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use jet_session::domain::call::context::{ResetContext, SetContext};
use jet_session::domain::call::session::BeginSession;
use jet_session::domain::id::{InstanceId, Labels, Principal, SessionId};
use jet_session::domain::instance::Durability;
use jet_session::engine::{Asker, Engine, NewInstance, Settings};
use jet_session::store::memory::MemoryStore;
use still::Still;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Pairs that each caller does in one iteration.
const PAIRS: usize = 64;

fn main() {
    divan::main();
}

/// Callers that do pairs of Set and Reset, each on a session of its own, on one thread.
#[divan::bench(args = [1, 16, 64, 256])]
fn set_and_reset(bencher: Bencher<'_, '_>, callers: usize) {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (engine, id, sessions) = ready(&runtime, callers);
    bencher.counter(ItemsCount::new(callers * PAIRS)).bench_local(|| {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for session in &sessions {
                tasks.spawn(pairs(engine.clone(), id.clone(), *session));
            }
            tasks.join_all().await;
        });
    });
}

async fn pairs(engine: Engine, id: InstanceId, session: SessionId) {
    let thread: jet_session::domain::id::ThreadId = "worker/1".parse().expect("a good thread id");
    for _ in 0..PAIRS {
        let set = SetContext::new(session, thread.clone(), 7);
        engine.ask(&id, Asker::once(Principal::anonymous()), set).await.expect("free");
        let reset = ResetContext { session, thread: thread.clone(), token: None };
        engine.ask(&id, Asker::once(Principal::anonymous()), reset).await.expect("held");
    }
}

fn ready(runtime: &Runtime, count: usize) -> (Engine, InstanceId, Vec<SessionId>) {
    runtime.block_on(async {
        let settings = Settings { max_instances: 1, max_sessions: 1_000 };
        let engine = Engine::start(MemoryStore::default(), Arc::new(Still), settings)
            .await
            .expect("an empty store");
        let id: InstanceId = "bench".parse().expect("a good id");
        let wanted = NewInstance {
            id: id.clone(),
            labels: Labels::default(),
            max_sessions: None,
            durability: Durability::default(),
            ready: false,
        };
        engine.create(wanted, Asker::once(Principal::anonymous())).await.expect("the first");
        engine.initialize(&id, Asker::once(Principal::anonymous())).await.expect("memory opens");
        let mut sessions = Vec::new();
        for _ in 0..count {
            let begin = BeginSession { labels: Labels::default() };
            let session = engine.ask(&id, Asker::once(Principal::anonymous()), begin).await;
            sessions.push(session.expect("below the limit").session.id);
        }
        (engine, id, sessions)
    })
}
