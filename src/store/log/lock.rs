//! One server per directory: a lock on a file that names who holds it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The name of the file.
const NAME: &str = "lock";

/// A directory that is ours until this is dropped, or the process is gone.
#[derive(Debug)]
pub struct DirLock {
    file: Option<File>,
    /// Whether the file says that it is us.
    named: bool,
}

/// Why a directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    /// Another process has it.
    #[error("{} is in use by {holder}; one process at a time has a data directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who has it, as far as that is known.
        holder: String,
    },
    /// The file cannot be locked.
    #[error("{} cannot be made, opened or locked", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
}

impl DirLock {
    /// Makes the directory if it is not there, for its owner only, and takes it.
    pub fn make(dir: &Path) -> Result<Self, NotLocked> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|mut error| {
            // The system's words are "File exists", which is what one expects of a directory.
            if error.kind() == io::ErrorKind::AlreadyExists {
                error = io::ErrorKind::NotADirectory.into();
            }
            NotLocked::Io { path: dir.to_owned(), error }
        })?;
        Self::take(dir)
    }

    /// Takes the directory, or says at once who has it.
    pub fn take(dir: &Path) -> Result<Self, NotLocked> {
        let path = dir.join(NAME);
        let io = |error| NotLocked::Io { path: path.clone(), error };
        // Not truncated: it may be somebody else's.
        let options = File::options().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(&path).map_err(io)?;
        refused(file.try_lock(), &mut file, dir)?;
        let holder = format!("process {} on {}\n", std::process::id(), host());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(io)?;
        Ok(Self { file: Some(file), named: true })
    }

    /// Keeps servers out of a directory that is only looked at, or says at once who has it. Nothing is
    /// written, and several may look at the same time. A directory without the file has no server.
    pub fn look(dir: &Path) -> Result<Self, NotLocked> {
        let path = dir.join(NAME);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { file: None, named: false });
            }
            Err(error) => return Err(NotLocked::Io { path, error }),
        };
        refused(file.try_lock_shared(), &mut file, dir)?;
        Ok(Self { file: Some(file), named: false })
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.named) {
            // Whoever has it next need not be who is named there. If the name stays, it misleads and
            // does no harm.
            file.set_len(0).ok();
        }
    }
}

/// Why a file was not locked.
fn refused(locked: Result<(), TryLockError>, file: &mut File, dir: &Path) -> Result<(), NotLocked> {
    let io = |error| NotLocked::Io { path: dir.join(NAME), error };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(1_024).read_to_string(&mut holder).map_err(io)?;
            let holder = match holder.trim() {
                // It is just about to say, or only looks.
                "" => "another process".to_owned(),
                holder => holder.to_owned(),
            };
            Err(NotLocked::InUse { dir: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "this host".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();

        let refused = DirLock::take(dir.path()).unwrap_err().to_string();

        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert!(DirLock::take(dir.path()).is_ok());
    }

    #[test]
    fn a_file_is_said_to_be_no_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();

        let NotLocked::Io { path, error } = DirLock::make(file.path()).unwrap_err() else {
            panic!("nobody has it");
        };

        assert_eq!((&*path, error.kind()), (file.path(), io::ErrorKind::NotADirectory));
    }

    #[test]
    fn who_only_looks_keeps_servers_out_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(DirLock::look(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let server = DirLock::take(dir.path()).unwrap();
        let refused = DirLock::look(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(server);

        let looks = [DirLock::look(dir.path()).unwrap(), DirLock::look(dir.path()).unwrap()];

        let refused = DirLock::take(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another process"), "{refused}");
        drop(looks);
        assert!(DirLock::take(dir.path()).is_ok());
    }
}
