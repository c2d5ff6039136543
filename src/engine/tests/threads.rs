//! What concerns a thread in all instances.

use crate::domain::access::{Pattern, Policy, Role, Rule, Scope};
use crate::domain::call::thread::KeepAlive;
use crate::domain::jet_err::JetErr;
use crate::engine::threads::KeptThread;

use super::scripted::{Fate, Op};
use super::*;

fn keep(threads: &[&str]) -> KeepAlive {
    let threads = threads.iter().map(|thread| thread.parse().unwrap()).collect();
    KeepAlive { threads, ttl: Duration::from_secs(60), include_held: true }
}

impl World {
    async fn keep_all(&self, threads: &[&str]) -> Vec<KeptThread> {
        let (by, call) = (Principal::anonymous(), keep(threads));
        soon(self.engine.keep_threads_alive(&by, &Scope::All, &call)).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn instances_that_do_not_serve_are_passed_over() {
    let world = World::ready().await;
    world.begin_session("b").await.unwrap();
    let sesid = world.sessions("b").await.unwrap()[0].id.get();
    world.set(1, "t").await.unwrap();
    world.set_at("b", sesid, "t").await.unwrap();
    world.create("c").await.unwrap();
    world.stop("a").await.unwrap();
    assert_eq!(world.keep_all(&["t"]).await[0].held_count, 2);

    world.store.next(Op::Commit, "b", Fate::Unavailable(JetErr::DiskIO));
    world.begin_session("b").await.unwrap_err();

    assert_eq!(world.failure("b").map(|failure| failure.error), Some(JetErr::DiskIO));
    let kept = world.keep_all(&["t"]).await;
    let held: Vec<_> = kept[0].held.iter().map(ToString::to_string).collect();
    assert_eq!((kept[0].held_count, held), (1, vec!["instances/a/sessions/1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn one_slow_instance_does_not_keep_the_others_from_renewing() {
    let world = World::ready().await;
    world.set(1, "t").await.unwrap();
    let gate = world.store.stall(Op::Commit, "b");
    let slow = sent(world.begin_session("b"));
    gate.reached().await;
    let by = Principal::anonymous();
    let keeping = {
        let (engine, by) = (world.engine.clone(), by.clone());
        tokio::spawn(
            async move { engine.keep_threads_alive(&by, &Scope::All, &keep(&["t"])).await },
        )
    };
    settle().await;

    let shown = world.raw("a", GetSession { session: session(1) }).await.unwrap();
    assert_eq!(shown.lease.unwrap().ttl, Duration::from_secs(60));
    assert!(!keeping.is_finished());
    gate.open();
    slow.await.unwrap();
    assert_eq!(soon(keeping).await.unwrap().unwrap()[0].held_count, 1);
}

#[tokio::test(start_paused = true)]
async fn threads_are_kept_and_ended_while_the_server_drains_and_not_when_it_is_closed() {
    let world = World::ready().await;
    world.set(1, "t").await.unwrap();
    world.engine.drain();
    assert_eq!(world.keep_all(&["t"]).await[0].held_count, 1);
    let (by, threads) = (Principal::anonymous(), ["t".parse().unwrap()]);
    world.engine.end_threads(&by, &Scope::All, &threads).await.unwrap();
    assert_eq!(world.keep_all(&["t"]).await[0].held_count, 0);

    soon(world.engine.close()).await;

    let kept = soon(world.engine.keep_threads_alive(&by, &Scope::All, &keep(&["t"]))).await;
    assert_eq!(kept, Err(Unanswered::ShuttingDown), "it would not be true");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_out_of_scope_is_neither_touched_nor_told() {
    let world = World::ready().await;
    world.begin_session("b").await.unwrap();
    let sesid = world.sessions("b").await.unwrap()[0].id.get();
    world.set(1, "t").await.unwrap();
    world.set_at("b", sesid, "t").await.unwrap();
    let (by, thread) = (Principal::anonymous(), "t".parse().unwrap());
    let rule = Rule {
        principals: vec![Pattern::of_principals("anonymous").unwrap()],
        instances: vec![Pattern::of_instances("a").unwrap()],
        roles: Role::Use.into(),
    };
    let policy = Arc::new(Policy::new(vec![rule]));
    let scope = Scope::Where { policy, principal: by.clone(), role: Role::Use };
    let held = async |scope: &Scope| {
        let found = soon(world.engine.thread(&by, scope, &thread)).await.unwrap();
        found.held.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let theirs = format!("instances/b/sessions/{sesid}");
    assert_eq!(held(&Scope::All).await, ["instances/a/sessions/1", &theirs]);
    assert_eq!(held(&scope).await, ["instances/a/sessions/1"]);
    let listed = soon(world.engine.threads(&by, &scope, None, 10)).await.unwrap();
    assert_eq!((listed.threads.len(), listed.threads[0].held_count), (1, 1));
    let kept = soon(world.engine.keep_threads_alive(&by, &scope, &keep(&["t"]))).await.unwrap();
    assert_eq!(kept[0].held_count, 1);
    let shown = world.raw("b", GetSession { session: session(sesid) }).await.unwrap();
    assert_eq!(shown.lease, None, "no lease was begun there");

    soon(world.engine.end_threads(&by, &scope, std::slice::from_ref(&thread))).await.unwrap();

    assert_eq!(held(&Scope::All).await, [theirs]);
    assert_eq!(world.engine.instances(&scope, None, 10).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn names_and_losses_are_bounded_over_all_threads_and_instances() {
    let world = World::ready().await;
    let (mut names, mut begun) = (Vec::new(), Vec::new());
    for (instance, known) in [("a", 3), ("b", 0)] {
        for _ in known..600 {
            begun.push(sent(world.begin_session(instance)));
        }
    }
    for begun in begun {
        begun.await.unwrap();
    }
    for instance in ["a", "b"] {
        let sessions = world.sessions(instance).await.unwrap();
        let sets = sessions.iter().map(|it| sent(world.set_at(instance, it.id.get(), "t")));
        for set in sets.collect::<Vec<_>>() {
            set.await.unwrap();
        }
        names.extend(sessions.iter().map(|it| format!("instances/{instance}/sessions/{}", it.id)));
    }

    let kept = world.keep_all(&["t", "u"]).await;

    assert_eq!(kept[0].held_count, 1_200);
    let held: Vec<_> = kept[0].held.iter().map(ToString::to_string).collect();
    assert_eq!(held, names[..1_000]);
    assert!(kept[1].held.is_empty());
}
