//! Snapshots in files, and what may be deleted because of them.
//!
//! A snapshot is written aside, synced, read back and only then given its name. The two newest are
//! kept. Segments are needed from the older of the two on. What is before is history: older snapshots
//! and the segments behind them, of which the oldest go when there is too much of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::id::Revision;
use crate::domain::limits::{BACKUP_CHUNK_BYTES_MAX, SESSIONS_MAX};
use crate::domain::table::SessionTable;
use crate::store::log::catalog::FIRST_GENERATION;
use crate::store::log::disk::{Disk, DiskFile, remove_if_there};
use crate::store::log::fault::Fault;
use crate::store::log::segment;
use crate::store::log::writer::UNFINISHED;
use crate::store::snapshot::{About, Chain, Decoder, Encoder, NotASnapshot, Position};

/// How much of a file is read or written at a time.
const CHUNK_BYTES: usize = 8 * BACKUP_CHUNK_BYTES_MAX;

/// The name of the snapshot of this revision.
pub(super) fn name(revision: Revision) -> String {
    format!("{:020}.snap", revision.get())
}

/// The revision of the snapshot with this name.
pub(super) fn revision_of(name: &str) -> Option<Revision> {
    let digits = name.strip_suffix(".snap")?;
    let exact = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    exact.then(|| digits.parse().ok().map(Revision::new))?
}

/// Writes a snapshot, reads it back and gives it its name. Answers its size, or nothing if it was
/// cancelled.
pub(super) fn write_snapshot(
    disk: &impl Disk,
    dir: &Path,
    about: About,
    table: SessionTable,
    cancelled: &AtomicBool,
) -> Result<Option<u64>, Fault> {
    let path = dir.join(name(table.revision()));
    let unfinished = dir.join(format!("{}{UNFINISHED}", name(table.revision())));
    let mut encoder = Encoder::new(about, table);
    let write = |encoder: &mut Encoder| -> io::Result<Option<u64>> {
        remove_if_there(disk, &unfinished)?;
        let mut file = disk.create(&unfinished)?;
        let (mut chunk, mut at) = (Vec::with_capacity(CHUNK_BYTES), 0);
        for frame in encoder {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            chunk.extend_from_slice(&frame);
            if chunk.len() + BACKUP_CHUNK_BYTES_MAX > CHUNK_BYTES {
                file.write_all_at(&chunk, at)?;
                at += chunk.len() as u64;
                chunk.clear();
            }
        }
        file.write_all_at(&chunk, at)?;
        file.sync()?;
        Ok(Some(at + chunk.len() as u64))
    };
    let written = write(&mut encoder);
    let size = match written {
        Ok(Some(size)) => size,
        Ok(None) | Err(_) => {
            // Nobody will ever read it. If it stays, the next opening removes it.
            remove_if_there(disk, &unfinished).ok();
            return written.map_err(Fault::io(&path));
        }
    };
    let mut chain = Chain::default();
    let file = disk.open(&unfinished).map_err(Fault::io(&unfinished))?;
    read_file(&file, &unfinished, |bytes| chain.push(bytes))?;
    if chain.checksum() != encoder.checksum() {
        let error = NotASnapshot::Truncated(size);
        return Err(Fault::Snapshot { path: unfinished, error });
    }
    disk.rename(&unfinished, &path).map_err(Fault::io(&path))?;
    disk.sync_dir(dir).map_err(Fault::io(dir))?;
    Ok(Some(size))
}

/// Reads a snapshot. Tells how many of its bytes have been read.
pub(super) fn read_snapshot(
    disk: &impl Disk,
    path: &Path,
    mut read: impl FnMut(u64),
) -> Result<(About, SessionTable), Fault> {
    let file = disk.open(path).map_err(Fault::io(path))?;
    let mut decoder = Decoder::new(SESSIONS_MAX.into());
    let mut at = 0;
    read_file(&file, path, |bytes| {
        at += bytes.len() as u64;
        read(at);
        decoder.push(bytes)
    })?;
    decoder.finish().map_err(|error| Fault::Snapshot { path: path.to_owned(), error })
}

/// What a snapshot says of itself.
pub(super) fn about(disk: &impl Disk, path: &Path) -> Result<About, Fault> {
    let file = disk.open(path).map_err(Fault::io(path))?;
    let mut decoder = Decoder::new(SESSIONS_MAX.into());
    let mut bytes = vec![0; BACKUP_CHUNK_BYTES_MAX];
    let size = file.read_at(&mut bytes, 0).map_err(Fault::io(path))?;
    let pushed = decoder.push(&bytes[..size]);
    let missing = NotASnapshot::Truncated(size as u64);
    match (decoder.about(), pushed) {
        (Some(about), _) => Ok(about.clone()),
        (None, pushed) => {
            Err(Fault::Snapshot { path: path.to_owned(), error: pushed.err().unwrap_or(missing) })
        }
    }
}

fn read_file(
    file: &impl DiskFile,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), NotASnapshot>,
) -> Result<(), Fault> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let size = file.read_at(&mut bytes, at).map_err(Fault::io(path))?;
        if size == 0 {
            return Ok(());
        }
        take(&bytes[..size]).map_err(|error| Fault::Snapshot { path: path.to_owned(), error })?;
        at += size as u64;
    }
}

/// The paths of the snapshots in a directory, the newest first.
pub(super) fn snapshots(dir: &Path, names: &[String]) -> Vec<PathBuf> {
    let mut revisions: Vec<_> = names.iter().filter_map(|name| revision_of(name)).collect();
    revisions.sort_unstable_by(|a, b| b.cmp(a));
    revisions.into_iter().map(|revision| dir.join(name(revision))).collect()
}

/// Where the past of a log can begin: with the sessions of a moment, and all that happened since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With none, and the first frame.
    Log,
    /// With those of a snapshot, and the frame behind its last.
    Snapshot { revision: Revision, path: PathBuf, position: Position },
}

impl Beginning {
    /// The first frame that is needed.
    fn needs_from(&self) -> u64 {
        match self {
            Self::Log => 1,
            Self::Snapshot { position, .. } => position.sequence + 1,
        }
    }
}

/// Where the past of a log can begin, the newest beginning first.
pub(super) fn beginnings(
    disk: &impl Disk,
    dir: &Path,
    names: &[String],
) -> Result<Vec<Beginning>, Fault> {
    let first = names.iter().find_map(|name| segment::first_of(name));
    let mut beginnings = Vec::new();
    for path in snapshots(dir, names) {
        let position = match about(disk, &path) {
            Ok(about) => about.position,
            Err(Fault::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(fault @ Fault::Io { .. }) => return Err(fault),
            // Whoever opens the log passes it over.
            Err(_) => continue,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let revision = name.and_then(revision_of);
        // A log that was just restored has no segment yet.
        let goes_on = first.map_or(position.sequence == 0, |first| first <= position.sequence + 1);
        if let Some(revision) = revision.filter(|_| goes_on) {
            beginnings.push(Beginning::Snapshot { revision, path, position });
        }
    }
    if first == Some(1) && !was_restored(dir) {
        beginnings.push(Beginning::Log);
    }
    Ok(beginnings)
}

/// Whether a log is not the first of its instance. Then it begins with the snapshot that was restored.
pub(super) fn was_restored(dir: &Path) -> bool {
    let generation = dir.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
    generation.is_some_and(|generation| generation > FIRST_GENERATION)
}

/// Deletes what two snapshots have made unnecessary, except so many bytes of history: older snapshots,
/// each with the segments behind it, because neither tells anything without the other.
pub(super) fn prune(disk: &impl Disk, dir: &Path, history_max: u64) -> Result<(), Fault> {
    let names = disk.list(dir).map_err(Fault::io(dir))?;
    let snapshots = snapshots(dir, &names);
    let [_, older, rest @ ..] = snapshots.as_slice() else {
        return Ok(());
    };
    let size = |path: &Path| disk.open(path).and_then(|file| file.size()).map_err(Fault::io(path));
    let firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    // The segment with this frame is the last that does not begin behind it.
    let holding = |frame| firsts.iter().rposition(|first| *first <= frame).unwrap_or(0);
    // What recovery may need.
    let mut kept_from = holding(about(disk, older)?.position.sequence + 1);
    let mut kept = [&snapshots[0], older].map(PathBuf::clone).to_vec();
    let mut bytes = 0;
    for beginning in beginnings(disk, dir, &names)? {
        let from = holding(beginning.needs_from());
        let path = match &beginning {
            Beginning::Snapshot { path, .. } if kept.contains(path) => continue,
            Beginning::Snapshot { path, .. } => Some(path),
            Beginning::Log => None,
        };
        bytes += path.map_or(Ok(0), |path| size(path))?;
        for first in &firsts[from.min(kept_from)..kept_from] {
            bytes += size(&dir.join(segment::name(*first)))?;
        }
        if bytes > history_max {
            break;
        }
        kept_from = from.min(kept_from);
        kept.extend(path.cloned());
    }
    let unneeded = rest.iter().filter(|path| !kept.contains(path)).cloned();
    let before = firsts[..kept_from].iter().map(|first| dir.join(segment::name(*first)));
    let mut removed = false;
    for path in unneeded.chain(before) {
        disk.remove(&path).map_err(Fault::io(&path))?;
        removed = true;
    }
    if removed { disk.sync_dir(dir).map_err(Fault::io(dir)) } else { Ok(()) }
}
