//! The real program on a real directory: what an operator types, sees and gets as an exit code.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

const SEGMENT: &str = "instances/main/1/00000000000000000001.log";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jet-session"));
    command.env_remove("JET_SESSION_SERVER").stdin(Stdio::null());
    command
}

/// Runs a command and answers its exit code, stdout and stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program().args(args).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (status.code().expect("no signal ends it"), text(stdout), text(stderr))
}

/// A server in a process of its own, which is killed if it is not ended.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(dir: &Path) -> Self {
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--threads", "1", "--data-dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.as_mut().expect("it is piped"));
        stdout.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening on ").expect("the first line");
        let server = Self { address: address.to_owned(), child };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let mut watch = program()
            .args(["--server", &self.address, "--timeout", "30s", "instance", "watch", "main"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(watch.stdout.take().expect("it is piped")).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("READY"));
        watch.kill().expect("it is there");
        watch.wait().expect("it ends");
        assert!(ready, "main is never ready");
    }

    /// A client command that must succeed.
    fn ask(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = run(&[&["--server", &self.address], args].concat());
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout
    }

    /// A client command that must fail. Answers what it says.
    fn refused(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = run(&[&["--server", &self.address], args].concat());
        assert!(code != 0 && stdout.is_empty(), "{args:?}: {code} {stdout} {stderr}");
        stderr
    }

    /// Ends it in good order.
    fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A directory in which a server has left a session that is bound.
fn used() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Served::start(dir.path());
    server.ask(&["session", "begin", "--label", "pool=a"]);
    server.ask(&["session", "set", "1", "--thread", "worker-a/1", "42"]);
    server.end();
    dir
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            all.insert(path, bytes);
        }
    }
    all
}

#[test]
fn a_directory_is_verified_and_dumped_without_being_changed() {
    let dir = used();
    let at = dir.path().to_str().unwrap();
    let before = files(dir.path());

    let (code, verified, _) = run(&["log", "verify", at]);
    assert_eq!(code, 0, "{verified}");
    assert!(verified.contains("ok: 3 frames with 2 changes, up to revision 2, sealed"));
    assert!(verified.ends_with("0 refused\n"), "{verified}");
    let (code, json, _) = run(&["log", "verify", at, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["opens"]), (0, &serde_json::json!(true)));

    let (code, dumped, _) = run(&["log", "dump", at, "--events-only"]);
    assert_eq!(code, 0);
    let fields: Vec<Vec<&str>> = dumped.lines().map(|line| line.split("  ").collect()).collect();
    assert_eq!(fields[0][2..], ["anonymous", "began", "session=1 labels=pool=a"]);
    assert_eq!(
        fields[1][2..],
        ["anonymous", "set", "session=1 thread=worker-a/1 context=42 token=2"]
    );
    let (_, dumped, _) = run(&["log", "dump", at, "--json", "--from", "2", "--instance", "main"]);
    let events = dumped.lines().map(|line| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object["event"].as_str().unwrap().to_owned()
    });
    assert_eq!(events.collect::<Vec<_>>(), ["segment", "set", "seal"]);
    assert_eq!(run(&["log", "repair", at]).0, 0, "there is nothing to repair");
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_directory_that_a_server_has_is_left_alone() {
    let dir = used();
    let server = Served::start(dir.path());
    let holder = format!("process {}", server.child.id());
    for command in [&["verify"][..], &["dump"], &["repair"], &["repair", "--accept-loss"]] {
        let args = [&["log"], command, &[dir.path().to_str().unwrap()]].concat();

        let (code, stdout, stderr) = run(&args);

        assert_eq!((code, stdout.as_str()), (1, ""), "{command:?}");
        assert!(stderr.contains(&holder), "{stderr}");
    }
    server.end();
}

#[test]
fn what_is_no_data_directory_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["verify", "dump", "repair"] {
        let (code, _, stderr) = run(&["log", command, dir.path().to_str().unwrap()]);

        assert_eq!(code, 1);
        assert!(stderr.contains("no data directory"), "{stderr}");
    }
    assert!(files(dir.path()).is_empty());
    let dir = used();
    let at = dir.path().to_str().unwrap();
    let (code, _, stderr) = run(&["log", "verify", at, "--instance", "other"]);
    assert_eq!(code, 1, "{stderr}");
}

#[test]
fn a_damaged_log_is_served_again_after_its_loss_is_accepted() {
    let dir = used();
    let at = dir.path().to_str().unwrap();
    let segment = dir.path().join(SEGMENT);
    let mut bytes = fs::read(&segment).unwrap();
    // The first frame is the session, the second one its context.
    let second = 4_096 + 36 + usize::from(bytes[4_096 + 8]);
    let second = second.next_multiple_of(8);
    bytes[second + 40] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let before = files(dir.path());

    let (code, stdout, stderr) = run(&["log", "verify", at]);
    assert_eq!(code, 1);
    assert!(stdout.contains("REFUSED"), "{stdout}");
    let place = format!("{SEGMENT} at byte {second}: the checksum is wrong");
    assert!(stderr.contains(&place), "{stderr}");
    let (code, stdout, stderr) = run(&["log", "dump", at, "--events-only"]);
    assert_eq!((code, stdout.lines().count()), (1, 1));
    assert!(stderr.contains(&format!("at byte {second}")), "{stderr}");

    let (code, stdout, stderr) = run(&["log", "repair", at]);
    assert_eq!(code, 1);
    assert!(stdout.contains("kept       1 sessions, 0 of them bound"), "{stdout}");
    assert!(stderr.contains("--accept-loss"), "{stderr}");
    assert_eq!(files(dir.path()), before);

    let (code, stdout, stderr) = run(&["log", "repair", at, "--accept-loss"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("put aside  instances/main/1.damaged"), "{stdout}");
    let aside = dir.path().join("instances/main/1.damaged/00000000000000000001.log");
    assert_eq!(fs::read(aside).unwrap(), before[&segment]);
    assert_eq!(run(&["log", "verify", at]).0, 0);

    let server = Served::start(dir.path());
    assert!(server.ask(&["session", "list"]).contains("main/1"));
    let token = server.ask(&["session", "set", "1", "--thread", "b", "7"]);
    assert_eq!(token.trim().parse::<u64>().unwrap(), (1 << 48) + 1, "no token comes twice");
    let info = server.ask(&["server-info", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["logFormat"], 2);
    server.end();
}

#[test]
fn a_backup_is_a_file_that_another_instance_reads_in() {
    let dir = used();
    let server = Served::start(dir.path());
    let file = dir.path().join("main.backup");
    let path = file.to_str().unwrap();

    assert_eq!(server.ask(&["instance", "backup", "main", "--output", path]), "");
    let bytes = fs::read(&file).unwrap();
    let piped = program()
        .args(["--server", &server.address, "instance", "backup", "main", "--output", "-"])
        .output()
        .unwrap();
    assert!(piped.status.success());
    assert_eq!(piped.stdout.len(), bytes.len());

    let again = server.refused(&["instance", "backup", "main", "--output", path]);
    assert!(again.contains("--force"), "{again}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
    server.ask(&["instance", "backup", "main", "--output", path, "--force"]);
    assert!(!dir.path().join("main.backup.partial").exists());

    server.ask(&["instance", "create", "other"]);
    let restored = server.ask(&["instance", "restore", "other", "--input", path]);
    assert!(restored.contains("other") && restored.contains("CREATED"), "{restored}");
    server.ask(&["instance", "init", "other"]);
    let listed = server.ask(&["session", "list", "--instance", "other"]);
    assert!(listed.contains("other/1") && listed.contains("worker-a/1"), "{listed}");
    server.end();
}

/// `script` runs a command on a terminal of its own.
#[test]
fn on_a_terminal_a_bar_shows_how_far_a_backup_and_a_restore_have_come() {
    let dir = used();
    let server = Served::start(dir.path());
    server.ask(&["instance", "create", "other"]);
    let on_a_terminal = |command: &str| {
        let program = env!("CARGO_BIN_EXE_jet-session");
        let line = format!("{program} --server {} instance {command}", server.address);
        let ran = Command::new("timeout")
            .args(["60", "script", "--quiet", "--return", "--command", &line, "/dev/null"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("util-linux is there");
        let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{command}: {shown}");
        shown
    };

    assert!(on_a_terminal("backup main --output b").contains("100%"));
    let restored = on_a_terminal("restore other --input b");
    assert!(restored.contains(" of ") && restored.contains("CREATED"), "{restored}");
    server.end();
}

#[test]
fn a_backup_that_is_refused_or_cut_short_leaves_nothing() {
    let dir = used();
    let server = Served::start(dir.path());
    let file = dir.path().join("b");
    let path = file.to_str().unwrap();
    server.ask(&["instance", "create", "other"]);

    server.refused(&["instance", "backup", "other", "--output", path]);
    assert!(!file.exists() && !dir.path().join("b.partial").exists());

    server.ask(&["instance", "backup", "main", "--output", path]);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 8]).unwrap();
    server.refused(&["instance", "restore", "other", "--input", path]);
    fs::write(&file, b"something else").unwrap();
    server.refused(&["instance", "restore", "other", "--input", path]);
    let missing = server.refused(&["instance", "restore", "other", "--input", "/nowhere/b"]);
    assert!(missing.contains("/nowhere/b"), "{missing}");
    assert!(server.ask(&["instance", "show", "other"]).contains("CREATED"));

    fs::write(&file, &bytes).unwrap();
    let held = server.refused(&["instance", "restore", "main", "--input", path]);
    assert!(held.contains("JET_errAlreadyInitialized"), "{held}");
    server.end();
}

#[test]
fn a_restore_reads_from_a_pipe_and_does_not_wait_for_one_that_never_ends() {
    let dir = used();
    let server = Served::start(dir.path());
    server.ask(&["instance", "create", "other"]);
    let restore = |name: &str| {
        program()
            .args(["--server", &server.address, "instance", "restore", name, "--input", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // Its stdin stays open.
    let mut endless = restore("main");
    let pipe = endless.stdin.take();
    assert_eq!(endless.wait().unwrap().code(), Some(1));
    drop(pipe);

    let mut backup = program()
        .args(["--server", &server.address, "instance", "backup", "main", "--output", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut whole = restore("other");
    let mut into = whole.stdin.take().unwrap();
    std::io::copy(backup.stdout.as_mut().unwrap(), &mut into).unwrap();
    drop(into);
    assert!(backup.wait().unwrap().success());
    assert!(whole.wait().unwrap().success());
    server.end();
}
