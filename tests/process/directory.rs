//! Directories that a server cannot have: it says why in a sentence, and ends at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::server::{LONG, RealServer, now, program};

/// How soon a server that cannot start is to say so. A machine that compiles beside it gets more.
const SOON: Duration = Duration::from_secs(1);
const TRIES: usize = 3;

/// Who owns nothing.
const NOBODY: u32 = 65_534;

#[tokio::test]
async fn a_second_server_is_told_who_has_the_directory() {
    let (dir, log) = folders();
    let first = RealServer::start(&dir.path().join("data"), &log).await;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let holder = format!("in use by process {} on {}", first.pid(), host.trim());

    let mut took = Vec::new();
    for _ in 0..TRIES {
        let before = now();
        is_refused(
            program(),
            &dir.path().join("data"),
            &["cannot use the data directory", &holder],
        );
        took.push(now() - before);
    }

    assert!(took.iter().any(|took| *took < SOON), "it takes {took:?} to say no");
    // The first one has not noticed.
    std::net::TcpStream::connect(first.address()).expect("it serves");
    first.terminate();
    assert!(first.ended().await.success());
}

#[tokio::test]
async fn the_directory_of_a_killed_server_is_free_at_once() {
    let (dir, log) = folders();
    for _ in 0..3 {
        RealServer::start(dir.path(), &log).await.kill().await;
    }
    let last = RealServer::start(dir.path(), &log).await;
    last.terminate();
    assert!(last.ended().await.success());
}

#[test]
fn a_file_is_not_a_directory() {
    let (dir, _) = folders();
    let file = dir.path().join("file");
    fs::write(&file, "a letter").unwrap();

    is_refused(program(), &file, &[&file.display().to_string(), "not a directory"]);
    is_refused(program(), &file.join("below"), &["below", "Not a directory"]);

    assert_eq!(fs::read_to_string(&file).unwrap(), "a letter");
}

#[test]
fn a_directory_that_may_not_be_written_is_refused() {
    let (dir, _) = folders();
    for (name, mode) in [("read-only", 0o500), ("closed", 0o000)] {
        let data = dir.path().join(name);
        fs::create_dir(&data).unwrap();
        let program = without_privileges(dir.path(), &data);
        fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();

        is_refused(program, &data, &[&data.display().to_string(), "Permission denied"]);
        let mut check = without_privileges(dir.path(), &data);
        let checked = check.args(["config", "check", "--data-dir"]).arg(&data).output().unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(2), "{told}");
        assert!(told.contains("cannot be written: Permission denied"), "{told}");

        // So that it can be deleted.
        fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is left in it");
    }
}

#[test]
fn a_directory_that_may_not_be_made_is_refused() {
    let (dir, _) = folders();
    let parent = dir.path().join("read-only");
    fs::create_dir(&parent).unwrap();
    let program = without_privileges(dir.path(), &parent);
    fs::set_permissions(&parent, Permissions::from_mode(0o500)).unwrap();

    is_refused(program, &parent.join("data"), &["read-only/data", "Permission denied"]);
}

#[tokio::test]
async fn a_directory_that_is_made_is_for_its_owner_only() {
    let (dir, log) = folders();
    let data = dir.path().join("not/yet/there");
    let server = RealServer::start(&data, &log).await;

    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    server.terminate();
    assert!(server.ended().await.success());
}

fn folders() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    (dir, log)
}

/// A server on this directory ends with 1, says all of these words in one line, and nothing else.
fn is_refused(mut program: Command, data: &Path, words: &[&str]) {
    let child = program
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // One that serves after all is ended by a test that waits no longer.
    let Output { status, stdout, stderr } = {
        let pid = Pid::from_child(&child);
        let (told, ended) = std::sync::mpsc::sync_channel(1);
        let waiting = std::thread::spawn(move || {
            if ended.recv_timeout(LONG).is_err() {
                kill_process(pid, Signal::KILL).ok();
            }
        });
        let output = child.wait_with_output().expect("a child can be waited for");
        told.send(()).ok();
        waiting.join().expect("it only waits");
        output
    };
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{status}; it said: {said}");
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "it does not say {word:?}: {said}");
    }
}

/// The program, run by somebody who may not do everything, and who owns this directory. Root may write
/// anywhere, so root runs a copy as nobody; a copy, because nobody may not look into root's home.
fn without_privileges(dir: &Path, owned: &Path) -> Command {
    if !geteuid().is_root() {
        return program();
    }
    let copy = dir.join("jet-session");
    if !copy.exists() {
        fs::copy(env!("CARGO_BIN_EXE_jet-session"), &copy).expect("the program can be copied");
        fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("it is ours");
    }
    chown(owned, Some(NOBODY), Some(NOBODY)).expect("root gives it away");
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    command
}
