//! `jet-session session transaction`: the transactions of a session.

use clap::Subcommand;

use crate::proto::api::{
    BeginTransactionRequest, CommitTransactionRequest, RollbackTransactionRequest,
};

use super::SessionArg;
use crate::cli::connect::{DECIDED, Options};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, View};
use crate::cli::thread::CallingThread;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Begin a transaction, or one more level of it, and print the level
    Begin {
        #[command(flatten)]
        session: SessionArg,
        #[command(flatten)]
        thread: CallingThread,
    },
    /// Commit the innermost level and print the level then
    Commit {
        #[command(flatten)]
        session: SessionArg,
        #[command(flatten)]
        thread: CallingThread,
    },
    /// Roll the innermost level back and print the level then
    Rollback {
        #[command(flatten)]
        session: SessionArg,
        /// Roll every level back
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        thread: CallingThread,
    },
}

impl Command {
    /// Asks the server and shows the level.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        let server = options.connect(DECIDED).await?;
        let mut sessions = server.sessions();
        let level = |level: i32| View::Value(level.to_string());
        match self {
            Self::Begin { session, thread } => {
                let request = server.request(BeginTransactionRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    ..BeginTransactionRequest::default()
                });
                let answer = server.answer(sessions.begin_transaction(request)).await?;
                let view = level(answer.transaction_level);
                out.answer("BeginTransactionResponse", &answer, view)
            }
            Self::Commit { session, thread } => {
                let request = server.request(CommitTransactionRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    ..CommitTransactionRequest::default()
                });
                let answer = server.answer(sessions.commit_transaction(request)).await?;
                let view = level(answer.transaction_level);
                out.answer("CommitTransactionResponse", &answer, view)
            }
            Self::Rollback { session, all, thread } => {
                let request = server.request(RollbackTransactionRequest {
                    session: session.name(),
                    thread_id: thread.id(),
                    all_levels: all,
                    ..RollbackTransactionRequest::default()
                });
                let answer = server.answer(sessions.rollback_transaction(request)).await?;
                let view = level(answer.transaction_level);
                out.answer("RollbackTransactionResponse", &answer, view)
            }
        }
    }
}
