//! WatchSessions over the wire.

use std::path::Path;

use jet_session::config::StoreKind;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::Complete;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::session_event::Cause;
use tonic::{Code, Request, Status, Streaming};

use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, within};

struct Watch(Streaming<pb::WatchSessionsResponse>);

impl TestServer {
    async fn watch(&self, from_revision: u64) -> Result<Watch, Status> {
        self.watch_filtered(from_revision, None).await
    }

    async fn watch_filtered(
        &self,
        from_revision: u64,
        filter: Option<pb::SessionFilter>,
    ) -> Result<Watch, Status> {
        let parent = MAIN.to_owned();
        let request = pb::WatchSessionsRequest { parent, from_revision, filter };
        Ok(Watch(self.sessions().watch_sessions(request).await?.into_inner()))
    }
}

impl Watch {
    async fn next(&mut self) -> Result<pb::SessionEvent, Status> {
        let message = within("an event", self.0.message()).await?;
        let message = message.expect("a watch ends with a status that says why");
        Ok(message.event.expect("the message has an event"))
    }

    /// The next event as revision, cause and session.
    async fn told(&mut self) -> (u64, Cause, u64) {
        let event = self.next().await.expect("the watch goes on");
        let session = event.session.as_ref().map_or(0, |session| session.sesid);
        (event.revision, event.cause(), session)
    }

    /// As many events as come up to this revision.
    async fn up_to(&mut self, revision: u64) -> Vec<pb::SessionEvent> {
        let mut events = Vec::new();
        while events.last().is_none_or(|last: &pb::SessionEvent| last.revision < revision) {
            events.push(self.next().await.expect("the watch goes on"));
        }
        events
    }

    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

async fn on(dir: &Path) -> TestServer {
    let store = StoreKind::Log(dir.to_owned());
    let server = TestServer::start_with(|config| config.store = store).await;
    server.until(MAIN, State::Ready).await;
    server
}

/// Ends a server in good order.
async fn ended(mut server: TestServer) {
    server.order_to_end().await;
    server.ending().await;
}

#[tokio::test]
async fn a_watch_begins_with_the_sessions_that_are_there() {
    let server = TestServer::start().await;
    let mut empty = server.watch(0).await.unwrap();
    assert_eq!(empty.told().await, (0, Cause::Snapshot, 0));

    let (first, second) = (server.session().await, server.session().await);
    let token = second.set_context(THREAD_A, 7).await.unwrap();
    let mut watch = server.watch(0).await.unwrap();

    for session in [&first, &second] {
        let event = watch.next().await.unwrap();
        assert_eq!((event.revision, event.cause()), (token, Cause::Snapshot));
        assert_eq!(event.session, Some(session.look().await.unwrap()));
        assert_eq!((event.principal, event.reason, event.time), Default::default());
    }
    assert_eq!(watch.told().await, (token, Cause::Snapshot, 0));
    let token = first.set_context(THREAD_B, 8).await.unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!((event.revision, event.cause()), (token, Cause::Set));
    assert_eq!(event.session, Some(first.look().await.unwrap()));
    assert_eq!(event.principal, "anonymous");
    assert!(event.time.is_some());
}

#[tokio::test]
async fn every_change_is_one_event_that_shows_the_session_after_it() {
    let server = TestServer::start().await;
    let mut watch = server.watch(1).await.unwrap();
    let session = server.session().await;
    let mut seen = vec![session.look().await.unwrap()];
    session.set_context(THREAD_A, 7).await.unwrap();
    seen.push(session.look().await.unwrap());
    for _ in 0..2 {
        session.begin_transaction(THREAD_A).await.unwrap();
        seen.push(session.look().await.unwrap());
    }
    session.commit(THREAD_A).await.unwrap();
    seen.push(session.look().await.unwrap());
    session.rollback(THREAD_A, true).await.unwrap();
    seen.push(session.look().await.unwrap());
    session.reset_context(THREAD_A).await.unwrap();
    seen.push(session.look().await.unwrap());
    session.begin_transaction(THREAD_A).await.unwrap();
    seen.push(session.look().await.unwrap());
    session.end_by_force("it is in the way").await.unwrap();

    let events = watch.up_to(9).await;

    let causes: Vec<_> = events.iter().map(pb::SessionEvent::cause).collect();
    let expected = [
        Cause::Began,
        Cause::Set,
        Cause::TransactionBegan,
        Cause::TransactionBegan,
        Cause::TransactionCommitted,
        Cause::TransactionRolledBack,
        Cause::Reset,
        Cause::TransactionBegan,
        Cause::Ended,
    ];
    assert_eq!(causes, expected);
    for (event, seen) in events.iter().zip(&seen) {
        assert_eq!(event.session.as_ref(), Some(seen));
        assert_eq!(event.revision, seen.revision);
    }
    let last = events.last().unwrap();
    assert_eq!(last.reason, "it is in the way");
    let ended = last.session.as_ref().unwrap();
    assert_eq!((ended.sesid, ended.transaction_level), (session.sesid(), 0));
    assert_eq!((&ended.binding, &ended.transaction_binding), (&None, &None));
}

#[tokio::test]
async fn a_filter_passes_what_matches_before_or_after() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let of_a = pb::SessionFilter { thread_id: THREAD_A.to_owned(), ..Default::default() };
    let bound = pb::SessionFilter { bound: Some(true), ..Default::default() };
    let mut of_a = server.watch_filtered(2, Some(of_a)).await.unwrap();
    let mut bound = server.watch_filtered(2, Some(bound)).await.unwrap();

    for thread in [THREAD_A, THREAD_B, THREAD_A] {
        session.set_context(thread, 7).await.unwrap();
        session.reset_context(thread).await.unwrap();
    }
    server.session().await;
    let last = session.set_context(THREAD_A, 7).await.unwrap();

    let revisions = |events: Vec<pb::SessionEvent>| -> Vec<_> {
        events.iter().map(|event| event.revision).collect()
    };
    assert_eq!(revisions(of_a.up_to(last).await), [2, 3, 6, 7, 9]);
    assert_eq!(revisions(bound.up_to(last).await), [2, 3, 4, 5, 6, 7, 9]);
}

#[tokio::test]
async fn a_watch_goes_on_from_every_revision_also_on_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = on(dir.path()).await;
    let mut live = server.watch(1).await.unwrap();
    let (session, other) = (server.session().await, server.session().await);
    for word in 1..=10 {
        session.set_context(THREAD_A, word).await.unwrap();
        other.begin_transaction(THREAD_B).await.unwrap();
        session.reset_context(THREAD_A).await.unwrap();
        other.rollback(THREAD_B, true).await.unwrap();
    }
    let told = live.up_to(42).await;
    assert!(told.iter().map(|event| event.revision).eq(1..=42));
    ended(server).await;

    let server = on(dir.path()).await;
    for from in 1..=42 {
        let mut watch = server.watch(from).await.unwrap();
        let again = watch.up_to(42).await;
        assert_eq!(again, told[usize::try_from(from).unwrap() - 1..], "from {from} on");
    }
    // From the log into what happens now.
    let mut watch = server.watch(40).await.unwrap();
    let session = server.session().await;
    let last = session.set_context(THREAD_A, 7).await.unwrap();
    let revisions = watch.up_to(last).await;
    assert!(revisions.iter().map(|event| event.revision).eq(40..=last));
}

#[tokio::test]
async fn what_is_told_while_others_act_is_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let server = on(dir.path()).await;
    let sessions = [server.session().await, server.session().await, server.session().await];
    let workers = sessions.clone().map(|session| {
        tokio::spawn(async move {
            for word in 1..=60 {
                session.set_context(THREAD_A, word).await.unwrap();
                session.reset_context(THREAD_A).await.unwrap();
            }
        })
    });
    // Each begins in the middle of it and goes on where the one before was cut off.
    let (mut next, mut told) = (4, Vec::new());
    while next <= 363 {
        let mut watch = server.watch(next).await.unwrap();
        for _ in 0..25 {
            if next <= 363 {
                let event = watch.next().await.unwrap();
                told.push(event.revision);
                next = event.revision + 1;
            }
        }
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(told.into_iter().eq(4..=363));
}

#[tokio::test]
async fn what_is_not_kept_is_refused_with_what_is() {
    let dir = tempfile::tempdir().unwrap();
    for log in [false, true] {
        let server = if log { on(dir.path()).await } else { TestServer::start().await };
        server.session().await;
        server.session().await;
        let ahead = server.watch(4).await.err().expect("nobody knows of 4");
        assert_eq!(
            (ahead.code(), ahead.reason()),
            (Code::OutOfRange, "REVISION_NOT_YET".to_owned())
        );
        assert_eq!(ahead.fact("current_revision"), "2");
        server.watch(3).await.unwrap();

        server.terminate(MAIN, Complete).await.unwrap();
        server.initialize(MAIN).await.unwrap();
        // The third change was the end of all sessions.
        let gone = server.watch(2).await.err().expect("it was before the end");
        assert_eq!(
            (gone.code(), gone.reason()),
            (Code::OutOfRange, "REVISION_COMPACTED".to_owned())
        );
        assert_eq!(gone.fact("oldest_revision"), "4");
        assert_eq!(gone.fact("instance"), MAIN);
        assert!(gone.message().contains("from_revision 0"), "{}", gone.message());
        server.watch(4).await.unwrap();
    }
}

#[tokio::test]
async fn a_restore_begins_another_history() {
    let dir = tempfile::tempdir().unwrap();
    let server = on(dir.path()).await;
    let session = server.session().await;
    session.set_context(THREAD_A, 7).await.unwrap();
    let backup = server.backup(MAIN).await.unwrap();
    server.terminate(MAIN, pb::TerminateMode::Force).await.unwrap();
    server.restore(MAIN, backup).await.unwrap();
    server.initialize(MAIN).await.unwrap();

    let gone = server.watch(2).await.err().expect("it was before the restore");
    assert_eq!(gone.reason(), "REVISION_COMPACTED");
    let oldest: u64 = gone.fact("oldest_revision").parse().unwrap();
    let mut watch = server.watch(oldest).await.unwrap();
    let revision = session.reset_context(THREAD_A).await.unwrap();
    assert_eq!(watch.told().await, (revision, Cause::Reset, session.sesid()));
    let mut all = server.watch(0).await.unwrap();
    assert_eq!(all.told().await, (revision, Cause::Snapshot, session.sesid()));
}

#[tokio::test]
async fn a_watch_ends_with_its_phase_and_says_where_to_go_on() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let mut watch = server.watch(1).await.unwrap();
    server.stop(MAIN).await.unwrap();
    assert_eq!(watch.told().await, (1, Cause::Began, session.sesid()));
    // A stopped instance is watched like any other.
    let mut stopped = server.watch(0).await.unwrap();
    assert_eq!(stopped.told().await, (1, Cause::Snapshot, session.sesid()));

    server.terminate(MAIN, Complete).await.unwrap();

    let end = watch.end().await;
    assert_eq!((end.code(), end.jet_err()), (Code::Unavailable, JetErr::TermInProgress));
    assert_eq!(end.fact("resume_revision"), "2");
    assert_eq!(end.fact("instance"), MAIN);
    let refused = server.watch(0).await.err().expect("it is not initialised");
    assert_eq!(refused.jet_err(), JetErr::NotInitialized);
}

#[tokio::test]
async fn a_watch_ends_when_the_server_drains() {
    let server = TestServer::start().await;
    let session = server.session().await;
    let mut watch = server.watch(1).await.unwrap();
    watch.told().await;
    let token = session.set_context(THREAD_A, 7).await.unwrap();
    assert_eq!(watch.told().await, (token, Cause::Set, session.sesid()));

    server.order_to_end().await;

    let end = watch.end().await;
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(end.jet_err(), JetErr::ClientRequestToStopJetService);
    assert_eq!(end.fact("resume_revision"), (token + 1).to_string());
    assert!(end.told().retry_info().is_some(), "another server may answer");
}

#[tokio::test]
async fn a_deadline_ends_a_watch() {
    let server = TestServer::start().await;
    let mut request =
        Request::new(pb::WatchSessionsRequest { parent: MAIN.to_owned(), ..Default::default() });
    request.set_timeout(std::time::Duration::from_millis(300));
    let mut watch = Watch(server.sessions().watch_sessions(request).await.unwrap().into_inner());
    assert_eq!(watch.told().await, (0, Cause::Snapshot, 0));
    let end = watch.end().await;
    // Whose clock was first is not known.
    assert!(matches!(end.code(), Code::DeadlineExceeded | Code::Cancelled), "{end:?}");
}

#[tokio::test]
async fn a_wish_that_cannot_be_understood_is_refused_with_all_that_is_wrong() {
    let server = TestServer::start().await;
    let refusal = |request| async {
        server.sessions().watch_sessions(request).await.expect_err("it is refused")
    };
    let bad = pb::WatchSessionsRequest {
        parent: "main".to_owned(),
        from_revision: 0,
        filter: Some(pb::SessionFilter {
            thread_id: "no blanks".to_owned(),
            labels: [(String::new(), String::new())].into(),
            ..Default::default()
        }),
    };
    refusal(bad).await.is_about_fields(&["parent", "filter.thread_id", "filter.labels"]);
    let nowhere =
        pb::WatchSessionsRequest { parent: "instances/nowhere".to_owned(), ..Default::default() };
    let refused = refusal(nowhere).await;
    assert_eq!((refused.code(), refused.jet_err()), (Code::NotFound, JetErr::InvalidInstance));
}

/// Of a thousand watches a hundred are never read, and the others are told everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watches_are_told_everything() {
    const ROUNDS: u64 = 50;
    let server = TestServer::start().await;
    let session = server.session().await;
    let (mut stalled, mut readers) = (Vec::new(), tokio::task::JoinSet::new());
    let mut client = server.sessions();
    for n in 0..1_000 {
        if n % 500 == 0 {
            // A connection has 1,024 streams.
            let channel = server.connect().await;
            client = pb::session_service_client::SessionServiceClient::new(channel);
        }
        let parent = MAIN.to_owned();
        let request = pb::WatchSessionsRequest { parent, from_revision: 2, filter: None };
        let stream = client.watch_sessions(request).await.unwrap().into_inner();
        if n % 10 == 0 {
            stalled.push(Watch(stream));
        } else {
            readers.spawn(async move { Watch(stream).up_to(2 * ROUNDS + 1).await });
        }
    }
    for _ in 0..ROUNDS {
        session.set_context(THREAD_A, 7).await.unwrap();
        session.reset_context(THREAD_A).await.unwrap();
    }
    for told in readers.join_all().await {
        assert!(told.iter().map(|event| event.revision).eq(2..=2 * ROUNDS + 1));
    }
    // Whoever comes back in time has missed nothing.
    for mut watch in stalled {
        let told = watch.up_to(2 * ROUNDS + 1).await;
        assert!(told.iter().map(|event| event.revision).eq(2..=2 * ROUNDS + 1));
    }
}
