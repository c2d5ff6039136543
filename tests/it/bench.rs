//! `jet-session bench` on servers in this process: what it measures, what it counts, and that it leaves
//! nothing behind.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use jet_session::proto::api as pb;
use serde_json::Value;

use crate::support::front::{Front, Pipelines};
use crate::support::server::Picture;
use crate::support::{MAIN, TestServer, within};

/// A benchmark in a process of its own.
struct Bench {
    child: Child,
}

/// How a benchmark ended.
struct Ended {
    code: Option<i32>,
    report: Value,
    stderr: String,
}

impl Bench {
    /// Starts it, without a warm-up and for programs.
    fn start(address: SocketAddr, options: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_jet-session"))
            .args(["--server", &address.to_string(), "--json", "bench", "--warm-up", "0s"])
            .args(options.split_whitespace())
            .env_remove("JET_SESSION_INSTANCE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Self { child }
    }

    fn interrupt(&self) {
        self.signal("-INT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    async fn ended(self) -> Ended {
        let wait = tokio::task::spawn_blocking(|| self.child.wait_with_output());
        let output = within("the benchmark ends", wait).await.expect("no panic").expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("it prints text");
        let stdout = text(output.stdout);
        let report = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        assert_eq!(report.is_null(), stdout.is_empty(), "{stdout}");
        Ended { code: output.status.code(), report, stderr: text(output.stderr) }
    }
}

impl Ended {
    #[track_caller]
    fn number(&self, field: &str) -> u64 {
        self.report[field]
            .as_u64()
            .unwrap_or_else(|| panic!("{field}: {} {}", self.report, self.stderr))
    }

    /// gRPC code, JET code and count of each error.
    fn errors(&self) -> Vec<(&str, Option<i64>, u64)> {
        let errors = self.report["errors"].as_array().expect("a list");
        errors
            .iter()
            .map(|error| {
                let code = error["grpc_code"].as_str().expect("a code");
                (code, error["jet_error"].as_i64(), error["count"].as_u64().expect("a count"))
            })
            .collect()
    }

    /// It went as it should, and measured both kinds of operations.
    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.code, Some(0), "{} {}", self.report, self.stderr);
        assert_eq!((self.number("error_count"), self.number("sessions_left")), (0, 0));
        assert!(self.number("operations") > 0 && self.number("requests") > 0, "{}", self.report);
        for kind in ["set", "reset"] {
            let latency = &self.report["latency"][kind];
            let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|of| latency[of].as_f64());
            assert!(p50 > Some(0.0) && p50 <= p99 && p99 <= max, "{latency}");
        }
    }
}

/// Waits until a session is bound.
async fn bound(server: &TestServer) {
    let bound = || async {
        let filter = Some(pb::SessionFilter { bound: Some(true), ..Default::default() });
        let request =
            pb::ListSessionsRequest { parent: MAIN.to_owned(), filter, ..Default::default() };
        let listed = server.sessions().list_sessions(request).await.expect("they are listed");
        !listed.into_inner().sessions.is_empty()
    };
    within("a context is set", async { while !bound().await {} }).await;
}

#[track_caller]
fn nothing_is_left(picture: &Picture) {
    assert!(picture.sessions().is_empty(), "{picture:?}");
}

#[tokio::test]
async fn unary_clients_set_and_reset_and_leave_nothing() {
    let server = TestServer::start().await;

    let options = "--duration 1s --clients 9 --connections 2 --threads 2";
    let ended = Bench::start(server.address(), options).ended().await;

    ended.is_well();
    assert_eq!((ended.number("sessions"), ended.number("refusals")), (9, 0));
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn those_who_contend_are_refused_and_that_is_no_error() {
    let server = TestServer::start().await;

    let options = "--duration 1s --clients 8 --contend --sessions 2";
    let ended = Bench::start(server.address(), options).ended().await;

    ended.is_well();
    assert_eq!(ended.number("sessions"), 2);
    assert!(ended.number("refusals") > 0, "{}", ended.report);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn a_rate_is_not_exceeded() {
    let server = TestServer::start().await;

    let ended = Bench::start(server.address(), "--duration 1s --rate 100").ended().await;

    ended.is_well();
    // The turns of the first second, whenever they were taken.
    assert!(ended.number("requests") <= 100, "{}", ended.report);
}

#[tokio::test]
async fn a_benchmark_that_is_interrupted_ends_its_sessions_and_says_what_it_measured() {
    let server = TestServer::start().await;
    let bench = Bench::start(server.address(), "--duration 1h");
    bound(&server).await;

    bench.interrupt();
    let ended = bench.ended().await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.report["stopped"], true);
    assert_eq!((ended.number("error_count"), ended.number("sessions_left")), (0, 0));
    assert!(ended.report["seconds"].as_f64() < Some(3_600.0), "{}", ended.report);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn errors_are_counted_by_their_codes_and_in_the_exit_code() {
    let server = TestServer::start().await;
    let mut front = Front::of(&server, Pipelines::Whole).await;
    let bench = Bench::start(front.address(), "--duration 1h --clients 4");
    bound(&server).await;

    server.stop(MAIN).await.unwrap();
    // At most four were decided before the stop.
    front.answers(5).await;
    bench.interrupt();
    let ended = bench.ended().await;

    assert_eq!(ended.code, Some(1), "{}", ended.report);
    let [("UNAVAILABLE", Some(-1329), count)] = ended.errors()[..] else {
        panic!("{}", ended.report);
    };
    assert_eq!(count, ended.number("error_count"));
    assert!(ended.stderr.contains(&format!("{count} operations failed")), "{}", ended.stderr);
    assert_eq!(ended.number("sessions_left"), 0);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn without_room_for_all_sessions_none_is_left_and_nothing_is_measured() {
    let server = TestServer::start_with(|config| config.max_sessions = 5).await;

    let ended = Bench::start(server.address(), "--duration 1h --clients 6").ended().await;

    assert_eq!((ended.code, &ended.report), (Some(1), &Value::Null));
    assert!(ended.stderr.contains("-1101"), "{}", ended.stderr);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn pipelines_match_results_however_they_are_grouped() {
    let server = TestServer::start().await;
    let front = Front::of(&server, Pipelines::Whole).await;
    for (clients, operations, in_flight) in [(5, 4, 3), (1, 1, 1), (2, 256, 2)] {
        let options = format!(
            "--mode pipeline --duration 1s --connections 2 --clients {clients} \
             --operations {operations} --in-flight {in_flight}"
        );
        let ended = Bench::start(front.address(), &options).ended().await;

        ended.is_well();
        assert_eq!(ended.number("refusals"), 0);
        nothing_is_left(&server.picture().await);
    }
}

#[tokio::test]
async fn refusals_in_a_pipeline_are_no_errors_if_they_were_asked_for() {
    let server = TestServer::start().await;
    let front = Front::of(&server, Pipelines::Whole).await;

    let options = "--mode pipeline --duration 1s --clients 4 --contend";
    let ended = Bench::start(front.address(), options).ended().await;

    ended.is_well();
    assert!(ended.number("refusals") > 0, "{}", ended.report);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn a_pipeline_that_is_interrupted_resets_what_it_set() {
    let server = TestServer::start().await;
    let front = Front::of(&server, Pipelines::Whole).await;
    // So slow that the stream sleeps for hours between two messages.
    for rate in ["", "--rate 1 --operations 256"] {
        let options = format!("--mode pipeline --duration 10h --clients 3 --connections 1 {rate}");
        let bench = Bench::start(front.address(), &options);
        bound(&server).await;

        bench.interrupt();
        let ended = bench.ended().await;

        assert_eq!(ended.code, Some(0), "{} {}", ended.report, ended.stderr);
        assert_eq!(ended.report["stopped"], true);
        nothing_is_left(&server.picture().await);
    }
}

#[tokio::test]
async fn a_pipeline_that_breaks_is_an_error_and_begun_anew() {
    let server = TestServer::start().await;
    for (pipelines, code, message) in [
        (Pipelines::Breaking(40), "UNAVAILABLE", "the pipe broke"),
        (Pipelines::Ending(40), "INTERNAL", "ended before its client had closed it"),
        (Pipelines::Repeating, "INTERNAL", "two results"),
    ] {
        let front = Front::of(&server, pipelines).await;
        let options = "--mode pipeline --duration 1s --clients 4 --connections 1 --operations 2";
        let ended = Bench::start(front.address(), options).ended().await;

        assert_eq!(ended.code, Some(1), "{pipelines:?} {}", ended.report);
        // What was under way in a stream that the client gave up may still be decided, and be in the
        // way of the next one.
        let errors = ended.report["errors"].as_array().unwrap();
        let broken = errors.iter().find(|error| error["grpc_code"] == code);
        let said = broken.and_then(|error| error["message"].as_str()).unwrap_or_default();
        assert!(said.contains(message), "{pipelines:?} {}", ended.report);
        assert!(ended.number("operations") > 0, "{pipelines:?} {}", ended.report);
        assert_eq!(ended.number("sessions_left"), 0);
        nothing_is_left(&server.picture().await);
    }
}

#[tokio::test]
async fn a_server_without_pipelines_is_told_at_once() {
    let server = TestServer::start().await;
    let front = Front::of(&server, Pipelines::Unserved).await;

    let options = "--mode pipeline --duration 1h";
    let ended = Bench::start(front.address(), options).ended().await;

    assert_eq!((ended.code, &ended.report), (Some(1), &Value::Null));
    assert!(ended.stderr.contains("pipelines are not served"), "{}", ended.stderr);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn a_pipeline_that_is_never_answered_is_given_up() {
    let server = TestServer::start().await;
    let front = Front::of(&server, Pipelines::Silent).await;

    let options = "--mode pipeline --duration 1h --clients 2 --timeout 2s";
    let ended = Bench::start(front.address(), options).ended().await;

    assert_eq!((ended.code, &ended.report), (Some(5), &Value::Null));
    assert!(ended.stderr.contains("no answer"), "{}", ended.stderr);
    nothing_is_left(&server.picture().await);
}

#[tokio::test]
async fn a_second_signal_waits_for_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::start(silent.local_addr().unwrap(), "--timeout 1h");
    let _connection = within("it connects", silent.accept()).await.unwrap();

    // Two of one kind might be taken for one.
    bench.signal("-INT");
    bench.signal("-TERM");
    let ended = bench.ended().await;

    assert_eq!((ended.code, &ended.report), (Some(1), &Value::Null));
    assert!(ended.stderr.contains("stopped before"), "{}", ended.stderr);
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused_before_anything_is_asked() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));

    let ended = Bench::start(nobody, "--in-flight 3").ended().await;

    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--mode pipeline"), "{}", ended.stderr);
}

/// `script` runs a command on a terminal of its own.
#[tokio::test]
async fn on_a_terminal_a_bar_shows_how_fast_it_goes() {
    let server = TestServer::start().await;
    let program = env!("CARGO_BIN_EXE_jet-session");
    let line = format!("{program} --server {} bench --duration 1s", server.address());
    let script = move || {
        Command::new("timeout")
            .args(["60", "script", "--quiet", "--return", "--command", &line, "/dev/null"])
            .stdin(Stdio::null())
            .output()
    };
    let ran = tokio::task::spawn_blocking(script).await.unwrap().expect("util-linux is there");

    let shown = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{shown}");
    assert!(shown.contains("warming up: ") && shown.contains("measuring: "), "{shown}");
    assert!(shown.contains("RESET"), "{shown}");
}
