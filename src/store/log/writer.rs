//! The writer: owns the end of a log, and appends one frame and one sync at a time.
//!
//! A segment is a file of zeros that was made and synced before it was needed, so an append changes
//! no length and allocates nothing. Two such files wait: the *spare*, which becomes the next segment,
//! and the *reserve*, which does when the disk is full and there is no spare. The spare is made beside
//! the appends; if one is needed that is not there yet, a small one is made under another name.
//!
//! The first error is the last: what is on the disk then is unknown, and only reading the log again
//! can tell. Nothing is tried twice.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::id::{Revision, Uid};
use crate::domain::table::Floor;
use crate::store::frame::{self, Header, Kind};
use crate::store::log::disk::{Disk, DiskFile, remove_if_there};
use crate::store::log::fault::{Fault, is_full};
use crate::store::log::scan::Cursor;
use crate::store::log::segment::{self, About, BLOCK_BYTES};
use crate::store::log::sizes::Sizes;
use crate::store::record;
use crate::store::snapshot::Position;

/// The file that becomes the next segment.
pub(super) const SPARE: &str = "spare";
/// The file that becomes the next segment when nothing else can.
pub(super) const RESERVE: &str = "reserve";
/// The file that becomes the next segment when there is no spare.
pub(super) const NEXT: &str = "next";
/// How the names of files end that are not finished.
pub(super) const UNFINISHED: &str = ".tmp";

/// Why something was not appended.
#[derive(Debug)]
pub(super) enum NotAppended {
    /// Nothing of it was written.
    Nothing(Fault),
    /// It may have been written.
    Unknown(Fault),
}

/// The end of a log.
#[derive(Debug)]
pub(super) struct Writer<D: Disk> {
    disk: D,
    dir: PathBuf,
    uid: Uid,
    sizes: Sizes,
    cursor: Cursor,
    segment: Option<Segment<D::File>>,
    /// Whether there is a spare.
    spare: bool,
    /// Whether another thread is making one: its name is then for nobody else.
    making_spare: bool,
    on_reserve: bool,
    /// Whether making a spare was tried in vain since the last segment was begun.
    spare_refused: bool,
    next_bytes: u64,
    bytes: Vec<u8>,
    /// Whether an append failed.
    failed: bool,
}

#[derive(Debug)]
struct Segment<F> {
    file: F,
    path: PathBuf,
    about: About,
    at: u64,
    len: u64,
}

impl<D: Disk> Writer<D> {
    /// The writer of a log that goes on behind `cursor`, in a segment of its own. A spare and a
    /// reserve are made if there are none.
    pub(super) fn new(
        disk: D,
        dir: PathBuf,
        uid: Uid,
        cursor: Cursor,
        sizes: Sizes,
    ) -> Result<Self, Fault> {
        let names = disk.list(&dir).map_err(Fault::io(&dir))?;
        for (name, len) in [(SPARE, sizes.segment_first), (RESERVE, sizes.reserve)] {
            if !names.iter().any(|found| found == name) {
                preallocate(&disk, &dir, name, len)?;
            }
        }
        Ok(Self {
            disk,
            dir,
            uid,
            sizes,
            cursor,
            segment: None,
            spare: true,
            making_spare: false,
            on_reserve: false,
            spare_refused: false,
            next_bytes: (sizes.segment_first * 2).min(sizes.segment_max),
            bytes: Vec::new(),
            failed: false,
        })
    }

    /// What has been appended.
    pub(super) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Appends changes that follow each other, as the payload of one frame.
    pub(super) fn append_changes(
        &mut self,
        first: Revision,
        last: Revision,
        payload: &[u8],
    ) -> Result<(), NotAppended> {
        self.append(Kind::Changes, first, payload)?;
        self.cursor.revision = last;
        Ok(())
    }

    /// Takes numbers, so that numbering can go on behind them whatever happens.
    pub(super) fn take_numbers(&mut self, floor: Floor) -> Result<(), NotAppended> {
        let mut payload = Vec::new();
        record::write_numbers(floor, &mut payload);
        self.append(Kind::Numbers, self.cursor.revision, &payload)?;
        self.cursor.taken = self.cursor.taken.max(floor);
        Ok(())
    }

    /// Ends the log in good order, and gives back the room behind its end.
    pub(super) fn seal(&mut self) -> Result<(), NotAppended> {
        if self.cursor.sealed {
            return Ok(());
        }
        self.append(Kind::Seal, self.cursor.revision, &[])?;
        self.cursor.sealed = true;
        if let Some(mut segment) = self.segment.take() {
            let at = segment.at;
            let cut = segment.file.set_len(at).and_then(|()| segment.file.sync());
            cut.map_err(Fault::io(&segment.path)).map_err(NotAppended::Unknown)?;
        }
        Ok(())
    }

    fn append(
        &mut self,
        kind: Kind,
        revision: Revision,
        payload: &[u8],
    ) -> Result<(), NotAppended> {
        // Until it has gone well it has not.
        if std::mem::replace(&mut self.failed, true) {
            let error = io::Error::other("an earlier write failed, and nothing is written since");
            return Err(NotAppended::Nothing(Fault::Io { path: self.dir.clone(), error }));
        }
        self.try_append(kind, revision, payload)?;
        self.failed = false;
        Ok(())
    }

    fn try_append(
        &mut self,
        kind: Kind,
        revision: Revision,
        payload: &[u8],
    ) -> Result<(), NotAppended> {
        let size = frame::frame_bytes(payload.len()) as u64;
        let fits = |segment: &Segment<D::File>| segment.at + size <= segment.len;
        if !self.segment.as_ref().is_some_and(fits) {
            self.begin_segment(size).map_err(NotAppended::Nothing)?;
        }
        let segment = self.segment.as_mut().expect("there is one with room for it");
        let header = Header {
            kind,
            sequence: self.cursor.position.sequence + 1,
            revision: revision.get(),
            previous: self.cursor.position.checksum,
        };
        self.bytes.clear();
        let checksum = frame::write(&mut self.bytes, segment.about.salt, header, |bytes| {
            bytes.extend_from_slice(payload);
        });
        let written = segment.file.write_all_at(&self.bytes, segment.at);
        written
            .and_then(|()| segment.file.sync())
            .map_err(Fault::io(&segment.path))
            .map_err(NotAppended::Unknown)?;
        segment.at += size;
        self.cursor.position = Position { sequence: header.sequence, checksum };
        self.cursor.sealed = false;
        Ok(())
    }

    /// Begins a segment with room for a frame of this size.
    fn begin_segment(&mut self, size: u64) -> Result<(), Fault> {
        let needed = BLOCK_BYTES as u64 + size;
        let name = self.room(needed)?;
        let about = About::behind(&self.cursor, &self.uid);
        let made = self.dir.join(name);
        let path = self.dir.join(segment::name(about.first()));
        let mut file = self.disk.open(&made).map_err(Fault::io(&made))?;
        let begun = file
            .write_all_at(&segment::write_block(&about, &self.uid), 0)
            .and_then(|()| file.sync())
            .and_then(|()| file.size());
        let len = begun.map_err(Fault::io(&made))?;
        self.disk.rename(&made, &path).map_err(Fault::io(&path))?;
        self.disk.sync_dir(&self.dir).map_err(Fault::io(&self.dir))?;
        self.segment = Some(Segment { file, path, about, at: BLOCK_BYTES as u64, len });
        self.on_reserve = name == RESERVE;
        self.spare_refused = false;
        Ok(())
    }

    /// The name of a file with room for so many bytes: the spare, or one that is made now, or the reserve
    /// if the disk is full.
    fn room(&mut self, needed: u64) -> Result<&'static str, Fault> {
        if self.spare && self.file_bytes(SPARE)? >= needed {
            self.spare = false;
            return Ok(SPARE);
        }
        // Somebody waits for it, so it is small. A longer one is made before it is full.
        let len = self.sizes.segment_first.max(needed);
        match preallocate(&self.disk, &self.dir, NEXT, len) {
            Ok(()) => Ok(NEXT),
            Err(Fault::Io { error, .. })
                if is_full(&error)
                    && !self.on_reserve
                    && self.file_bytes(RESERVE).is_ok_and(|len| len >= needed) =>
            {
                Ok(RESERVE)
            }
            Err(fault) => Err(fault),
        }
    }

    fn file_bytes(&self, name: &str) -> Result<u64, Fault> {
        let path = self.dir.join(name);
        self.disk.open(&path).and_then(|file| file.size()).map_err(Fault::io(&path))
    }

    /// Whether a spare should be made before it is needed.
    pub(super) fn wants_spare(&self) -> bool {
        // Of what is behind the block: a frame that does not fit is then never the first to say so.
        let half_full = |segment: &Segment<D::File>| {
            (segment.at - BLOCK_BYTES as u64) * 2 > segment.len - BLOCK_BYTES as u64
        };
        !self.spare
            && !self.making_spare
            && !self.spare_refused
            && self.segment.as_ref().is_some_and(half_full)
    }

    /// The making of a spare, for another thread. Whoever does it says afterwards how it went.
    pub(super) fn spare_maker(&mut self) -> impl FnOnce() -> Result<(), Fault> + Send + use<D> {
        self.making_spare = true;
        let (disk, dir, len) = (self.disk.clone(), self.dir.clone(), self.next_bytes);
        move || preallocate(&disk, &dir, SPARE, len)
    }

    /// A spare has been made, or could not be.
    pub(super) fn spare_made(&mut self, made: bool) {
        self.making_spare = false;
        self.spare = made;
        self.spare_refused = !made;
        if made {
            self.next_bytes = (self.next_bytes * 2).min(self.sizes.segment_max);
        }
    }

    /// Whether the log goes on in more than its reserve.
    pub(super) fn has_room(&self) -> bool {
        !self.on_reserve
    }

    /// Makes a reserve and a spare, if the log is on its reserve.
    pub(super) fn make_room(&mut self) -> Result<(), Fault> {
        if !self.on_reserve {
            return Ok(());
        }
        preallocate(&self.disk, &self.dir, RESERVE, self.sizes.reserve)?;
        if !self.spare && !self.making_spare {
            let len = self.next_bytes;
            preallocate(&self.disk, &self.dir, SPARE, len)?;
            self.spare_made(true);
        }
        self.on_reserve = false;
        Ok(())
    }
}

/// Makes a durable file of zeros. If there is no room for it, nothing is left of it.
pub(super) fn preallocate(disk: &impl Disk, dir: &Path, name: &str, len: u64) -> Result<(), Fault> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let path = dir.join(name);
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let make = || -> io::Result<()> {
        remove_if_there(disk, &unfinished)?;
        let mut file = disk.create(&unfinished)?;
        let mut at = 0;
        while at < len {
            let size = (len - at).min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(size).expect("at most 64 KiB")];
            file.write_all_at(zeros, at)?;
            at += size;
        }
        file.sync()?;
        disk.rename(&unfinished, &path)
    };
    make().map_err(|error| {
        if is_full(&error) {
            // What is left of it takes room that somebody else may need. If it stays, the next
            // attempt removes it.
            remove_if_there(disk, &unfinished).ok();
        }
        Fault::io(&path)(error)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::store::log::tests::SMALL;
    use crate::store::log::tests::forgetful::ForgetfulDisk;

    /// Appends, as fast as can be, while the spare is being made.
    #[test]
    fn an_append_does_not_get_in_the_way_of_whoever_makes_the_spare() {
        let disk = ForgetfulDisk::new();
        let dir = PathBuf::from("/");
        let uid = Uid::new("c0ffee");
        let cursor = Cursor { sealed: true, ..Cursor::default() };
        let mut writer = Writer::new(disk.clone(), dir, uid, cursor, SMALL).unwrap();
        let mut revision = Revision::ZERO;
        let mut append = move |writer: &mut Writer<_>| {
            let first = revision.next();
            revision = Revision::new(revision.get() + 500);
            writer.append_changes(first, revision, &[0x0A, 0x00].repeat(500))
        };
        for _ in 0..3 {
            append(&mut writer).unwrap();
        }
        assert!(writer.wants_spare());

        let (finished, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let wait = (Arc::clone(&finished), Arc::clone(&go_on));
        disk.before_rename_to(Path::new("/spare"), move || {
            wait.0.wait();
            wait.1.wait();
        });
        let making = std::thread::spawn(writer.spare_maker());
        finished.wait();
        let meanwhile: Vec<_> = (0..20).map(|_| append(&mut writer)).collect();
        go_on.wait();
        let made = making.join().unwrap();

        assert!(made.is_ok(), "{made:?}");
        assert!(meanwhile.iter().all(Result::is_ok), "{meanwhile:?}");
        writer.spare_made(true);
        for _ in 0..20 {
            append(&mut writer).unwrap();
        }
    }
}
