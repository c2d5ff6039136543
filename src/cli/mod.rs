//! The command line: `serve` starts the server, every other command is a client of one.
//!
//! A client command writes its request, waits for the answer, and shows it: the data on stdout and
//! nothing else, what went wrong on stderr, and how it went in the exit code ([`Exit`]). It decides
//! nothing that the server decides, and it holds no state. It must never panic over what a person
//! typed, a server answered or a pipe refused.
//!
//! Reading order: this file, `session` as the example of a noun, `connect` for how a server is
//! reached, `output` for what is shown, `failure` and `refusal` for what went wrong.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

mod bench;
mod connect;
mod error;
mod failure;
mod healthcheck;
mod instance;
mod json;
mod log;
mod notation;
mod output;
mod paging;
mod refusal;
mod serve;
mod server_info;
mod session;
mod thread;
mod threads;
mod token;
mod usage;

pub use failure::Exit;

use failure::Failure;
use output::Output;

/// What `--version` prints after the name.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("JET_SESSION_COMMIT"), ")");

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  refused for any other reason, or failed on this side
  2  the command line or the configuration is wrong
  3  somebody else has it: the session, its context or its transaction (-1910, -1912, -1913,
     -1914, a stale fencing token)
  4  no such instance or session (-1115, -1104), or nothing of that name to check
  5  the server cannot be reached, is not ready, or did not answer in time
  6  not allowed: the server does not know who asks (UNAUTHENTICATED) or does not let them
     (PERMISSION_DENIED), or one side does not trust the other's certificate";

/// Who may use this session right now: the session contexts of ESE, as a service.
///
/// Without `serve`, a client of a running server. Answers go to stdout, anything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "jet-session", version = VERSION, after_help = AFTER_HELP)]
pub struct CommandLine {
    #[command(flatten)]
    options: connect::Options,

    /// Print JSON (proto3 JSON of the API's messages), also of a refusal
    #[arg(long, global = true, help_heading = connect::HEADING)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::ServeArgs),
    /// Look at the configuration of a server
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Begin, bind, look at and end sessions
    #[command(subcommand)]
    Session(session::Command),
    /// Look at threads, keep them alive and end them
    #[command(subcommand)]
    Thread(threads::Command),
    /// Create, move, look at and delete instances
    #[command(subcommand)]
    Instance(instance::Command),
    /// Drive a running server and say how fast it answers
    Bench(bench::BenchArgs),
    /// Verify, print or repair a data directory that no server has
    #[command(subcommand)]
    Log(log::Command),
    /// Draw a bearer token for a client, and its entry for the server's file
    Token(token::Args),
    /// Explain a JET error, without a server
    Error(error::Args),
    /// Print what the server is, and its limits
    ServerInfo,
    /// Exit with 0 only if the server is serving (grpc.health.v1)
    Healthcheck(healthcheck::Args),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Look whether a server would start with these settings, and say all that is wrong
    Check(serve::ServerArgs),
}

/// Reads the command line. Help, the version and what is wrong with it are printed here; `Err` says
/// how to exit then.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Exit> {
    definition()
        .try_get_matches_from(args)
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map_err(|error| usage::print(&error))
}

/// The whole tree of commands.
///
/// Global options reach every command. Where one means nothing it stays accepted, for the sake of
/// scripts that pass it everywhere, but the help does not show it.
fn definition() -> clap::Command {
    let root = CommandLine::command();
    let hidden = |wanted: &[&str]| -> Vec<Arg> {
        let options = root.get_arguments();
        options
            .filter(|arg| arg.is_global_set() && wanted.contains(&arg.get_id().as_str()))
            .map(|arg| arg.clone().hide(true))
            .collect()
    };
    let asking = [&["server", "timeout"][..], &connect::IDENTITY].concat();
    let (not_serving, offline) = (hidden(&[&asking[..], &["json"]].concat()), hidden(&asking));
    root.mut_subcommand("serve", |serve| serve.args(not_serving.clone()))
        .mut_subcommand("config", |config| {
            config
                .args(not_serving.clone())
                .mut_subcommands(|command| command.args(not_serving.clone()))
        })
        .mut_subcommand("error", |error| error.args(offline.clone()))
        .mut_subcommand("token", |token| token.args(offline.clone()))
        .mut_subcommand("log", |log| {
            log.args(offline.clone()).mut_subcommands(|command| command.args(offline.clone()))
        })
}

impl CommandLine {
    /// Does what was asked and shows the answer, or why there is none.
    pub fn run(self) -> Exit {
        let Self { options, json, command } = self;
        let outcome = match command {
            // A server writes to stdout and stderr from many threads: nothing may be locked.
            Command::Serve(args) => serve::run(&args).map_err(Failure::from),
            Command::Config(ConfigCommand::Check(args)) => {
                serve::check(&args).map_err(Failure::from)
            }
            Command::Session(command) => client(json, async |out| command.run(&options, out).await),
            Command::Thread(command) => client(json, async |out| command.run(&options, out).await),
            Command::Instance(command) => {
                client(json, async |out| command.run(&options, out).await)
            }
            // It has threads of its own.
            Command::Bench(args) => show(json, |out| args.run(&options, out)),
            Command::Log(command) => show(json, |out| command.run(out)),
            Command::Token(args) => show(json, |out| args.run(out)),
            Command::Error(args) => show(json, |out| args.run(out)),
            Command::ServerInfo => client(json, async |out| server_info::run(&options, out).await),
            Command::Healthcheck(args) => client(json, async |out| args.run(&options, out).await),
        };
        let Err(failure) = outcome else {
            return Exit::Done;
        };
        let text = if json { failure.json() } else { failure.text() };
        if let Some(text) = text {
            // Nobody is left to be told that stderr is closed; the exit code still says it.
            drop(writeln!(io::stderr(), "{text}"));
        }
        failure.exit()
    }
}

/// Runs a command that shows something.
fn show(
    json: bool,
    command: impl FnOnce(&mut Output<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let mut stderr = io::stderr().lock();
    let mut out = Output::new(json, &mut stdout, &mut stderr);
    command(&mut out)?;
    Ok(stdout.flush()?)
}

/// Runs a command that asks a server and shows its answer.
fn client(
    json: bool,
    command: impl AsyncFnOnce(&mut Output<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    show(json, |out| runtime.block_on(command(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_commands_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn options_of_a_client_may_stand_anywhere_and_are_not_shown_to_a_server() {
        for line in [
            "jet-session --json --timeout 1s session list",
            "jet-session session list --json --timeout 1s",
            "jet-session --server h:1 error -1913 --json",
        ] {
            assert!(parse_line(line).is_ok(), "{line}");
        }
        let mut tree = definition();
        tree.build();
        let help = |name: &str| {
            let command = tree.find_subcommand(name).unwrap();
            command.clone().render_long_help().to_string()
        };
        for command in ["serve", "error"] {
            let help = help(command);
            assert!(!help.contains("--server") && !help.contains("--token-file"), "{help}");
            assert!(!help.contains("--ca ") && !help.contains("--key "), "{help}");
        }
        assert!(help("error").contains("--json"));
        let log = tree.find_subcommand("log").unwrap().find_subcommand("dump").unwrap();
        let help_of_log = log.clone().render_long_help().to_string();
        assert!(!help_of_log.contains("--server") && help_of_log.contains("--json"));
        assert!(help("healthcheck").contains("--server"));
    }

    #[test]
    fn a_negative_number_is_no_option() {
        assert!(parse_line("jet-session error -1913").is_ok());
    }

    fn parse_line(line: &str) -> Result<CommandLine, clap::Error> {
        let matches = definition().try_get_matches_from(line.split(' '))?;
        CommandLine::from_arg_matches(&matches)
    }
}
