//! Rules from files, loaded and loaded again under calls that go on. The services are asked without a
//! network between.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tonic::service::Routes;
use tonic::{Request, Status};
use tonic_health::server::HealthReporter;
use tonic_types::StatusExt;
use tower::Layer;

use super::*;
use crate::config::Entry;
use crate::proto::api as pb;
use crate::proto::api::session_service_client::SessionServiceClient;
use crate::rpc::access::Peer;
use crate::rpc::layers::{CallLayer, Calls};
use crate::server::environment::System;
use crate::server::metrics::Metrics;
use crate::server::{engine, services};

const WORKERS: &str =
    "[[rule]]\nprincipals = ['w-*']\ninstances = ['main']\nroles = ['use', 'observe']\n";

/// Files of rules and tokens.
struct Files(TempDir);

impl Files {
    /// These rules, and a token for each principal that is called as it.
    fn new(policy: &str, principals: &[&str]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("policy.toml", policy);
        files.tokens(principals);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn tokens(&self, principals: &[&str]) {
        let entry = |name: &&str| Entry::new(&Principal::new(name), name).unwrap().to_string();
        let entries: Vec<_> = principals.iter().map(entry).collect();
        self.write("tokens.toml", &entries.join("\n"));
    }

    fn config(&self) -> Config {
        let mut config = Config::new(([127, 0, 0, 1], 0).into());
        config.auth.tokens = Some(self.path("tokens.toml"));
        config.auth.policy = Some(self.path("policy.toml"));
        config
    }
}

/// The services of a server, and its guard.
async fn served(config: &Config) -> (SessionServiceClient<Calls<Routes>>, Guard) {
    let guard = Guard::new(load(config).unwrap());
    let system = Arc::new(System::new());
    let (metrics, _) = Metrics::start(config, system.clone(), None).unwrap();
    let engine = engine(config, system, &metrics).await.unwrap();
    let services = services(&engine, &guard, HealthReporter::new(), 0).await;
    let layer = CallLayer::new(metrics.panics.clone(), metrics.observer.clone(), guard.clone());
    (SessionServiceClient::new(layer.layer(services)), guard)
}

fn by<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = format!("Bearer {who}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    request
}

fn begin() -> pb::BeginSessionRequest {
    pb::BeginSessionRequest { instance: "instances/main".to_owned(), ..Default::default() }
}

fn set(session: &str, thread: &str, seconds: i64) -> pb::SetSessionContextRequest {
    pb::SetSessionContextRequest {
        session: session.to_owned(),
        thread_id: thread.to_owned(),
        context: 7,
        wait_timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn mistakes(config: &Config) -> Vec<String> {
    load(config).unwrap_err().iter().map(ToString::to_string).collect()
}

async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), happens).await.expect("it never happened")
}

#[tokio::test]
async fn rules_that_are_loaded_again_count_for_what_goes_on() {
    let files = Files::new(WORKERS, &["w-1", "w-2"]);
    let config = files.config();
    let (mut client, guard) = served(&config).await;
    let begun = client.begin_session(by("w-1", begin())).await.unwrap().into_inner();
    let session = begun.session.unwrap().name;
    client.set_session_context(by("w-1", set(&session, "t", 0))).await.unwrap();
    let watched =
        pb::WatchSessionsRequest { parent: "instances/main".into(), ..Default::default() };
    let mut watch = client.watch_sessions(by("w-2", watched)).await.unwrap().into_inner();
    let mut snapshot = 0;
    while soon(watch.message()).await.unwrap().unwrap().event.unwrap().session.is_some() {
        snapshot += 1;
    }
    assert_eq!(snapshot, 1);
    let mut waiter = client.clone();
    let wanted = by("w-2", set(&session, "t", 600));
    let waiting = tokio::spawn(async move { waiter.set_session_context(wanted).await });
    let get = pb::GetSessionRequest { name: session.clone() };
    soon(async {
        loop {
            let found = client.get_session(by("w-1", get.clone())).await.unwrap().into_inner();
            if found.session.unwrap().waiters == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;

    // A broken file changes nothing, and says what is wrong with it.
    files.write(
        "policy.toml",
        "[[rule]]\nprincipals = ['w-*']\ninstances = ['main']\nroles = ['root']\n",
    );
    let wrong = reload(&guard, &config).unwrap_err();
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].source.ends_with("policy.toml:4"), "{wrong:?}");
    assert!(client.begin_session(by("w-2", begin())).await.is_ok());
    let event = soon(watch.message()).await.unwrap().unwrap().event.unwrap();
    assert!(event.session.is_some(), "the watch goes on");

    // w-2 has no token any more.
    files.write("policy.toml", WORKERS);
    files.tokens(&["w-1"]);
    reload(&guard, &config).unwrap();
    let ended = soon(watch.message()).await.unwrap_err();
    assert_eq!(reason(&ended), "CREDENTIALS_INVALID");
    let ended = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(reason(&ended), "CREDENTIALS_INVALID");
    let refused = client.begin_session(by("w-2", begin())).await.unwrap_err();
    assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    let kept = client.get_session(by("w-1", get)).await.unwrap().into_inner().session.unwrap();
    assert_eq!((kept.waiters, kept.binding.unwrap().principal), (0, "w-1".to_owned()));

    // And it comes back.
    files.tokens(&["w-1", "w-2"]);
    reload(&guard, &config).unwrap();
    assert!(client.begin_session(by("w-2", begin())).await.is_ok());
}

#[tokio::test]
async fn a_pipeline_loses_what_its_principal_loses() {
    use pb::pipeline_operation::Operation;
    use pb::pipeline_result::Result as Told;
    let both = "[[rule]]\nprincipals = ['w-1']\ninstances = ['main', 'other']\nroles = ['use']\n";
    let files = Files::new(both, &["w-1"]);
    let config = files.config();
    let (mut client, guard) = served(&config).await;
    let begun = client.begin_session(by("w-1", begin())).await.unwrap().into_inner();
    let session = begun.session.unwrap().name;
    let (operations, sent) = tokio::sync::mpsc::channel(4);
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let results = client.pipeline_session_contexts(by("w-1", sent)).await.unwrap();
    let mut results = results.into_inner();
    let operate = |operation| pb::PipelineSessionContextsRequest {
        operations: vec![pb::PipelineOperation { id: 1, operation: Some(operation) }],
    };
    operations.send(operate(Operation::Set(set(&session, "t", 0)))).await.unwrap();
    let told = soon(results.message()).await.unwrap().unwrap();
    assert!(matches!(told.results[0].result, Some(Told::Set(_))), "{told:?}");

    files.write("policy.toml", &both.replace("'main', ", ""));
    reload(&guard, &config).unwrap();
    operations.send(operate(Operation::Set(set(&session, "t", 0)))).await.unwrap();
    let told = soon(results.message()).await.unwrap().unwrap();
    match &told.results[0].result {
        Some(Told::Error(status)) => assert!(status.message.starts_with("Permission use denied")),
        other => panic!("{other:?}"),
    }

    files.write("policy.toml", &both.replace("w-1", "w-2"));
    reload(&guard, &config).unwrap();
    let ended = soon(results.message()).await.unwrap_err();
    assert_eq!(reason(&ended), "ROLE_MISSING");
}

#[tokio::test]
async fn the_certificate_of_a_connection_says_who_calls() {
    let files = Files::new(WORKERS, &["w-1"]);
    let (mut client, _) = served(&files.config()).await;
    let certified = |name: &str| {
        let mut request = Request::new(begin());
        request.extensions_mut().insert(Peer::Certified(Principal::new(name)));
        request
    };
    let begun = client.begin_session(certified("w-7")).await.unwrap().into_inner();
    let held = by("w-1", set(&begun.session.clone().unwrap().name, "t", 0));
    let held = client.set_session_context(held).await.unwrap().into_inner().session.unwrap();
    assert_eq!(held.binding.unwrap().principal, "w-1");
    let refused = client.begin_session(certified("x-7")).await.unwrap_err();
    assert_eq!(reason(&refused), "ROLE_MISSING");
}

#[test]
fn all_that_is_wrong_with_both_files_is_told_at_once() {
    let files = Files::new("[[rule]]\nprincipals = []\n", &["w-1"]);
    files.write("tokens.toml", "[[token]]\nprincipal = 'a'\n");
    let wrong = mistakes(&files.config());
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    assert!(wrong[0].contains("tokens.toml:1: this token has no sha256"), "{wrong:?}");
    assert!(wrong[3].contains("policy.toml:2: principals must have 1 to 64 texts"), "{wrong:?}");
}

#[test]
fn a_file_that_cannot_be_trusted_is_refused() {
    let files = Files::new(WORKERS, &["w-1"]);
    assert!(load(&files.config()).is_ok());
    let mut config = files.config();

    fs::set_permissions(files.path("policy.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let wrong = mistakes(&config);
    assert!(wrong[0].starts_with("auth.policy: /") && wrong[0].contains("chmod o-w"), "{wrong:?}");

    config.auth.policy = Some(files.path("nowhere.toml"));
    assert!(mistakes(&config)[0].contains("cannot be read"));
    config.auth.policy = Some(files.0.path().to_owned());
    assert!(mistakes(&config)[0].contains("is no file"));
    files.write("large.toml", &"#".repeat(usize::try_from(AUTH_FILE_BYTES_MAX).unwrap() + 1));
    config.auth.policy = Some(files.path("large.toml"));
    assert!(mistakes(&config)[0].contains("is larger than"));
    fs::write(files.path("odd.toml"), b"\xff").unwrap();
    config.auth.policy = Some(files.path("odd.toml"));
    assert!(mistakes(&config)[0].contains("cannot be read"));
}

#[test]
fn rules_under_which_nobody_could_do_anything_are_refused() {
    let files = Files::new(WORKERS, &["w-1"]);
    let mut config = files.config();
    config.auth.tokens = None;
    let wrong = mistakes(&config);
    assert!(wrong[0].contains("everybody is anonymous, which no rule names"), "{wrong:?}");
    files.write("policy.toml", &WORKERS.replace("w-*", "anonymous"));
    assert!(load(&config).is_ok());
}

#[test]
fn without_rules_nothing_is_allowed_and_without_anything_everything() {
    let files = Files::new(WORKERS, &["w-1"]);
    let mut config = files.config();
    config.auth.policy = None;
    // The configuration does not allow it; were it allowed, it would open nothing.
    assert!(matches!(load(&config).unwrap(), Access::Ruled(_)));
    config.auth.tokens = None;
    assert!(matches!(load(&config).unwrap(), Access::Open));
}
