//! Wire → command, naming every bad field at once; answer → wire.
//!
//! Parsing goes on after the first mistake, so that a client learns of all of them together.

mod context;
mod error;
mod instance;
mod page;
mod request;
mod session;
mod thread;
mod watch;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use tonic::Status;

use crate::domain::access::Role;
use crate::domain::call::context::CONTEXT_RULE;
use crate::domain::id::{
    ContextValue, InstanceId, Labels, Malformed, Principal, Revision, SessionName, ThreadId,
};
use crate::domain::limits::{LEASE_SECONDS_MAX, LEASE_SECONDS_MIN};
use crate::domain::request::Request;
use crate::domain::time::Timestamp;
use crate::rpc::access::{Sight, Wish};
use crate::rpc::layers::RequestId;
use crate::rpc::status::{self, About, BadField};

pub(super) use error::{ErrorListCommand, OneError};
pub(super) use instance::{DeleteCommand, ListInstancesCommand, StopCommand, TerminateCommand};
pub(super) use instance::{WatchCommand, chunk, instance};
pub(super) use page::PageQuery;
pub(super) use session::{ListSessionsCommand, session, session_filter};
pub(super) use thread::{EndThreadsCommand, ListThreadsCommand, OneThread};
pub(super) use thread::{kept, place_after, place_of, thread};
pub(super) use watch::{WatchSessionsCommand, watched};

/// The rule for the length of a lease.
const LEASE_RULE: &str = "must be from 1 s to 24 h";

/// A request that can be parsed into a command.
pub(super) trait Parse {
    /// What it asks for.
    type Command;

    /// The command, or `None` if `fields` has noted why not.
    fn parse(self, fields: &mut Fields) -> Option<Self::Command>;
}

/// A response that is made of an answer of the domain.
pub(super) trait Reply<A> {
    /// The answer of this instance, as a message to somebody who sees only some of the others.
    fn reply(instance: &InstanceId, sight: &Sight, answer: A) -> Self;
}

/// A call, and the instance it is for.
pub(super) struct Addressed<C> {
    pub(super) instance: InstanceId,
    pub(super) call: C,
}

/// A call that may wait for a session, and for how long.
pub(super) struct Patient<C> {
    pub(super) addressed: Addressed<C>,
    pub(super) wait: Duration,
}

/// A call that never waits.
impl<C> From<Addressed<C>> for Patient<C> {
    fn from(addressed: Addressed<C>) -> Self {
        Self { addressed, wait: Duration::ZERO }
    }
}

/// A request that was understood.
pub(super) struct Parsed<C> {
    pub(super) command: C,
    /// What its client calls it, if it may come again.
    pub(super) request: Option<Request>,
    pub(super) about: About,
    /// What it wants of its caller.
    pub(super) wish: Wish,
}

/// Parses a request completely, or finds out all that is wrong with it.
pub(super) fn parse<W: Parse>(request: W) -> Result<Parsed<W::Command>, Unparsed> {
    let mut fields = Fields::default();
    let command = request.parse(&mut fields);
    match command {
        Some(command) if fields.bad.is_empty() => {
            let Fields { request, about, wish, .. } = fields;
            Ok(Parsed { command, request, about, wish })
        }
        Some(_) | None => Err(Unparsed(Box::new(fields))),
    }
}

/// Why a request did not become a command.
pub(super) struct Unparsed(Box<Fields>);

impl Unparsed {
    /// What it was about as far as it was understood, and what it wanted.
    pub(super) fn about(&self) -> (&About, &Wish) {
        (&self.0.about, &self.0.wish)
    }

    pub(super) fn status(self, request_id: Option<RequestId>) -> Status {
        let Fields { mut bad, about, context, .. } = *self.0;
        let about = About { request_id, ..about };
        // A bad context alone is judged later, after the session; among others it is named too.
        if context.is_some_and(|word| ContextValue::new(word).is_none()) {
            bad.push(BadField { field: "context".to_owned(), rule: CONTEXT_RULE.to_owned() });
        }
        status::malformed(bad, &about)
    }
}

/// The fields of a request as they are parsed: what is bad, and what the request is about.
#[derive(Default)]
pub(super) struct Fields {
    bad: Vec<BadField>,
    about: About,
    context: Option<u64>,
    request: Option<Request>,
    wish: Wish,
}

impl Fields {
    /// Notes that a field breaks a rule.
    pub(super) fn bad(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.bad.push(BadField { field: field.into(), rule: rule.into() });
    }

    /// The value, unless it is malformed, which is noted.
    pub(super) fn take<T>(&mut self, field: &str, parsed: Result<T, Malformed>) -> Option<T> {
        parsed.map_err(|Malformed(rule)| self.bad(field, rule)).ok()
    }

    /// Notes the role that the request takes, where not all of its method take the same.
    pub(super) fn takes(&mut self, role: Role) {
        self.wish.role = Some(role);
    }

    /// Notes who is to have the session next.
    pub(super) fn hands_to(&mut self, principal: Option<&Principal>) {
        self.wish.successor = principal.cloned();
    }

    /// An instance's resource name.
    pub(super) fn instance(&mut self, field: &str, name: &str) -> Option<InstanceId> {
        let id = self.take(field, InstanceId::from_name(name))?;
        self.about.instance = Some(id.clone());
        Some(id)
    }

    /// Notes what the request is about where no resource name says it.
    pub(super) fn about(&mut self, instance: Option<&InstanceId>) {
        self.about.instance = instance.cloned();
    }

    /// A session's resource name.
    pub(super) fn session(&mut self, field: &str, name: &str) -> Option<SessionName> {
        let name = self.take(field, SessionName::from_str(name))?;
        self.about.instance = Some(name.instance.clone());
        self.about.session = Some(name.session);
        Some(name)
    }

    /// The calling thread.
    pub(super) fn thread(&mut self, field: &str, id: &str) -> Option<ThreadId> {
        let thread = self.take(field, ThreadId::from_str(id))?;
        self.about.thread = Some(thread.clone());
        Some(thread)
    }

    /// Labels.
    pub(super) fn labels(
        &mut self,
        field: &str,
        pairs: BTreeMap<String, String>,
    ) -> Option<Labels> {
        self.take(field, Labels::new(pairs))
    }

    /// A context word. Judged only together with other mistakes.
    pub(super) fn context(&mut self, word: u64) -> u64 {
        self.context = Some(word);
        word
    }

    /// How long to wait: not at all, if nothing is said.
    pub(super) fn wait_timeout(&mut self, timeout: Option<prost_types::Duration>) -> Duration {
        match timeout.map(Duration::try_from) {
            None => Duration::ZERO,
            Some(Ok(timeout)) => timeout,
            Some(Err(_)) => {
                self.bad("wait_timeout", "must not be negative");
                Duration::ZERO
            }
        }
    }

    /// How long a lease is to be, if it is said.
    pub(super) fn lease_ttl(&mut self, ttl: Option<prost_types::Duration>) -> Option<Duration> {
        let range = Duration::from_secs(LEASE_SECONDS_MIN)..=Duration::from_secs(LEASE_SECONDS_MAX);
        let parsed = Duration::try_from(ttl?).ok().filter(|ttl| range.contains(ttl));
        if parsed.is_none() {
            self.bad("lease_ttl", LEASE_RULE);
        }
        parsed
    }

    /// A fencing token that must be shown.
    pub(super) fn token(&mut self, token: u64) -> Option<Revision> {
        if token == 0 {
            self.bad("fencing_token", "must be the token that the holder was given");
            return None;
        }
        Some(Revision::new(token))
    }
}

/// A moment on the wire.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000)
            .expect("less than a second in nanoseconds"),
    }
}

/// A length of time on the wire.
pub(super) fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

/// A count on the wire. All of ours are bounded far below.
fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Labels on the wire.
fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
