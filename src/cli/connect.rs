//! How a server is reached: its address, who asks, how long to wait, and one connection.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use tonic::{Request, Response, Status};

use crate::client::{self, Client, ErrorKind, Tls, Transport, Trouble};
use crate::proto::api::instance_service_client::InstanceServiceClient;
use crate::proto::api::session_service_client::SessionServiceClient;
use crate::proto::api::thread_service_client::ThreadServiceClient;

use super::failure::Failure;
use super::{VERSION, notation};

/// Where `serve` listens unless told otherwise.
const SERVER: &str = "127.0.0.1:50051";

/// Where the token may be instead of in a file. There is no flag for it: others can read command lines.
const TOKEN: &str = "JET_SESSION_TOKEN";

/// The part of the help that the options of every client command stand in.
pub(super) const HEADING: &str = "Client options";

/// How long calls may take that only have to be decided.
pub(super) const DECIDED: Duration = Duration::from_secs(10);

/// How long calls may take that answer when an instance has moved: a large store is opened in this.
pub(super) const MOVED: Duration = Duration::from_secs(300);

/// How long the server's own answer to a deadline is awaited before ours is given.
const GRACE: Duration = Duration::from_millis(200);

/// What every client command takes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Server to ask: https://HOST:PORT, http://HOST:PORT or unix:PATH. HOST:PORT alone is https if
    /// a certificate or a server name is given, else http
    // A text and not an address: a bad one in the environment must not keep `serve` from starting.
    #[arg(long, value_name = "ADDR", env = "JET_SESSION_SERVER", default_value = SERVER)]
    #[arg(global = true, help_heading = HEADING)]
    server: String,

    /// How long to wait for the answer, such as 500ms, 10s or 1m30s [default: 10s; 5m to initialise
    /// or terminate; 2s for a health check; no end for a watch]
    #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
    #[arg(global = true, help_heading = HEADING)]
    timeout: Option<Duration>,

    /// Authorities of which one has signed the server's certificate, as PEM [default: those that the
    /// system trusts]
    // Here and below an empty value is none, as an unset variable in a compose file makes it.
    #[arg(long, value_name = "FILE", env = "JET_SESSION_CA", global = true, help_heading = HEADING)]
    ca: Option<OsString>,

    /// Certificate to show the server, the chain first, as PEM
    #[arg(long, value_name = "FILE", env = "JET_SESSION_CERT", global = true)]
    #[arg(help_heading = HEADING)]
    cert: Option<OsString>,

    /// Private key of that certificate, as PEM
    #[arg(long, value_name = "FILE", env = "JET_SESSION_KEY", global = true, help_heading = HEADING)]
    key: Option<OsString>,

    /// Name in the server's certificate, if it is not that of its address
    #[arg(long, value_name = "NAME", env = "JET_SESSION_SERVER_NAME", global = true)]
    #[arg(help_heading = HEADING)]
    server_name: Option<String>,

    /// File with the bearer token to show; without it, the token in the variable JET_SESSION_TOKEN
    #[arg(long, value_name = "FILE", env = "JET_SESSION_TOKEN_FILE", global = true)]
    #[arg(help_heading = HEADING)]
    token_file: Option<OsString>,

    /// Show the token to another machine even in plaintext: for a network that is encrypted otherwise,
    /// such as a service mesh
    #[arg(long, global = true, help_heading = HEADING)]
    plaintext_token: bool,
}

/// What takes part in TLS or in showing who asks: of no use to commands that ask no server.
pub(super) const IDENTITY: [&str; 6] =
    ["ca", "cert", "key", "server_name", "token_file", "plaintext_token"];

impl Options {
    /// Connects to the server. Calls wait as long as the person said, else as long as `usual`.
    pub(super) async fn connect(&self, usual: Duration) -> Result<Connection, Failure> {
        let typed = match self.server.as_str() {
            "" => SERVER,
            typed => typed,
        };
        let tls = self.tls()?;
        let address = notation::server(typed, tls.is_some())
            .map_err(|rule| Failure::Usage(format!("invalid server address '{typed}': {rule}")))?;
        let server = typed.to_owned();
        let deadline = self.timeout.unwrap_or(usual);

        // A person sees what the server says, and decides about another try.
        let mut client = Client::builder(address)
            .user_agent(format!("jet-session/{VERSION}"))
            .timeout(deadline)
            .without_retries();
        if let Some(tls) = tls {
            client = client.tls(tls);
        }
        client = match (given(self.token_file.as_ref()), std::env::var_os(TOKEN)) {
            (Some(file), _) => client.token_file(file),
            (None, Some(token)) if !token.is_empty() => {
                let token = token.into_string();
                client.token(token.map_err(|_| Failure::Usage(format!("{TOKEN} is no text")))?)
            }
            (None, Some(_) | None) => client,
        };
        if self.plaintext_token {
            client = client.plaintext_token();
        }
        match client.connect().await {
            Ok(client) => Ok(Connection { client, server, deadline, limit: self.timeout }),
            Err(error) if error.kind() == ErrorKind::Malformed => {
                Err(Failure::Usage(error.to_string()))
            }
            Err(error) => Err(Failure::unreachable(&server, &error)),
        }
    }

    /// Whom to trust and what to show, if anything was said about it.
    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let mut tls = None;
        if let Some(ca) = given(self.ca.as_ref()) {
            tls = Some(Tls::new().ca_file(ca));
        }
        match (given(self.cert.as_ref()), given(self.key.as_ref())) {
            (Some(cert), Some(key)) => {
                tls = Some(tls.unwrap_or_default().identity_files(cert, key));
            }
            (None, None) => {}
            (Some(_), None) => return Err(Failure::Usage("--cert needs its --key".to_owned())),
            (None, Some(_)) => return Err(Failure::Usage("--key needs its --cert".to_owned())),
        }
        if let Some(name) = self.server_name.as_ref().filter(|name| !name.is_empty()) {
            tls = Some(tls.unwrap_or_default().server_name(name));
        }
        Ok(tls)
    }
}

fn given(file: Option<&OsString>) -> Option<&OsString> {
    file.filter(|file| !file.is_empty())
}

/// A connection to a server, and how patient its caller is.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    server: String,
    deadline: Duration,
    /// What was asked for by hand: the only end of a stream that has none by itself.
    limit: Option<Duration>,
}

impl Connection {
    /// The calls on sessions.
    pub(super) fn sessions(&self) -> SessionServiceClient<Transport> {
        self.client.raw_sessions()
    }

    /// The calls on instances.
    pub(super) fn instances(&self) -> InstanceServiceClient<Transport> {
        self.client.raw_instances()
    }

    /// The calls on threads.
    pub(super) fn threads(&self) -> ThreadServiceClient<Transport> {
        self.client.raw_threads()
    }

    /// The client library's own calls.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The connection, for services that are not ours.
    pub(super) fn transport(&self) -> Transport {
        self.client.transport()
    }

    /// A request with its deadline.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// A request for a stream without an end: it has a deadline only if one was asked for.
    pub(super) fn endless<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(limit) = self.limit {
            request.set_timeout(limit);
        }
        request
    }

    /// How long an answer is waited for.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long a stream may go on, if that was said.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Waits for the answer to a call, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.deadline + GRACE, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(status)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Waits for the answer to a call that takes as long as its stream, unless an end was asked for.
    pub(super) async fn begun<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        let call = async { call.await.map(Response::into_inner) };
        let Some(limit) = self.limit else {
            return call.await.map_err(|status| self.failure(status));
        };
        match tokio::time::timeout(limit + GRACE, call).await {
            Ok(answer) => answer.map_err(|status| self.failure(status)),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// What a status says. One that was made on this side says that the server did not answer.
    pub(super) fn failure(&self, status: Status) -> Failure {
        let ours = std::error::Error::source(&status).is_some();
        if !ours {
            return Failure::Refused(Box::new(status));
        }
        if status.code() == tonic::Code::Cancelled {
            return self.no_answer();
        }
        if Trouble::of(&status).is_some_and(|trouble| trouble.is_before_all()) {
            return Failure::unreachable(&self.server, &status);
        }
        Failure::broken(&self.server, &status)
    }

    /// What an error of the client library says.
    pub(super) fn error(&self, error: client::Error) -> Failure {
        match error.into_status() {
            Some(status) => self.failure(status),
            None => self.no_answer(),
        }
    }

    /// There was no answer in time.
    pub(super) fn no_answer(&self) -> Failure {
        Failure::NoAnswer { server: self.server.clone(), waited: self.deadline }
    }
}
