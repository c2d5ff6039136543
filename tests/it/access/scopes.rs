//! Calls that span instances: they touch and show what their caller may, as if there was nothing else.

use jet_session::proto::api as pb;
use tonic::Code;

use crate::support::ruled::{By, rule};
use crate::support::{MAIN, Refusal, TestServer, within};

/// Four instances besides main. `alice` uses and observes two of them, `bob` all, and `root` made them.
async fn five() -> TestServer {
    let rules = [
        rule(&["alice"], &["b", "d"], &["use", "observe"]),
        rule(&["bob"], &["*"], &["use", "observe"]),
        rule(&["root"], &["*"], &["admin"]),
    ];
    let server = TestServer::ruled(&rules, &["alice", "bob", "root"]).await;
    for id in ["a", "b", "c", "d"] {
        server.by("root").create(id).await;
    }
    server
}

/// All instances that somebody is shown, in pages of one; and how many pages they are.
async fn listed(by: &By) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = pb::ListInstancesRequest { page_size: 1, page_token };
        let page = by.instances().list_instances(request).await.expect("a list").into_inner();
        names.extend(page.instances.into_iter().map(|instance| instance.name));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (names, pages);
        }
    }
}

#[tokio::test]
async fn a_list_of_instances_is_of_those_one_may_observe() {
    let server = five().await;
    let (names, pages) = listed(&server.by("alice")).await;
    assert_eq!((&*names, pages), (&["instances/b".into(), "instances/d".into()][..], 2));
    let (names, pages) = listed(&server.by("bob")).await;
    assert_eq!((names.len(), pages), (5, 5));
}

#[tokio::test]
async fn a_watch_of_instances_is_of_those_one_may_observe() {
    let server = five().await;
    let alice = server.by("alice");
    let watch = |names: &[&str]| {
        let names = names.iter().map(|name| format!("instances/{name}")).collect();
        let (mut client, request) = (alice.instances(), pb::WatchInstancesRequest { names });
        async move { client.watch_instances(request).await.map(tonic::Response::into_inner) }
    };
    for names in [&["b", "c"][..], &["none"]] {
        let refused = watch(names).await.unwrap_err();
        assert_eq!((refused.code(), &*refused.reason()), (Code::PermissionDenied, "ROLE_MISSING"));
    }
    let mut all = watch(&[]).await.unwrap();
    let mut one = watch(&["d"]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let next = within("an instance", all.message()).await.unwrap().unwrap();
        seen.push(next.instance.unwrap().name);
    }
    seen.sort();
    assert_eq!(seen, ["instances/b", "instances/d"]);
    assert!(within("an instance", one.message()).await.unwrap().is_some());
    // What happens to others is not told; what happens to one's own is, next.
    let stop = |id: &str| pb::StopInstanceRequest {
        name: format!("instances/{id}"),
        ..Default::default()
    };
    let mut root = server.by("root").instances();
    root.stop_instance(stop("a")).await.unwrap();
    root.stop_instance(stop("d")).await.unwrap();
    for watch in [&mut all, &mut one] {
        let next = within("a change", watch.message()).await.unwrap().unwrap().instance.unwrap();
        assert_eq!((&*next.name, next.state()), ("instances/d", pb::instance::State::Stopped));
    }
}

/// A session of bob's that he holds there.
async fn held(server: &TestServer, instance: &str, thread: &str) {
    let bob = server.by("bob");
    let request = pb::BeginSessionRequest { instance: instance.to_owned(), ..Default::default() };
    let begun = bob.sessions().begin_session(request).await.expect("it begins").into_inner();
    bob.set(&begun.session.expect("a session").name, thread).await.expect("it is free");
}

#[tokio::test]
async fn a_list_of_threads_is_of_what_they_do_where_one_may_observe() {
    let server = five().await;
    for (instance, thread) in
        [(MAIN, "one"), ("instances/a", "one"), ("instances/b", "one"), ("instances/c", "two")]
    {
        held(&server, instance, thread).await;
    }
    let alice = server.by("alice");
    let request = pb::ListThreadsRequest { page_size: 1, ..Default::default() };
    let page = alice.threads().list_threads(request).await.unwrap().into_inner();
    assert_eq!(page.threads.len(), 1);
    let one = &page.threads[0];
    assert_eq!((&*one.thread_id, &*one.principal, one.held_count), ("one", "bob", 1));
    assert!(one.held[0].starts_with("instances/b/"), "{one:?}");
    if !page.next_page_token.is_empty() {
        // A page may be full without another one behind it, and then that one is empty.
        let page_token = page.next_page_token;
        let request = pb::ListThreadsRequest { page_size: 1, page_token };
        let rest = alice.threads().list_threads(request).await.unwrap().into_inner();
        assert!(rest.threads.is_empty() && rest.next_page_token.is_empty(), "{rest:?}");
    }
}

#[tokio::test]
async fn a_thread_of_ones_own_is_kept_where_one_may_use_it() {
    let server = five().await;
    held(&server, "instances/b", "one").await;
    let keep = || pb::KeepThreadsAliveRequest {
        thread_ids: vec!["one".to_owned()],
        lease_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        include_held: true,
    };
    // Alice's thread of that name is another one, and holds nothing.
    let kept = server.by("alice").threads().keep_threads_alive(keep()).await.unwrap().into_inner();
    assert_eq!((kept.threads[0].held_count, kept.threads[0].held.len()), (0, 0));
    let kept = server.by("bob").threads().keep_threads_alive(keep()).await.unwrap().into_inner();
    assert_eq!(kept.threads[0].held_count, 1);
}
