//! Logs, set up once: JSON lines for machines, readable lines for a terminal, always on stderr.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

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

/// Begins to log. Called once, before anything else happens.
pub fn start(Log { format, level }: Log) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::fmt::format::FmtSpan;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    use tracing_subscriber::{Layer, registry};

    // Below `trace`, libraries speak only of what is wrong: h2 alone has a line for every frame.
    let libraries = if level == LogLevel::Trace { LogLevel::Trace } else { warnings(level) };
    let targets =
        Targets::new().with_default(filter(libraries)).with_target("jet_session", filter(level));
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
}

/// What libraries may say at most, unless everything is wanted.
fn warnings(level: LogLevel) -> LogLevel {
    match level {
        LogLevel::Off | LogLevel::Error => level,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug | LogLevel::Trace => LogLevel::Warn,
    }
}
