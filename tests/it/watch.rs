//! WatchInstances: a watch of state.

use futures_util::{StreamExt, stream};
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::Complete;
use jet_session::proto::api::instance::State;
use tonic::{Code, Status, Streaming};

use crate::support::{MAIN, Refusal, THREAD_A, TestServer, within};

struct Watch(Streaming<pb::WatchInstancesResponse>);

async fn watch(server: &TestServer, names: &[&str]) -> Watch {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let watch = server.instances().watch_instances(pb::WatchInstancesRequest { names }).await;
    Watch(watch.expect("a watch").into_inner())
}

impl Watch {
    async fn next(&mut self) -> Result<pb::Instance, Status> {
        let message = within("a change of an instance", self.0.message()).await?;
        let message = message.expect("a watch ends with a status that says why");
        Ok(message.instance.expect("the message has an instance"))
    }

    /// Waits for this name in this state; the states it passes may be told or skipped.
    async fn until(&mut self, name: &str, state: State) -> pb::Instance {
        loop {
            let seen = self.next().await.expect("the watch goes on");
            if seen.name == name && seen.state() == state {
                return seen;
            }
        }
    }

    /// Waits until all these names have so many sessions; answers how many messages that took.
    async fn until_counted(&mut self, names: &[&str], sessions: i32) -> usize {
        let mut done = std::collections::BTreeSet::new();
        let mut messages = 0;
        while done.len() < names.len() {
            let seen = self.next().await.expect("the watch goes on");
            messages += 1;
            if names.contains(&&*seen.name) && seen.session_count == sessions {
                done.insert(seen.name);
            }
        }
        messages
    }
}

#[tokio::test]
async fn the_present_state_comes_first() {
    let server = TestServer::start().await;
    server.session().await.set_context(THREAD_A, 7).await.unwrap();
    server.session().await;
    server.create("pool").await.unwrap();

    let mut all = watch(&server, &[]).await;
    let mut seen = [all.next().await.unwrap(), all.next().await.unwrap()];
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(seen[0], server.instance(MAIN).await.unwrap());
    assert_eq!((seen[0].session_count, seen[0].bound_count), (2, 1));
    assert_eq!(seen[1], server.instance("instances/pool").await.unwrap());

    let mut one = watch(&server, &["instances/pool"]).await;
    assert_eq!(one.next().await.unwrap().name, "instances/pool");
}

#[tokio::test]
async fn changes_of_phase_are_told_in_their_order() {
    let server = TestServer::start().await;
    let mut watch = watch(&server, &[MAIN]).await;
    assert_eq!(watch.next().await.unwrap().state(), State::Ready);

    // A stop and a resume pass no other phase, so not one message more comes.
    for _ in 0..3 {
        server.stop(MAIN).await.unwrap();
        assert_eq!(watch.next().await.unwrap().state(), State::Stopped);
        server.resume(MAIN).await.unwrap();
        assert_eq!(watch.next().await.unwrap().state(), State::Ready);
    }
    server.terminate(MAIN, Complete).await.unwrap();
    watch.until(MAIN, State::Created).await;
    server.initialize(MAIN).await.unwrap();
    let ready = watch.until(MAIN, State::Ready).await;
    assert_eq!(ready, server.instance(MAIN).await.unwrap());
}

#[tokio::test]
async fn a_watch_of_all_hears_of_instances_that_come_later() {
    let server = TestServer::start().await;
    let mut watch = watch(&server, &[]).await;
    watch.until(MAIN, State::Ready).await;

    let pool = server.create("pool").await.unwrap();
    watch.until(&pool, State::Created).await;
    server.initialize(&pool).await.unwrap();
    watch.until(&pool, State::Ready).await;
    server.terminate(&pool, Complete).await.unwrap();
    watch.until(&pool, State::Created).await;
    // That one goes does not end a watch of all.
    server.delete(&pool).await.unwrap();
    server.stop(MAIN).await.unwrap();
    watch.until(MAIN, State::Stopped).await;
}

#[tokio::test]
async fn a_watch_by_name_hears_of_nothing_else() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    let mut watch = watch(&server, &[MAIN]).await;
    watch.next().await.unwrap();
    server.initialize(&pool).await.unwrap();
    server.create("late").await.unwrap();
    server.stop(MAIN).await.unwrap();

    let next = watch.next().await.unwrap();
    assert_eq!((&*next.name, next.state()), (MAIN, State::Stopped));
}

#[tokio::test]
async fn counts_are_gathered() {
    let server = TestServer::start().await;
    let mut watch = watch(&server, &[MAIN]).await;
    watch.next().await.unwrap();
    for _ in 0..200 {
        server.session().await;
    }
    // At most one a second; one for each session would be 200.
    let messages = watch.until_counted(&[MAIN], 200).await;
    assert!(messages <= 20, "{messages} messages for 200 changes");
}

#[tokio::test]
async fn counts_of_several_instances_are_gathered_too() {
    let server = TestServer::start().await;
    let mut names = vec![MAIN.to_owned()];
    for id in ["pool-1", "pool-2", "pool-3"] {
        names.push(server.create(id).await.unwrap());
        server.initialize(names.last().unwrap()).await.unwrap();
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut watch = watch(&server, &names).await;
    for _ in &names {
        watch.next().await.unwrap();
    }
    let begin = |i: usize| server.begin(names[i % names.len()]);
    let begun = stream::iter(0..1_000).map(begin).buffer_unordered(64).collect::<Vec<_>>();
    let (begun, messages) = tokio::join!(begun, watch.until_counted(&names, 250));
    assert!(begun.iter().all(Result::is_ok));
    // At most one a second for each.
    assert!(messages <= 80, "{messages} messages for 1000 changes");
}

#[tokio::test]
async fn a_change_of_phase_does_not_wait_for_the_counts() {
    let server = TestServer::start().await;
    let mut watch = watch(&server, &[MAIN]).await;
    watch.next().await.unwrap();
    for _ in 0..10 {
        server.session().await;
    }
    server.stop(MAIN).await.unwrap();
    let stopped = watch.until(MAIN, State::Stopped).await;
    assert_eq!(stopped.session_count, 10, "and it brings the counts with it");
}

#[tokio::test]
async fn an_unknown_name_cannot_be_watched() {
    let server = TestServer::start().await;
    let names = vec![MAIN.to_owned(), "instances/nowhere".to_owned()];
    let request = pb::WatchInstancesRequest { names };

    let refusal = server.instances().watch_instances(request).await.unwrap_err();

    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(refusal.jet_err(), JetErr::InvalidInstance);
    assert_eq!(refusal.fact("instance"), "instances/nowhere");
}

#[tokio::test]
async fn a_watch_by_name_ends_when_the_instance_is_deleted() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    let mut watch = watch(&server, &[MAIN, &pool]).await;
    for _ in 0..2 {
        watch.next().await.unwrap();
    }
    server.delete(&pool).await.unwrap();

    let refusal = watch.next().await.unwrap_err();

    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(refusal.jet_err(), JetErr::InvalidInstance);
    assert_eq!(refusal.fact("instance"), pool);
}

#[tokio::test]
async fn a_watch_ends_when_the_server_drains() {
    let server = TestServer::start().await;
    let mut all = watch(&server, &[]).await;
    let mut one = watch(&server, &[MAIN]).await;
    all.next().await.unwrap();
    one.next().await.unwrap();

    server.order_to_end().await;

    for watch in [&mut all, &mut one] {
        let refusal = watch.next().await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unavailable);
        assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
        // Another server may answer.
        assert!(refusal.told().retry_info().is_some());
        assert!(!refusal.metadata().contains_key("grpc-retry-pushback-ms"));
    }
}
