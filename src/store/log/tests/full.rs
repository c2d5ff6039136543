//! The disk is full.

use super::crashes::{FLUSH, LAZY, LIVES, goes_on};
use super::failures::every_failure;
use super::forgetful::{Failure, ForgetfulDisk, Kept};
use super::server::{Server, Step, recover_one_of};
use crate::domain::instance::Durability;
use crate::domain::jet_err::JetErr;
use crate::store::Journal;

use Step::{Close, Commit, Create, Open, Restart};

const ROOM: u64 = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn no_room_for_one_operation_loses_nothing() {
    for script in [FLUSH, LAZY, LIVES] {
        every_failure(script, Failure::Full).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_reserve_takes_what_nothing_else_takes() {
    let mut server = on_the_reserve().await;

    server.run(&[Commit("flush", 1), Commit("flush", 1)]).await.unwrap();
    assert!(server.journal("flush").make_room().await.is_err());
    assert!(!server.journal("flush").has_room(), "there still is none");
    server.run(&[Commit("flush", 1), Close("flush")]).await.unwrap();

    server.disk.leave_room(ROOM);
    for kept in [Kept::Nothing, Kept::All] {
        goes_on(recover_one_of(&server.disk.image(kept), &server.worlds()).await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_was_made_is_used_and_the_reserve_is_kept_again() {
    let mut server = on_the_reserve().await;

    server.disk.leave_room(ROOM);
    server.journal("flush").make_room().await.unwrap();
    assert!(server.journal("flush").has_room());
    server.disk.leave_room(0);
    until_on_the_reserve(&mut server).await;

    server.run(&[Commit("flush", 1)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_even_the_reserve_does_not_take_is_refused_and_nothing_is_lost() {
    let mut server = on_the_reserve().await;
    while server.step(Commit("flush", 3)).await.is_ok() {}

    assert_eq!(server.refused, Some(JetErr::LogDiskFull));
    assert!(server.perhaps.is_some(), "the last batch is not acknowledged");
    server.disk.leave_room(ROOM);
    let worlds = [&server.world];
    for kept in [Kept::Nothing, Kept::All] {
        goes_on(recover_one_of(&server.disk.image(kept), &worlds).await).await;
    }
}

/// A snapshot that finds no room is left for later, and the log goes on without it.
#[tokio::test(start_paused = true)]
async fn spares_and_snapshots_that_find_no_room_are_left_for_later() {
    let mut server = opened().await;
    server.run(&[Commit("flush", 20), Commit("flush", 20)]).await.unwrap();
    server.disk.leave_room(0);
    let before = count(&server.disk, ".snap");
    server.run(&[Commit("flush", 9)]).await.unwrap();

    server.disk.leave_room(ROOM);
    server.run(&[Commit("flush", 20), Commit("flush", 20), Commit("flush", 20)]).await.unwrap();
    assert!(count(&server.disk, ".snap") > before);
    recover_one_of(&server.disk.image(Kept::Nothing), &[&server.world]).await;
}

fn count(disk: &ForgetfulDisk, ending: &str) -> usize {
    disk.files().keys().filter(|path| path.to_str().unwrap().ends_with(ending)).count()
}

async fn opened() -> Server {
    let mut server = Server::new(&ForgetfulDisk::new(), 3);
    let steps = [Restart, Create("flush", Durability::Flush), Open("flush"), Commit("flush", 1)];
    server.run(&steps).await.unwrap();
    server
}

async fn on_the_reserve() -> Server {
    let mut server = opened().await;
    server.disk.leave_room(0);
    until_on_the_reserve(&mut server).await;
    server
}

async fn until_on_the_reserve(server: &mut Server) {
    while server.journal("flush").has_room() {
        server.run(&[Commit("flush", 2)]).await.unwrap();
    }
}
