//! Threads as a heartbeat and an operator see them: in all instances at once.

use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::Force;

use crate::support::taking::seconds;
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, TestSession};

/// Another instance that is ready.
async fn instance(server: &TestServer, id: &str) -> String {
    let name = server.create(id).await.expect("there is room");
    server.initialize(&name).await.expect("a new instance can be initialised");
    name
}

#[tokio::test]
async fn a_thread_is_shown_with_all_it_holds_and_waits_for_in_all_instances() {
    let server = TestServer::start().await;
    let other = instance(&server, "another").await;
    let (here, there) = (server.session().await, server.begin(&other).await.unwrap());
    here.set_leased(THREAD_A, 3_600).await.unwrap();
    there.set_leased(THREAD_A, 60).await.unwrap();
    let wanted = server.session().await;
    wanted.set_context(THREAD_B, 7).await.unwrap();
    let waiting = wanted.wait_as_nth(THREAD_A, 1).await;

    let thread = server.thread(THREAD_A).await;

    assert_eq!((&*thread.thread_id, &*thread.principal), (THREAD_A, "anonymous"));
    assert_eq!(thread.held_count, 2);
    assert_eq!(thread.held, [there.name(), here.name()], "by name");
    assert_eq!(thread.waiting_for, [wanted.name()]);
    // Of two leases the one that ends first.
    assert_eq!(thread.lease_ttl, seconds(60));
    assert!(thread.lease_remaining.unwrap().seconds <= 60);
    let thread = server.thread(THREAD_B).await;
    assert_eq!((thread.held_count, thread.lease_ttl), (1, None));
    waiting.abort();
    wanted.has_waiters(0).await;
    assert_eq!(server.thread(THREAD_A).await.waiting_for, Vec::<String>::new());
}

#[tokio::test]
async fn a_heartbeat_reaches_every_instance_that_is_ready_or_stopped() {
    let server = TestServer::start().await;
    let (stopped, gone) = (instance(&server, "stopped").await, instance(&server, "gone").await);
    server.create("not-yet").await.unwrap();
    let mut held = Vec::new();
    for instance in [MAIN, &stopped] {
        let session = server.begin(instance).await.unwrap();
        session.set_context(THREAD_A, 7).await.unwrap();
        held.push(session);
    }
    server.stop(&stopped).await.unwrap();
    server.terminate(&gone, Force).await.unwrap();

    let kept = server.keep_alive(&[THREAD_B, THREAD_A, THREAD_B], 60).await.unwrap();

    // Each once, in the order of the request.
    let ids: Vec<_> = kept.iter().map(|kept| &*kept.thread_id).collect();
    assert_eq!(ids, [THREAD_B, THREAD_A]);
    assert_eq!(kept[1].held_count, 2);
    assert_eq!(kept[1].held, [held[0].name(), held[1].name()]);
    for session in &held {
        assert_eq!(session.look().await.unwrap().binding.unwrap().lease_ttl, seconds(60));
    }
    let quiet = pb::KeepThreadsAliveRequest {
        thread_ids: vec![THREAD_A.to_owned()],
        lease_ttl: seconds(60),
        include_held: false,
    };
    let kept = server.threads().keep_threads_alive(quiet).await.unwrap().into_inner().threads;
    assert_eq!((kept[0].held_count, kept[0].held.len()), (2, 0));

    server.end_threads(&[THREAD_A]).await.unwrap();
    for session in &held {
        assert_eq!(session.binding().await, None);
    }
}

#[tokio::test]
async fn losses_of_all_instances_are_told_together() {
    let server = TestServer::start().await;
    let other = instance(&server, "another").await;
    let mut lost = Vec::new();
    for instance in [MAIN, &other] {
        let session = server.begin(instance).await.unwrap();
        let token = session.set_context(THREAD_A, 7).await.unwrap();
        session.force_reset(token, "its host is gone").await.unwrap();
        lost.push((session.name().to_owned(), token));
    }

    let kept = server.keep_alive(&[THREAD_A, THREAD_B], 60).await.unwrap();

    let told = |lost: &pb::LostContext| (lost.session.clone(), lost.fencing_token);
    assert_eq!(kept[0].lost.iter().map(told).collect::<Vec<_>>(), lost);
    assert_eq!(kept[1].lost, vec![]);
}

/// All pages of the list of threads.
async fn pages(server: &TestServer, page_size: i32) -> Vec<Vec<pb::Thread>> {
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListThreadsRequest { page_size, page_token };
        let page =
            server.threads().list_threads(request).await.expect("threads are listed").into_inner();
        pages.push(page.threads);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn every_thread_is_listed_once_whatever_the_size_of_a_page() {
    let server = TestServer::start().await;
    let other = instance(&server, "another").await;
    let mut names = Vec::new();
    let mut sessions: Vec<TestSession> = Vec::new();
    for nth in 0..23 {
        let thread = format!("worker-{nth:02}");
        // Some are known here, some there, some in both.
        for (instance, every) in [(MAIN, 2), (&*other, 3)] {
            if nth % every == 0 {
                let session = server.begin(instance).await.unwrap();
                session.set_context(&thread, 7).await.unwrap();
                sessions.push(session);
            }
        }
        if nth % 2 == 0 || nth % 3 == 0 {
            names.push(thread);
        }
    }
    // One has but a lease, one only waits.
    server.keep_alive(&["x-leased"], 60).await.unwrap();
    let waiting = sessions[0].wait_as_nth("y-waits", 1).await;
    names.extend(["x-leased".to_owned(), "y-waits".to_owned()]);

    for page_size in [1, 2, 3, 7, 16, 17, 18, 0] {
        let pages = pages(&server, page_size).await;
        assert!(pages.iter().all(|page| page_size == 0 || page.len() <= page_size as usize));
        let listed: Vec<_> = pages.concat().into_iter().map(|thread| thread.thread_id).collect();
        assert_eq!(listed, names, "{page_size} a page");
    }
    let all = pages(&server, 0).await.concat();
    assert_eq!(all[0].held_count, 2);
    assert_eq!(all[all.len() - 2].lease_ttl, seconds(60));
    assert_eq!(all[all.len() - 1].waiting_for, [sessions[0].name()]);
    waiting.abort();
}

#[tokio::test]
async fn a_page_token_of_another_list_is_refused() {
    let server = TestServer::start().await;
    for _ in 0..2 {
        server.session().await;
    }
    let list =
        pb::ListSessionsRequest { parent: MAIN.to_owned(), page_size: 1, ..Default::default() };
    let foreign = server.sessions().list_sessions(list).await.unwrap().into_inner();
    for page_token in ["x".to_owned(), foreign.next_page_token] {
        let request = pb::ListThreadsRequest { page_size: 1, page_token };
        let refusal = server.threads().list_threads(request).await.unwrap_err();
        refusal.is_about_fields(&["page_token"]);
    }
}
