//! What clients were told, and whether what a server knows after a restart agrees with it.
//!
//! Every change that a client asked for is written down with how it ended: acknowledged, refused, or
//! unknown because the connection died. After a restart the recovered sessions must follow from what
//! was acknowledged, with each unknown change made wholly or not at all, wherever it may have come
//! in time, and with nothing that was refused. Of a LAZY instance they must be what they were at one
//! moment of the past.
//!
//! Every check panics with a sentence that begins with what was broken.

mod explain;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use jet_session::proto::api as pb;
use jet_session::proto::api::transaction_binding::Owner;

use crate::model::{Act, Bound, Of, Open, State, Task};

/// The label that names the call that began a session, and the one that names its task.
pub(crate) const CALL: &str = "call";
pub(crate) const TASK: &str = "task";
/// The task of a session that all tasks share.
pub(crate) const SHARED: &str = "all";

/// How long before its end a server may have given an answer of a LAZY instance that is lost. The
/// promise is a tenth of a second and a sync, on a machine that does nothing else.
const LAZY_LOSS_MAX: Duration = Duration::from_secs(2);

/// What clients know of one instance.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) instance: &'static str,
    lazy: bool,
    /// Counts what was sent and what was answered, so that it is known what was before what.
    clock: u64,
    /// The highest revision and the highest sesid that anybody was ever told.
    highest: u64,
    highest_sesid: u64,
    /// Revisions of changes that were acknowledged since the last restart.
    revisions: HashSet<u64>,
    sessions: BTreeMap<u64, Page>,
    /// Sessions that may have begun.
    unknown_begins: BTreeSet<String>,
    pub(crate) tally: Tally,
}

/// How often it went how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) read: u64,
    pub(crate) unknown: u64,
    /// Unknown changes that turned out to have been made, and those that were not.
    pub(crate) made: u64,
    pub(crate) not_made: u64,
    /// Acknowledged changes of a LAZY instance that were lost, and how old the oldest was.
    pub(crate) lost: u64,
    pub(crate) lost_age: Duration,
}

/// When a call was sent, and what had been told by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    at: u64,
    highest: u64,
    highest_sesid: u64,
}

/// What is known of one session.
#[derive(Debug)]
struct Page {
    task: Option<Task>,
    /// When its Begin was acknowledged, if that was since the last restart.
    begun: Option<Instant>,
    /// At the last restart, or when it began.
    base: State,
    base_revision: u64,
    /// The highest revision that somebody has read.
    read: u64,
    changes: Vec<Change>,
    unknown: Vec<Unknown>,
}

/// A change that was acknowledged.
#[derive(Debug, Clone)]
struct Change {
    act: Act,
    by: Task,
    /// The token of the holder who made it, and its number among the changes of that holder: the
    /// order in which changes of a session are made.
    order: (u64, u32),
    answered_at: u64,
    answered: Instant,
    told: Told,
}

/// What the answer to a change said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The revision of the change; of a Set it is the token.
    Revision(u64),
    Level(i32),
    Nothing,
}

/// A change whose answer never came.
#[derive(Debug, Clone)]
struct Unknown {
    act: Act,
    by: Task,
    sent: Sent,
}

/// A session as a server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sesid: u64,
    pub(crate) revision: u64,
    pub(crate) task: Option<Task>,
    pub(crate) call: String,
    pub(crate) state: State,
}

impl Ledger {
    pub(crate) fn new(instance: &'static str, lazy: bool) -> Self {
        Self {
            instance,
            lazy,
            clock: 0,
            highest: 0,
            highest_sesid: 0,
            revisions: HashSet::new(),
            sessions: BTreeMap::new(),
            unknown_begins: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    // --- what clients write down -----------------------------------------------------------------

    pub(crate) fn send(&mut self) -> Sent {
        self.clock += 1;
        Sent { at: self.clock, highest: self.highest, highest_sesid: self.highest_sesid }
    }

    /// A session has begun.
    pub(crate) fn began(&mut self, seen: Seen, sent: Sent, now: Instant) {
        self.clock += 1;
        self.tally.acknowledged += 1;
        self.new_sesid(&seen, sent);
        self.new_revision(seen.revision, sent, seen.sesid);
        assert_eq!(seen.state, State::default(), "a session that has just begun is free");
        let page = Page { begun: Some(now), ..Page::of(&seen) };
        self.sessions.insert(seen.sesid, page);
    }

    pub(crate) fn begin_unknown(&mut self, call: String) {
        self.tally.unknown += 1;
        self.unknown_begins.insert(call);
    }

    /// A change was acknowledged. `order` is `None` where one task makes all changes of a session.
    #[expect(clippy::too_many_arguments, reason = "all of it is what is known of one answer")]
    pub(crate) fn acknowledged(
        &mut self,
        session: u64,
        by: Task,
        act: Act,
        order: Option<(u64, u32)>,
        sent: Sent,
        told: Told,
        now: Instant,
    ) {
        self.clock += 1;
        self.tally.acknowledged += 1;
        if let Told::Revision(revision) = told {
            self.new_revision(revision, sent, session);
        }
        let answered_at = self.clock;
        let page = self.page(session);
        let order = order.unwrap_or((u64::MAX, u32::try_from(page.changes.len()).expect("few")));
        page.changes.push(Change { act, by, order, answered_at, answered: now, told });
    }

    pub(crate) fn refused(&mut self) {
        self.tally.refused += 1;
    }

    pub(crate) fn unknown(&mut self, session: u64, by: Task, act: Act, sent: Sent) {
        self.tally.unknown += 1;
        self.page(session).unknown.push(Unknown { act, by, sent });
    }

    /// Somebody has read that the session is at this revision, so it is.
    pub(crate) fn read(&mut self, session: u64, revision: u64) {
        self.tally.read += 1;
        let page = self.page(session);
        page.read = page.read.max(revision);
    }

    // --- what clients look up --------------------------------------------------------------------

    /// The sessions of a task, or those that all tasks share.
    pub(crate) fn sessions_of(&self, task: Option<Task>) -> Vec<u64> {
        let of = self.sessions.iter().filter(|(_, page)| page.task == task);
        of.map(|(session, _)| *session).collect()
    }

    /// The state of a session that one task alone changes, if it still exists.
    pub(crate) fn state(&self, session: u64) -> Option<State> {
        let page = &self.sessions[&session];
        page.changes.iter().try_fold(page.base.clone(), |state, change| {
            state.after(change.act, change.by).expect("it was acknowledged").map(|mut state| {
                if let (Act::Set(_), Some(bound), Told::Revision(token)) =
                    (change.act, &mut state.bound, change.told)
                {
                    bound.token = Some(token);
                }
                state
            })
        })
    }

    /// The token under which a task holds a session since before the last restart.
    pub(crate) fn still_held(&self, session: u64, by: Task) -> Option<u64> {
        let page = &self.sessions[&session];
        let token = page.base.bound.as_ref().filter(|bound| bound.by == by)?.token?;
        let reset = |change: &Change| change.act == Act::Reset && change.order.0 == token;
        (!page.changes.iter().any(reset)).then_some(token)
    }

    fn page(&mut self, session: u64) -> &mut Page {
        self.sessions.get_mut(&session).expect("clients call on sessions they know")
    }

    // --- what is checked at once -----------------------------------------------------------------

    fn new_revision(&mut self, revision: u64, sent: Sent, session: u64) {
        assert!(
            revision > sent.highest,
            "NUMBERS GO BACK: {}/sessions/{session} answered revision {revision}, and {} had been \
             told before the call was sent",
            self.instance,
            sent.highest,
        );
        assert!(
            self.revisions.insert(revision),
            "A NUMBER IS USED TWICE: {}/sessions/{session} answered revision {revision} again",
            self.instance,
        );
        self.highest = self.highest.max(revision);
    }

    fn new_sesid(&mut self, seen: &Seen, sent: Sent) {
        assert!(
            seen.sesid > sent.highest_sesid && !self.sessions.contains_key(&seen.sesid),
            "NUMBERS GO BACK: {} began sesid {}, and {} had been told before the call was sent",
            self.instance,
            seen.sesid,
            sent.highest_sesid,
        );
        self.highest_sesid = self.highest_sesid.max(seen.sesid);
    }

    // --- after a restart -------------------------------------------------------------------------

    /// Compares what a server recovered with what was told, and begins a new page for every session.
    /// `died` is when the server ended, if it was not told to.
    pub(crate) fn restarted(&mut self, recovered: Vec<Seen>, died: Option<Instant>) {
        let mut recovered: BTreeMap<u64, Seen> =
            recovered.into_iter().map(|seen| (seen.sesid, seen)).collect();
        let pages = std::mem::take(&mut self.sessions);
        let mut kept = BTreeMap::new();
        // Of a LAZY instance: between which revisions the moment lies that was recovered.
        let mut moment = explain::Moment::default();
        for (session, page) in pages {
            let seen = recovered.remove(&session);
            let name = format!("{}/sessions/{session}", self.instance);
            let explained = match died.filter(|_| self.lazy) {
                Some(died) => explain::as_it_was(&page, seen.as_ref(), &mut moment, died),
                None => explain::as_told(&page, seen.as_ref()),
            };
            let explained =
                explained.unwrap_or_else(|wrong| panic!("{}", page.told(&name, &seen, &wrong)));
            self.tally.made += explained.made;
            self.tally.not_made += page.unknown.len() as u64 - explained.made;
            self.tally.lost += explained.lost;
            self.tally.lost_age = self.tally.lost_age.max(explained.lost_age);
            if let Some(seen) = seen {
                kept.insert(session, seen);
            }
        }
        let unknown_begins = std::mem::take(&mut self.unknown_begins);
        let mut begun = 0;
        for (session, seen) in recovered {
            assert!(
                unknown_begins.contains(&seen.call),
                "OUT OF NOWHERE: {}/sessions/{session} is there, and no call that is open began \
                 it: {seen:?}",
                self.instance,
            );
            assert_eq!(seen.state, State::default(), "nobody knew of this session: {seen:?}");
            begun += 1;
            kept.insert(session, seen);
        }
        self.tally.made += begun;
        self.tally.not_made += unknown_begins.len() as u64 - begun;
        moment.check(self.instance);
        assert!(
            self.tally.lost_age <= LAZY_LOSS_MAX,
            "SYNCED TOO LATE: {} lost an answer that was {:?} old",
            self.instance,
            self.tally.lost_age,
        );
        self.revisions.clear();
        for seen in kept.values() {
            self.highest = self.highest.max(seen.revision);
            self.highest_sesid = self.highest_sesid.max(seen.sesid);
        }
        self.sessions =
            kept.into_iter().map(|(session, seen)| (session, Page::of(&seen))).collect();
    }
}

impl Page {
    fn of(seen: &Seen) -> Self {
        Self {
            task: seen.task,
            begun: None,
            base: seen.state.clone(),
            base_revision: seen.revision,
            read: seen.revision,
            changes: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// All that matters for whoever has to find out what went wrong.
    fn told(&self, name: &str, seen: &Option<Seen>, wrong: &str) -> String {
        const SHOWN: usize = 12;
        let mut changes = self.changes.clone();
        changes.sort_by_key(|change| change.order);
        let first = changes.len().saturating_sub(SHOWN);
        let mut text = format!(
            "{wrong}: {name}\n  it was at revision {}: {}\n  {first} more changes, then\n",
            self.base_revision, self.base,
        );
        for change in &changes[first..] {
            text += &format!(
                "  acknowledged: {:?} by task-{}: {:?}, in order {:?}, at {}\n",
                change.act, change.by, change.told, change.order, change.answered_at,
            );
        }
        for unknown in &self.unknown {
            text += &format!(
                "  unknown: {:?} by task-{}, sent at {}\n",
                unknown.act, unknown.by, unknown.sent.at,
            );
        }
        text += &format!("  somebody has read revision {}\n", self.read);
        match seen {
            Some(seen) => text + &format!("  found: at revision {}: {}", seen.revision, seen.state),
            None => text + "  found: nothing",
        }
    }
}

impl Seen {
    pub(crate) fn of(session: &pb::Session) -> Self {
        let label = |key: &str| session.labels.get(key).map(String::as_str).unwrap_or_default();
        let task = |thread: &str| {
            let number = thread.strip_prefix("task-").and_then(|number| number.parse().ok());
            number.unwrap_or_else(|| panic!("OUT OF NOWHERE: a thread {thread:?}: {session:?}"))
        };
        let bound = session.binding.as_ref().map(|binding| Bound {
            by: task(&binding.thread_id),
            word: binding.context,
            token: Some(binding.fencing_token),
        });
        let owner = session.transaction_binding.as_ref().and_then(|binding| binding.owner.as_ref());
        let open = owner.map(|owner| Open {
            level: session.transaction_level,
            of: match owner {
                Owner::Context(word) => Of::Word(*word),
                Owner::ThreadId(thread) => Of::Thread(task(thread)),
            },
        });
        assert_eq!(
            open.as_ref().map_or(0, |open| open.level),
            session.transaction_level,
            "a level has an owner: {session:?}",
        );
        Self {
            sesid: session.sesid,
            revision: session.revision,
            task: (label(TASK) != SHARED).then(|| task(label(TASK))),
            call: label(CALL).to_owned(),
            state: State { bound, open },
        }
    }
}
