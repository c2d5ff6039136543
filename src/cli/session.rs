//! `jet-session session`: beginning, binding, looking at and ending sessions.

use clap::{Args, Subcommand};

use crate::domain::id::{InstanceId, ThreadId};
use crate::proto::api::{
    BatchBeginSessionsRequest, BeginSessionRequest, DuplicateSessionRequest, EndSessionRequest,
    GetSessionRequest, ListSessionsRequest, ListSessionsResponse, SessionFilter,
};

use super::connect::{DECIDED, Options};
use super::failure::Failure;
use super::notation::{self, SessionRef};
use super::output::{Output, View};
use super::paging::{Limit, Listed};
use super::thread::CallingThread;

mod context;
mod transaction;
mod view;
mod watch;

/// The instance that is meant where none is named.
#[derive(Debug, Args)]
pub(super) struct InstanceOption {
    /// Instance to work in
    #[arg(long, value_name = "INSTANCE", env = "JET_SESSION_INSTANCE", default_value = "main")]
    #[arg(value_parser = notation::instance)]
    instance: InstanceId,
}

/// The session that is meant.
#[derive(Debug, Args)]
pub(super) struct SessionArg {
    /// Session: 1, main/1 or instances/main/sessions/1
    #[arg(value_parser = notation::session)]
    session: SessionRef,

    #[command(flatten)]
    instance: InstanceOption,
}

impl SessionArg {
    /// The full name of the session.
    pub(super) fn name(&self) -> String {
        self.session.name(&self.instance.instance)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Begin a session, or several, and print the name of each
    Begin {
        /// How many, all or none, 1 to 1000 [default: one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1_000))]
        count: Option<i32>,
        #[command(flatten)]
        instance: InstanceOption,
        /// Label it, up to 8 times
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = notation::label)]
        labels: Vec<(String, String)>,
    },
    /// Set a session's context for this thread and print the fencing token
    Set(context::Set),
    /// Set the context of any free session for this thread; print its name and the fencing token
    Claim(context::Claim),
    /// Reset a session's context, which this thread has set, and print the revision
    Reset(context::Reset),
    /// Hand a session that this thread holds over to another one and print its fencing token
    Transfer(context::Transfer),
    /// Succeed only if this thread holds the session with this token, and show the session
    Check(context::Check),
    /// Take a session away from its holder (for operators) and print the revision
    ForceReset(context::ForceReset),
    /// End a session; what is open on it is rolled back
    End {
        #[command(flatten)]
        session: SessionArg,
        /// End it whatever holds it (for operators)
        #[arg(long, requires = "reason")]
        force: bool,
        /// Why it is forced, for those who lose it
        #[arg(long, value_name = "TEXT", requires = "force")]
        reason: Option<String>,
        #[command(flatten)]
        thread: CallingThread,
    },
    /// List the sessions of an instance
    List(List),
    /// Print what happens to sessions, as it happens
    Watch(watch::Watch),
    /// Show one session
    Show(SessionArg),
    /// Begin a session on the instance of another one and print its name
    Duplicate(SessionArg),
    /// Begin, commit and roll back transactions
    #[command(subcommand)]
    Transaction(transaction::Command),
}

/// Which sessions are meant.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only sessions with a context set
    #[arg(long, conflicts_with = "free")]
    bound: bool,
    /// Only sessions without a context
    #[arg(long)]
    free: bool,
    /// Only sessions whose context this thread has set
    #[arg(long, value_name = "THREAD")]
    held_by: Option<ThreadId>,
    /// Only sessions with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = notation::label)]
    labels: Vec<(String, String)>,
}

/// What `session list` takes.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    instance: InstanceOption,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    limit: Limit,
}

impl Command {
    /// Asks the server and shows the answer.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        if let Self::Transaction(command) = self {
            return command.run(options, out).await;
        }
        let usual = match &self {
            Self::Set(set) => set.taking.usual(),
            Self::Claim(claim) => claim.taking.usual(),
            Self::Begin { .. }
            | Self::Reset(_)
            | Self::Transfer(_)
            | Self::Check(_)
            | Self::ForceReset(_)
            | Self::End { .. }
            | Self::List(_)
            | Self::Watch(_)
            | Self::Show(_)
            | Self::Duplicate(_)
            | Self::Transaction(_) => DECIDED,
        };
        let server = options.connect(usual).await?;
        let mut sessions = server.sessions();
        match self {
            Self::Begin { count: Some(count), instance, labels } => {
                let request = server.request(BatchBeginSessionsRequest {
                    instance: instance.instance.name(),
                    count,
                    labels: labels.into_iter().collect(),
                    ..BatchBeginSessionsRequest::default()
                });
                let answer = server.answer(sessions.batch_begin_sessions(request)).await?;
                out.answer("BatchBeginSessionsResponse", &answer, view::names(&answer.sessions))
            }
            Self::Begin { count: None, instance, labels } => {
                let request = server.request(BeginSessionRequest {
                    instance: instance.instance.name(),
                    labels: labels.into_iter().collect(),
                    ..BeginSessionRequest::default()
                });
                let answer = server.answer(sessions.begin_session(request)).await?;
                out.answer("BeginSessionResponse", &answer, view::name(answer.session.as_ref()))
            }
            Self::Set(set) => set.run(&server, out).await,
            Self::Claim(claim) => claim.run(&server, out).await,
            Self::Reset(reset) => reset.run(&server, out).await,
            Self::Transfer(transfer) => transfer.run(&server, out).await,
            Self::Check(check) => check.run(&server, out).await,
            Self::ForceReset(force) => force.run(&server, out).await,
            Self::Watch(watch) => watch.run(&server, out).await,
            Self::End { session, force, reason, thread } => {
                let request = server.request(EndSessionRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    force,
                    reason: reason.unwrap_or_default(),
                    ..EndSessionRequest::default()
                });
                let answer = server.answer(sessions.end_session(request)).await?;
                out.answer("EndSessionResponse", &answer, View::Nothing)
            }
            Self::Show(session) => {
                let request = server.request(GetSessionRequest { name: session.name() });
                let answer = server.answer(sessions.get_session(request)).await?;
                let shown = view::properties(answer.session.as_ref());
                out.answer("GetSessionResponse", &answer, shown)
            }
            Self::Duplicate(session) => {
                let request = server.request(DuplicateSessionRequest {
                    session: session.name(),
                    ..DuplicateSessionRequest::default()
                });
                let answer = server.answer(sessions.duplicate_session(request)).await?;
                out.answer("DuplicateSessionResponse", &answer, view::name(answer.session.as_ref()))
            }
            Self::List(list) => {
                let read = list.limit.read(async |size, token| {
                    let request = server.request(list.request(size, token));
                    let page = server.answer(sessions.list_sessions(request)).await?;
                    Ok((page.sessions, page.next_page_token))
                });
                let Listed { items, next } = read.await?;
                if !next.is_empty() {
                    out.note("there are more; --limit ended the list")?;
                }
                let rows = view::table(&items);
                let answer = ListSessionsResponse { sessions: items, next_page_token: next };
                out.answer("ListSessionsResponse", &answer, rows)
            }
            Self::Transaction(command) => command.run(options, out).await,
        }
    }
}

impl List {
    fn request(&self, page_size: i32, page_token: String) -> ListSessionsRequest {
        ListSessionsRequest {
            parent: self.instance.instance.name(),
            page_size,
            page_token,
            filter: self.filter.message(),
        }
    }
}

impl Filter {
    /// The filter of a request, if anything is left out.
    fn message(&self) -> Option<SessionFilter> {
        let bound = match (self.bound, self.free) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        let thread = self.held_by.as_ref().map(ThreadId::to_string);
        let filter = SessionFilter {
            bound,
            thread_id: thread.unwrap_or_default(),
            labels: self.labels.iter().cloned().collect(),
        };
        (filter != SessionFilter::default()).then_some(filter)
    }
}
