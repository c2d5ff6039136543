//! `jet-session instance`: creating, moving, watching and deleting instances.

use clap::{Args, Subcommand, ValueEnum};

use crate::domain::id::InstanceId;
use crate::proto::api::{
    CreateInstanceRequest, DeleteInstanceRequest, Durability, GetInstanceRequest,
    InitializeInstanceRequest, ListInstancesRequest, ListInstancesResponse, StopInstanceRequest,
    TerminateInstanceRequest, TerminateMode, WatchInstancesRequest,
};

use super::connect::{Connection, DECIDED, MOVED, Options};
use super::failure::Failure;
use super::notation;
use super::output::{Output, View};
use super::paging::{Limit, Listed};

mod backup;
mod view;

/// The instance that is meant.
#[derive(Debug, Args)]
pub(super) struct InstanceArg {
    /// Instance: main or instances/main
    #[arg(value_parser = notation::instance)]
    instance: InstanceId,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an instance; it serves after `init`
    Create {
        #[command(flatten)]
        instance: InstanceArg,
        /// Label it, up to 8 times
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = notation::label)]
        labels: Vec<(String, String)>,
        /// Sessions that it can have at once [default: the server's]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        max_sessions: Option<i32>,
        /// What an acknowledged change survives
        #[arg(long, value_enum, default_value_t = DurabilityArg::Flush)]
        durability: DurabilityArg,
    },
    /// List all instances
    List(Limit),
    /// Show one instance
    Show(InstanceArg),
    /// Initialise an instance: open its store and serve
    Init(InstanceArg),
    /// Stop an instance: owners may let go, nobody may take
    Stop {
        #[command(flatten)]
        instance: InstanceArg,
        /// Let a stopped instance go on
        #[arg(long)]
        resume: bool,
    },
    /// Terminate an instance: end its sessions and its service, keep its name
    Terminate {
        #[command(flatten)]
        instance: InstanceArg,
        /// How to treat what is still going on
        #[arg(long, value_enum, default_value_t = ModeArg::Complete)]
        mode: ModeArg,
    },
    /// Delete a terminated instance and its name
    Delete(InstanceArg),
    /// Write a backup of a ready or stopped instance to a file
    Backup(backup::BackupArgs),
    /// Read a backup into a created instance, of this or another name
    Restore(backup::RestoreArgs),
    /// Print instances as they are, and again whenever they change
    Watch {
        /// Instances to watch [default: all]
        #[arg(value_name = "INSTANCE", value_parser = notation::instance)]
        instances: Vec<InstanceId>,
    },
}

/// Durability, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DurabilityArg {
    /// A crash of the server and of its machine
    Flush,
    /// Only an orderly end: a crash may take back the newest changes
    Lazy,
}

/// How to terminate, as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ModeArg {
    /// Refuse while a backup is taken or a transaction is open
    Complete,
    /// End a running backup; refuse while a transaction is open
    Abrupt,
    /// End a running backup and roll open transactions back
    Force,
}

impl Command {
    /// Asks the server and shows the answer.
    pub(super) async fn run(self, options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
        let usual = match self {
            Self::Init(_) | Self::Terminate { .. } => MOVED,
            Self::Create { .. }
            | Self::List(_)
            | Self::Show(_)
            | Self::Stop { .. }
            | Self::Delete(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Watch { .. } => DECIDED,
        };
        let server = options.connect(usual).await?;
        let mut instances = server.instances();
        match self {
            Self::Create { instance, labels, max_sessions, durability } => {
                let durability = match durability {
                    DurabilityArg::Flush => Durability::Flush,
                    DurabilityArg::Lazy => Durability::Lazy,
                };
                let request = server.request(CreateInstanceRequest {
                    instance_id: instance.instance.to_string(),
                    labels: labels.into_iter().collect(),
                    max_sessions: max_sessions.unwrap_or(0),
                    durability: durability.into(),
                    ..CreateInstanceRequest::default()
                });
                let answer = server.answer(instances.create_instance(request)).await?;
                out.answer("CreateInstanceResponse", &answer, view::table(&answer.instance))
            }
            Self::Init(instance) => {
                let request = server.request(InitializeInstanceRequest {
                    name: instance.instance.name(),
                    ..InitializeInstanceRequest::default()
                });
                let answer = server.answer(instances.initialize_instance(request)).await?;
                out.answer("InitializeInstanceResponse", &answer, view::table(&answer.instance))
            }
            Self::Stop { instance, resume } => {
                let request = server.request(StopInstanceRequest {
                    name: instance.instance.name(),
                    resume,
                    ..StopInstanceRequest::default()
                });
                let answer = server.answer(instances.stop_instance(request)).await?;
                out.answer("StopInstanceResponse", &answer, view::table(&answer.instance))
            }
            Self::Terminate { instance, mode } => {
                let mode = match mode {
                    ModeArg::Complete => TerminateMode::Complete,
                    ModeArg::Abrupt => TerminateMode::Abrupt,
                    ModeArg::Force => TerminateMode::Force,
                };
                let request = server.request(TerminateInstanceRequest {
                    name: instance.instance.name(),
                    mode: mode.into(),
                    ..TerminateInstanceRequest::default()
                });
                let answer = server.answer(instances.terminate_instance(request)).await?;
                out.answer("TerminateInstanceResponse", &answer, view::table(&answer.instance))
            }
            Self::Delete(instance) => {
                let request = server.request(DeleteInstanceRequest {
                    name: instance.instance.name(),
                    ..DeleteInstanceRequest::default()
                });
                let answer = server.answer(instances.delete_instance(request)).await?;
                out.answer("DeleteInstanceResponse", &answer, View::Nothing)
            }
            Self::Show(instance) => {
                let request = server.request(GetInstanceRequest { name: instance.instance.name() });
                let answer = server.answer(instances.get_instance(request)).await?;
                let shown = view::properties(answer.instance.as_ref());
                out.answer("GetInstanceResponse", &answer, shown)
            }
            Self::List(limit) => {
                let read = limit.read(async |page_size, page_token| {
                    let request = server.request(ListInstancesRequest { page_size, page_token });
                    let page = server.answer(instances.list_instances(request)).await?;
                    Ok((page.instances, page.next_page_token))
                });
                let Listed { items, next } = read.await?;
                if !next.is_empty() {
                    out.note("there are more; --limit ended the list")?;
                }
                let rows = view::table(&items);
                let answer = ListInstancesResponse { instances: items, next_page_token: next };
                out.answer("ListInstancesResponse", &answer, rows)
            }
            Self::Backup(args) => args.run(&server, out).await,
            Self::Restore(args) => args.run(&server, out).await,
            Self::Watch { instances } => watch(&server, &instances, out).await,
        }
    }
}

/// Prints what changes until the server ends it, or the time that was asked for is over.
async fn watch(
    server: &Connection,
    names: &[InstanceId],
    out: &mut Output<'_>,
) -> Result<(), Failure> {
    let request = server
        .endless(WatchInstancesRequest { names: names.iter().map(InstanceId::name).collect() });
    let mut changes = server.answer(server.instances().watch_instances(request)).await?;
    let follow = async {
        loop {
            match changes.message().await {
                Ok(Some(change)) => {
                    let seen = change.instance.as_ref().map(view::line).unwrap_or_default();
                    out.event("WatchInstancesResponse", &change, seen)?;
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(server.failure(status)),
            }
        }
    };
    match server.limit() {
        // To have watched for as long as was asked is success.
        Some(limit) => tokio::time::timeout(limit, follow).await.unwrap_or(Ok(())),
        None => follow.await,
    }
}
