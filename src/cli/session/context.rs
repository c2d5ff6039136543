//! Taking a session's context, handing it over, proving that one has it, letting it go.

use std::time::Duration;

use clap::Args;

use crate::cli::connect::{Connection, DECIDED};
use crate::cli::failure::Failure;
use crate::cli::notation;
use crate::cli::output::{Output, View};
use crate::cli::thread::CallingThread;
use crate::domain::id::{ContextValue, ThreadId};
use crate::proto::api::{
    CheckSessionContextRequest, ClaimSessionContextRequest, ForceResetSessionContextRequest,
    ResetSessionContextRequest, SetSessionContextRequest, TransferSessionContextRequest,
};

use super::{InstanceOption, SessionArg, view};

/// How a session is taken.
#[derive(Debug, Args)]
pub(in crate::cli) struct Taking {
    /// Word to set, decimal or 0x hexadecimal; not 0 and not all ones
    #[arg(value_parser = notation::context)]
    context: ContextValue,
    /// Wait for it so long, first come first served [default: do not wait]
    #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
    wait: Option<Duration>,
    /// Put all that the thread holds under a lease of this time to live, 1s to 1d
    #[arg(long, value_name = "DURATION", value_parser = notation::duration)]
    lease: Option<Duration>,
    #[command(flatten)]
    thread: CallingThread,
}

impl Taking {
    /// How long the call may take unless the person says otherwise.
    pub(super) fn usual(&self) -> Duration {
        DECIDED.saturating_add(self.wait.unwrap_or_default())
    }
}

/// What `session set` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    session: SessionArg,
    #[command(flatten)]
    pub(super) taking: Taking,
}

/// What `session claim` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Claim {
    #[command(flatten)]
    pub(super) taking: Taking,
    #[command(flatten)]
    instance: InstanceOption,
    /// Only sessions with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = notation::label)]
    labels: Vec<(String, String)>,
}

/// What `session reset` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Reset {
    #[command(flatten)]
    session: SessionArg,
    /// Only if this is still the fencing token
    #[arg(long, value_name = "TOKEN")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    token: Option<u64>,
    #[command(flatten)]
    thread: CallingThread,
}

/// What `session transfer` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Transfer {
    #[command(flatten)]
    session: SessionArg,
    /// Thread that holds the session then
    to_thread: ThreadId,
    /// Only if this is still the fencing token
    #[arg(long, value_name = "TOKEN")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    token: Option<u64>,
    /// Principal that the thread belongs to [default: the caller's]
    #[arg(long, value_name = "PRINCIPAL")]
    to_principal: Option<String>,
    #[command(flatten)]
    thread: CallingThread,
}

/// What `session check` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    #[command(flatten)]
    session: SessionArg,
    /// Fencing token that the thread says it holds the session with
    #[arg(long, value_name = "TOKEN")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    token: u64,
    #[command(flatten)]
    thread: CallingThread,
}

/// What `session force-reset` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ForceReset {
    #[command(flatten)]
    session: SessionArg,
    /// Fencing token of the holder that was seen, so that no later one is cut off
    #[arg(long, value_name = "TOKEN")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    token: u64,
    /// Why, for those who lose it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

fn message(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| prost_types::Duration::try_from(duration).ok())
}

fn warn(abandoned: bool, out: &mut Output<'_>) -> Result<(), Failure> {
    if abandoned {
        out.note("its last holder was cut off: its work may be half done")?;
    }
    Ok(())
}

impl Set {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(SetSessionContextRequest {
            session: self.session.name(),
            thread_id: self.taking.thread.id(),
            context: self.taking.context.get(),
            wait_timeout: message(self.taking.wait),
            lease_ttl: message(self.taking.lease),
            ..SetSessionContextRequest::default()
        });
        let answer = server.answer(server.sessions().set_session_context(request)).await?;
        warn(answer.abandoned, out)?;
        let token = View::Value(answer.fencing_token.to_string());
        out.answer("SetSessionContextResponse", &answer, token)
    }
}

impl Claim {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(ClaimSessionContextRequest {
            parent: self.instance.instance.name(),
            labels: self.labels.into_iter().collect(),
            thread_id: self.taking.thread.id(),
            context: self.taking.context.get(),
            wait_timeout: message(self.taking.wait),
            lease_ttl: message(self.taking.lease),
            ..ClaimSessionContextRequest::default()
        });
        let answer = server.answer(server.sessions().claim_session_context(request)).await?;
        warn(answer.abandoned, out)?;
        let claimed = view::claimed(answer.session.as_ref(), answer.fencing_token);
        out.answer("ClaimSessionContextResponse", &answer, claimed)
    }
}

impl Reset {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(ResetSessionContextRequest {
            session: self.session.name(),
            thread_id: self.thread.id(),
            fencing_token: self.token.unwrap_or(0),
            ..ResetSessionContextRequest::default()
        });
        let answer = server.answer(server.sessions().reset_session_context(request)).await?;
        let revision = View::Value(answer.revision.to_string());
        out.answer("ResetSessionContextResponse", &answer, revision)
    }
}

impl Transfer {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(TransferSessionContextRequest {
            session: self.session.name(),
            thread_id: self.thread.id(),
            to_thread_id: self.to_thread.to_string(),
            fencing_token: self.token.unwrap_or(0),
            to_principal: self.to_principal.unwrap_or_default(),
            ..TransferSessionContextRequest::default()
        });
        let answer = server.answer(server.sessions().transfer_session_context(request)).await?;
        let token = View::Value(answer.fencing_token.to_string());
        out.answer("TransferSessionContextResponse", &answer, token)
    }
}

impl Check {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(CheckSessionContextRequest {
            session: self.session.name(),
            thread_id: self.thread.id(),
            fencing_token: self.token,
        });
        let answer = server.answer(server.sessions().check_session_context(request)).await?;
        let shown = view::properties(answer.session.as_ref());
        out.answer("CheckSessionContextResponse", &answer, shown)
    }
}

impl ForceReset {
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let request = server.request(ForceResetSessionContextRequest {
            session: self.session.name(),
            fencing_token: self.token,
            reason: self.reason,
            ..ForceResetSessionContextRequest::default()
        });
        let answer = server.answer(server.sessions().force_reset_session_context(request)).await?;
        let revision = View::Value(answer.revision.to_string());
        out.answer("ForceResetSessionContextResponse", &answer, revision)
    }
}
