//! How many calls there were of each method, how they ended, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::jet_err::JetErr;
use crate::rpc::method::{METHODS, Method};
use crate::telemetry::histogram::{Histogram, LATENCIES, Samples};

/// The gRPC codes by number, in the spelling of the metrics of gRPC's ecosystem.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub(super) const OK: usize = 0;
pub(super) const CANCELLED: usize = 1;
pub(super) const UNKNOWN: usize = 2;

/// Which side of a method streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Neither.
    Unary,
    /// The client.
    Client,
    /// The server.
    Server,
    /// Both.
    Bidi,
}

impl Kind {
    /// That of a method.
    pub fn of(method: &Method) -> Self {
        match method.name {
            "RestoreInstance" => Self::Client,
            "BackupInstance" | "Watch" | "WatchInstances" | "WatchSessions" => Self::Server,
            "PipelineSessionContexts" | "ServerReflectionInfo" => Self::Bidi,
            _ => Self::Unary,
        }
    }

    /// Its name in the metrics of gRPC's ecosystem.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Client => "client_stream",
            Self::Server => "server_stream",
            Self::Bidi => "bidi_stream",
        }
    }
}

/// All calls since the server started.
#[derive(Debug)]
pub struct CallTally {
    /// By [`Method::index`]; the last is of calls of methods that do not exist.
    methods: Vec<MethodTally>,
    /// By the place in [`JetErr::ALL`].
    refusals: Vec<AtomicU64>,
}

/// All calls of a method.
#[derive(Debug)]
struct MethodTally {
    kind: Kind,
    started: AtomicU64,
    /// By code.
    handled: [AtomicU64; CODES.len()],
    /// Of unary calls alone: how long a stream lasts says nothing.
    took: Option<Histogram>,
}

/// The calls of a method as they were at one moment: no more have been handled than are among `took`, and
/// no more of those than have started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCalls {
    /// The method; nothing for all that do not exist.
    pub method: Option<&'static Method>,
    /// How many have begun.
    pub started: u64,
    /// How many have ended, by code.
    pub handled: [u64; CODES.len()],
    /// Which side streams.
    pub kind: Kind,
    /// How long unary calls took, in nanoseconds.
    pub took: Option<Samples>,
}

impl CallTally {
    pub(super) fn new() -> Self {
        let method = |method: Option<&Method>| {
            let kind = method.map_or(Kind::Unary, Kind::of);
            let timed = method.is_some() && kind == Kind::Unary;
            MethodTally {
                kind,
                started: AtomicU64::new(0),
                handled: Default::default(),
                took: timed.then(|| Histogram::new(LATENCIES)),
            }
        };
        Self {
            methods: METHODS.iter().map(Some).chain([None]).map(method).collect(),
            refusals: JetErr::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Answers which side streams.
    pub(super) fn started(&self, method: Option<&Method>) -> Kind {
        let tally = self.of(method);
        tally.started.fetch_add(1, Ordering::Relaxed);
        tally.kind
    }

    pub(super) fn handled(&self, method: Option<&Method>, took: Duration, code: usize) {
        let tally = self.of(method);
        if let Some(histogram) = &tally.took {
            histogram.took(took);
        }
        // Whoever sees this sees what was counted of the call before.
        tally.handled[code].fetch_add(1, Ordering::Release);
    }

    pub(super) fn refused(&self, jet: JetErr) {
        // In the order of the list after the first, success, which is no refusal.
        let place = JetErr::ALL[1..].binary_search_by(|other| jet.code().cmp(&other.code()));
        if let Ok(place) = place {
            self.refusals[place + 1].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nothing is looked up: a method knows its place.
    fn of(&self, method: Option<&Method>) -> &MethodTally {
        &self.methods[method.map_or(METHODS.len(), |method| method.index)]
    }

    /// The calls of every method.
    pub fn calls(&self) -> impl Iterator<Item = MethodCalls> {
        let methods = METHODS.iter().map(Some).chain([None]);
        self.methods.iter().zip(methods).map(|(tally, method)| {
            // What a call does last is read first.
            let handled = tally.handled.each_ref().map(|count| count.load(Ordering::Acquire));
            let took = tally.took.as_ref().map(Histogram::samples);
            std::sync::atomic::fence(Ordering::Acquire);
            let started = tally.started.load(Ordering::Relaxed);
            MethodCalls { method, started, handled, kind: tally.kind, took }
        })
    }

    /// How often each JET code was the answer, as far as it was.
    pub fn refusals(&self) -> impl Iterator<Item = (JetErr, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        JetErr::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_streams_as_its_descriptor_says() {
        let sets = [
            crate::proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let pools = sets.map(|set| prost_reflect::DescriptorPool::decode(set).unwrap());
        for method in &METHODS {
            let described = pools
                .iter()
                .find_map(|pool| pool.get_service_by_name(method.service))
                .and_then(|service| service.methods().find(|found| found.name() == method.name))
                .unwrap();
            let kind = match (described.is_client_streaming(), described.is_server_streaming()) {
                (false, false) => Kind::Unary,
                (true, false) => Kind::Client,
                (false, true) => Kind::Server,
                (true, true) => Kind::Bidi,
            };
            assert_eq!(Kind::of(method), kind, "{}/{}", method.service, method.name);
        }
    }

    #[test]
    fn every_code_of_the_list_can_be_counted() {
        let tally = CallTally::new();
        for jet in JetErr::ALL {
            tally.refused(*jet);
        }
        let counted: Vec<_> = tally.refusals().collect();
        let all: Vec<_> = JetErr::ALL[1..].iter().map(|jet| (*jet, 1)).collect();
        assert_eq!(counted, all, "all but success");
    }

    #[test]
    fn a_stream_is_counted_and_not_timed() {
        let tally = CallTally::new();
        let [unary, stream] = ["BeginSession", "WatchSessions"]
            .map(|name| Method::of(&format!("/jet.session.v1.SessionService/{name}")));
        for method in [unary, stream, None] {
            tally.started(method);
            tally.handled(method, Duration::from_millis(1), OK);
        }
        let calls: Vec<_> = tally.calls().filter(|calls| calls.started > 0).collect();
        assert_eq!(calls.len(), 3);
        for calls in calls {
            assert_eq!((calls.started, calls.handled[OK]), (1, 1));
            let timed = calls.took.map(|took| took.count());
            assert_eq!(timed, (calls.method == unary).then_some(1));
        }
    }
}
