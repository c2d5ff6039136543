//! Pools: sessions that are told apart by their labels only.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::support::taking::{seconds, stores};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer, TestSession, holds, within};

fn labels(pool: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("pool".to_owned(), pool.to_owned())])
}

fn claim(pool: &str, thread: &str) -> pb::ClaimSessionContextRequest {
    pb::ClaimSessionContextRequest {
        parent: MAIN.to_owned(),
        labels: labels(pool),
        thread_id: thread.to_owned(),
        context: 7,
        ..Default::default()
    }
}

impl TestServer {
    /// A pool of this name.
    async fn pool(&self, name: &str, count: i32) -> Vec<TestSession> {
        let request = pb::BatchBeginSessionsRequest {
            instance: MAIN.to_owned(),
            count,
            labels: labels(name),
            ..Default::default()
        };
        let begun = self.sessions().batch_begin_sessions(request).await.expect("there is room");
        let begun = begun.into_inner().sessions;
        begun.into_iter().map(|session| TestSession::new(self.sessions(), session)).collect()
    }

    async fn claim(
        &self,
        request: pb::ClaimSessionContextRequest,
    ) -> Result<pb::ClaimSessionContextResponse, Status> {
        Ok(self.sessions().claim_session_context(request).await?.into_inner())
    }

    /// A claim that waits, once it does.
    async fn waiting_claim(
        &self,
        pool: &str,
        thread: &str,
    ) -> JoinHandle<Result<pb::ClaimSessionContextResponse, Status>> {
        let request =
            pb::ClaimSessionContextRequest { wait_timeout: seconds(3_600), ..claim(pool, thread) };
        let mut client = self.sessions();
        let claim =
            tokio::spawn(
                async move { Ok(client.claim_session_context(request).await?.into_inner()) },
            );
        within("the claim waits", async {
            while self.thread(thread).await.waiting_for != [MAIN] {
                tokio::task::yield_now().await;
            }
        })
        .await;
        claim
    }
}

#[tokio::test]
async fn a_pool_is_opened_at_once_or_not_at_all() {
    let server = TestServer::start_with(|config| config.max_sessions = 1_500).await;
    let begun = server.pool("blue", 1_000).await;
    let numbers: Vec<_> = begun.iter().map(TestSession::sesid).collect();
    assert_eq!(numbers, (numbers[0]..numbers[0] + 1_000).collect::<Vec<_>>());
    let one = begun[999].look().await.unwrap();
    assert_eq!((one.labels, one.binding, one.transaction_level), (labels("blue"), None, 0));
    let before = server.picture().await;

    let request = pb::BatchBeginSessionsRequest {
        instance: MAIN.to_owned(),
        count: 501,
        ..Default::default()
    };
    let refusal = server.sessions().batch_begin_sessions(request).await.unwrap_err();

    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert_eq!(refusal.jet_err(), JetErr::OutOfSessions);
    assert_eq!(refusal.told().quota_failure().unwrap().violations[0].subject, MAIN);
    assert!(refusal.told().retry_info().is_none(), "no lease ends a session");
    assert_eq!(server.picture().await, before);
    server.pool("blue", 500).await;
}

#[tokio::test]
async fn every_session_of_a_pool_has_one_winner() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let pool = server.pool("blue", 10).await;
        server.pool("red", 3).await;

        let claims = (0..15).map(|nth| server.claim(claim("blue", &format!("worker-{nth}"))));
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(claims).await.into_iter().partition(Result::is_ok);

        let won: Vec<_> = won.into_iter().map(Result::unwrap).collect();
        let name = |won: &pb::ClaimSessionContextResponse| won.session.clone().unwrap().name;
        let names: BTreeSet<_> = won.iter().map(name).collect();
        assert_eq!(names, pool.iter().map(|session| session.name().to_owned()).collect());
        for won in &won {
            let binding = won.session.clone().unwrap().binding.unwrap();
            assert_eq!(binding.fencing_token, won.fencing_token);
        }
        for refusal in lost.into_iter().map(Result::unwrap_err) {
            assert_eq!(refusal.code(), Code::FailedPrecondition);
            assert_eq!(refusal.jet_err(), JetErr::SessionContextAlreadySet);
            assert_eq!(refusal.fact("pool_size"), "10");
            assert_eq!(refusal.fact("queue_length"), "0");
        }
    }
}

#[tokio::test]
async fn the_session_that_has_been_free_longest_is_claimed() {
    let server = TestServer::start().await;
    let pool = server.pool("blue", 3).await;
    let busy = &pool[1];
    busy.begin_transaction(THREAD_B).await.unwrap();

    let first = server.claim(claim("blue", THREAD_A)).await.unwrap().session.unwrap();
    assert_eq!(first.name, pool[0].name());
    pool[0].reset_context(THREAD_A).await.unwrap();
    // The third one has been free since the beginning; one in a transaction is nobody's to claim.
    let second = server.claim(claim("blue", THREAD_A)).await.unwrap().session.unwrap();
    assert_eq!(second.name, pool[2].name());
    let third = server.claim(claim("blue", THREAD_A)).await.unwrap().session.unwrap();
    assert_eq!(third.name, pool[0].name());
    server.claim(claim("blue", THREAD_A)).await.unwrap_err();
    busy.rollback(THREAD_B, true).await.unwrap();
    let last = server.claim(claim("blue", THREAD_A)).await.unwrap().session.unwrap();
    assert_eq!(last.name, busy.name());
}

#[tokio::test]
async fn a_pool_that_does_not_exist_is_told_from_one_that_is_taken() {
    let server = TestServer::start().await;
    server.pool("blue", 1).await;
    server.claim(claim("blue", THREAD_A)).await.unwrap();
    let before = server.picture().await;

    // Waiting for a pool without a session would be waiting for nothing.
    let request =
        pb::ClaimSessionContextRequest { wait_timeout: seconds(3_600), ..claim("green", THREAD_B) };
    let refusal = server.claim(request).await.unwrap_err();
    assert_eq!(refusal.fact("pool_size"), "0");
    assert!(refusal.message().contains("has these labels"), "{}", refusal.message());
    let refusal = server.claim(claim("blue", THREAD_B)).await.unwrap_err();
    assert_eq!(refusal.fact("pool_size"), "1");
    let bad = pb::ClaimSessionContextRequest { context: 0, ..claim("blue", THREAD_B) };
    server.claim(bad).await.unwrap_err().is_about_fields(&["context"]);

    assert_eq!(server.picture().await, before);
}

#[tokio::test]
async fn a_released_session_goes_to_whoever_waited_longest_for_it_or_for_its_pool() {
    for (store, _dir) in stores() {
        let server = TestServer::start_with(|config| config.store = store).await;
        let pool = server.pool("blue", 1).await;
        let session = &pool[0];
        session.set_context("holder", 7).await.unwrap();
        let first = server.waiting_claim("blue", "first").await;
        let second = session.wait_as_nth("second", 1).await;
        let third = server.waiting_claim("blue", "third").await;
        let refusal = server.claim(claim("blue", THREAD_A)).await.unwrap_err();
        assert_eq!(refusal.fact("queue_length"), "2");

        session.reset_context("holder").await.unwrap();
        let granted = within("a grant", first).await.unwrap().unwrap();
        assert_eq!(granted.session.unwrap().name, session.name());
        assert_eq!(session.binding().await, holds("first", 7));
        session.reset_context("first").await.unwrap();
        within("a grant", second).await.unwrap().unwrap();
        session.reset_context("second").await.unwrap();
        within("a grant", third).await.unwrap().unwrap();
        session.reset_context("third").await.unwrap();
        assert_eq!(session.binding().await, None);
    }
}

#[tokio::test]
async fn a_claim_gets_a_session_that_is_begun_while_it_waits_and_no_other() {
    let server = TestServer::start().await;
    server.pool("blue", 1).await;
    server.claim(claim("blue", THREAD_A)).await.unwrap();
    let waiting = server.waiting_claim("blue", THREAD_B).await;
    server.pool("red", 1).await;
    assert_eq!(server.thread(THREAD_B).await.waiting_for, [MAIN]);

    let new = server.pool("blue", 1).await;

    let granted = within("a grant", waiting).await.unwrap().unwrap();
    assert_eq!(granted.session.unwrap().name, new[0].name());
}

#[tokio::test]
async fn a_claim_may_come_with_a_lease() {
    let server = TestServer::start().await;
    let pool = server.pool("blue", 1).await;
    let leased =
        pb::ClaimSessionContextRequest { lease_ttl: seconds(1), ..claim("blue", THREAD_A) };
    let granted = server.claim(leased).await.unwrap();
    assert_eq!(granted.session.unwrap().binding.unwrap().lease_ttl, seconds(1));

    let next = server.waiting_claim("blue", THREAD_B).await;

    assert!(within("the lease ends", next).await.unwrap().unwrap().abandoned);
    assert_eq!(pool[0].binding().await, holds(THREAD_B, 7));
}
