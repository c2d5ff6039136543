//! The log on a disk that loses, tears and fails on purpose.
//!
//! - [`forgetful`]: that disk
//! - [`ledger`]: what was acknowledged, and so must be found again
//! - [`server`]: a server that does as it is told, and is found out
//! - [`crashes`], [`failures`], [`full`]: the power fails, an operation fails, the disk is full
//! - [`batches`]: the largest batch
//! - [`damage`]: files are not what was written
//! - [`random`]: any commands at all, on this store and on the plainest one
//! - [`history`]: the past, while the log goes on
//! - [`released`]: files that releases wrote

mod batches;
mod crashes;
mod damage;
mod failures;
pub(in crate::store::log) mod forgetful;
mod full;
mod history;
mod ledger;
mod random;
mod released;
mod server;

use std::sync::Mutex;

use crate::store::Store;
use crate::store::conformance;
use crate::store::log::disk::RealDisk;
use crate::store::log::{LogStore, Sizes, Work};

/// Everything so small that a few batches fill it.
pub(in crate::store::log) const SMALL: Sizes = Sizes {
    segment_first: 6 * 1024,
    segment_max: 8 * 1024,
    reserve: 6 * 1024,
    snapshot_log_min: 2 * 1024,
    history_max: 8 * 1024,
    lazy_max: 1024,
    taken_numbers: 10,
};

/// Whether there is time for all of it.
fn long() -> bool {
    std::env::var_os("TESTS_LONG").is_some()
}

/// Says which case is tried, in case it fails.
#[expect(clippy::print_stdout, reason = "shown only of a test that fails")]
fn case(what: std::fmt::Arguments<'_>) {
    println!("{what}");
}

#[tokio::test]
async fn log_conforms() {
    for (work, sizes) in
        [(Work::Pool, Sizes::default()), (Work::Inline, Sizes::default()), (Work::Inline, SMALL)]
    {
        let dirs = Mutex::new(Vec::new());
        conformance::check(|| async {
            let dir = tempfile::tempdir().unwrap();
            let store = LogStore::new(RealDisk, dir.path(), work).with_sizes(sizes);
            store.load().await.unwrap();
            dirs.lock().unwrap().push(dir);
            store
        })
        .await;
    }
}
