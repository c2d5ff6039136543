//! Everything that is counted, in Prometheus' words.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::rpc::telemetry::tally::{CODES, MethodCalls};
use crate::server::metrics::Metrics;
use crate::server::metrics::process::Process;
use crate::server::{COMMIT, VERSION};
use crate::telemetry::histogram::Samples;

/// In which format it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which everybody reads.
    Text,
}

impl Format {
    /// The best that a scraper takes.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        let open = accept.is_some_and(|types| types.contains("application/openmetrics-text"));
        if open { Self::OpenMetrics } else { Self::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The page that scrapers read.
#[derive(Debug)]
pub(super) struct Page(Registry);

impl Page {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Calls(Arc::clone(&metrics))));
        registry.register_collector(Box::new(Instances(Arc::clone(&metrics))));
        registry.register_collector(Box::new(Network(metrics)));
        registry.register_collector(Box::new(OfProcess));
        Self(registry)
    }

    pub(super) fn told(&self, format: Format) -> Result<String, fmt::Error> {
        let mut page = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut page, &self.0)?,
            Format::Text => prometheus_text::encode(&mut page, &self.0)?,
        }
        Ok(page)
    }
}

/// One family of series after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// A number that only rises. `name` is without `_total`, which is added.
    fn counter<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A number that rises and sinks.
    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Samples by size, each divided by `unit`.
    fn histogram<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: f64,
        series: impl IntoIterator<Item = (L, Samples)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, samples) in series {
            let end = |end: Option<u64>| end.map_or(f64::INFINITY, |end| end as f64 / unit);
            let buckets: Vec<_> =
                samples.buckets.iter().map(|(bound, count)| (end(*bound), *count)).collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                samples.sum as f64 / unit,
                samples.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// A series that is alone in its family.
fn one<V>(value: V) -> [(NoLabels, V); 1] {
    [(NO_LABELS, value)]
}

type NoLabels = [(&'static str, &'static str); 0];
const NO_LABELS: NoLabels = [];

/// In a second, of what is counted in nanoseconds.
const NANOSECONDS: f64 = 1e9;

/// Calls, in the names of gRPC's ecosystem, and what they were refused with.
#[derive(Debug)]
struct Calls(Arc<Metrics>);

impl Collector for Calls {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let tally = self.0.observer.tally();
        let calls: Vec<MethodCalls> = tally.calls().collect();
        let labels = |calls: &MethodCalls| {
            let (service, name) =
                calls.method.map_or(("unknown", "unknown"), |method| (method.service, method.name));
            [("grpc_service", service), ("grpc_method", name), ("grpc_type", calls.kind.name())]
        };
        let started = calls.iter().map(|calls| (labels(calls), calls.started));
        families.counter("grpc_server_started", "Calls that have begun", started)?;

        let handled = calls.iter().flat_map(|calls| {
            let [service, method, kind] = labels(calls);
            let codes = CODES.into_iter().zip(calls.handled).enumerate();
            // A series that was never seen at 0 begins with a jump that no rate sees; but 17 for each
            // method would be mostly noise.
            let told = codes.filter(|(code, (_, count))| *code == 0 || *count > 0);
            told.map(move |(_, (code, count))| {
                ([service, method, kind, ("grpc_code", code)], count)
            })
        });
        families.counter("grpc_server_handled", "Calls that have ended, by code", handled)?;

        let timed = calls.iter().filter_map(|calls| Some((labels(calls), calls.took.clone()?)));
        families.histogram(
            "grpc_server_handling_seconds",
            "How long unary calls took, waiting included",
            NANOSECONDS,
            timed,
        )?;

        let refusals = tally.refusals().map(|(jet, count)| {
            let labels =
                [("jet_error", jet.code().to_string()), ("name", jet.short_name().to_owned())];
            (labels, count)
        });
        families.counter(
            "jet_refusals",
            "Calls and operations refused with a JET code",
            refusals,
        )?;

        let panics = self.0.panics.count() + self.0.owners.panics();
        families.counter("jet_panics", "Invariants of its own that the program broke", one(panics))
    }
}

/// Instances and what is in them.
#[derive(Debug)]
struct Instances(Arc<Metrics>);

impl Collector for Instances {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let owners = &self.0.owners;
        let events = owners.events().map(|(cause, count)| ([("cause", cause)], count));
        families.counter("jet_events", "What happened to sessions, by cause", events)?;
        families.histogram(
            "jet_commit_seconds",
            "How long the store took to commit a batch, its sync included",
            NANOSECONDS,
            one(owners.commits()),
        )?;
        families.histogram(
            "jet_batch_changes",
            "Changes that were committed together",
            1.0,
            one(owners.changes()),
        )?;

        // Before the engine is there, nothing is known, which is not the same as nothing.
        let census = self.0.serving.get().map(crate::engine::Engine::census);
        let states = census.iter().flat_map(|census| &census.instances);
        let states = states.map(|(state, count)| ([("state", *state)], *count));
        families.gauge("jet_instances", "Instances, by state", states)?;
        let count = |what: fn(&crate::engine::meter::Census) -> usize| {
            census.as_ref().map(|census| (NO_LABELS, what(census)))
        };
        let sessions = count(|census| census.sessions);
        families.gauge("jet_sessions", "Sessions in all instances", sessions)?;
        let bound = count(|census| census.bound);
        families.gauge("jet_bindings", "Sessions that have a context set", bound)?;
        let waiting = count(|census| census.waiting);
        families.gauge("jet_waiters", "Calls that wait for a session", waiting)?;
        let watches = count(|census| census.watches);
        families.gauge("jet_watchers", "Watches of sessions", watches)?;
        let leases = count(|census| census.leases);
        families.gauge("jet_threads_with_lease", "Leases of threads, by instance", leases)?;
        let queued = count(|census| census.queued);
        families.gauge("jet_owner_queue_messages", "What owners have not taken yet", queued)?;
        let age = |census: &crate::engine::meter::Census| {
            census.oldest_answer.unwrap_or_default().as_secs_f64()
        };
        families.gauge(
            "jet_retry_memory_oldest_age_seconds",
            "Age of the oldest answer that is kept for a retry; 0 if none is",
            census.as_ref().map(|census| (NO_LABELS, age(census))),
        )
    }
}

/// Connections, certificates, and what was configured.
#[derive(Debug)]
struct Network(Arc<Metrics>);

impl Collector for Network {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let connections = &self.0.connections;
        families.gauge(
            "jet_connections",
            "Connections of clients",
            one(connections.open() as u64),
        )?;
        let accepted = one(connections.accepted());
        families.counter("jet_connections", "Connections that were accepted", accepted)?;
        let refused = one(connections.refused_over_limit());
        families.counter(
            "jet_connections_refused",
            "Connections that were closed at once because there were too many",
            refused,
        )?;
        let failed = one(connections.handshake_failed());
        families.counter(
            "jet_tls_handshake_failures",
            "Connections whose TLS handshake failed, or that did not speak HTTP/2, or not soon",
            failed,
        )?;
        let ends = self.0.tls.as_ref().map(|tls| tls.not_after().as_secs());
        families.gauge(
            "jet_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that is shown ends; absent without one",
            ends.map(|ends| (NO_LABELS, ends)),
        )?;
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let reloads = &self.0.reloads;
        let results = [("success", &reloads.done), ("failure", &reloads.failed)];
        families.counter(
            "jet_config_reloads",
            "How often what can change while the server runs was read again",
            results.map(|(result, of)| ([("result", result)], count(of))),
        )
    }
}

/// This process and this program.
#[derive(Debug)]
struct OfProcess;

impl Collector for OfProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "The program that runs";
        encoder
            .encode_descriptor("jet_build", help, None, MetricType::Info)?
            .encode_info(&[("version", VERSION), ("commit", COMMIT)])?;
        let mut families = Families(encoder);
        let process = Process::now();
        fn known<V>(value: Option<V>) -> Option<(NoLabels, V)> {
            value.map(|value| (NO_LABELS, value))
        }
        let cpu = known(process.cpu_seconds);
        families.counter("process_cpu_seconds", "Time of processors, in seconds", cpu)?;
        let resident = known(process.resident_bytes);
        families.gauge("process_resident_memory_bytes", "Memory that is really there", resident)?;
        let asked = known(process.virtual_bytes);
        families.gauge("process_virtual_memory_bytes", "Memory that was asked for", asked)?;
        let started = known(process.started);
        families.gauge("process_start_time_seconds", "When it was started, since 1970", started)?;
        families.gauge("process_threads", "Threads", known(process.threads))?;
        families.gauge("process_open_fds", "File descriptors in use", known(process.open_fds))?;
        let max = known(process.max_fds);
        families.gauge("process_max_fds", "File descriptors that it may have", max)
    }
}
