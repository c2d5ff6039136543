//! Logs, set up once: JSON lines for machines, readable lines for a terminal, always on stderr.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Changes what is logged while the process runs.
#[derive(Debug, Clone)]
pub struct Handle(reload::Handle<Targets, Registry>);

impl Handle {
    /// Logs so much from now on.
    pub fn set_level(&self, level: LogLevel) {
        self.0.reload(targets(level)).expect("logging goes on as long as the process");
    }
}

/// Below `trace`, libraries speak only of what is wrong: h2 alone has a line for every frame.
fn targets(level: LogLevel) -> Targets {
    let libraries = if level == LogLevel::Trace { LogLevel::Trace } else { warnings(level) };
    Targets::new().with_default(filter(libraries)).with_target("jet_session", filter(level))
}

/// Begins to log. Called once, before anything else happens.
pub fn start(Log { format, level }: Log) -> Handle {
    use tracing_subscriber::fmt::format::FmtSpan;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{Layer, registry};

    let (targets, handle) = reload::Layer::new(targets(level));
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    // A call's span is written when it ends: one line a call, with its duration.
    let lines = layer().with_writer(io::stderr).with_span_events(FmtSpan::CLOSE);
    if json {
        registry().with(lines.json().flatten_event(true).with_filter(targets)).init();
    } else {
        registry().with(lines.with_ansi(io::stderr().is_terminal()).with_filter(targets)).init();
    }
    Handle(handle)
}

/// What libraries may say at most, unless everything is wanted.
fn warnings(level: LogLevel) -> LogLevel {
    match level {
        LogLevel::Off | LogLevel::Error => level,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug | LogLevel::Trace => LogLevel::Warn,
    }
}
