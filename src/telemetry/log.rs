//! Logs, set up once: JSON lines for machines, readable lines for a terminal, always on stderr.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, registry, reload};

use crate::config::{Config, Log, LogFormat, LogLevel, Mistake};

/// The way to what has been started.
#[derive(Clone)]
pub struct Telemetry {
    levels: Arc<reload::Handle<Targets, Registry>>,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Begins to log. Called once, before anything else happens.
pub fn start(log: Log) -> Telemetry {
    let ansi = io::stderr().is_terminal();
    let (layer, telemetry) = lines(log, ansi, io::stderr);
    registry().with(layer).init();
    telemetry
}

impl Telemetry {
    /// From now on this much is logged.
    pub fn set_level(&self, level: LogLevel) {
        // The only error is that the subscriber is gone, and then there is nothing to set.
        self.levels.reload(targets(level)).unwrap_or_default();
    }

    /// Takes over what may change while the server runs.
    pub fn reload(&self, config: &Config) -> Result<(), Vec<Mistake>> {
        self.set_level(config.log.level);
        Ok(())
    }
}

/// What writes log lines.
type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(
    Log { format, level }: Log,
    ansi: bool,
    to: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> (Lines, Telemetry) {
    let json = match format {
        LogFormat::Auto => !ansi,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    let (targets, levels) = reload::Layer::new(targets(level));
    // A call's span is written when it ends: one line a call, with its duration.
    let lines = layer().with_writer(to).with_span_events(FmtSpan::CLOSE);
    let lines = if json {
        // The one span there is holds the call; a list of one would say everything twice.
        lines.json().flatten_event(true).with_span_list(false).with_filter(targets).boxed()
    } else {
        lines.with_ansi(ansi).with_filter(targets).boxed()
    };
    (lines, Telemetry { levels: Arc::new(levels) })
}

fn targets(level: LogLevel) -> Targets {
    // Below `trace`, libraries speak only of what is wrong: h2 alone has a line for every frame.
    let libraries = if level == LogLevel::Trace { LogLevel::Trace } else { warnings(level) };
    Targets::new().with_default(filter(libraries)).with_target("jet_session", filter(level))
}

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

/// What libraries may say at most, unless everything is wanted.
fn warnings(level: LogLevel) -> LogLevel {
    match level {
        LogLevel::Off | LogLevel::Error => level,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug | LogLevel::Trace => LogLevel::Warn,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;
    use tracing_subscriber::fmt::writer::BoxMakeWriter;

    use super::*;

    /// What was written, line by line.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn take(&self) -> Vec<Value> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    fn json(level: LogLevel) -> (Written, Telemetry, tracing::subscriber::DefaultGuard) {
        let written = Written::default();
        let to = written.clone();
        let to = BoxMakeWriter::new(move || to.clone());
        let (layer, telemetry) = lines(Log { format: LogFormat::Json, level }, false, to);
        let guard = tracing::subscriber::set_default(registry().with(layer));
        (written, telemetry, guard)
    }

    #[test]
    fn a_line_is_an_object_with_its_fields_beside_each_other() {
        let (written, _, _guard) = json(LogLevel::Info);
        tracing::info!(target: "jet_session::x", instance = "main", count = 3, "it happened");
        let [line] = &written.take()[..] else { panic!("one line") };
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "jet_session::x");
        assert_eq!(line["message"], "it happened");
        assert_eq!(line["instance"], "main");
        assert_eq!(line["count"], 3);
        // RFC 3339, in UTC.
        let time = line["timestamp"].as_str().unwrap();
        let shape: String =
            time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "9999-99-99T99:99:99.999999Z");
    }

    #[test]
    fn a_line_in_a_call_has_the_fields_of_the_call() {
        let (written, _, _guard) = json(LogLevel::Debug);
        let span = tracing::debug_span!(target: "jet_session::y", "call", request_id = "r-1");
        span.in_scope(|| tracing::info!(target: "jet_session::x", "it happened"));
        drop(span);
        let lines = written.take();
        assert_eq!(lines.len(), 2, "the event, and the end of the call");
        for line in &lines {
            assert_eq!(line["span"]["request_id"], "r-1");
            assert!(line.get("spans").is_none());
        }
        assert!(lines[1]["time.busy"].is_string(), "{}", lines[1]);
    }

    #[test]
    fn the_level_can_be_changed_while_it_runs() {
        let (written, telemetry, _guard) = json(LogLevel::Info);
        let speak = || {
            tracing::debug!(target: "jet_session::x", "quietly");
            tracing::info!(target: "jet_session::x", "aloud");
            tracing::info!(target: "h2::codec", "somebody else");
            written.take().len()
        };
        assert_eq!(speak(), 1);
        telemetry.set_level(LogLevel::Debug);
        assert_eq!(speak(), 2);
        telemetry.set_level(LogLevel::Trace);
        assert_eq!(speak(), 3);
        telemetry.set_level(LogLevel::Off);
        assert_eq!(speak(), 0);
    }
}
