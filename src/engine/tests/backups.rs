//! Backups taken and read in, in every way in which that can end.

use crate::domain::backup::RestoreRefusal;
use crate::domain::jet_err::JetErr;
use crate::domain::refusal::{Cause, Quota, Retry};
use crate::engine::backup::{Backup, Upload};

use super::scripted::{Fate, Op};
use super::*;

const BACKUP_IN_PROGRESS: i32 = -505;
const RESTORE_IN_PROGRESS: i32 = -506;

#[tokio::test(start_paused = true)]
async fn a_backup_holds_what_was_committed_before_it_and_nothing_later() {
    let world = World::ready().await;
    let token = world.set(1, "t").await.unwrap();
    world.begin_transaction(2, "t").await.unwrap();
    let backed_up = world.sessions("a").await.unwrap();
    let mut backup = taken(&world).await;
    assert!(world.reset(1, "t").await.is_ok());
    assert_eq!(world.begin_session("a").await, Ok(4));
    world.create("c").await.unwrap();
    let before = world.view("c");

    let view = restored(&world, "c", &read(&mut backup).await).await.unwrap();
    drop(backup);

    assert_eq!((&view.phase, view.record.resting), (&Phase::Created, Resting::Created));
    assert_eq!((view.record.id.as_str(), view.session_count), ("c", 0));
    assert_eq!(view.record.max_sessions, before.record.max_sessions);
    assert_ne!(view.record.uid, before.record.uid);
    assert_eq!(view.record.floor.epoch(), 1);
    assert_eq!(view, world.view("c"));
    world.initialize("c").await.unwrap();
    assert_eq!(world.sessions("c").await.unwrap(), backed_up);
    assert!(token < 1 << 48 && world.set_at("c", 3, "t").await.unwrap() > 1 << 48);
    assert!(world.begin_session("c").await.unwrap() > 1 << 48);

    // The next restore begins the next epoch, whatever the backup says; and it survives a restart.
    world.terminate("c", TerminateMode::Force).await.unwrap();
    let backup = read(&mut taken(&world).await).await;
    let view = restored(&world, "c", &backup).await.unwrap();
    assert_eq!(view.record.floor.epoch(), 2);
    let world = world.restarted().await;
    let view = restored(&world, "c", &backup).await.unwrap();
    assert_eq!(view.record.floor.epoch(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_backup_is_taken_at_a_time_and_its_end_frees_the_place() {
    let world = World::ready().await;
    let mut backup = taken(&world).await;
    assert_eq!(world.backup("a").await.err(), Some(BACKUP_IN_PROGRESS));
    assert!(world.backup("b").await.is_ok(), "of another instance");

    read(&mut backup).await;
    let second = taken(&world).await;
    assert!(backup.next().await.is_none(), "the first has ended");
    drop(second);
    world.stop("a").await.unwrap();
    read(&mut taken(&world).await).await;
}

#[tokio::test(start_paused = true)]
async fn only_a_complete_terminate_waits_for_a_backup() {
    use TerminateMode::{Abrupt, Complete, Force};
    for (mode, in_transaction, expected) in [
        (Complete, false, Err(BACKUP_IN_PROGRESS)),
        (Complete, true, Err(BACKUP_IN_PROGRESS)),
        (Abrupt, false, Ok(Phase::Created)),
        (Abrupt, true, Err(TOO_MANY_ACTIVE_USERS)),
        (Force, false, Ok(Phase::Created)),
        (Force, true, Ok(Phase::Created)),
    ] {
        let world = World::ready().await;
        if in_transaction {
            world.begin_transaction(1, "t").await.unwrap();
        }
        let mut backup = taken(&world).await;

        assert_eq!(world.terminate("a", mode).await, expected, "{mode:?} {in_transaction}");

        match expected {
            Ok(_) => {
                assert_eq!(ended(&mut backup).await, TERM_IN_PROGRESS);
                assert!(backup.next().await.is_none());
            }
            Err(_) => {
                read(&mut backup).await;
                let expected =
                    if in_transaction { Err(TOO_MANY_ACTIVE_USERS) } else { Ok(Phase::Created) };
                assert_eq!(world.terminate("a", Complete).await, expected);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_and_the_end_of_the_server_end_a_backup() {
    for (error, code) in [
        (JetErr::DiskIO, UNAVAILABLE),
        (JetErr::InstanceUnavailableDueToFatalLogDiskFull, UNAVAILABLE_DISK_FULL),
    ] {
        let world = World::ready().await;
        let mut backup = taken(&world).await;
        world.store.fail_late("a", error);
        world.until("a", "FAILED").await;
        assert_eq!(ended(&mut backup).await, code);
        assert_eq!(world.backup("a").await.err(), Some(code));
    }

    let world = World::ready().await;
    let (mut draining, mut closed) = (taken(&world).await, world.backup("b").await.unwrap());
    world.engine.drain();
    let refusal = draining.next().await.unwrap().unwrap_err();
    assert_eq!((refusal.jet_err().code(), refusal.facts().retry), (STOPPED, Retry::Soon));
    assert_eq!(refusal.facts().cause, Some(Cause::Draining));
    world.engine.close().await;
    assert_eq!(ended(&mut closed).await, STOPPED);
}

#[tokio::test(start_paused = true)]
async fn while_a_backup_is_read_in_the_phase_answers() {
    let world = restoring().await;
    let backup = read(&mut taken(&world).await).await;
    let mut upload = world.restore("c").await.unwrap();
    assert_eq!(world.phase("c"), Phase::Restoring);

    assert_eq!(world.begin_session("c").await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.initialize("c").await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.stop("c").await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.resume("c").await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.delete("c").await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.terminate("c", TerminateMode::Force).await, Err(RESTORE_IN_PROGRESS));
    assert_eq!(world.backup("c").await.err(), Some(RESTORE_IN_PROGRESS));
    assert_eq!(world.restore("c").await.err(), Some(RESTORE_IN_PROGRESS));
    let refusal = world.engine.initialize(&name("c"), nobody()).await.unwrap_err();
    assert_eq!(refusal.facts().retry, Retry::Soon, "nothing has come yet");

    assert!(upload.push(&backup));
    assert_eq!(world.view("c").progress, 100);
    let refusal = world.engine.initialize(&name("c"), nobody()).await.unwrap_err();
    assert_eq!(refusal.facts().retry, Retry::After(Duration::from_millis(50)));
    upload.finish().await.unwrap();
    assert_eq!((world.phase("c"), world.view("c").progress), (Phase::Created, 0));
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_read_only_into_an_instance_that_is_not_initialised() {
    let world = World::ready().await;
    assert_eq!(world.restore("a").await.err(), Some(ALREADY_INITIALIZED));
    world.stop("a").await.unwrap();
    assert_eq!(world.restore("a").await.err(), Some(ALREADY_INITIALIZED));
    world.store.fail_late("b", JetErr::DiskIO);
    world.until("b", "FAILED").await;
    assert_eq!(world.restore("b").await.err(), Some(ALREADY_INITIALIZED));
    assert_eq!(world.restore("x").await.err(), Some(INVALID_INSTANCE));
    assert_eq!(world.backup("x").await.err(), Some(INVALID_INSTANCE));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_backup_leaves_the_instance_as_it_was() {
    let world = restoring().await;
    let good = read(&mut taken(&world).await).await;
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let trailing = [&good[..], &[0; 64]].concat();
    for (bytes, code) in [
        (&b"SQLite format 3, or whatever it is, but no backup of ours"[..], -615),
        (&[], -573),
        (&good[..good.len() - 1], -573),
        (&good[..good.len() / 2], -573),
        (&flipped, -573),
        (&trailing, -573),
    ] {
        assert_unchanged(&world, async {
            assert_eq!(restored(&world, "c", bytes).await, Err(code), "{} bytes", bytes.len());
        })
        .await;
    }
    assert!(restored(&world, "c", &good).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_backup_with_too_many_sessions_is_refused_with_the_limit() {
    let world = World::ready().await;
    let backup = read(&mut taken(&world).await).await;
    let small = NewInstance {
        id: name("c"),
        labels: Labels::default(),
        max_sessions: Some(2),
        durability: Durability::Flush,
        ready: false,
    };
    world.engine.create(small, nobody()).await.unwrap();
    let mut upload = world.restore("c").await.unwrap();
    assert!(!upload.push(&backup));

    let refusal = upload.finish().await.unwrap_err();

    assert_eq!(refusal.jet_err(), JetErr::OutOfSessions);
    assert_eq!(refusal.facts().quota, Some(Quota::Sessions(2)));
    assert_eq!(world.phase("c"), Phase::Created);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_ends_early_leaves_the_instance_as_it_was() {
    let world = restoring().await;
    let backup = read(&mut taken(&world).await).await;
    for given_up in [false, true] {
        assert_unchanged(&world, async {
            let mut upload = world.restore("c").await.unwrap();
            assert!(upload.push(&backup));
            if given_up {
                upload.abandon().await;
            } else {
                drop(upload);
                world.until("c", "CREATED").await;
            }
        })
        .await;
    }
    // Nor does a caller that leaves before it is told that it may begin.
    assert_unchanged(&world, async {
        drop(sent(world.restore("c")));
        settle().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_replace_leaves_the_instance_as_it_was() {
    let world = restoring().await;
    let backup = read(&mut taken(&world).await).await;
    let full = JetErr::InstanceUnavailableDueToFatalLogDiskFull;
    for (fate, code) in [
        (Fate::Unavailable(JetErr::DiskIO), UNAVAILABLE),
        (Fate::Unavailable(full), UNAVAILABLE_DISK_FULL),
        (Fate::Panic, UNAVAILABLE),
    ] {
        world.store.next(Op::Replace, "c", fate);
        assert_unchanged(&world, async {
            assert_eq!(restored(&world, "c", &backup).await, Err(code), "{fate:?}");
        })
        .await;
    }
    world.store.seen();
    world.store.fail_raise(full);
    assert_unchanged(&world, async {
        assert_eq!(restored(&world, "c", &backup).await, Err(UNAVAILABLE_DISK_FULL));
    })
    .await;
    assert!(!world.store.seen().iter().any(|line| line.starts_with("replace")));
    assert!(restored(&world, "c", &backup).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_floor_is_raised_before_the_instance_is_replaced() {
    let world = restoring().await;
    let backup = read(&mut taken(&world).await).await;
    world.store.seen();

    restored(&world, "c", &backup).await.unwrap();

    assert_eq!(world.store.seen(), ["raise 1", "replace c Created"]);
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_ends_an_upload_that_lasts() {
    let world = restoring().await;
    let upload = world.restore("c").await.unwrap();
    world.engine.drain();
    world.until("c", "CREATED").await;
    let refusal = upload.finish().await.unwrap_err();
    assert_eq!((refusal.jet_err().code(), refusal.facts().retry), (STOPPED, Retry::Soon));
    // Nor does it wait for one that nobody drives any more.
    let forgotten = world.restore("c").await;
    soon(world.engine.close()).await;
    drop(forgotten);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_backup_is_read_in_costs_nothing() {
    let world = restoring().await;
    let backup = read(&mut taken(&world).await).await;
    let mut upload = world.restore("c").await.unwrap();
    world.environment.panic_once();
    assert_eq!(
        world.call("c", GetSession { session: session(1) }, drop).await,
        Err(RESTORE_IN_PROGRESS)
    );

    assert!(upload.push(&backup));
    upload.finish().await.unwrap();

    assert_eq!(world.phase("c"), Phase::Created);
    assert_eq!(world.initialize("c").await, Ok(Phase::Ready));
    assert_eq!(world.sessions("c").await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_instance_is_mended_by_a_restore() {
    let world = World::ready().await;
    let backup = read(&mut taken(&world).await).await;
    let sessions = world.sessions("a").await;
    world.store.damage("a", JetErr::LogFileCorrupt);
    let world = world.restarted().await;
    world.terminate("a", TerminateMode::Complete).await.unwrap();

    assert!(restored(&world, "a", &backup).await.is_ok());

    assert_eq!(world.initialize("a").await, Ok(Phase::Ready));
    assert_eq!(world.sessions("a").await, sessions);
}

/// A ready world with an instance `c` that was terminated, so that it has numbers of its own.
async fn restoring() -> World {
    let world = World::ready().await;
    world.create("c").await.unwrap();
    world.initialize("c").await.unwrap();
    world.begin_session("c").await.unwrap();
    world.store.next(Op::Commit, "c", Fate::Unavailable(JetErr::DiskIO));
    assert_eq!(world.begin_session("c").await, Err(UNAVAILABLE));
    // It has failed, so its session is there again when it is initialised.
    world.terminate("c", TerminateMode::Complete).await.unwrap();
    world
}

/// Whatever happens, record and sessions of `c` stay; it ends with `c` created.
async fn assert_unchanged(world: &World, happens: impl Future<Output = ()>) {
    let remembered = async || {
        let catalog = world.store.load().await.unwrap();
        catalog.instances.into_iter().find(|record| record.id == name("c"))
    };
    let before = (remembered().await, world.view("c").record.uid, world.view("c").revision);
    happens.await;
    assert_eq!(world.phase("c"), Phase::Created);
    let after = (remembered().await, world.view("c").record.uid, world.view("c").revision);
    assert_eq!(after, before);
    assert_eq!(world.store.remembered("c").await.len(), 1, "its session is still there");
}

async fn taken(world: &World) -> Backup {
    world.backup("a").await.unwrap()
}

/// All of a backup.
async fn read(backup: &mut Backup) -> Vec<u8> {
    let (mut all, mut last) = (Vec::new(), 0);
    while let Some(piece) = backup.next().await {
        let piece = piece.unwrap();
        assert!(piece.percent >= last && piece.bytes.len() <= 32 * 1024);
        last = piece.percent;
        all.extend(piece.bytes);
    }
    assert_eq!(last, 100);
    all
}

/// The JET number with which a backup ends before its end.
async fn ended(backup: &mut Backup) -> i32 {
    backup.next().await.unwrap().unwrap_err().jet_err().code()
}

async fn restored(world: &World, id: &str, bytes: &[u8]) -> Result<InstanceView, i32> {
    let mut upload = world.restore(id).await?;
    for chunk in bytes.chunks(100) {
        if !upload.push(chunk) {
            break;
        }
    }
    let result: Result<_, Unanswered<RestoreRefusal>> = soon(upload.finish()).await;
    result.map_err(|refusal| refusal.jet_err().code())
}

impl World {
    fn backup(&self, id: &str) -> Asked<Backup> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move { engine.backup(&id).await })
    }

    fn restore(&self, id: &str) -> Asked<Upload> {
        let (engine, id) = (self.engine.clone(), name(id));
        asked(async move { engine.restore(&id).await })
    }
}
