//! Who may do what: roles, and the rules that give them.

use std::fmt;
use std::str::FromStr;

/// What a principal may be to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and watches.
    Observe,
    /// Begins, sets, resets, claims and ends sessions.
    Use,
    /// Initialises, stops and terminates, takes sessions away, backs up. Also observes.
    Operate,
    /// Creates, deletes and restores. Also does everything else.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Use, Self::Operate, Self::Admin];

    /// The word for it in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Use => "use",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of observe, use, operate, admin")]
pub struct NoSuchRole;

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoSuchRole)
    }
}
