//! Who may do what: roles, the rules that give them, and the tokens that say who somebody is.
//!
//! Nobody has a role that no rule gives: a policy without rules allows nothing.

mod policy;
mod token;

use std::fmt;
use std::str::FromStr;

pub use policy::{Pattern, Policy, Rule, Scope};
pub use token::{Digest, Tokens, is_token};

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

    /// Whether what is done under it is an operator's act, which is logged.
    pub fn is_operators(self) -> bool {
        match self {
            Self::Observe | Self::Use => false,
            Self::Operate | Self::Admin => true,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
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

/// A set of roles, always with those that its roles include.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// No role at all.
    pub const NONE: Self = Self(0);

    /// Whether this role is among them.
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl From<Role> for Roles {
    /// The role and what it includes.
    fn from(role: Role) -> Self {
        let includes: &[Role] = match role {
            Role::Observe => &[Role::Observe],
            Role::Use => &[Role::Use],
            Role::Operate => &[Role::Operate, Role::Observe],
            Role::Admin => &Role::ALL,
        };
        Self(includes.iter().fold(0, |bits, role| bits | role.bit()))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        roles.into_iter().fold(Self::NONE, |set, role| set.and(role.into()))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Role::ALL.iter().filter(|role| self.has(**role))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_brings_what_it_includes_and_nothing_else() {
        for (role, has) in [
            (Role::Observe, [true, false, false, false]),
            (Role::Use, [false, true, false, false]),
            (Role::Operate, [true, false, true, false]),
            (Role::Admin, [true, true, true, true]),
        ] {
            assert_eq!(Role::ALL.map(|other| Roles::from(role).has(other)), has, "{role}");
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!(Role::ALL.iter().all(|role| !Roles::NONE.has(*role)));
        let both: Roles = [Role::Observe, Role::Use].into_iter().collect();
        assert_eq!(format!("{both:?}"), "{Observe, Use}");
        assert_eq!("Admin".parse::<Role>(), Err(NoSuchRole));
    }
}
