//! The real program, serving a directory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on the slowest machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("this never happened: {what}"),
    }
}

/// For measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The program, with nothing of the caller's settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jet-session"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JET_SESSION_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A server that was started and has not said yet where it listens.
pub(crate) struct Starting {
    child: Running,
    log: PathBuf,
}

/// A server that answers. Killed when dropped.
pub(crate) struct RealServer {
    address: SocketAddr,
    child: Running,
    log: PathBuf,
    stdout: BufReader<ChildStdout>,
}

/// A process that does not outlive its owner.
struct Running(Option<Child>);

impl Starting {
    /// Starts a server on this directory; what it logs is added to the file.
    pub(crate) fn spawn(data: &Path, log: &Path) -> Self {
        Self::spawn_with(data, log, &["--listen", "127.0.0.1:0"])
    }

    /// The same, told where to listen and more.
    pub(crate) fn spawn_with(data: &Path, log: &Path, arguments: &[&str]) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("a log");
        let child = program()
            .args(["serve", "--log-format", "json", "--data-dir"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Self { child: Running(Some(child)), log: log.to_owned() }
    }

    /// Kills it, wherever it is.
    pub(crate) async fn kill(mut self) {
        self.child.signal(Signal::KILL);
        self.child.ended(&self.log).await;
    }

    /// The server, once it listens.
    pub(crate) async fn listening(mut self) -> RealServer {
        let stdout = self.child.0.as_mut().and_then(|child| child.stdout.take());
        let stdout = stdout.expect("stdout is a pipe");
        let first = tokio::task::spawn_blocking(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| (line, stdout))
        });
        let (line, stdout) = within("the first line on stdout", first)
            .await
            .expect("nothing panics")
            .expect("stdout can be read");
        let address = line.trim_end().strip_prefix("listening on ").map(str::parse);
        let Some(Ok(address)) = address else {
            panic!("the first line is {line:?}; the log ends with\n{}", end_of(&self.log));
        };
        RealServer { address, child: self.child, log: self.log, stdout }
    }
}

impl RealServer {
    pub(crate) async fn start(data: &Path, log: &Path) -> Self {
        Starting::spawn(data, log).listening().await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next line that it prints once it listens.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout can be read");
        line
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.as_ref().expect("it runs").id()
    }

    /// SIGKILL: not one instruction more.
    pub(crate) async fn kill(mut self) {
        self.child.signal(Signal::KILL);
        self.child.ended(&self.log).await;
    }

    /// SIGSTOP: not one instruction for a while.
    pub(crate) fn pause(&self) {
        self.child.signal(Signal::STOP);
    }

    /// SIGCONT: goes on where it was.
    pub(crate) fn go_on(&self) {
        self.child.signal(Signal::CONT);
    }

    /// SIGTERM: begins the drain.
    pub(crate) fn terminate(&self) {
        self.child.signal(Signal::TERM);
    }

    /// How it ended, which it must within the time it has.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        self.child.ended(&self.log).await
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        let child = self.0.as_ref().expect("it has not been waited for");
        // It may have ended, but it is ours until it is waited for.
        kill_process(Pid::from_child(child), signal).expect("our own process takes signals");
    }

    async fn ended(&mut self, log: &Path) -> ExitStatus {
        let mut child = self.0.take().expect("it ends once");
        let pid = Pid::from_child(&child);
        let mut ended = tokio::task::spawn_blocking(move || child.wait());
        match tokio::time::timeout(LONG, &mut ended).await {
            Ok(status) => status.expect("nothing panics").expect("a child can be waited for"),
            Err(_) => {
                kill_process(pid, Signal::KILL).ok();
                panic!("the server does not end; its log ends with\n{}", end_of(log));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Nothing is left to do if it has ended.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The last lines of a log, for whoever has to find out.
pub(crate) fn end_of(log: &Path) -> String {
    const LINES: usize = 30;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
