//! Backups: taken while an instance serves, read into one that is not initialised.

use std::time::Duration;

use jet_session::domain::jet_err::JetErr;
use jet_session::proto::api as pb;
use jet_session::proto::api::TerminateMode::{Abrupt, Complete, Force};
use jet_session::proto::api::instance::State;
use jet_session::proto::api::restore_instance_request::Payload;
use jet_session::server::Ending;
use prost::Message;
use tonic::Code;

use crate::support::call::{on_instance, on_session, on_sessions_of, path};
use crate::support::raw::{Raw, RawCall, framed};
use crate::support::{MAIN, Refusal, THREAD_A, THREAD_B, TestServer};

/// A server with three sessions: held, in a transaction, and neither.
async fn working() -> TestServer {
    let server = TestServer::start().await;
    server.session().await.set_context(THREAD_A, 7).await.expect("it is free");
    server.session().await.begin_transaction(THREAD_B).await.expect("it is idle");
    server.session().await;
    server
}

/// The sessions of an instance without what belongs to its name.
async fn sessions(server: &TestServer, parent: &str) -> Vec<pb::Session> {
    let request = pb::ListSessionsRequest { parent: parent.to_owned(), ..Default::default() };
    let found = server.sessions().list_sessions(request).await.expect("it is ready").into_inner();
    found
        .sessions
        .into_iter()
        .map(|session| pb::Session { name: String::new(), ..session })
        .collect()
}

#[tokio::test]
async fn a_backup_restored_under_another_name_has_the_same_sessions_and_higher_numbers() {
    let server = working().await;
    let backed_up = sessions(&server, MAIN).await;
    let before = server.picture().await;

    let backup = server.backup(MAIN).await.unwrap();

    assert_eq!(server.picture().await, before, "a backup changes nothing");
    let created = server.create("copy").await.unwrap();
    let empty = server.instance(&created).await.unwrap();
    // Where the upload is cut means nothing.
    let pieces = backup.concat().chunks(11).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let restored = server.restore(&created, pieces).await.unwrap();

    assert_eq!(restored.state(), State::Created);
    assert_eq!((&restored.name, restored.max_sessions), (&empty.name, empty.max_sessions));
    assert_ne!(restored.uid, empty.uid);
    let newest = server.instance(MAIN).await.unwrap().revision;
    assert!(restored.revision > newest, "{} > {newest}", restored.revision);
    assert_eq!(server.instance(&created).await.unwrap(), restored);

    server.initialize(&created).await.unwrap();
    assert_eq!(sessions(&server, &created).await, backed_up);
    let session = server.begin(&created).await.unwrap();
    assert!(backed_up.iter().all(|old| old.sesid < session.sesid()));
    assert!(session.set_context(THREAD_A, 7).await.unwrap() > newest);
    assert_eq!(sessions(&server, MAIN).await, backed_up, "the original is as it was");
}

#[tokio::test]
async fn a_backup_ends_with_a_deadline_too_and_not_at_it() {
    let server = working().await;
    let mut request = tonic::Request::new(pb::BackupInstanceRequest { name: MAIN.to_owned() });
    request.set_timeout(Duration::from_secs(3_600));
    let mut stream = server.instances().backup_instance(request).await.unwrap().into_inner();
    let mut chunks = 0;
    while stream.message().await.unwrap().is_some() {
        chunks += 1;
    }
    assert!(chunks > 1);
}

#[tokio::test]
async fn while_a_backup_is_read_in_every_call_is_told_so_and_when_to_come_back() {
    let server = TestServer::start().await;
    let session = server.session().await;
    server.terminate(MAIN, Complete).await.unwrap();
    let before = server.instance(MAIN).await.unwrap();
    let restoring = server.restoring(MAIN).await;

    let calls = [on_session(session.name(), THREAD_A), on_sessions_of(MAIN), on_instance(MAIN)];
    for call in calls.iter().flatten().filter(|call| !call.method.ends_with("GetInstance")) {
        let refusal = server.ask(call).await.unwrap_err();
        assert_eq!(refusal.jet_err(), JetErr::RestoreInProgress, "{}", call.method);
        assert_eq!(refusal.code(), Code::Unavailable);
        assert_eq!(refusal.fact("instance_state"), "RESTORING");
        let retry = refusal.told().retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(retry, Duration::from_millis(500), "nothing has come yet");
    }
    assert_eq!(server.backup(MAIN).await.unwrap_err().jet_err(), JetErr::RestoreInProgress);
    let second = server.restore(MAIN, []).await.unwrap_err();
    assert_eq!(second.jet_err(), JetErr::RestoreInProgress);

    restoring.cancel();
    server.until(MAIN, State::Created).await;
    let update_time = server.instance(MAIN).await.unwrap().update_time;
    let unchanged = pb::Instance { update_time, ..before };
    assert_eq!(server.instance(MAIN).await.unwrap(), unchanged);
    server.initialize(MAIN).await.unwrap();
}

#[tokio::test]
async fn backups_and_restores_answer_by_the_phase() {
    let server = TestServer::start().await;
    let created = server.create("pool").await.unwrap();
    assert_eq!(server.backup(&created).await.unwrap_err().jet_err(), JetErr::NotInitialized);
    let before = server.picture().await;
    let refusal = server.restore(MAIN, []).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::AlreadyInitialized);
    assert_eq!(server.picture().await, before);
    server.stop(MAIN).await.unwrap();
    assert!(server.backup(MAIN).await.is_ok());
    let refusal = server.restore(MAIN, []).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::AlreadyInitialized);
    for refusal in [
        server.backup("instances/none").await.unwrap_err(),
        server.restore("instances/none", []).await.unwrap_err(),
    ] {
        assert_eq!(refusal.jet_err(), JetErr::InvalidInstance);
    }
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_and_changes_nothing() {
    let server = working().await;
    let good = server.backup(MAIN).await.unwrap().concat();
    let pool = server.create("pool").await.unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let foreign = b"%PDF-1.7 is what this begins with, and so it is no backup".to_vec();
    for (bytes, jet, code) in [
        (foreign, JetErr::RestoreOfNonBackupDatabase, Code::InvalidArgument),
        (flipped, JetErr::LogCorruptDuringHardRestore, Code::DataLoss),
        (good[..good.len() - 3].to_vec(), JetErr::LogCorruptDuringHardRestore, Code::DataLoss),
        (Vec::new(), JetErr::LogCorruptDuringHardRestore, Code::DataLoss),
    ] {
        let before = server.instance(&pool).await.unwrap();
        let refusal = server.restore(&pool, [bytes]).await.unwrap_err();
        assert_eq!((refusal.jet_err(), refusal.code()), (jet, code), "{refusal:?}");
        assert_eq!(refusal.fact("instance"), pool);
        let after = server.instance(&pool).await.unwrap();
        let update_time = after.update_time;
        assert_eq!(after, pb::Instance { update_time, ..before });
    }

    let small = pb::CreateInstanceRequest {
        instance_id: "small".to_owned(),
        max_sessions: 2,
        ..Default::default()
    };
    server.instances().create_instance(small).await.unwrap();
    let refusal = server.restore("instances/small", [good.clone()]).await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::OutOfSessions);
    assert!(refusal.message().contains("3 sessions"), "{}", refusal.message());
    let quota = refusal.told().quota_failure().unwrap().violations.clone();
    assert_eq!(quota[0].subject, "instances/small");
    server.restore(&pool, [good]).await.unwrap();
}

#[tokio::test]
async fn the_first_message_names_the_instance_and_all_others_carry_chunks() {
    let server = TestServer::start().await;
    let pool = server.create("pool").await.unwrap();
    for first in [None, Some(Payload::Chunk(vec![1])), Some(Payload::Name("pool".to_owned()))] {
        let restoring = server.begin_restore(first).await;
        restoring.answer().await.unwrap_err().is_about_fields(&["name"]);
    }
    for other in [None, Some(Payload::Name(pool.clone()))] {
        let restoring = server.restoring(&pool).await;
        restoring.send(other).await;
        restoring.answer().await.unwrap_err().is_about_fields(&["chunk"]);
        assert_eq!(server.instance(&pool).await.unwrap().state(), State::Created);
    }
    let restoring = server.restoring(&pool).await;
    restoring.send(Some(Payload::Chunk(vec![0; 70_000]))).await;
    let refusal = restoring.answer().await.unwrap_err();
    assert_eq!(
        (refusal.code(), &*refusal.reason()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    assert_eq!(server.instance(&pool).await.unwrap().state(), State::Created);
}

/// A backup that is larger than all buffers on its way, begun by a client that does not read it.
async fn unread(server: &TestServer) -> (Raw, RawCall) {
    let labels = |n: usize| (format!("{n}{}", "k".repeat(60)), "v".repeat(63));
    let request = pb::BeginSessionRequest {
        instance: MAIN.to_owned(),
        labels: (0..8).map(labels).collect(),
        ..Default::default()
    };
    for _ in 0..1_500 {
        server.sessions().begin_session(request.clone()).await.expect("below the limit");
    }
    let raw = Raw::connect(server.address()).await;
    let mut call = raw.begin(&path("InstanceService/BackupInstance"), &[]).await;
    let request = pb::BackupInstanceRequest { name: MAIN.to_owned() };
    call.send(framed(&request.encode_to_vec()), true);
    raw.settle().await;
    (raw, call)
}

#[tokio::test]
async fn one_backup_runs_at_a_time_and_an_abrupt_terminate_ends_it() {
    let server = TestServer::start().await;
    let (_raw, call) = unread(&server).await;
    let before = server.picture().await;

    for refusal in [
        server.backup(MAIN).await.map(drop).unwrap_err(),
        server.terminate(MAIN, Complete).await.unwrap_err(),
    ] {
        assert_eq!(refusal.jet_err(), JetErr::BackupInProgress);
        assert_eq!(refusal.code(), Code::FailedPrecondition);
    }
    assert_eq!(server.picture().await, before);
    server.terminate(MAIN, Abrupt).await.unwrap();

    let ended = call.answer().await.status();
    assert_eq!((ended.jet_err(), ended.code()), (JetErr::TermInProgress, Code::Unavailable));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_backup() {
    let server = TestServer::start().await;
    let (raw, call) = unread(&server).await;
    assert_eq!(server.backup(MAIN).await.unwrap_err().jet_err(), JetErr::BackupInProgress);
    call.cancel();
    raw.settle().await;
    server.terminate(MAIN, Force).await.unwrap();
    server.initialize(MAIN).await.unwrap();
    assert!(server.backup(MAIN).await.is_ok());
}

#[tokio::test]
async fn a_server_that_drains_ends_a_restore() {
    let mut server =
        TestServer::start_with(|config| config.drain = Duration::from_secs(3_600)).await;
    server.terminate(MAIN, Complete).await.unwrap();
    let restoring = server.restoring(MAIN).await;

    server.order_to_end().await;

    let refusal = restoring.answer().await.unwrap_err();
    assert_eq!(refusal.jet_err(), JetErr::ClientRequestToStopJetService);
    assert!(refusal.told().retry_info().is_some());
    assert_eq!(server.ending().await, Ending::Graceful);
}
