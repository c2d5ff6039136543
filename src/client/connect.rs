//! A client: its connection, how patient it is, and what all its calls share.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::AbortHandle;
use tonic::transport::{Channel, Endpoint};

use crate::proto::api::error_service_client::ErrorServiceClient;
use crate::proto::api::instance_service_client::InstanceServiceClient;
use crate::proto::api::session_service_client::SessionServiceClient;
use crate::proto::api::thread_service_client::ThreadServiceClient;

use super::address::Address;
use super::background::Background;
use super::call::GRACE;
use super::chance::{self, Chance, SystemChance};
use super::dial::Dialler;
use super::error::Error;
use super::heartbeat;
use super::registry::Registry;
use super::retry::Budget;
use super::tls::Tls;
use super::token;
use super::transport::Transport;

/// How long a call may take, with all its retries, unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection is asked whether its other end is still there, and how long that may take.
const PING: Duration = Duration::from_secs(20);

/// A client of one server. Cloning is cheap and shares the connection, the heartbeat and the budget for
/// retries; a program needs one.
#[derive(Clone)]
pub struct Client(Arc<Core>);

/// What the clones of a client share.
pub(super) struct Core {
    transport: Transport,
    settings: Settings,
    budget: Budget,
    registry: Arc<Registry>,
    background: Background,
    heartbeat: OnceLock<AbortHandle>,
}

/// How a client is to be.
#[derive(Debug, Clone)]
struct Settings {
    timeout: Duration,
    lease_ttl: Option<Duration>,
    retries: bool,
    chance: Arc<dyn Chance>,
}

/// How a client is to be, before it connects. See [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    uri: String,
    user_agent: String,
    connect_timeout: Option<Duration>,
    tls: Option<Tls>,
    token: Option<token::Source>,
    plaintext_token: bool,
    settings: Settings,
}

impl Client {
    /// Connects to the server at `uri`, with everything as usual: `https://HOST:PORT` with TLS,
    /// `http://HOST:PORT` without, or `unix:PATH` through a socket in the file system.
    pub async fn connect(uri: impl Into<String>) -> Result<Self, Error> {
        Self::builder(uri).connect().await
    }

    /// A client that is to be otherwise.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use jet_session::client::{Client, Error};
    /// # async fn example() -> Result<(), Error> {
    /// let client = Client::builder("http://127.0.0.1:50051")
    ///     .timeout(Duration::from_secs(3))
    ///     .lease_ttl(Duration::from_secs(10))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(uri: impl Into<String>) -> Builder {
        Builder {
            uri: uri.into(),
            user_agent: concat!("jet-session-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: None,
            tls: None,
            token: None,
            plaintext_token: false,
            settings: Settings {
                timeout: TIMEOUT,
                lease_ttl: None,
                retries: true,
                chance: Arc::new(SystemChance),
            },
        }
    }

    /// The generated stub of the calls on sessions, on this connection: with the client's token, and
    /// without deadline, request id or retry.
    pub fn raw_sessions(&self) -> SessionServiceClient<Transport> {
        SessionServiceClient::new(self.transport())
    }

    /// The generated stub of the calls on instances.
    pub fn raw_instances(&self) -> InstanceServiceClient<Transport> {
        InstanceServiceClient::new(self.transport())
    }

    /// The generated stub of the calls on threads.
    pub fn raw_threads(&self) -> ThreadServiceClient<Transport> {
        ThreadServiceClient::new(self.transport())
    }

    /// The generated stub of the calls on the table of errors.
    pub fn raw_errors(&self) -> ErrorServiceClient<Transport> {
        ErrorServiceClient::new(self.transport())
    }

    /// The connection, for services that are not ours.
    pub fn transport(&self) -> Transport {
        self.0.transport.clone()
    }

    /// The time to live of the leases of this client's threads, if they have one.
    pub fn lease_ttl(&self) -> Option<Duration> {
        self.0.settings.lease_ttl
    }

    /// How long a call may take, with all its retries.
    pub(super) fn timeout(&self) -> Duration {
        self.0.settings.timeout
    }

    /// Whether calls carry request ids and are sent again.
    pub(super) fn retries(&self) -> bool {
        self.0.settings.retries
    }

    /// The id of a new call; empty if it will not be sent again.
    pub(super) fn request_id(&self) -> String {
        if self.retries() { chance::request_id(self.chance()) } else { String::new() }
    }

    pub(super) fn chance(&self) -> &dyn Chance {
        self.0.settings.chance.as_ref()
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    pub(super) fn background(&self) -> &Background {
        &self.0.background
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0
    }

    /// The client that this is the core of.
    pub(super) fn of(core: Arc<Core>) -> Self {
        Self(core)
    }
}

impl Builder {
    /// How long a call may take, with all its retries: 10 seconds unless said otherwise. A call that waits
    /// for a session has that much more than it waits.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long connecting may take; as long as a call unless said otherwise.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How to make sure of the server at an `https://` address, and how to show it who asks. Unless said
    /// otherwise, whom the system trusts is trusted, and no certificate is shown.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Shows this bearer token with every call. It goes to another machine over TLS only, unless
    /// [`plaintext_token`](Self::plaintext_token) allows it.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token::Source::Text(token.into()));
        self
    }

    /// Shows the bearer token in this file with every call, and reads it again when it changes: within
    /// 5 seconds. If it cannot be read then, what was read before stays.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(token::Source::File(path.into()));
        self
    }

    /// Shows the token to other machines also over plaintext, where whoever sees the traffic can take it:
    /// for a network that is encrypted otherwise, such as a service mesh.
    pub fn plaintext_token(mut self) -> Self {
        self.plaintext_token = true;
        self
    }

    /// What the program calls itself towards the server.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Puts all that the client's threads hold under leases of this time to live, 1 second to 24 hours,
    /// and renews them: one heartbeat for the whole client, three times in each of them. When the process
    /// dies, its sessions become free after that time.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.settings.lease_ttl = Some(ttl);
        self
    }

    /// Sends each call once and without a request id: the engine's exact behaviour, where a lost answer
    /// stays unknown.
    pub fn without_retries(mut self) -> Self {
        self.settings.retries = false;
        self
    }

    /// Takes request ids and jitter from here, for tests and simulations.
    pub fn chance(mut self, chance: impl Chance + 'static) -> Self {
        self.settings.chance = Arc::new(chance);
        self
    }

    /// Connects. A connection that breaks later is made again when a call needs it.
    pub async fn connect(mut self) -> Result<Client, Error> {
        let patience = self.connect_timeout.unwrap_or(self.settings.timeout);
        let address = Address::parse(&self.uri)?;
        let secret = address.is_encrypted() || address.is_local();
        if self.token.is_some() && !secret && !self.plaintext_token {
            return Err(Error::malformed(
                "a token is not shown to another machine in plaintext, where others could take it: write https://, \
                 or allow it (plaintext-token)",
            ));
        }
        let token = self.token.take().map(token::Source::load).transpose()?;
        let origin = address.origin();
        let dialler = Dialler::new(address, self.tls.take(), patience)?;
        // The dialler speaks TLS where it is spoken: to tonic every connection is plain.
        let endpoint = Endpoint::from_static("http://localhost")
            .origin(origin)
            .user_agent(self.user_agent.clone())
            .map_err(|error| Error::malformed(super::error::innermost(&error)))?
            .connect_timeout(patience)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            // Heartbeats and watches must notice a dead peer although they only listen.
            .keep_alive_while_idle(true);
        let heard = dialler.heard();
        let connecting = async {
            let channel =
                endpoint.connect_with_connector(dialler).await.map_err(Error::unreachable)?;
            heard.await.map_err(Error::unreachable)?;
            Ok::<_, Error>(channel)
        };
        let channel = match tokio::time::timeout(patience + GRACE, connecting).await {
            Ok(connected) => connected?,
            Err(_) => {
                let late = format!("it has said nothing within {patience:?}");
                return Err(Error::unreachable(late));
            }
        };
        self.build(Transport::new(channel, token))
    }

    /// A client over a connection that was made elsewhere, such as, in a test, one that never leaves the
    /// process. The address, the name and the certificates given to the builder play no part; a token is
    /// shown to whoever is at the other end.
    ///
    /// # Panics
    ///
    /// With a lease, outside a tokio runtime: the heartbeat needs one.
    pub fn over(mut self, channel: Channel) -> Result<Client, Error> {
        let token = self.token.take().map(token::Source::load).transpose()?;
        self.build(Transport::new(channel, token))
    }

    fn build(self, transport: Transport) -> Result<Client, Error> {
        if let Some(ttl) = self.settings.lease_ttl {
            heartbeat::check(ttl)?;
        }
        let leased = self.settings.lease_ttl;
        let client = Client(Arc::new(Core {
            transport,
            settings: self.settings,
            budget: Budget::new(),
            registry: Arc::new(Registry::new(leased)),
            background: Background::new(),
            heartbeat: OnceLock::new(),
        }));
        if let Some(ttl) = leased {
            let task = heartbeat::spawn(&client, ttl);
            client.0.heartbeat.set(task).expect("a client has one heartbeat");
        }
        Ok(client)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(task) = self.heartbeat.get() {
            task.abort();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
