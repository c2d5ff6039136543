//! The disk behind a small trait, so that tests can lose, tear and fail on purpose.
//!
//! What the log relies on, and no more: bytes written and synced stay; a write that is not synced may
//! be kept, lost or kept in parts, sector by sector; a rename is all or nothing; names are kept once
//! their directory is synced.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A place for files. A clone is the same place.
pub trait Disk: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a new file and opens it for writing. Its name must not be in use.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Gives a file or directory another name, replacing a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory; its parent exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Waits until the names in a directory are durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: fmt::Debug + Send + 'static {
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes from `offset` on; none at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at `offset`, growing the file if need be.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off, or lets it grow by zeros.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Waits until what was written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// The disk of the machine for whoever only looks: through it nothing can be changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnlyDisk;

impl ReadOnlyDisk {
    fn refuse<T>() -> io::Result<T> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

impl Disk for ReadOnlyDisk {
    type File = File;

    fn create(&self, _: &Path) -> io::Result<File> {
        Self::refuse()
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Self::refuse()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Self::refuse()
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Self::refuse()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Self::refuse()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Self::refuse()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Also makes a new length durable, as far as it is needed to read the bytes back.
        self.sync_data()
    }
}

/// Removes a file or says that it was not there.
pub(super) fn remove_if_there(disk: &impl Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
