//! What one session is, and what each call makes of it: a model in as few words as possible, written
//! from the contract and not from the code.

use std::fmt;

/// A client task; its thread id is `task-N`.
pub(crate) type Task = u32;

const ALREADY_SET: i32 = -1912;
const NOT_SET_BY_THIS_THREAD: i32 = -1913;
const SESSION_IN_USE: i32 = -1914;
const SHARING_VIOLATION: i32 = -1910;
const NOT_IN_TRANSACTION: i32 = -1054;
const TRANS_TOO_DEEP: i32 = -1103;
const LEVEL_MAX: i32 = 7;

/// A call that changes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Set(u64),
    Reset,
    Begin,
    Commit,
    Rollback,
    End,
}

/// A session that exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(crate) bound: Option<Bound>,
    pub(crate) open: Option<Open>,
}

/// A context that is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bound {
    pub(crate) by: Task,
    pub(crate) word: u64,
    /// Not known if the answer to Set never came.
    pub(crate) token: Option<u64>,
}

/// A transaction that is open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Open {
    pub(crate) level: i32,
    pub(crate) of: Of,
}

/// Whose a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    Word(u64),
    Thread(Task),
}

impl State {
    pub(crate) fn level(&self) -> i32 {
        self.open.as_ref().map_or(0, |open| open.level)
    }

    /// The state after a call that is admitted, which is nothing after an End; or its JET error.
    pub(crate) fn after(&self, act: Act, by: Task) -> Result<Option<Self>, i32> {
        let mut next = self.clone();
        let holder = self.bound.as_ref().map(|bound| bound.by);
        match act {
            Act::Set(_) if holder.is_some() => return Err(ALREADY_SET),
            Act::Set(word) => next.bound = Some(Bound { by, word, token: None }),
            Act::Reset if holder == Some(by) => next.bound = None,
            Act::Reset => return Err(NOT_SET_BY_THIS_THREAD),
            Act::Begin => match &mut next.open {
                Some(open) if open.level == LEVEL_MAX => return Err(TRANS_TOO_DEEP),
                Some(open) if self.is_of(open.of, by) => open.level += 1,
                Some(_) => return Err(SHARING_VIOLATION),
                None => {
                    let of =
                        self.bound.as_ref().map_or(Of::Thread(by), |bound| Of::Word(bound.word));
                    next.open = Some(Open { level: 1, of });
                }
            },
            Act::Commit | Act::Rollback => match &mut next.open {
                None => return Err(NOT_IN_TRANSACTION),
                Some(open) if !self.is_of(open.of, by) => return Err(SHARING_VIOLATION),
                Some(open) if open.level == 1 => next.open = None,
                Some(open) => open.level -= 1,
            },
            Act::End => {
                let of = self.open.as_ref().map(|open| open.of);
                return match (holder, of) {
                    (Some(_), _) => Err(SESSION_IN_USE),
                    (None, Some(Of::Thread(thread))) if thread != by => Err(SHARING_VIOLATION),
                    (None, Some(Of::Thread(_) | Of::Word(_)) | None) => Ok(None),
                };
            }
        }
        Ok(Some(next))
    }

    /// Whether a transaction is this task's to go on with.
    fn is_of(&self, of: Of, by: Task) -> bool {
        match of {
            Of::Thread(thread) => thread == by,
            Of::Word(word) => {
                self.bound.as_ref().is_some_and(|bound| bound.word == word && bound.by == by)
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound {
            None => f.write_str("free")?,
            Some(Bound { by, word, token: Some(token) }) => {
                write!(f, "held by task-{by} with word {word} under token {token}")?;
            }
            Some(Bound { by, word, token: None }) => {
                write!(f, "held by task-{by} with word {word} under a token not known")?;
            }
        }
        match &self.open {
            None => Ok(()),
            Some(Open { level, of: Of::Word(word) }) => {
                write!(f, ", level {level} of word {word}")
            }
            Some(Open { level, of: Of::Thread(task) }) => {
                write!(f, ", level {level} of task-{task}")
            }
        }
    }
}
