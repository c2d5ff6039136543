//! Files are not what was written: cut off, flipped, exchanged, gone.
//!
//! Whatever is done to a file, opening ends in one of three ways: with everything; with a prefix of
//! it, which is allowed only where the end of an unsealed log looks like an append that was torn; or
//! with a refusal, which changes no file.

use std::path::{Path, PathBuf};

use super::forgetful::{ForgetfulDisk, Kept};
use super::server::{Server, Step, recover};
use super::{SMALL, case, long};
use crate::domain::instance::Durability;
use crate::domain::jet_err::JetErr;
use crate::domain::table::SessionTable;
use crate::store::StoreError;
use crate::store::log::Sizes;
use crate::store::log::disk::Disk;
use crate::store::log::scan::Scan;
use crate::store::log::segment::BLOCK_BYTES;
use crate::store::log::walk::read_about;

use Step::{Close, Commit, Create, Drop, Open, Replace, Restart};

const DAMAGED: &[JetErr] = &[JetErr::LogReadVerifyFailure, JetErr::LogFileCorrupt];
const MISSING: &[JetErr] = &[JetErr::MissingLogFile];

/// A directory and what it tells of.
struct Written {
    disk: ForgetfulDisk,
    /// The table after each batch, from none on.
    tables: Vec<SessionTable>,
}

/// What opening ends in.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// The table after so many batches.
    Batches(usize),
    /// One of these codes.
    Refused(&'static [JetErr]),
}

use Outcome::{Batches, Refused};

impl Written {
    /// A log of batches of these sizes.
    async fn batches(batches: &[usize], last: Step) -> Self {
        // Few snapshots for many segments.
        let sizes = Sizes { snapshot_log_min: 8 * 1024, ..SMALL };
        let mut server = Server::sized(&ForgetfulDisk::new(), 11, sizes);
        let begin = [Restart, Create("flush", Durability::Flush), Open("flush")];
        server.run(&begin).await.unwrap();
        let mut tables = vec![server.world.instances["flush"].newest().clone()];
        for size in batches {
            server.run(&[Commit("flush", *size)]).await.unwrap();
            tables.push(server.world.instances["flush"].newest().clone());
        }
        server.run(&[last]).await.unwrap();
        Self { disk: server.disk.image(Kept::Nothing), tables }
    }

    fn all(&self) -> Outcome {
        Batches(self.tables.len() - 1)
    }

    /// The files of the log whose names end like this, in order.
    fn files(&self, ending: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let ends = |path: &PathBuf| path.to_str().unwrap().ends_with(ending);
        self.disk.files().into_iter().filter(|(path, _)| ends(path)).collect()
    }

    /// Where the frames of a segment begin, and where the last one ends.
    fn frames(&self, path: &Path) -> Vec<usize> {
        let file = self.disk.open(path).unwrap();
        let uid = crate::domain::id::Uid::new("uid-of-flush");
        let about = read_about(&file, path, &uid).unwrap();
        let mut scan = Scan::new(&file, &about, about.cursor()).unwrap();
        let mut frames = vec![BLOCK_BYTES];
        while scan.step().unwrap().is_ok() {
            frames.push(usize::try_from(scan.at()).unwrap());
        }
        frames
    }

    /// Opens a copy to which this was done.
    async fn check(&self, expected: Outcome, what: &str, damage: impl FnOnce(&ForgetfulDisk)) {
        let disk = self.disk.image(Kept::Nothing);
        damage(&disk);
        let before = disk.files();
        case(format_args!("{what}: {expected:?}"));
        match (recover(&disk).await, expected) {
            (Ok((_, found)), Batches(batches)) => {
                assert_eq!(found.instances["flush"].1, self.tables[batches]);
            }
            (Err(StoreError { error, .. }), Refused(codes)) => {
                assert!(codes.contains(&error), "{error:?}");
                assert!(before == disk.files(), "a refusal changes nothing");
            }
            (Ok(_), Refused(_)) => panic!("it was opened"),
            (Err(error), Batches(_)) => panic!("{}", crate::store::with_causes(&error)),
        }
    }

    /// Flips bits of a file, every so many; `expected` says what follows from that for each byte of it.
    async fn flip(&self, path: &Path, every: usize, expected: impl Fn(usize) -> Outcome) {
        let bytes = self.disk.files()[path].clone();
        for bit in (0..bytes.len() * 8).step_by(if long() { 1 } else { every }) {
            let at = bit / 8;
            // Of what is all zeros few are enough.
            if long() || bytes[at] != 0 || at.is_multiple_of(64) {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << (bit % 8);
                let what = format!("bit {} of byte {at} of {}", bit % 8, path.display());
                self.check(expected(at), &what, |disk| disk.put(path, &flipped)).await;
            }
        }
    }

    /// Cuts a file off before `end`, every so many bytes; `expected` says what follows from that.
    async fn cut(
        &self,
        path: &Path,
        end: usize,
        every: usize,
        expected: impl Fn(usize) -> Outcome,
    ) {
        let bytes = self.disk.files()[path].clone();
        for at in (0..end).step_by(if long() { 1 } else { every }) {
            if long() || bytes[at] != 0 || at.is_multiple_of(64) {
                let what = format!("{} cut off at byte {at}", path.display());
                self.check(expected(at), &what, |disk| disk.put(path, &bytes[..at])).await;
            }
        }
    }
}

/// The number of the frame that a byte behind the block is in.
fn frame_of(frames: &[usize], at: usize) -> usize {
    frames.partition_point(|begin| *begin <= at).saturating_sub(1)
}

#[tokio::test]
async fn a_flip_in_an_unsealed_log_costs_its_last_batch_or_is_refused() {
    let written = Written::batches(&[1, 2, 1, 3], Drop("flush")).await;
    let (path, _) = &written.files(".log")[0];
    let frames = written.frames(path);
    assert_eq!(frames.len(), 5);

    let expected = |at| match at {
        0..BLOCK_BYTES => Refused(DAMAGED),
        // A stated limit: without a seal the last frame may as well have been torn.
        _ if frame_of(&frames, at) == 3 => Batches(3),
        _ if frame_of(&frames, at) < 3 => Refused(DAMAGED),
        // Behind the end: the rest of an append of which nothing else was written.
        _ => Batches(4),
    };
    written.flip(path, 1, expected).await;
}

#[tokio::test]
async fn a_flip_in_a_sealed_log_is_refused() {
    let written = Written::batches(&[1, 2, 1, 3], Close("flush")).await;
    let (path, bytes) = &written.files(".log")[0];
    let frames = written.frames(path);
    assert_eq!(frames.len(), 6);
    assert_eq!(frames[5], bytes.len(), "the room behind the seal was given back");

    // In the seal itself: the log then looks unsealed and torn, and everything is there.
    let expected = |at| if frame_of(&frames, at) == 4 { written.all() } else { Refused(DAMAGED) };
    written.flip(path, 1, expected).await;

    let mut longer = bytes.clone();
    longer.extend_from_slice(b"something");
    written.check(Refused(DAMAGED), "behind the seal", |disk| disk.put(path, &longer)).await;
}

#[tokio::test]
async fn a_log_that_is_cut_off_is_a_prefix() {
    for last in [Drop("flush"), Close("flush")] {
        let written = Written::batches(&[1, 2, 1, 3], last).await;
        let (path, _) = &written.files(".log")[0];
        let frames = written.frames(path);
        let expected = |at| match at {
            0..BLOCK_BYTES => Refused(DAMAGED),
            _ => Batches(frame_of(&frames, at).min(4)),
        };
        written.cut(path, *frames.last().unwrap(), 1, expected).await;
    }
}

/// Two snapshots, segments behind them, and the segments in front of the older one gone.
async fn long_log() -> Written {
    let written = Written::batches(&[12; 50], Drop("flush")).await;
    assert_eq!(written.files(".snap").len(), 2);
    assert!(written.files(".log").len() > 3);
    assert!(!written.files(".log")[0].0.ends_with("00000000000000000001.log"));
    written
}

#[tokio::test]
async fn a_segment_that_is_not_the_last_is_whole_or_refused() {
    let written = long_log().await;
    // The older snapshot is all there is, so that everything behind it is needed.
    written.disk.take(&written.files(".snap")[1].0);
    written.check(written.all(), "one snapshot", |_| ()).await;
    let segments = written.files(".log");
    let (path, bytes) = &segments[segments.len() - 2];
    let frames = written.frames(path);
    let end = *frames.last().unwrap();

    // Behind the end too: another segment was begun, so nothing was torn here.
    written.flip(path, 43, |_| Refused(DAMAGED)).await;
    let both = &[JetErr::MissingLogFile, JetErr::LogReadVerifyFailure, JetErr::LogFileCorrupt];
    written.cut(path, end, 7, |_| Refused(both)).await;
    let zeros = [&bytes[..frames[1]], &vec![0; bytes.len() - frames[1]]].concat();
    written.check(Refused(MISSING), "zeros", |disk| disk.put(path, &zeros)).await;
    written.check(Refused(MISSING), "gone", |disk| disk.take(path)).await;
}

#[tokio::test]
async fn segments_in_each_others_place_are_refused() {
    let written = long_log().await;
    written.disk.take(&written.files(".snap")[1].0);
    let segments = written.files(".log");
    let [.., (second, second_bytes), (last, last_bytes)] = segments.as_slice() else {
        panic!("there are more");
    };
    written
        .check(Refused(DAMAGED), "swapped", |disk| {
            disk.put(second, last_bytes);
            disk.put(last, second_bytes);
        })
        .await;
    let next = last.with_file_name("00000000000000009999.log");
    for (what, bytes) in [("the last twice", last_bytes), ("another twice", second_bytes)] {
        written.check(Refused(DAMAGED), what, |disk| disk.put(&next, bytes)).await;
    }
    written
        .check(Refused(DAMAGED), "another name", |disk| {
            disk.take(last);
            disk.put(&next, last_bytes);
        })
        .await;

    let mut server = Server::new(&ForgetfulDisk::new(), 12);
    let steps = [Restart, Create("other", Durability::Flush), Open("other"), Commit("other", 3)];
    server.run(&steps).await.unwrap();
    let foreign =
        server.disk.files()[Path::new("/instances/other/1/00000000000000000001.log")].clone();
    written.check(Refused(DAMAGED), "foreign", |disk| disk.put(last, &foreign)).await;
}

#[tokio::test]
async fn one_of_two_snapshots_is_enough() {
    let written = long_log().await;
    let snapshots = written.files(".snap");
    let [(older, older_bytes), (newer, newer_bytes)] = snapshots.as_slice() else {
        panic!("there are two");
    };
    let all = written.all();
    written.flip(newer, 101, |_| all).await;
    written.cut(newer, newer_bytes.len(), 31, |_| all).await;
    written.check(all, "the newer one gone", |disk| disk.take(newer)).await;
    written.check(all, "the older one gone", |disk| disk.take(older)).await;
    written
        .check(all, "swapped", |disk| {
            disk.put(newer, older_bytes);
            disk.put(older, newer_bytes);
        })
        .await;
    let mut server = Server::new(&ForgetfulDisk::new(), 12);
    let steps = [Restart, Create("other", Durability::Flush), Open("other")];
    server.run(&steps).await.unwrap();
    server.run(&[Commit("other", 12); 30]).await.unwrap();
    let is_snapshot = |path: &Path| path.extension().is_some_and(|end| end == "snap");
    let (_, foreign) =
        server.disk.files().into_iter().rfind(|(path, _)| is_snapshot(path)).unwrap();
    let newest = newer.with_file_name("00000000000000999999.snap");
    for place in [newer, &newest] {
        written.check(all, "a foreign one", |disk| disk.put(place, &foreign)).await;
    }
    written
        .check(Refused(MISSING), "both gone", |disk| {
            disk.take(older);
            disk.take(newer);
        })
        .await;
    written
        .check(Refused(DAMAGED), "both cut off", |disk| {
            disk.put(older, &older_bytes[..older_bytes.len() - 1]);
            disk.put(newer, &newer_bytes[..newer_bytes.len() - 1]);
        })
        .await;
}

/// What was damaged does not count as one of the two that are kept.
#[tokio::test]
async fn a_log_goes_on_for_long_beside_a_damaged_snapshot() {
    let written = long_log().await;
    let (newer, bytes) = &written.files(".snap")[1];
    for damaged in [&bytes[..0], &bytes[..bytes.len() - 1]] {
        let disk = written.disk.image(Kept::Nothing);
        disk.put(newer, damaged);
        let (mut server, found) = recover(&disk).await.unwrap();
        server.adopt(&found);
        let snapshots = |server: &Server| {
            let files = server.disk.files();
            files.into_keys().filter(|path| path.extension().is_some_and(|e| e == "snap")).max()
        };
        let before = snapshots(&server);
        while snapshots(&server) == before {
            server.run(&[Commit("flush", 12)]).await.unwrap();
        }
        server.run(&[Commit("flush", 1)]).await.unwrap();
        let image = server.disk.image(Kept::Nothing);
        image.take(&snapshots(&server).unwrap());
        let (_, found) = recover(&image).await.unwrap();
        server.world.check(&found).unwrap();
    }
}

#[tokio::test]
async fn a_restored_log_without_its_snapshot_is_refused() {
    let mut written = Written::batches(&[3, 3], Close("flush")).await;
    let (mut server, found) = recover(&written.disk).await.unwrap();
    server.adopt(&found);
    let steps = [Close("flush"), Replace("flush"), Open("flush"), Commit("flush", 2)];
    server.run(&steps[..2]).await.unwrap();
    for more in [&[][..], &steps[2..]] {
        server.run(more).await.unwrap();
        written.disk = server.disk.image(Kept::Nothing);
        written.tables = vec![server.world.instances["flush"].newest().clone()];
        written.check(Batches(0), "whole", |_| ()).await;
        let (snapshot, _) = &written.files(".snap")[0];
        written.check(Refused(MISSING), "gone", |disk| disk.take(snapshot)).await;
    }
}

#[tokio::test]
async fn every_bit_of_a_record_and_of_the_floor_counts() {
    let written = Written::batches(&[1], Close("flush")).await;
    for path in ["/floor", "/instances/flush/instance"].map(Path::new) {
        let end = written.disk.files()[path].len();
        written.flip(path, 1, |_| Refused(DAMAGED)).await;
        written.cut(path, end, 1, |_| Refused(DAMAGED)).await;
    }
}
