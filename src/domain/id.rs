//! Names and words, parsed once and valid ever after.
//!
//! Everything a client may write and the program must trust later has a type here, and each type
//! has one door: its constructor. The doors say which rule was broken in a sentence that can be
//! shown to the client; they never repeat the client's input.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::domain::limits;

/// Why a piece of input is not what it should be: one rule, as a sentence for the person who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// The name of an instance: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, as in AIP-122 and RFC 1035 labels.
///
/// ```
/// use jet_session::domain::id::InstanceId;
///
/// assert!("main".parse::<InstanceId>().is_ok());
/// assert!("Main".parse::<InstanceId>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The id as text, without `instances/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a resource name, `instances/{instance}`.
    pub fn from_name(name: &str) -> Result<Self, Malformed> {
        name.strip_prefix("instances/")
            .ok_or(Malformed("must have the form instances/{instance}"))?
            .parse()
    }

    /// The resource name, `instances/{instance}`.
    pub fn name(&self) -> String {
        format!("instances/{self}")
    }
}

impl FromStr for InstanceId {
    type Err = Malformed;

    fn from_str(id: &str) -> Result<Self, Malformed> {
        const RULE: Malformed = Malformed(
            "an instance id is 1 to 63 lower-case letters, digits and hyphens, begins with a letter \
             and does not end with a hyphen",
        );
        let bytes = id.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        match (bytes.first(), bytes.last()) {
            (Some(first), Some(last))
                if first.is_ascii_lowercase()
                    && *last != b'-'
                    && bytes.len() <= limits::INSTANCE_ID_BYTES_MAX
                    && bytes.iter().all(inner) =>
            {
                Ok(Self(id.into()))
            }
            (Some(_), Some(_)) | (None, _) | (_, None) => Err(RULE),
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A `JET_SESID`: the number of a session within its instance. Never 0 and never issued twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    /// The session with this number, if the number is one.
    pub const fn new(sesid: u64) -> Option<Self> {
        match NonZeroU64::new(sesid) {
            Some(sesid) => Some(Self(sesid)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for SessionId {
    type Err = Malformed;

    fn from_str(digits: &str) -> Result<Self, Malformed> {
        const RULE: Malformed = Malformed(
            "a sesid is a decimal number from 1 to 18446744073709551615 without sign or leading zero",
        );
        // `u64::from_str` alone would let "+1" and "01" name the session 1.
        if digits.starts_with(['+', '0']) {
            return Err(RULE);
        }
        digits.parse().ok().and_then(Self::new).ok_or(RULE)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The resource name of a session, `instances/{instance}/sessions/{sesid}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName {
    /// The instance that owns the session.
    pub instance: InstanceId,
    /// Which of its sessions.
    pub session: SessionId,
}

impl FromStr for SessionName {
    type Err = Malformed;

    fn from_str(name: &str) -> Result<Self, Malformed> {
        let (instance, session) = name
            .split_once("/sessions/")
            .ok_or(Malformed("must have the form instances/{instance}/sessions/{sesid}"))?;
        Ok(Self { instance: InstanceId::from_name(instance)?, session: session.parse()? })
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instances/{}/sessions/{}", self.instance, self.session)
    }
}

/// One thread of execution among all of its principal's clients, as its client declares it.
///
/// The engine compares operating-system thread ids and uses 0 for "none"; here the empty text would
/// be "none" and is never legal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(Arc<str>);

impl ThreadId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ThreadId {
    type Err = Malformed;

    fn from_str(id: &str) -> Result<Self, Malformed> {
        let fits = (1..=limits::THREAD_ID_BYTES_MAX).contains(&id.len());
        if fits && id.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(id.into()))
        } else {
            Err(Malformed("a thread id is 1 to 128 visible ASCII characters"))
        }
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is asking: the authenticated identity that scopes thread ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The name of those who have proved none.
    pub const ANONYMOUS: &str = "anonymous";

    /// Everybody, where no authentication is configured.
    pub fn anonymous() -> Self {
        // One for all, so that asking for it costs no memory and comparing two of it a glance.
        static ANONYMOUS: LazyLock<Principal> =
            LazyLock::new(|| Principal::new(Principal::ANONYMOUS));
        ANONYMOUS.clone()
    }

    /// Whether nothing is known of them.
    pub fn is_anonymous(&self) -> bool {
        *self.0 == *Self::ANONYMOUS
    }

    /// The identity with this name, as authentication found it.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A thread together with the principal that declared it: two principals' threads of one name are
/// two threads.
///
/// Cloning shares both. A handle is compared by what it stands for, and an equal one that shares its
/// memory is recognised at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Arc<Declared>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Declared {
    principal: Principal,
    thread: ThreadId,
}

impl Ord for Owner {
    /// By principal, then by thread. Handles of one value, and threads of one principal, are recognised
    /// by their memory: that is what most comparisons are of.
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let (mine, others) = (&self.0.principal, &other.0.principal);
        let principals =
            if Arc::ptr_eq(&mine.0, &others.0) { Ordering::Equal } else { mine.cmp(others) };
        principals.then_with(|| self.0.thread.cmp(&other.0.thread))
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Owner {
    /// The thread of this name among the threads of `principal`.
    pub fn new(principal: Principal, thread: ThreadId) -> Self {
        Self(Arc::new(Declared { principal, thread }))
    }

    /// Who declared the thread.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// Where the shared value is, which tells handles of one value from others while they live.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The thread.
    pub fn thread(&self) -> &ThreadId {
        &self.0.thread
    }

    /// Whether the two are one in memory.
    #[cfg(test)]
    pub(super) fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether there is another handle that shares this one's memory.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// A session context: an opaque word that is only ever compared. 0 and all-ones are reserved
/// (`JetSetSessionContext`).
///
/// ```
/// use jet_session::domain::id::ContextValue;
///
/// assert!(ContextValue::new(0xFFFF_FFFF).is_some());
/// assert!(ContextValue::new(0).is_none());
/// assert!(ContextValue::new(u64::MAX).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextValue(NonZeroU64);

impl ContextValue {
    /// The word as a context, unless it is one of the two reserved ones.
    pub const fn new(word: u64) -> Option<Self> {
        match NonZeroU64::new(word) {
            Some(word) if word.get() != u64::MAX => Some(Self(word)),
            Some(_) | None => None,
        }
    }

    /// The word.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// The position of an event in its instance's history: the order of everything that happened there.
///
/// The revision of the event that set a context is that binding's *fencing token*. Revisions rise
/// strictly and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    pub const fn new(revision: u64) -> Self {
        Self(revision)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision of the event after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        // At a billion events a second this takes 584 years to fail.
        Self(self.0.checked_add(1).expect("an instance has fewer than 2^64 events"))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tells apart two instances that ever had the same name. Random; given from outside the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uid(Arc<str>);

impl Uid {
    /// A uid that was drawn somewhere with randomness.
    pub fn new(uid: &str) -> Self {
        Self(uid.into())
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Free-form pairs by which people find their instances and sessions again.
///
/// Cloning shares the pairs; no labels cost nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Labels(Option<Arc<BTreeMap<String, String>>>);

impl Labels {
    /// Takes the pairs if they keep the rules.
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, Malformed> {
        if pairs.len() > limits::LABELS_MAX {
            return Err(Malformed("at most 8 labels are allowed"));
        }
        let printable = |text: &str| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        for (key, value) in &pairs {
            if key.is_empty() || key.len() > limits::LABEL_BYTES_MAX || !printable(key) {
                return Err(Malformed("a label key is 1 to 63 printable ASCII characters"));
            }
            if value.len() > limits::LABEL_BYTES_MAX || !printable(value) {
                return Err(Malformed("a label value is 0 to 63 printable ASCII characters"));
            }
        }
        Ok(Self((!pairs.is_empty()).then(|| Arc::new(pairs))))
    }

    /// The pairs in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|pairs| pairs.iter()).map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether every pair of `wanted` is here too.
    pub fn contain(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(key, value)| {
            self.0.as_ref().and_then(|pairs| pairs.get(key)).is_some_and(|found| found == value)
        })
    }
}

/// Why an operator took something away, in the operator's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Arc<str>);

impl Reason {
    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = Malformed;

    fn from_str(words: &str) -> Result<Self, Malformed> {
        let fits = (1..=limits::REASON_BYTES_MAX).contains(&words.len());
        if fits && !words.trim().is_empty() && !words.chars().any(char::is_control) {
            Ok(Self(words.into()))
        } else {
            Err(Malformed("a reason is 1 to 256 bytes of text without control characters"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_keep_their_pattern() {
        let longest = format!("a{}", "b".repeat(62));
        for good in ["a", "a1", "main", "a-b", "a--b", longest.as_str()] {
            assert!(good.parse::<InstanceId>().is_ok(), "{good}");
        }
        let too_long = format!("a{}", "b".repeat(63));
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a/b", "ä", "a b", too_long.as_str()] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn session_names_are_exact() {
        let name: SessionName = "instances/main/sessions/18446744073709551615".parse().unwrap();
        assert_eq!(name.session.get(), u64::MAX);
        assert_eq!(name.to_string(), "instances/main/sessions/18446744073709551615");
        for bad in [
            "",
            "instances/main",
            "instances/main/sessions/",
            "instances/main/sessions/0",
            "instances/main/sessions/01",
            "instances/main/sessions/+1",
            "instances/main/sessions/-1",
            "instances/main/sessions/1 ",
            "instances/main/sessions/1/",
            "instances/main/sessions/18446744073709551616",
            "instances/Main/sessions/1",
            "instances//sessions/1",
            "instances/main/sessions/1/sessions/1",
            "/instances/main/sessions/1",
        ] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn thread_ids_are_visible_ascii_of_1_to_128() {
        for good in ["t", "worker-3/4711/12", &"x".repeat(128)] {
            assert!(good.parse::<ThreadId>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "tab\t", "é", &"x".repeat(129)] {
            assert!(bad.parse::<ThreadId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_are_compared_by_principal_and_thread() {
        let owner = |principal, thread: &str| {
            Owner::new(Principal::new(principal), thread.parse().unwrap())
        };
        let one = owner("alice", "t1");
        assert_eq!(one, one.clone());
        assert_eq!(one, owner("alice", "t1"));
        assert_ne!(one, owner("alice", "t2"));
        assert_ne!(one, owner("bob", "t1"));
        assert!(one < owner("alice", "t2") && owner("alice", "t2") < owner("bob", "t1"));
        assert_eq!((one.principal().as_str(), one.thread().as_str()), ("alice", "t1"));
        assert_eq!(size_of::<Option<Owner>>(), size_of::<usize>());
    }

    #[test]
    fn labels_are_few_and_short() {
        let pairs = |n: usize| (0..n).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(Labels::new(pairs(8)).is_ok());
        assert!(Labels::new(pairs(9)).is_err());
        let one = |k: &str, v: &str| Labels::new([(k.to_owned(), v.to_owned())].into());
        assert!(one(&"k".repeat(63), &"v".repeat(63)).is_ok());
        for (key, value) in [("", "v"), ("é", "v"), ("k", "é"), ("k", "\n")] {
            assert!(one(key, value).is_err(), "{key}={value}");
        }
        assert!(one(&"k".repeat(64), "").is_err());
        assert!(one("k", &"v".repeat(64)).is_err());
    }

    #[test]
    fn labels_match_when_all_wanted_pairs_are_there() {
        let labels = |pairs: &[(&str, &str)]| {
            Labels::new(pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()).unwrap()
        };
        let have = labels(&[("pool", "a"), ("gpu", "1")]);
        assert!(have.contain(&Labels::default()));
        assert!(have.contain(&labels(&[("pool", "a")])));
        assert!(!have.contain(&labels(&[("pool", "b")])));
        assert!(!have.contain(&labels(&[("pool", "a"), ("zone", "x")])));
    }

    #[test]
    fn a_reason_says_something() {
        assert!("host is gone".parse::<Reason>().is_ok());
        for bad in ["", "   ", "line\nbreak", &"x".repeat(257)] {
            assert!(bad.parse::<Reason>().is_err(), "{bad:?}");
        }
    }
}
