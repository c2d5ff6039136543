//! A second reading of the contract: sections 3 and 4 as plainly as they can be written down, with
//! other data structures and nothing shared with the domain but the steps.
//!
//! Answers are sentences. A session is a sentence too, and `model` compares them.

use std::collections::HashMap;

use super::*;

/// What the contract says of an instance in READY or STOPPED.
pub(super) struct Plain {
    pub(super) stopped: bool,
    pub(super) max_sessions: usize,
    /// The highest sesid that was ever issued.
    pub(super) issued: u64,
    /// How many events there were, those below the floor included.
    pub(super) events: u64,
    pub(super) sessions: HashMap<u64, Row>,
}

/// What the contract says of a session.
#[derive(Default)]
pub(super) struct Row {
    context: Option<u64>,
    set_by: Option<Who>,
    token: Option<u64>,
    once_set: bool,
    level: u8,
    bound_to_context: Option<u64>,
    bound_to_thread: Option<Who>,
    /// Who lost it last without letting it go, and how; until the next holder lets it go.
    lost: Option<(Who, &'static str)>,
    abandoned: bool,
    last_event: u64,
}

type Told = Result<String, String>;

impl Plain {
    /// Sections 3 and 4, in the order in which they are written.
    pub(super) fn play(&mut self, step: Step) -> Told {
        // 4: StopService in force; Reset, Rollback, EndSession and reading are exempt.
        let taking = matches!(step, Begin | Duplicate(_) | Set(..) | BeginTx(..) | Commit(..))
            || matches!(step, Transfer(..) | TransferWith(..));
        if self.stopped && taking {
            return no("-1329");
        }
        // 9: the session exists.
        let named = named(step);
        if let Some(id) = named
            && !self.sessions.contains_key(&id)
        {
            return no(if id <= self.issued { "-1104 ended" } else { "-1104 never_existed" });
        }
        // 10: values.
        if let Set(_, _, 0 | 0xFFFF_FFFF_FFFF_FFFF) = step {
            return no("-1003");
        }
        // 11: the state of the session.
        let event = self.events + 1;
        let row = named.and_then(|id| self.sessions.get_mut(&id));
        let answer = match (step, row) {
            (Begin | Duplicate(_), _) => {
                if self.sessions.len() >= self.max_sessions {
                    return no("-1101");
                }
                self.issued += 1;
                let row = Row { last_event: event, ..Row::default() };
                self.sessions.insert(self.issued, row);
                self.session(self.issued)
            }
            (Get(id), _) => return Ok(self.session(id)),
            (List, _) => return Ok(self.all().join("; ")),
            (ForceEnd(id), _) => {
                self.sessions.remove(&id);
                String::new()
            }
            (End(who, id), Some(row)) => {
                if row.context.is_some() {
                    return no("-1914");
                }
                if row.bound_to_thread.is_some_and(|owner| owner != who) {
                    return no("-1910");
                }
                self.sessions.remove(&id);
                String::new()
            }
            (Set(who, id, context), Some(row)) => {
                if row.context.is_some() {
                    return no("-1912");
                }
                row.context = Some(context);
                row.set_by = Some(who);
                row.token = Some(event);
                row.once_set = true;
                row.last_event = event;
                self.session(id)
            }
            (Reset(who, _), Some(row)) => row.reset(who, None, event)?,
            (ResetWith(who, _, token), Some(row)) => row.reset(who, Some(token), event)?,
            (Transfer(who, _, to), Some(row)) => row.transfer(who, None, to, event)?,
            (TransferWith(who, _, to, token), Some(row)) => {
                row.transfer(who, Some(token), to, event)?
            }
            (Check(who, id, token), Some(row)) => {
                row.held(|other| other.thread == who.thread, Some(token))?;
                return Ok(self.session(id));
            }
            (Force(_, token), Some(row)) => row.force(token, event)?,
            (BeginTx(who, _), Some(row)) => row.begin(who, event)?,
            (Commit(who, _), Some(row)) => row.end(who, 1, event)?,
            (Rollback(who, _), Some(row)) => row.end(who, 1, event)?,
            (RollbackAll(who, _), Some(row)) => row.end(who, row.level, event)?,
            (step, None) => unreachable!("{step:?} names a session"),
        };
        self.events = event;
        Ok(answer)
    }

    /// All sessions, in the order of their numbers.
    pub(super) fn all(&self) -> Vec<String> {
        self.alive().into_iter().map(|id| self.session(id)).collect()
    }

    pub(super) fn alive(&self) -> Vec<u64> {
        (1..=self.issued).filter(|id| self.sessions.contains_key(id)).collect()
    }

    /// How many sessions fulfil `is`.
    pub(super) fn count(&self, is: impl Fn(&Row) -> bool) -> usize {
        self.alive().iter().filter(|id| is(&self.sessions[*id])).count()
    }

    fn session(&self, id: u64) -> String {
        let row = &self.sessions[&id];
        let binding = match (row.context, row.set_by, row.token) {
            (Some(context), Some(who), Some(token)) => format!("{context} {} {token}", name(who)),
            (None, None, None) if row.once_set => "reset".to_owned(),
            (None, None, None) => "never set".to_owned(),
            half => panic!("both or neither: {half:?}"),
        };
        let transaction = match (row.level, row.bound_to_context, row.bound_to_thread) {
            (0, None, None) => "none".to_owned(),
            (level @ 1..=7, Some(word), None) => format!("{level} of {word}"),
            (level @ 1..=7, None, Some(who)) => format!("{level} of {}", name(who)),
            broken => panic!("a transaction belongs to a word or to a thread: {broken:?}"),
        };
        let abandoned = if row.abandoned { ", abandoned" } else { "" };
        let event = row.last_event;
        format!("{id} @{event}: context {binding}, transaction {transaction}{abandoned}")
    }
}

impl Row {
    pub(super) fn is_bound(&self) -> bool {
        self.context.is_some()
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.level > 0
    }

    pub(super) fn token(&self) -> Option<u64> {
        self.token
    }

    /// "Tokens" of the fine print, and the causes of its "Details".
    fn held(&self, is_caller: impl Fn(Who) -> bool, token: Option<u64>) -> Result<(), String> {
        if token.is_some() && token != self.token {
            return Err("-1913 stale".to_owned());
        }
        let cause = match (self.set_by, self.lost) {
            (Some(holder), _) if is_caller(holder) => return Ok(()),
            (_, Some((loser, how))) if is_caller(loser) => how,
            (Some(_), _) => "held_by_other",
            (None, _) if self.once_set => "already_reset",
            (None, _) => "never_set",
        };
        Err(format!("-1913 {cause}"))
    }

    fn reset(&mut self, who: Who, token: Option<u64>, event: u64) -> Told {
        self.held(|other| other == who, token)?;
        self.free(event);
        self.lost = None;
        self.abandoned = self.abandoned && self.level > 0;
        Ok(format!("revision {event}"))
    }

    fn transfer(&mut self, who: Who, token: Option<u64>, to: Who, event: u64) -> Told {
        self.held(|other| other == who, token)?;
        self.set_by = Some(to);
        self.token = Some(event);
        self.lost = Some((who, "transferred"));
        self.last_event = event;
        Ok(format!("revision {event}"))
    }

    fn force(&mut self, token: u64, event: u64) -> Told {
        let Some(holder) = self.set_by else {
            return no(if self.once_set { "-1913 already_reset" } else { "-1913 never_set" });
        };
        if self.token != Some(token) {
            return no("-1913 stale");
        }
        self.free(event);
        self.lost = Some((holder, "forced"));
        self.abandoned = true;
        Ok(format!("revision {event}"))
    }

    fn free(&mut self, event: u64) {
        self.context = None;
        self.set_by = None;
        self.token = None;
        self.last_event = event;
    }

    fn begin(&mut self, who: Who, event: u64) -> Told {
        if self.level == 7 {
            return no("-1103");
        }
        if self.level > 0 {
            self.ownership_test(who)?;
        } else if self.context.is_some() {
            self.bound_to_context = self.context;
        } else {
            self.bound_to_thread = Some(who);
        }
        self.level += 1;
        self.last_event = event;
        Ok(format!("level {}", self.level))
    }

    fn end(&mut self, who: Who, levels: u8, event: u64) -> Told {
        if self.level == 0 {
            return no("-1054");
        }
        self.ownership_test(who)?;
        self.level -= levels;
        if self.level == 0 {
            self.bound_to_context = None;
            self.bound_to_thread = None;
            self.abandoned = false;
        }
        self.last_event = event;
        Ok(format!("level {}", self.level))
    }

    fn ownership_test(&self, who: Who) -> Result<(), String> {
        let passed = if self.bound_to_context.is_some() {
            self.bound_to_context == self.context && self.set_by == Some(who)
        } else {
            self.bound_to_thread == Some(who)
        };
        if passed { Ok(()) } else { Err("-1910".to_owned()) }
    }
}

/// The session that a step names.
fn named(step: Step) -> Option<u64> {
    match step {
        Begin | List => None,
        Duplicate(id) | ForceEnd(id) | Get(id) => Some(id),
        Set(_, id, _) | ResetWith(_, id, _) | Check(_, id, _) | Force(id, _) => Some(id),
        Transfer(_, id, _) | TransferWith(_, id, _, _) => Some(id),
        Reset(_, id) | End(_, id) | BeginTx(_, id) => Some(id),
        Commit(_, id) | Rollback(_, id) | RollbackAll(_, id) => Some(id),
    }
}

pub(super) fn name(who: Who) -> String {
    format!("{}/{}", who.principal, who.thread)
}

fn no(code: &str) -> Told {
    Err(code.to_owned())
}
