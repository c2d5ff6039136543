//! `jet-session session watch`: what happens to sessions, line by line, as it happens.

use std::env;
use std::io::{self, IsTerminal};

use clap::Args;

use crate::cli::connect::Connection;
use crate::cli::failure::Failure;
use crate::cli::notation;
use crate::cli::output::Output;
use crate::domain::id::InstanceId;
use crate::proto::api::WatchSessionsResponse;

use super::{Filter, view};

/// What `session watch` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    /// Instance to watch
    #[arg(value_parser = notation::instance, env = "JET_SESSION_INSTANCE", default_value = "main")]
    instance: InstanceId,
    /// Begin with the first event at or after this revision [default: what is there, then what follows]
    #[arg(long, value_name = "REVISION")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    #[command(flatten)]
    filter: Filter,
}

impl Watch {
    /// Prints events until the time that was asked for is over or the server ends it for good. A
    /// connection that breaks is made again, and the watch goes on where it was.
    pub(super) async fn run(
        self,
        server: &Connection,
        out: &mut Output<'_>,
    ) -> Result<(), Failure> {
        let mut watch = server.client().watch_sessions(&self.instance);
        if let Some(revision) = self.from {
            watch = watch.from_revision(revision);
        }
        if let Some(filter) = self.filter.message() {
            watch = watch.filter(filter);
        }
        let coloured = !out.is_json() && coloured();
        let follow = async {
            loop {
                let event = watch.next().await.map_err(|error| server.error(error))?;
                let line = view::event(&event, coloured);
                let message = WatchSessionsResponse { event: Some(event) };
                out.event("WatchSessionsResponse", &message, line)?;
            }
        };
        match server.limit() {
            // To have watched for as long as was asked is success.
            Some(limit) => tokio::time::timeout(limit, follow).await.unwrap_or(Ok(())),
            None => follow.await,
        }
    }
}

/// Whether a person looks at it who wants colours (<https://no-color.org>).
fn coloured() -> bool {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}
