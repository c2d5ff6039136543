//! The pages that are printed from the code, what the program says of a wrong configuration, and a server whose
//! configuration changes while it runs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use expect_test::{expect, expect_file};
use jet_session::config::{self, Config, File, Loaded, LogLevel, Mistakes, Sources};
use jet_session::server::{self, Order, Orders, Reload};

use crate::support::within;

mod limits;

#[test]
fn the_page_of_settings_is_printed_from_the_table() {
    expect_file!["../../docs/configuration.md"].assert_eq(&config::markdown());
}

#[test]
fn the_page_of_limits_is_printed_from_the_source() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/domain/limits.rs");
    let source = fs::read_to_string(source).unwrap();
    expect_file!["../../docs/limits.md"].assert_eq(&limits::page(&source));
}

/// The program, with nothing of the caller's settings.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jet-session"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JET_SESSION_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// How it ended, with what it said on stdout and on stderr.
fn said(mut program: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    (status.code().expect("no signal ends it"), text(stdout), text(stderr))
}

/// A wrong configuration: exit code 2, nothing on stdout; answers what is said on stderr.
fn refused(program: Command) -> String {
    let (code, stdout, stderr) = said(program);
    assert_eq!((code, stdout.as_str()), (2, ""), "{stderr}");
    stderr
}

#[test]
fn every_mistake_is_told_with_whoever_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    fs::write(&file, "drain = 1.5\nlog.levle = \"info\"\n").unwrap();
    for command in [&["serve"][..], &["config", "check"]] {
        let mut program = program(command);
        program.args(["--max-sessions", "0", "--listen", "192.0.2.1:1"]);
        program.env("JET_SESSION_CONFIG", &file).env("JET_SESSION_THREADS", "many");
        let told = refused(program).replace(&file.display().to_string(), "f.toml");
        expect![[r#"
            error: the configuration is wrong in 5 places:
              f.toml:2: there is no setting 'log.levle'; did you mean 'log.level'?
              --max-sessions: max_sessions = '0' must be a whole number from 1 to 10_000_000
              JET_SESSION_THREADS: threads = 'many' must be a whole number from 1 to 1_024
              f.toml:1: drain must be a whole number of seconds, or a text in quotes such as "10s", not a number with a fraction
              --listen: listen 192.0.2.1:1 can be reached from other machines, and calls would be plaintext: listen on a loopback address, give tls.certificate and tls.key, or add --insecure if the network is yours
        "#]]
        .assert_eq(&told);
    }
}

#[test]
fn a_file_that_cannot_be_had_is_told_with_whoever_named_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let told = refused(program(&["serve", "--config", &path]));
    assert!(told.contains(&format!("--config: {path}: is a directory, not a file")), "{told}");
    let mut by_variable = program(&["config", "check"]);
    by_variable.env("JET_SESSION_CONFIG", "/nowhere");
    let told = refused(by_variable);
    assert!(told.contains("JET_SESSION_CONFIG: /nowhere: cannot be read: No such file"), "{told}");
    // The flag names another.
    let file = dir.path().join("f.toml");
    fs::write(&file, "store = \"memory\"").unwrap();
    let mut both = program(&["config", "check", "--config", file.to_str().unwrap()]);
    both.env("JET_SESSION_CONFIG", "/nowhere");
    assert_eq!(said(both), (0, "the configuration is right\n".to_owned(), String::new()));
    let mut neither = program(&["config", "check", "--store", "memory"]);
    neither.env("JET_SESSION_CONFIG", "");
    assert_eq!(said(neither).0, 0);
}

#[test]
fn a_file_that_the_configuration_names_is_read_before_anything_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ["--tls-certificate", "/nowhere/c", "--tls-key", "/nowhere/k", "--data-dir"];
    for command in [&["serve"][..], &["config", "check"]] {
        let mut program = program(&[command, &args].concat());
        program.arg(&data);
        let told = refused(program);
        for name in ["tls.certificate: /nowhere/c: ", "tls.key: /nowhere/k: "] {
            assert!(told.contains(name), "{told}");
        }
    }
    assert!(!data.exists());
}

#[test]
fn a_check_changes_nothing_and_says_what_a_start_would_meet() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("file"));
    fs::write(&file, "").unwrap();
    let check = |data: &Path| program(&["config", "check", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(said(check(&data)).0, 0);
    assert!(!data.exists());
    assert!(refused(check(&file)).contains("is not a directory"));
}

#[test]
fn what_is_printed_can_be_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let mut first =
        program(&["serve", "--print-config", "--drain", "1m 30s", "--log-level", "warn"]);
    first.env("JET_SESSION_DATA_DIR", "a \"b\"");
    let (code, printed, stderr) = said(first);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(printed.contains("data_dir = \"a \\\"b\\\"\"  # JET_SESSION_DATA_DIR\n"), "{printed}");
    fs::write(&file, &printed).unwrap();
    let again = said(program(&["serve", "--print-config", "--config", file.to_str().unwrap()]));
    let bare = |text: &str| {
        let lines = text.lines().map(|line| line.split("  # ").next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(bare(&again.1), bare(&printed));
}

#[test]
fn a_wrong_flag_is_a_wrong_command_line() {
    let told = refused(program(&["serve", "--lisen", "127.0.0.1:0"]));
    assert!(told.contains("--listen"), "{told}");
    let told = refused(program(&["serve", "--insecure=perhaps"]));
    assert!(told.contains("--insecure: insecure = 'perhaps' must be true or false"), "{told}");
}

/// A part of a real server gets what a changed file says, without a signal.
#[tokio::test]
async fn a_changed_file_reaches_a_server_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.toml");
    fs::write(&path, "log.level = \"info\"").unwrap();
    let read = {
        let path = path.clone();
        move || {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string());
            let (name, named_by) = ("f.toml".to_owned(), "--config".to_owned());
            Loaded::read(&Sources {
                file: Some(File { name, named_by, text }),
                ..Sources::default()
            })
        }
    };
    let (tell, told) = mpsc::sync_channel::<LogLevel>(8);
    let reload = Reload::new(read)
        .watching(Some(path.clone()))
        .every(Duration::from_millis(5))
        .part("log.level", move |config| {
            tell.send(config.log.level).expect("the test waits");
            Ok(())
        });
    let (orders, taken) = Orders::channel();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let server = std::thread::spawn(move || {
        let config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let ready = |is| ready.send(is).expect("the test waits");
        server::run_reloading(&config, reload, || Ok(taken), ready)
    });
    within("the server is ready", is_ready).await.expect("it starts");

    fs::write(&path, "log.level = \"warn\"\nmax_sessions = 5").unwrap();
    let level = tokio::task::spawn_blocking(move || told.recv());
    let level = within("the part is told", level).await.unwrap();

    assert_eq!(level, Ok(LogLevel::Warn));
    orders.send(Order).await.unwrap();
    let ended = tokio::task::spawn_blocking(|| server.join().unwrap());
    within("the server ends", ended).await.unwrap().unwrap();
}

#[test]
fn a_server_does_not_start_on_a_file_that_is_not_there() {
    let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    config.auth.policy = Some("/nowhere/policy.toml".into());
    let ended = server::run(&config, || Ok(Orders::channel().1), |_| panic!("it is not ready"));
    let Err(server::ServerError::Configuration(Mistakes(mistakes))) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(mistakes[0].source, "auth.policy");
}
