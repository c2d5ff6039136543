//! Sockets in the file system.
//!
//! A killed server leaves its socket behind, and the next one has to remove it; but it must not remove that of a
//! server that lives, nor anything that is no socket. Between looking and removing another server may have
//! begun to listen, so whoever listens in a directory locks it until it does (`flock`, which ends with the
//! process and leaves no file behind).
//!
//! A socket is for its owner and its group (mode 0660), whatever the umask. Who is to reach it besides is said
//! by the group of the process, or by that of the directory if its set-group-id bit is set; whoever cannot enter
//! the directory cannot reach it at all.

#[cfg(test)]
mod tests;

use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::domain::limits::{
    LISTEN_BACKLOG, SOCKET_LOCK_EVERY_MS, SOCKET_LOCK_MS_MAX, SOCKET_PATH_BYTES_MAX,
};

/// Whoever may connect may use the server.
const MODE: u32 = 0o660;

/// The file of a socket, which goes with its listener.
#[derive(Debug)]
pub(in crate::server) struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file: another one of its name is not ours.
    file: (u64, u64),
}

impl SocketFile {
    /// Begins to listen at a path where nobody else does.
    pub(super) async fn listen(path: &Path) -> io::Result<(Self, UnixListener)> {
        let length = path.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the path has {length} bytes, and a socket may have {SOCKET_PATH_BYTES_MAX}"
                ),
            ));
        }
        let _locked = lock(path).await?;
        remove_left_behind(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = identity(&std::fs::symlink_metadata(path)?);
        let ours = Self { path: path.to_owned(), file };
        // Nobody can connect before it listens, so nobody could while the mode was the umask's.
        std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        Ok((ours, listener))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |found: Metadata| identity(&found) == self.file;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // Somebody may have removed it meanwhile.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Keeps other servers from beginning to listen in the directory of `path` for as long as the file is open.
async fn lock(path: &Path) -> io::Result<File> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = File::open(directory)?;
    for _ in 0..SOCKET_LOCK_MS_MAX / SOCKET_LOCK_EVERY_MS {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {
                tokio::time::sleep(Duration::from_millis(SOCKET_LOCK_EVERY_MS)).await;
            }
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        "another process has locked the directory of the socket",
    ))
}

/// Removes the socket of a server that is no more, and nothing else.
async fn remove_left_behind(path: &Path) -> io::Result<()> {
    let taken = |what| Err(io::Error::new(ErrorKind::AlreadyExists, what));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return taken("there is a file of this name, and it is no socket");
        }
        Ok(_) => {}
    }
    let refused = match UnixStream::connect(path).await {
        Ok(_) => return taken("another server listens there"),
        Err(refused) => refused,
    };
    if refused.kind() == ErrorKind::ConnectionRefused {
        return std::fs::remove_file(path);
    }
    if refused.kind() == ErrorKind::WouldBlock {
        // It has no time for us.
        return taken("another server listens there");
    }
    Err(refused)
}
