//! One refusal of every kind that a client can meet.

use bytes::Bytes;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::Complete;
use prost_types::Duration;
use tonic::Status;

use crate::support::call::{Call, call, path};
use crate::support::raw::{Raw, framed};
use crate::support::{MAIN, THREAD_A, THREAD_B, TestServer, within};

/// A refusal, and what it was for.
pub(super) struct Told {
    pub(super) title: &'static str,
    pub(super) status: Status,
}

/// The refusals so far.
#[derive(Default)]
struct Page(Vec<Told>);

impl Page {
    fn note<T>(&mut self, title: &'static str, result: Result<T, Status>) {
        match result {
            Ok(_) => panic!("{title}: this was not refused"),
            Err(status) => self.0.push(Told { title, status }),
        }
    }
}

/// Meets all of them on one server, in an order that gives the same numbers each time.
pub(super) async fn gather() -> Vec<Told> {
    let server = TestServer::start_with(|config| {
        config.max_instances = 2;
        config.max_sessions = 3;
    })
    .await;
    let mut page = Page::default();
    requests(&server, &mut page).await;
    instances(&server, &mut page).await;
    contexts(&server, &mut page).await;
    owners(&server, &mut page).await;
    transactions(&server, &mut page).await;
    drain(&server, &mut page).await;
    page.0
}

/// What can be said without looking at any state.
async fn requests(server: &TestServer, page: &mut Page) {
    let set = pb::SetSessionContextRequest {
        request_id: "two words".to_owned(),
        lease_ttl: Some(Duration { seconds: -1, nanos: 0 }),
        ..Default::default()
    };
    let nothing = call("SessionService/SetSessionContext", &set);
    page.note("a request with nothing right in it", server.ask(&nothing).await);
    let terminate =
        pb::TerminateInstanceRequest { name: MAIN.to_owned(), mode: 9, ..Default::default() };
    let terminate = call("InstanceService/TerminateInstance", &terminate);
    page.note("an unknown mode", server.ask(&terminate).await);
    let error = pb::GetErrorRequest { key: Some(pb::get_error_request::Key::Code(1)) };
    page.note("an unknown error", server.ask(&call("ErrorService/GetError", &error)).await);
    let method = "SessionService/BeginSession";
    let large = Call { method, message: vec![0; 1024 * 1024].into() };
    page.note("a message that is too large", server.ask(&large).await);
    let undecodable = Call { method, message: Bytes::from_static(b"\x0a\x02\xC3\x28") };
    page.note("a message that is not UTF-8", server.ask(&undecodable).await);

    let raw = Raw::connect(server.address()).await;
    let begin = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    for (title, timeout) in
        [("a deadline that has passed", "0n"), ("a deadline that is no duration", "soon")]
    {
        let headers = [("grpc-timeout", timeout), ("x-request-id", "request-1")];
        page.note(title, Err::<(), _>(raw.call(&path(method), &headers, &begin).await.status()));
    }
}

/// What instances refuse.
async fn instances(server: &TestServer, page: &mut Page) {
    page.note("an unknown instance", server.begin("instances/nowhere").await);
    page.note("a name that is taken", server.create("main").await);
    let pool = server.create("pool").await.expect("there is room for one more");
    page.note("an instance too many", server.create("third").await);
    page.note("a session of an instance that is not initialised", server.begin(&pool).await);
    page.note("a stop of an instance that is not initialised", server.stop(&pool).await);
    page.note("a second initialisation", server.initialize(MAIN).await);
    page.note("a deletion of an instance that is initialised", server.delete(MAIN).await);
    server.stop(MAIN).await.expect("main can be stopped");
    page.note("a session of an instance that is stopped", server.begin(MAIN).await);
    page.note("a deletion of an instance that is stopped", server.delete(MAIN).await);
    server.resume(MAIN).await.expect("main can go on");
}

/// What sessions refuse because of their context.
async fn contexts(server: &TestServer, page: &mut Page) {
    let ended = server.session().await;
    ended.end(THREAD_A).await.expect("a free session ends");
    page.note("a session that has ended", ended.set_context(THREAD_A, 7).await);
    let get = pb::GetSessionRequest { name: format!("{MAIN}/sessions/99") };
    let get = call("SessionService/GetSession", &get);
    page.note("a session that never was", server.ask(&get).await);

    let session = server.session().await;
    let word = session.set_context(THREAD_A, 0).await;
    page.note("a context that is reserved, alone", word);
    page.note("a reset of what was never set", session.reset_context(THREAD_A).await);
    let reset = pb::ResetSessionContextRequest {
        session: session.name().to_owned(),
        thread_id: THREAD_A.to_owned(),
        ..Default::default()
    };
    let reset = call("SessionService/ResetSessionContext", &reset);
    page.note("the same, with a request id", server.ask_as("request-2", &reset).await);
    let token = session.set_context(THREAD_A, 7).await.expect("the session is free");
    page.note("a second set", session.set_context(THREAD_B, 7).await);
    page.note("a reset of what another holds", session.reset_context(THREAD_B).await);
    let stale = token - 1;
    page.note("a stale token of the holder", session.reset_context_with(THREAD_A, stale).await);
    page.note("a stale token of another", session.reset_context_with(THREAD_B, stale).await);
    page.note("an end of a session that is held", session.end(THREAD_A).await);
    page.note("an end by force without a reason", session.end_by_force("").await);
    session.reset_context(THREAD_A).await.expect("the holder lets go");
    page.note("a second reset", session.reset_context(THREAD_A).await);
    let again = session.reset_context_with(THREAD_A, token).await;
    page.note("a second reset with its old token", again);
    session.end(THREAD_A).await.expect("a free session ends");
}

/// What is refused to those who wait, retry, hand over, or have lost what they held.
async fn owners(server: &TestServer, page: &mut Page) {
    let session = server.session().await;
    let first = pb::SetSessionContextRequest {
        request_id: "request-3".to_owned(),
        ..session.set_request(THREAD_A)
    };
    let token = session.client().set_session_context(first.clone()).await;
    let token = token.expect("the session is free").into_inner().fencing_token;
    let other = pb::SetSessionContextRequest { context: 8, ..first };
    page.note("a request id of another call", session.client().set_session_context(other).await);
    let raw = Raw::connect(server.address()).await;
    let method = path("SessionService/SetSessionContext");
    let waiting = session.waiting_request(THREAD_B);
    let refused = raw.call(&method, &[("grpc-timeout", "1m")], &waiting).await.status();
    page.note("a deadline of a call that waits", Err::<(), _>(refused));
    let waiting = session.wait_as_nth("worker-c/1/1", 1).await;
    page.note("a set of a session that others wait for", session.set_context(THREAD_B, 7).await);
    waiting.abort();
    session.has_waiters(0).await;

    let claim = |pool: &str| pb::ClaimSessionContextRequest {
        parent: MAIN.to_owned(),
        thread_id: THREAD_B.to_owned(),
        context: 7,
        labels: [("pool".to_owned(), pool.to_owned())]
            .into_iter()
            .filter(|(_, it)| !it.is_empty())
            .collect(),
        ..Default::default()
    };
    let claimed = server.sessions().claim_session_context(claim("")).await;
    page.note("a claim of a pool that is taken", claimed);
    let claimed = server.sessions().claim_session_context(claim("green")).await;
    page.note("a claim of a pool that does not exist", claimed);

    page.note("a transfer of what another holds", session.transfer(THREAD_B, THREAD_A, 0).await);
    page.note("a check of a stale token", session.check(THREAD_A, token - 1).await);
    page.note("a check without a token", session.check(THREAD_A, 0).await);
    let reset = session.force_reset(token - 1, "its host is gone").await;
    page.note("a forced reset of a holder that is gone", reset);
    session.transfer(THREAD_A, THREAD_B, token).await.expect("the holder hands over");
    page.note("a reset of what was handed over", session.reset_context(THREAD_A).await);
    let token = session.look().await.expect("it exists").binding.expect("it is held").fencing_token;
    session.force_reset(token, "its host is gone").await.expect("an operator may");
    page.note("a reset of what was taken away", session.reset_context(THREAD_B).await);
    page.note("the same, with its token", session.reset_context_with(THREAD_B, token).await);
    session.set_leased(THREAD_A, 3_600).await.expect("the session is free");
    page.note("a set of a session held under a lease", session.set_context(THREAD_B, 7).await);
    session.reset_context(THREAD_A).await.expect("the holder lets go");
    session.set_leased(THREAD_A, 1).await.expect("the session is free");
    session.is_free().await;
    page.note("a reset after the end of the lease", session.reset_context(THREAD_A).await);
    session.end(THREAD_A).await.expect("a free session ends");

    let keep = server.keep_alive(&[], 60).await;
    page.note("a heartbeat of nobody", keep);
    page.note("a heartbeat with a lease that is too long", server.keep_alive(&["t"], 86_401).await);
}

/// What sessions refuse because of their transaction.
async fn transactions(server: &TestServer, page: &mut Page) {
    let session = server.session().await;
    page.note("a commit of nothing", session.commit(THREAD_A).await);
    for _ in 0..7 {
        session.begin_transaction(THREAD_A).await.expect("seven levels are fine");
    }
    page.note("an eighth level", session.begin_transaction(THREAD_A).await);
    page.note("a commit by another thread", session.commit(THREAD_B).await);
    page.note("an end by another thread", session.end(THREAD_B).await);
    let other = server.session().await;
    other.begin_transaction(THREAD_A).await.expect("a transaction begins");
    page.note("a terminate with open transactions", server.terminate(MAIN, Complete).await);
    server.session().await;
    page.note("a session too many", server.begin(MAIN).await);
}

/// What a server refuses because it goes.
async fn drain(server: &TestServer, page: &mut Page) {
    let raw = Raw::connect(server.address()).await;
    let mut begin = raw.begin(&path("SessionService/BeginSession"), &[]).await;
    raw.settle().await;
    let watch = pb::WatchInstancesRequest { names: vec![MAIN.to_owned()] };
    let watch = server.instances().watch_instances(watch).await.expect("main can be watched");
    let mut watch = watch.into_inner();

    server.order_to_end().await;

    let last = within("the end of the watch", async {
        loop {
            if let Err(status) = watch.message().await {
                return status;
            }
        }
    });
    page.note("a watch of a server that is draining", Err::<(), _>(last.await));
    let request = pb::BeginSessionRequest { instance: MAIN.to_owned(), ..Default::default() };
    begin.send(framed(&prost::Message::encode_to_vec(&request)), true);
    let refused = begin.answer().await.status();
    page.note("a session of a server that is draining", Err::<(), _>(refused));
}
