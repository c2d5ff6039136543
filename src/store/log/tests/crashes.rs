//! The power fails, or the process is killed, in each operation of a script.

use std::path::Path;

use super::forgetful::{ForgetfulDisk, Kept, Plan};
use super::server::{Server, Step, recover, recover_one_of};
use super::{case, long};
use crate::domain::instance::{Durability, Resting};
use crate::store::log::catalog::GONE;
use crate::store::log::disk::Disk;

use Step::{
    Close, Commit, Create, Delete, DeleteForGood, Drop, Open, Raise, Replace, Rest, Restart, Wait,
};

pub(super) const FLUSH: &[Step] = &[
    Restart,
    Create("flush", Durability::Flush),
    Open("flush"),
    Commit("flush", 1),
    Commit("flush", 3),
    Commit("flush", 8),
    Rest("flush", Resting::Stopped),
    Commit("flush", 10),
    Commit("flush", 12),
    Commit("flush", 8),
    Close("flush"),
    Open("flush"),
    Commit("flush", 12),
    Commit("flush", 12),
    Drop("flush"),
    Restart,
    Open("flush"),
    Commit("flush", 12),
    Commit("flush", 12),
    Commit("flush", 12),
    Commit("flush", 2),
    Close("flush"),
];

pub(super) const LAZY: &[Step] = &[
    Restart,
    Create("lazy", Durability::Lazy),
    Open("lazy"),
    Commit("lazy", 2),
    Commit("lazy", 2),
    Wait,
    Commit("lazy", 3),
    Commit("lazy", 12),
    Commit("lazy", 1),
    Wait,
    Commit("lazy", 1),
    Close("lazy"),
    Open("lazy"),
    Commit("lazy", 1),
    Wait,
    Commit("lazy", 2),
    Close("lazy"),
    Open("lazy"),
    Commit("lazy", 1),
    Commit("lazy", 1),
    Drop("lazy"),
    Open("lazy"),
    Commit("lazy", 12),
    Commit("lazy", 12),
    Wait,
    Commit("lazy", 12),
    Commit("lazy", 12),
    Commit("lazy", 1),
    Close("lazy"),
];

pub(super) const LIVES: &[Step] = &[
    Restart,
    Create("flush", Durability::Flush),
    Create("lazy", Durability::Lazy),
    Open("flush"),
    Open("lazy"),
    Commit("flush", 3),
    Commit("lazy", 3),
    Wait,
    Close("flush"),
    Replace("flush"),
    Open("flush"),
    Commit("flush", 12),
    Commit("flush", 12),
    Raise(9),
    Close("lazy"),
    Delete("lazy"),
    Create("lazy", Durability::Lazy),
    Create("other", Durability::Flush),
    Open("lazy"),
    Commit("lazy", 2),
    Close("flush"),
    Replace("flush"),
    Delete("flush"),
    DeleteForGood("other"),
    Create("flush", Durability::Flush),
    Open("flush"),
    Commit("flush", 1),
];

/// How many operations a script is when all goes well.
pub(super) async fn operations(script: &[Step]) -> u64 {
    let disk = ForgetfulDisk::new();
    let mut server = Server::new(&disk, 1);
    server.run(script).await.unwrap();
    drop(server);
    disk.operations()
}

/// The server as it is when the power fails in the n-th operation of a script.
async fn crashed(script: &[Step], n: u64) -> Server {
    let disk = ForgetfulDisk::new();
    disk.plan(Plan::CrashAt(n));
    let mut server = Server::new(&disk, 1);
    server.run(script).await.unwrap_err();
    server
}

fn kept(n: u64, seeds: u64) -> Vec<Kept> {
    let mut kept = vec![Kept::Nothing, Kept::All, Kept::Until(n), Kept::Until(n - 1)];
    kept.extend((n.saturating_sub(3)..n - 1).map(Kept::Until));
    kept.extend((0..seeds).map(|seed| Kept::Any(1_000 * n + seed)));
    kept
}

/// Goes on after a recovery and is found to have kept all of it once more.
pub(super) async fn goes_on(mut server: Server) {
    for name in server.open_names() {
        server.run(&[Commit(name, 2), Commit(name, 9)]).await.unwrap();
    }
    for kept in [Kept::Nothing, Kept::All, Kept::Any(5)] {
        recover_one_of(&server.disk.image(kept), &server.worlds()).await;
    }
    for name in server.open_names() {
        server.run(&[Close(name)]).await.unwrap();
    }
    recover_one_of(&server.disk.image(Kept::Nothing), &server.worlds()).await;
}

async fn every_crash(script: &[Step], seeds: u64) {
    for n in 1..=operations(script).await {
        let server = crashed(script, n).await;
        for kept in kept(n, seeds) {
            case(format_args!("operation {n}, {kept:?}"));
            let recovered = recover_one_of(&server.disk.image(kept), &server.worlds()).await;
            if long() || kept == Kept::Nothing || kept == Kept::Any(1_000 * n) {
                goes_on(recovered).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_keeps_what_was_flushed() {
    every_crash(FLUSH, seeds()).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_takes_back_only_the_end_of_what_was_lazy() {
    every_crash(LAZY, seeds()).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_anywhere_leaves_each_instance_whole_or_absent() {
    every_crash(LIVES, seeds()).await;
}

/// A kill leaves in memory what was not synced. A server that starts on that must not build on it.
#[tokio::test(start_paused = true)]
async fn a_power_failure_after_a_kill_keeps_what_was_acknowledged() {
    for script in [FLUSH, LAZY, LIVES] {
        for n in 1..=operations(script).await {
            case(format_args!("operation {n}"));
            let killed = crashed(script, n).await;
            let recovered = recover_one_of(&killed.disk.after_kill(), &killed.worlds()).await;
            for kept in [Kept::Nothing, Kept::Any(n), Kept::Any(n + 1)] {
                recover_one_of(&recovered.disk.image(kept), &recovered.worlds()).await;
            }
            goes_on(recovered).await;
        }
    }
}

/// A deletion that is cut off may leave beside the record what it wanted to keep. That is not kept by the
/// next deletion, whose own it is not: else the first would be answered as if it had taken effect.
#[tokio::test(start_paused = true)]
async fn what_a_deletion_that_was_cut_off_wanted_to_keep_is_kept_by_no_other() {
    const SCRIPT: &[Step] =
        &[Restart, Create("flush", Durability::Flush), Delete("flush"), Restart];
    let (mut cut_off, mut stale) = (0, 0);
    for n in operations(&SCRIPT[..2]).await + 1..=operations(SCRIPT).await {
        let server = crashed(SCRIPT, n).await;
        for kept in kept(n, seeds()) {
            case(format_args!("operation {n}, {kept:?}"));
            let disk = server.disk.image(kept);
            let mut recovered = recover_one_of(&disk, &server.worlds()).await;
            if recovered.world.instances.is_empty() {
                assert_eq!(recovered.world.gone.len(), 1, "it is gone, and what it kept is there");
                continue;
            }
            cut_off += 1;
            stale += usize::from(
                disk.list(Path::new("/instances/flush")).unwrap().contains(&GONE.to_owned()),
            );
            recovered.run(&[Close("flush"), DeleteForGood("flush")]).await.unwrap();
            assert!(recovered.world.gone.is_empty());
            for kept in [Kept::Nothing, Kept::All, Kept::Any(n)] {
                recover_one_of(&recovered.disk.image(kept), &[&recovered.world]).await;
            }
        }
    }
    assert!(0 < stale && stale < cut_off, "it was cut off before and after: {stale} of {cut_off}");
}

/// Recovery can be cut short anywhere too.
#[tokio::test(start_paused = true)]
async fn a_crash_in_a_recovery_changes_nothing() {
    let step = if long() { 1 } else { 19 };
    for script in [FLUSH, LAZY, LIVES] {
        for n in (1..=operations(script).await).step_by(step) {
            let server = crashed(script, n).await;
            for first in [Kept::Nothing, Kept::All, Kept::Any(n)] {
                for m in 1.. {
                    let disk = server.disk.image(first);
                    disk.plan(Plan::CrashAt(m));
                    if recover(&disk).await.is_ok() {
                        break;
                    }
                    for second in [Kept::Nothing, Kept::All, Kept::Any(m)] {
                        case(format_args!("operation {n}, {first:?}, then {m}, {second:?}"));
                        recover_one_of(&disk.image(second), &server.worlds()).await;
                    }
                }
            }
        }
    }
}

/// In how many ways the sectors are chosen that are kept.
fn seeds() -> u64 {
    if long() { 40 } else { 2 }
}
