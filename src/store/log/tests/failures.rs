//! One operation of a script fails, and all others go well.

use super::case;
use super::crashes::{FLUSH, LAZY, LIVES, goes_on, operations};
use super::forgetful::{Failure, ForgetfulDisk, Kept, Plan};
use super::server::{Server, Step, recover_one_of};
use crate::domain::instance::Durability;
use crate::domain::jet_err::JetErr;

/// Fails the n-th operation of a script for every n. The server checks for itself that a journal which
/// has failed acknowledges nothing more; here, that a start after it finds what it did acknowledge.
pub(super) async fn every_failure(script: &[Step], failure: Failure) {
    for n in 1..=operations(script).await {
        let disk = ForgetfulDisk::new();
        disk.plan(Plan::FailAt(n, failure));
        let mut server = Server::new(&disk, 1);
        let end = server.run(script).await;
        case(format_args!("operation {n}, {failure:?}: {end:?} after {}", disk.operations()));

        for kept in [Kept::Nothing, Kept::All, Kept::Any(n)] {
            recover_one_of(&disk.image(kept), &server.worlds()).await;
        }
        goes_on(recover_one_of(&disk.after_kill(), &server.worlds()).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_after_a_failure() {
    for script in [FLUSH, LAZY, LIVES] {
        every_failure(script, Failure::Device).await;
    }
}

/// What a failed sync leaves in memory is read back and is not on the disk.
#[tokio::test(start_paused = true)]
async fn nothing_is_built_on_what_only_memory_still_has() {
    for script in [FLUSH, LAZY, LIVES] {
        every_failure(script, Failure::Lying).await;
    }
}

/// A snapshot is read back before anything is deleted because of it.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_stored_wrongly_replaces_nothing() {
    let disk = ForgetfulDisk::new();
    let mut server = Server::new(&disk, 1);
    let begin = [Step::Restart, Step::Create("flush", Durability::Flush), Step::Open("flush")];
    server.run(&begin).await.unwrap();
    disk.spoil(".snap.tmp");
    while server.step(Step::Commit("flush", 12)).await.is_ok() {}

    let names: Vec<_> = disk.files().into_keys().collect();
    assert!(!names.iter().any(|path| path.extension().is_some_and(|end| end == "snap")));
    assert_eq!(server.refused, Some(JetErr::LogFileCorrupt));
    for kept in [Kept::Nothing, Kept::All] {
        recover_one_of(&disk.image(kept), &[&server.world]).await;
    }
}
