//! A disk that fills up under load: what cannot be kept is refused, what was answered is kept, and
//! the server goes on with what needs no room.

use jet_session::proto::api::instance::State;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};

use crate::campaign::{Campaign, stopped};
use crate::clients::{LAZY, MAIN, connect, jet_error};
use crate::disk::Disk;
use crate::not_checked;
use crate::operator::Operator;
use crate::server::{RealServer, now};

const DISK_FULL: i32 = -1092;
/// How the failure of an instance may call it: the log, or any disk, is full.
const CALLED: [i32; 3] = [-529, -1808, DISK_FULL];

#[tokio::test]
async fn a_full_disk_in_memory_loses_nothing() {
    match Disk::tmpfs(16) {
        Ok(disk) => loses_nothing(&disk).await,
        Err(reason) => not_checked("a full disk on tmpfs", &reason),
    }
}

#[tokio::test]
async fn a_full_disk_in_a_file_loses_nothing() {
    match Disk::ext4(64) {
        Ok(disk) => loses_nothing(&disk).await,
        Err(reason) => not_checked("a full disk on ext4", &reason),
    }
}

async fn loses_nothing(disk: &Disk) {
    let mut campaign = Campaign::begin(&disk.data()).await;
    let server = fails_and_comes_back(&mut campaign, disk).await;
    ends_well_on_a_full_disk(&mut campaign, disk, server).await;
    let server = starts_on_a_full_disk(&mut campaign, disk).await;
    ends_well_after_it_failed(&mut campaign, disk, server).await;
    campaign.end().await;
}

async fn fails_and_comes_back(campaign: &mut Campaign, disk: &Disk) -> RealServer {
    campaign.shared.expect_answers(500);
    let mut work = campaign.start().await;
    let operator = Operator::of(work.server.address()).await;
    let quiet = operator.create("quiet").await;
    campaign.enough(&mut work).await;

    campaign.died = Some(now());
    disk.fill();
    stopped(&mut work.clients).await;
    campaign.refused_for_good(DISK_FULL);
    for instance in [MAIN, LAZY] {
        is_disk_full(&campaign.begin_until_refused(&mut operator.sessions(), instance).await);
        let failed = operator.instance(instance).await;
        assert_eq!(failed.state(), State::Failed, "{failed:?}");
        let failure = failed.failure.expect("a failed instance says why");
        assert!(CALLED.contains(&failure.code), "{failure:?}");
        operator.health(instance, NotServing).await;
    }

    // The server is well, and so is an instance that needs no room yet.
    operator.health("", Serving).await;
    operator.health(&quiet, Serving).await;
    let session = operator.begin_and_set(&quiet).await;

    for instance in [MAIN, LAZY] {
        operator.terminate(instance).await;
    }
    disk.free();
    for instance in [MAIN, LAZY] {
        operator.initialize(instance).await.expect("there is room");
    }
    recovered(campaign, &work.server).await;
    assert_eq!(operator.session(&session.name).await, session);
    work.server
}

/// The disk fills up, and the server is told to end in the middle of it.
async fn ends_well_on_a_full_disk(campaign: &mut Campaign, disk: &Disk, server: RealServer) {
    campaign.shared.expect_answers(200);
    let channels = connect(server.address()).await;
    let mut work = campaign.work(server, &channels);
    campaign.enough(&mut work).await;
    let full = now();
    disk.fill();
    campaign.terminate(work).await;
    campaign.died = Some(full);
}

/// The server is there to be asked, and whatever could not be opened is once there is room.
async fn starts_on_a_full_disk(campaign: &mut Campaign, disk: &Disk) -> RealServer {
    let server = campaign.spawn().listening().await;
    let operator = Operator::of(server.address()).await;
    operator.health("", Serving).await;
    for instance in [MAIN, LAZY] {
        if operator.settled(instance).await == State::Failed {
            is_disk_full(&campaign.begin_until_refused(&mut operator.sessions(), instance).await);
            operator.terminate(instance).await;
        }
    }
    disk.free();
    for instance in [MAIN, LAZY] {
        if operator.settled(instance).await == State::Created {
            operator.initialize(instance).await.expect("there is room");
        }
    }
    recovered(campaign, &server).await;
    server
}

async fn ends_well_after_it_failed(campaign: &mut Campaign, disk: &Disk, server: RealServer) {
    campaign.shared.expect_answers(100);
    let channels = connect(server.address()).await;
    let mut work = campaign.work(server, &channels);
    campaign.enough(&mut work).await;
    let full = now();
    disk.fill();
    stopped(&mut work.clients).await;
    campaign.refused_for_good(DISK_FULL);
    drop(channels);
    campaign.terminate(work).await;
    campaign.died = Some(full);
    disk.free();
}

async fn recovered(campaign: &mut Campaign, server: &RealServer) {
    let channels = connect(server.address()).await;
    campaign.recovered(&channels[0]).await;
}

/// Nobody should hammer it: somebody has to make room.
fn is_disk_full(status: &Status) {
    assert_eq!(jet_error(status), Some(DISK_FULL), "{status:?}");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(pushback.map(|ms| ms.as_bytes()), Some(&b"-1"[..]), "{status:?}");
}
