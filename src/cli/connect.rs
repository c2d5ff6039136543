//! How a server is reached: its address, how long to wait, and one connection.

use std::time::Duration;

use clap::Args;
use tonic::{Request, Response, Status};

use crate::client::{self, Client, Transport};
use crate::proto::api::instance_service_client::InstanceServiceClient;
use crate::proto::api::session_service_client::SessionServiceClient;
use crate::proto::api::thread_service_client::ThreadServiceClient;

use super::failure::Failure;
use super::{VERSION, notation};

/// Where `serve` listens unless told otherwise.
const SERVER: &str = "http://127.0.0.1:50051";

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
    /// Server to ask, HOST:PORT or http://HOST:PORT
    // A text and not an address: a bad one in the environment must not keep `serve` from starting.
    #[arg(long, value_name = "ADDR", env = "JET_SESSION_SERVER", default_value = SERVER)]
    #[arg(global = true, help_heading = HEADING)]
    server: String,

    /// How long to wait for the answer, such as 500ms, 10s or 1m30s [default: 10s; 5m to initialise
    /// or terminate; 2s for a health check; no end for a watch]
    #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
    #[arg(global = true, help_heading = HEADING)]
    timeout: Option<Duration>,
}

impl Options {
    /// Connects to the server. Calls wait as long as the person said, else as long as `usual`.
    pub(super) async fn connect(&self, usual: Duration) -> Result<Connection, Failure> {
        let typed = match self.server.as_str() {
            "" => SERVER,
            typed => typed,
        };
        let uri = notation::server(typed)
            .map_err(|rule| Failure::Usage(format!("invalid server address '{typed}': {rule}")))?;
        let server = typed.to_owned();
        let deadline = self.timeout.unwrap_or(usual);

        // A person sees what the server says, and decides about another try.
        let connecting = Client::builder(uri.to_string())
            .user_agent(format!("jet-session/{VERSION}"))
            .timeout(deadline)
            .without_retries()
            .connect();
        match connecting.await {
            Ok(client) => Ok(Connection { client, server, deadline, limit: self.timeout }),
            Err(error) => Err(Failure::unreachable(&server, &error)),
        }
    }
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
