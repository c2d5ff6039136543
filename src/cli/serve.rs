//! `jet-session serve`: run a server until SIGTERM or SIGINT.

mod arguments;

use std::io::{self, Write};

use clap::Args;

use crate::config::{Config, Listen, Mistakes, StoreKind};
use crate::server::{self, Ending, Ready, Reload, ServerError};
use crate::telemetry;

use super::failure::Failure;

pub(super) use arguments::ServerArgs;

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
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    #[error("cannot listen on {place}: the address is in use; choose another with {flag}")]
    InUse { place: Listen, flag: &'static str },
    #[error("{0}: {cause}", cause = cause_of(.0))]
    Server(#[source] ServerError),
    #[error("the drain deadline passed and calls in flight were cut off")]
    CutOff,
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        if let ServeError::Configuration(mistakes) = error {
            return Self::Usage(mistakes.to_string());
        }
        Self::Serve(error.to_string())
    }
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
    let sources = args.server.clone();
    // Before anything is read, so that no change is missed.
    let reload =
        Reload::new(move || sources.load()).watching(args.server.file().map(|(_, path)| path));
    let loaded = args.server.load()?;
    if args.print_config {
        return print(&loaded.to_toml());
    }
    let config = loaded.config;
    let telemetry = telemetry::start(config.log);
    let reload = reload.part("log.level", move |config| telemetry.reload(config));
    warn_of_plaintext(&config);
    let ready = |ready| say_ready(&ready, &config);
    match server::run_reloading(&config, reload, server::signals, ready) {
        Ok(Ending::Graceful) => Ok(()),
        Ok(Ending::CutOff) => Err(ServeError::CutOff),
        Err(ServerError::Listen { place, source }) if source.kind() == io::ErrorKind::AddrInUse => {
            let metrics = config.metrics_listen.map(Listen::Tcp);
            let is_metrics = metrics.as_ref() == Some(&place) && !config.listen.contains(&place);
            let flag = if is_metrics { "--metrics-listen" } else { "--listen" };
            Err(ServeError::InUse { place, flag })
        }
        Err(ServerError::Configuration(mistakes)) => Err(ServeError::Configuration(mistakes)),
        Err(error) => Err(ServeError::Server(error)),
    }
}

/// Looks whether a server would start with what is said, without starting one.
pub(super) fn check(args: &ServerArgs) -> Result<(), ServeError> {
    server::check(&args.load()?.config)?;
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
    if let Some(address) = ready.metrics {
        lines.push_str(&format!("metrics on {address}\n"));
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
