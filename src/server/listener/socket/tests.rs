//! Paths where somebody listens, listened, or never did.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net;
use std::sync::{Arc, Barrier};
use std::thread;

use tempfile::TempDir;

use super::*;

/// A directory, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("socket");
    (dir, path)
}

/// What a server that was killed leaves behind.
fn leave_behind(path: &Path) {
    drop(net::UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

async fn refusal(path: &Path) -> String {
    SocketFile::listen(path).await.expect_err("nobody can listen there").to_string()
}

#[tokio::test]
async fn a_socket_is_for_its_owner_and_its_group_and_goes_with_its_listener() {
    let (_dir, path) = place();

    let listening = SocketFile::listen(&path).await.unwrap();

    net::UnixStream::connect(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
    drop(listening);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_a_killed_server_left_behind_is_removed() {
    let (_dir, path) = place();
    leave_behind(&path);

    let _listening = SocketFile::listen(&path).await.unwrap();

    net::UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_server_that_lives_is_left_alone() {
    let (_dir, path) = place();
    let _listening = SocketFile::listen(&path).await.unwrap();

    assert_eq!(refusal(&path).await, "another server listens there");

    net::UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_server_that_lives_and_has_no_time_is_left_alone() {
    let (_dir, path) = place();
    // One that takes nobody in: as soon as its backlog is full nobody gets an answer.
    let socket = UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _busy = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match UnixStream::connect(&path).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);

    assert_eq!(refusal(&path).await, "another server listens there");

    assert!(path.exists());
}

#[tokio::test]
async fn what_is_no_socket_is_never_removed() {
    let no_socket = "there is a file of this name, and it is no socket";
    let (dir, path) = place();
    fs::write(&path, "important").unwrap();
    assert_eq!(refusal(&path).await, no_socket);
    assert_eq!(fs::read_to_string(&path).unwrap(), "important");

    // Not even if it leads to one.
    let elsewhere = dir.path().join("elsewhere");
    leave_behind(&elsewhere);
    let link = dir.path().join("link");
    symlink(&elsewhere, &link).unwrap();
    assert_eq!(refusal(&link).await, no_socket);
    assert!(elsewhere.exists() && link.is_symlink());

    assert_eq!(refusal(dir.path()).await, no_socket);
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_with_its_bound() {
    let (dir, _) = place();
    let room = SOCKET_PATH_BYTES_MAX - dir.path().as_os_str().len() - 1;

    let longest = dir.path().join("x".repeat(room));
    SocketFile::listen(&longest).await.unwrap();

    let told = refusal(&dir.path().join("x".repeat(room + 1))).await;
    assert_eq!(told, "the path has 108 bytes, and a socket may have 107");
}

#[tokio::test]
async fn at_the_end_a_file_that_is_not_ours_stays() {
    let (_dir, path) = place();
    let listening = SocketFile::listen(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    leave_behind(&path);

    drop(listening);

    assert!(path.exists());
}

#[tokio::test]
async fn a_directory_that_stays_locked_is_said_to_be() {
    let (dir, path) = place();
    let locked = File::open(dir.path()).unwrap();
    locked.lock().unwrap();

    assert_eq!(refusal(&path).await, "another process has locked the directory of the socket");

    drop(locked);
    SocketFile::listen(&path).await.unwrap();
}

#[test]
fn of_servers_that_start_at_the_same_time_one_listens_and_can_be_reached() {
    const SERVERS: usize = 4;
    for _ in 0..50 {
        let (_dir, path) = place();
        leave_behind(&path);
        let start = Arc::new(Barrier::new(SERVERS));
        let end = Arc::new(Barrier::new(SERVERS));
        let server = |_| {
            let (path, start, end) = (path.clone(), Arc::clone(&start), Arc::clone(&end));
            thread::spawn(move || {
                let builder = tokio::runtime::Builder::new_current_thread().enable_all().build();
                builder.unwrap().block_on(async {
                    start.wait();
                    let listening = SocketFile::listen(&path).await;
                    // All have tried by now.
                    end.wait();
                    let Ok((_file, listener)) = listening else {
                        return 0;
                    };
                    let reached =
                        async { tokio::join!(UnixStream::connect(&path), listener.accept()) };
                    // Nobody comes to a socket that another one has removed.
                    let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
                    let (stream, accepted) = reached.expect("its clients come to it");
                    stream.unwrap();
                    accepted.unwrap();
                    1
                })
            })
        };

        let servers: Vec<_> = (0..SERVERS).map(server).collect();

        let listening: u32 = servers.into_iter().map(|server| server.join().unwrap()).sum();
        assert_eq!(listening, 1);
    }
}
