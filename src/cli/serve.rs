//! `jet-session serve`: run a server until SIGTERM or SIGINT.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{self, Config, KEYS, Key, Kind, Listen, Loaded, Mistakes, Sources, StoreKind};
use crate::server::{self, Ending, Ready, ServerError};
use crate::telemetry;

/// What is said about a server on the command line: a flag for each setting, and the file of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerArgs {
    flags: BTreeMap<&'static str, Vec<String>>,
    file: Option<PathBuf>,
}

/// The flag by which the default instance is left out.
const NO_DEFAULT_INSTANCE: &str = "no-default-instance";

impl ServerArgs {
    fn arguments() -> impl Iterator<Item = Arg> {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("JET_SESSION_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("File of settings, as TOML; flags and the environment count before it");
        let leave_out = Arg::new(NO_DEFAULT_INSTANCE)
            .long(NO_DEFAULT_INSTANCE)
            .action(ArgAction::SetTrue)
            .help("Do not create and initialise the instance main");
        let settings = KEYS.iter().filter(|key| key.name != "default_instance").map(flag);
        std::iter::once(file).chain(settings).chain(std::iter::once(leave_out))
    }

    /// Reads the configuration: this, the environment and the file.
    fn load(&self) -> Result<Loaded, ServeError> {
        let file = match &self.file {
            None => None,
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ServeError::File { name: name.clone(), source })?;
                Some(config::File { name, text })
            }
        };
        let text = |text: OsString| text.to_string_lossy().into_owned();
        let environment =
            std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let sources = Sources { flags: self.flags.clone(), environment, file };
        Loaded::read(&sources).map_err(ServeError::Configuration)
    }
}

fn flag(key: &'static Key) -> Arg {
    let arg = Arg::new(key.name).long(key.flag());
    let arg = match key.default {
        "" => arg.help(key.help),
        default => arg.help(format!("{} [default: {default}]", key.help)),
    };
    match key.kind {
        Kind::Switch => arg
            .value_parser(["true", "false"])
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
        Kind::List => arg.value_name(key.value).action(ArgAction::Append),
        Kind::Number | Kind::Fraction | Kind::Duration | Kind::Text => arg.value_name(key.value),
    }
}

impl Args for ServerArgs {
    fn augment_args(command: Command) -> Command {
        command.args(Self::arguments())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut read = Self::default();
        read.update_from_arg_matches(matches)?;
        Ok(read)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS.iter().filter(|key| key.name != "default_instance") {
            if let Some(values) = matches.get_many::<String>(key.name) {
                self.flags.insert(key.name, values.cloned().collect());
            }
        }
        if matches.get_flag(NO_DEFAULT_INSTANCE) {
            self.flags.insert("default_instance", vec!["false".to_owned()]);
        }
        self.file = matches.get_one("config").cloned();
        Ok(())
    }
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// Print the configuration that counts, and who said what of it, and exit
    #[arg(long)]
    print_config: bool,
}

/// Why `serve` ended badly, as one sentence for an operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("cannot read the configuration file {name}: {source}")]
    File { name: String, source: io::Error },
    #[error("{0}")]
    Configuration(#[source] Mistakes),
    #[error("cannot listen on {0}: the address is in use; choose another with --listen")]
    InUse(Listen),
    #[error("{0}: {cause}", cause = cause_of(.0))]
    Server(#[source] ServerError),
    #[error("the drain deadline passed and calls in flight were cut off")]
    CutOff,
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
}

/// Everything behind an error, in one line.
fn cause_of(error: &ServerError) -> String {
    let mut line = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let separator = if line.is_empty() { "" } else { ": " };
        line.push_str(separator);
        line.push_str(&next.to_string());
        cause = next.source();
    }
    if line.is_empty() { "no cause is known".to_owned() } else { line }
}

/// Serves until a signal comes.
pub(super) fn run(args: &ServeArgs) -> Result<(), ServeError> {
    let loaded = args.server.load()?;
    if args.print_config {
        return print(&loaded.to_toml());
    }
    let config = loaded.config;
    telemetry::start(config.log);
    warn_of_plaintext(&config);
    match server::run(&config, server::signals, |ready| say_ready(&ready, &config)) {
        Ok(Ending::Graceful) => Ok(()),
        Ok(Ending::CutOff) => Err(ServeError::CutOff),
        Err(ServerError::Listen { place, source }) if source.kind() == io::ErrorKind::AddrInUse => {
            Err(ServeError::InUse(place))
        }
        Err(error) => Err(ServeError::Server(error)),
    }
}

/// Looks whether a server would start with what is said, without starting one.
pub(super) fn check(args: &ServerArgs) -> Result<(), ServeError> {
    args.load()?;
    print("the configuration is right\n")
}

fn warn_of_plaintext(config: &Config) {
    if config.tls.is_some() {
        return;
    }
    for place in config.listen.iter().filter(|place| !place.is_local()) {
        if config.restricts() {
            tracing::warn!(listen = %place, "INSECURE: plaintext, and whoever sees the traffic can read tokens and take sessions");
        } else {
            tracing::warn!(listen = %place, "INSECURE: plaintext, and anybody who reaches this address may do anything");
        }
    }
}

/// Lines for whoever started it: where it is, where the data is, and a command to paste.
fn say_ready(ready: &Ready, config: &Config) {
    let data = match &config.store {
        StoreKind::Memory => "in memory; it ends with the process".to_owned(),
        StoreKind::Log(dir) => {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            format!("in {}", dir.display())
        }
    };
    let mut lines = String::new();
    for place in &ready.listening {
        lines.push_str(&format!("listening on {place}\n"));
    }
    if let Some(address) = ready.health {
        lines.push_str(&format!("health on {address}\n"));
    }
    lines.push_str(&format!("data: {data}\n"));
    if let Some(address) = ready.address()
        && config.tls.is_none()
    {
        lines.push_str(&format!(
            "try: grpcurl -plaintext -d '{{\"instance\":\"instances/main\"}}' {address} \
             jet.session.v1.SessionService/BeginSession\n"
        ));
    }
    if let Err(error) = print(&lines) {
        // Nobody reads; the log says the same.
        tracing::debug!(%error, "the ready lines could not be written");
    }
}

fn print(text: &str) -> Result<(), ServeError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(ServeError::Print)
}
