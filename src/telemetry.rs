//! Logs, set up once: JSON lines for machines, readable lines for a terminal, always on stderr.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For programs: one JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What an operator must look at.
    Error,
    /// What an operator may want to look at.
    Warn,
    /// Starts, ends, phases.
    #[default]
    Info,
    /// Every call, as a span with instance, session, thread and JET code.
    Debug,
    /// Everything, libraries included.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Begins to log. Called once, before anything else happens.
pub fn start(format: LogFormat, level: LogLevel) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::fmt::format::FmtSpan;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{Layer, registry};

    // Below `trace`, libraries speak only of what is wrong: h2 alone has a line for every frame.
    let libraries = if level == LogLevel::Trace { LogLevel::Trace } else { level.min_warn() };
    let filter = Targets::new().with_default(libraries).with_target("jet_session", level);
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    // A call's span is written when it ends: one line a call, with its duration.
    let lines = layer().with_writer(io::stderr).with_span_events(FmtSpan::CLOSE);
    if json {
        registry().with(lines.json().flatten_event(true).with_filter(filter)).init();
    } else {
        registry().with(lines.with_ansi(io::stderr().is_terminal()).with_filter(filter)).init();
    }
}

impl LogLevel {
    fn min_warn(self) -> Self {
        match self {
            Self::Off | Self::Error => self,
            Self::Warn | Self::Info | Self::Debug | Self::Trace => Self::Warn,
        }
    }
}
