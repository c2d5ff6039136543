//! `jet-session session`: beginning, binding, looking at and ending sessions.

use clap::{Args, Subcommand};

use crate::domain::id::{ContextValue, InstanceId, ThreadId};
use crate::proto::api::{
    BeginSessionRequest, DuplicateSessionRequest, EndSessionRequest, GetSessionRequest,
    ListSessionsRequest, ListSessionsResponse, ResetSessionContextRequest, SessionFilter,
    SetSessionContextRequest,
};

use super::connect::{DECIDED, Options};
use super::failure::Failure;
use super::notation::{self, SessionRef};
use super::output::{Output, View};
use super::paging::{Limit, Listed};
use super::thread::CallingThread;

mod transaction;
mod view;

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
    /// Begin a session and print its name
    Begin {
        #[command(flatten)]
        instance: InstanceOption,
        /// Label it, up to 8 times
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = notation::label)]
        labels: Vec<(String, String)>,
    },
    /// Set a session's context for this thread and print the fencing token
    Set {
        #[command(flatten)]
        session: SessionArg,
        /// Word to set, decimal or 0x hexadecimal; not 0 and not all ones
        #[arg(value_parser = notation::context)]
        context: ContextValue,
        #[command(flatten)]
        thread: CallingThread,
    },
    /// Reset a session's context, which this thread has set, and print the revision
    Reset {
        #[command(flatten)]
        session: SessionArg,
        /// Only if this is still the fencing token
        #[arg(long, value_name = "TOKEN")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        token: Option<u64>,
        #[command(flatten)]
        thread: CallingThread,
    },
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
    /// Show one session
    Show(SessionArg),
    /// Begin a session on the instance of another one and print its name
    Duplicate(SessionArg),
    /// Begin, commit and roll back transactions
    #[command(subcommand)]
    Transaction(transaction::Command),
}

/// What `session list` takes.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    instance: InstanceOption,
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
    #[command(flatten)]
    limit: Limit,
}

impl Command {
    /// Asks the server and shows the answer.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        if let Self::Transaction(command) = self {
            return command.run(options, out).await;
        }
        let server = options.connect(DECIDED).await?;
        let mut sessions = server.sessions();
        match self {
            Self::Begin { instance, labels } => {
                let request = server.request(BeginSessionRequest {
                    instance: instance.instance.name(),
                    labels: labels.into_iter().collect(),
                    ..BeginSessionRequest::default()
                });
                let answer = server.answer(sessions.begin_session(request)).await?;
                out.answer("BeginSessionResponse", &answer, view::name(answer.session.as_ref()))
            }
            Self::Set { session, context, thread } => {
                let request = server.request(SetSessionContextRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    context: context.get(),
                    ..SetSessionContextRequest::default()
                });
                let answer = server.answer(sessions.set_session_context(request)).await?;
                if answer.abandoned {
                    out.note("its last holder was cut off: its work may be half done")?;
                }
                let token = View::Value(answer.fencing_token.to_string());
                out.answer("SetSessionContextResponse", &answer, token)
            }
            Self::Reset { session, token, thread } => {
                let request = server.request(ResetSessionContextRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    fencing_token: token.unwrap_or(0),
                    ..ResetSessionContextRequest::default()
                });
                let answer = server.answer(sessions.reset_session_context(request)).await?;
                let revision = View::Value(answer.revision.to_string());
                out.answer("ResetSessionContextResponse", &answer, revision)
            }
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
        ListSessionsRequest {
            parent: self.instance.instance.name(),
            page_size,
            page_token,
            filter: (filter != SessionFilter::default()).then_some(filter),
        }
    }
}
