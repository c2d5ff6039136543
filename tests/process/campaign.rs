//! A campaign: a server is started on one directory again and again, clients work, the server ends in
//! one way or another, and what it knows afterwards is compared with what the clients were told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jet_session::proto::api as pb;
use jet_session::proto::api::instance::State;
use jet_session::proto::api::instance_service_client::InstanceServiceClient;
use jet_session::proto::api::session_service_client::SessionServiceClient;
use tokio::task::{JoinError, JoinSet};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::clients::{Client, LAZY, MAIN, Shared, TASKS, begin, connect, jet_error, lock};
use crate::ledger::{SHARED, Seen, Tally};
use crate::random::Random;
use crate::server::{RealServer, Starting, end_of, now, within};

const SHARED_SESSIONS: usize = 4;

/// Everything that lasts from one server to the next.
pub(crate) struct Campaign {
    data: PathBuf,
    log: PathBuf,
    /// Where the log of the servers is kept; gone with the campaign.
    _logs: tempfile::TempDir,
    pub(crate) shared: Arc<Shared>,
    pub(crate) random: Random,
    seed: u64,
    servers: u64,
    /// Calls that were refused because an instance was not open yet.
    initializing: u64,
    /// When the last server died, or lost its disk, if it was not told to end.
    pub(crate) died: Option<Instant>,
}

/// A server that is ready, with clients at work.
pub(crate) struct AtWork {
    pub(crate) server: RealServer,
    pub(crate) clients: JoinSet<()>,
}

impl Campaign {
    /// A campaign on this directory, with a first server that is told to end when all is set up.
    pub(crate) async fn begin(data: &Path) -> Self {
        let seed = match std::env::var("TESTS_SEED") {
            Ok(seed) => seed.parse().expect("TESTS_SEED is a number"),
            Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
        };
        let logs = tempfile::tempdir().expect("a directory for logs");
        let mut campaign = Self {
            data: data.to_owned(),
            log: logs.path().join("log"),
            _logs: logs,
            shared: Shared::new(),
            random: Random::new(seed),
            seed,
            servers: 0,
            initializing: 0,
            died: None,
        };
        campaign.say(&format!("TESTS_SEED={seed}"));
        let server = RealServer::start(&campaign.data, &campaign.log).await;
        let channel = connect(server.address()).await.swap_remove(0);
        let mut instances = InstanceServiceClient::new(channel.clone());
        let lazy = pb::CreateInstanceRequest {
            instance_id: "lazy".to_owned(),
            durability: pb::Durability::Lazy.into(),
            ..Default::default()
        };
        instances.create_instance(lazy).await.expect("an instance is created");
        let request = pb::InitializeInstanceRequest { name: LAZY.to_owned(), ..Default::default() };
        instances.initialize_instance(request).await.expect("it is initialised");
        let mut sessions = SessionServiceClient::new(channel);
        for _ in 0..SHARED_SESSIONS {
            begin(&mut sessions, &campaign.shared.main, SHARED).await;
        }
        drop((instances, sessions));
        campaign.told_to_end(server).await;
        campaign
    }

    /// A server that is not waited for.
    pub(crate) fn spawn(&mut self) -> Starting {
        self.servers += 1;
        Starting::spawn(&self.data, &self.log)
    }

    /// A server that has recovered what it should, with clients at work on it.
    pub(crate) async fn start(&mut self) -> AtWork {
        let server = self.spawn().listening().await;
        let channels = connect(server.address()).await;
        self.recovered(&channels[0]).await;
        self.work(server, &channels)
    }

    /// Puts clients to work.
    pub(crate) fn work(&mut self, server: RealServer, channels: &[Channel]) -> AtWork {
        self.shared.ending.store(false, Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for task in 0..TASKS {
            let random = self.random.fork();
            clients.spawn(Client::new(task, channels, &self.shared, random).run());
        }
        AtWork { server, clients }
    }

    /// Compares what the server has recovered with what was told.
    pub(crate) async fn recovered(&mut self, channel: &Channel) {
        self.ask_early(channel).await;
        for instance in [MAIN, LAZY] {
            ready(channel, instance, &self.log).await;
        }
        let died = self.died.take();
        for ledger in [&self.shared.main, &self.shared.lazy] {
            let instance = lock(ledger).instance;
            let found = list(channel, instance).await;
            lock(ledger).restarted(found, died);
        }
    }

    /// Whoever asks before an instance is open is told so, and when to come back.
    async fn ask_early(&mut self, channel: &Channel) {
        let mut sessions = SessionServiceClient::new(channel.clone());
        for instance in [MAIN, LAZY] {
            let request =
                pb::ListSessionsRequest { parent: instance.to_owned(), ..Default::default() };
            if let Err(status) = sessions.list_sessions(request).await {
                assert_eq!(jet_error(&status), Some(-1029), "{status:?}");
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
                self.initializing += 1;
            }
        }
    }

    /// Waits until there have been as many answers as are expected. What a client finds wrong ends the
    /// test at once.
    pub(crate) async fn enough(&self, work: &mut AtWork) {
        let clients = async {
            while let Some(client) = work.clients.join_next().await {
                ended_well(client);
            }
        };
        let done = within("enough answers", async {
            tokio::select! {
                () = self.shared.enough() => true,
                () = clients => false,
            }
        })
        .await;
        assert!(
            done,
            "all clients have stopped, and nobody stopped the server; its log ends with\n{}",
            self.log_end(),
        );
    }

    /// Kills the server at once.
    pub(crate) async fn kill(&mut self, mut work: AtWork) {
        self.died.get_or_insert_with(now);
        work.server.kill().await;
        stopped(&mut work.clients).await;
    }

    /// Tells the server to end while clients are at work: what runs is answered.
    pub(crate) async fn terminate(&mut self, mut work: AtWork) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.told_to_end(work.server).await;
        stopped(&mut work.clients).await;
    }

    pub(crate) async fn told_to_end(&mut self, server: RealServer) {
        let pid = server.pid();
        server.terminate();
        let status = server.ended().await;
        assert!(
            status.success(),
            "NO ORDERLY END: process {pid} has {status} after SIGTERM; the log ends with\n{}",
            self.log_end(),
        );
        self.died = None;
    }

    /// A last server, with nobody at work: all is there, and it ends as it should.
    pub(crate) async fn end(mut self) {
        let server = self.spawn().listening().await;
        let channels = connect(server.address()).await;
        self.recovered(&channels[0]).await;
        drop(channels);
        self.told_to_end(server).await;
        self.say("all is as it was told");
    }

    /// One line on what has been so far.
    #[expect(clippy::print_stderr, reason = "whoever runs a campaign wants to know what it tried")]
    pub(crate) fn say(&self, what: &str) {
        let [main, lazy] = [&self.shared.main, &self.shared.lazy].map(|ledger| lock(ledger).tally);
        let sum = |of: fn(&Tally) -> u64| of(&main) + of(&lazy);
        eprintln!(
            "{what}: seed {}, {} servers, {} calls: {} acknowledged, {} refused, {} reads, {} unknown \
             ({} made, {} not made); LAZY lost {}, the oldest {:?} old; {} calls came while \
             INITIALIZING; {} snapshots",
            self.seed,
            self.servers,
            self.shared.calls(),
            sum(|tally| tally.acknowledged),
            sum(|tally| tally.refused),
            sum(|tally| tally.read),
            sum(|tally| tally.unknown),
            sum(|tally| tally.made),
            sum(|tally| tally.not_made),
            lazy.lost,
            lazy.lost_age,
            self.initializing,
            files(&self.data, ".snap"),
        );
    }

    fn log_end(&self) -> String {
        end_of(&self.log)
    }
}

/// Waits until an instance is in service.
pub(crate) async fn ready(channel: &Channel, instance: &str, log: &Path) {
    let mut instances = InstanceServiceClient::new(channel.clone());
    let request = pb::WatchInstancesRequest { names: vec![instance.to_owned()] };
    let mut watch = instances.watch_instances(request).await.expect("a watch").into_inner();
    within("the instance is ready", async {
        loop {
            let told = watch.message().await.expect("the watch goes on").expect("an instance");
            let told = told.instance.expect("the answer has an instance");
            match told.state() {
                State::Ready => break,
                State::Initializing => {}
                State::Unspecified
                | State::Created
                | State::Stopped
                | State::Restoring
                | State::Terminating
                | State::Failed => panic!(
                    "AN INSTANCE DOES NOT COME BACK: {instance} is {:?}, failure {:?}; the log \
                     ends with\n{}",
                    told.state(),
                    told.failure,
                    end_of(log),
                ),
            }
        }
    })
    .await;
}

/// Waits until clients have stopped that are refused or have no server any more; what one of them
/// found wrong ends the test.
pub(crate) async fn stopped(clients: &mut JoinSet<()>) {
    within("the clients have stopped", async {
        while let Some(client) = clients.join_next().await {
            ended_well(client);
        }
    })
    .await;
}

fn ended_well(client: Result<(), JoinError>) {
    if let Err(wrong) = client {
        std::panic::resume_unwind(wrong.into_panic());
    }
}

/// All sessions of an instance.
async fn list(channel: &Channel, instance: &str) -> Vec<Seen> {
    let mut sessions = SessionServiceClient::new(channel.clone());
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListSessionsRequest {
            parent: instance.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = sessions.list_sessions(request).await.expect("a READY instance lists");
        let page = page.into_inner();
        found.extend(page.sessions.iter().map(Seen::of));
        if page.next_page_token.is_empty() {
            return found;
        }
        page_token = page.next_page_token;
    }
}

/// How many files below a directory have names that end so.
fn files(dir: &Path, end: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let counts = entries.flatten().map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            files(&path, end)
        } else {
            usize::from(path.to_string_lossy().ends_with(end))
        }
    });
    counts.sum()
}

/// Whether the long campaigns are wanted.
pub(crate) fn long() -> bool {
    std::env::var_os("TESTS_LONG").is_some()
}

/// Some time: the moment of a blow, not a way to wait for something.
pub(crate) async fn some_time(random: &mut Random, most: Duration) {
    let most = u64::try_from(most.as_micros()).expect("short");
    tokio::time::sleep(Duration::from_micros(random.within(0..most))).await;
}
