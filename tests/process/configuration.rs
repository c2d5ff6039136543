//! A configuration that changes while the program runs, as its log tells it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::{program, within};

/// The program, serving by this file; what it logs can be read.
struct Served {
    child: Child,
    log: Option<BufReader<std::process::ChildStderr>>,
}

impl Served {
    fn start(config: &Path) -> Self {
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--store", "memory", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = child.stderr.take().map(BufReader::new);
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        assert!(line.starts_with("listening on "), "{line}");
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// What is logged from here up to a line with these words.
    async fn logs(&mut self, words: &str) -> String {
        let (wanted, mut log) = (words.to_owned(), self.log.take().expect("one reads at a time"));
        let reading = tokio::task::spawn_blocking(move || {
            let mut told = String::new();
            loop {
                let before = told.len();
                let read = log.read_line(&mut told).expect("it logs text");
                assert_ne!(read, 0, "it ended: {told}");
                if told[before..].contains(&wanted) {
                    return (told, log);
                }
            }
        });
        let (told, log) = within(words, reading).await.expect("it is logged");
        self.log = Some(log);
        told
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn a_hangup_is_a_wish_to_read_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("log.level = \"error\"\nlog.format = \"json\"\n");
    let mut server = Served::start(&file);

    // Only who logs more than errors says this.
    write("log.level = \"info\"\nlog.format = \"json\"\nmax_sessions = 7\n");
    server.signal(Signal::HUP);
    let told = server.logs("the configuration was reloaded").await;
    assert!(told.contains("\"changed\":\"log.level\""), "{told}");
    assert!(told.contains("a changed setting takes effect at the next start"), "{told}");
    assert!(told.contains("\"setting\":\"max_sessions\""), "{told}");

    write("log.level = \"debug\"\nmax_sessions = 0\nlog.formt = \"json\"\n");
    server.signal(Signal::HUP);
    let told = server.logs("max_sessions = '0' must be").await;
    assert!(told.contains("f.toml:3: there is no setting 'log.formt'"), "{told}");
    assert!(told.contains("not reloaded; the server goes on as it was"), "{told}");
    write("log.level = \"warn\"\n");
    server.signal(Signal::HUP);
    // The format was named at the start, and is not now.
    let told = server.logs("takes effect at the next start").await;
    assert!(told.contains("\"setting\":\"log.format\""), "{told}");
    // What is said from now on is told to nobody: it ends without a line.

    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
    let mut rest = String::new();
    server.log.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_changed_file_is_found_without_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    fs::write(&file, "log.level = \"error\"\n").unwrap();
    let mut server = Served::start(&file);

    let next = dir.path().join("next");
    fs::write(&next, "log.level = \"info\"\n").unwrap();
    fs::rename(&next, &file).unwrap();

    server.logs("the configuration was reloaded").await;
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
}
