//! The owners that a table knows, so that sessions of one owner share one handle.

use std::collections::HashSet;
use std::fmt;

use crate::domain::id::Owner;
use crate::domain::limits::UNUSED_OWNERS_MIN;

/// One handle of each owner.
///
/// This saves memory and says nothing: a copy begins without any, and all are equal.
#[derive(Default)]
pub(super) struct Owners {
    /// Looked up and swept, never listed: the order is that of a hash.
    known: HashSet<Owner>,
    /// How many the last sweep left.
    kept: usize,
}

impl Owners {
    /// The handle by which this owner is known.
    pub(super) fn shared(&mut self, owner: &Owner) -> Owner {
        if let Some(known) = self.known.get(owner) {
            return known.clone();
        }
        // Half of those known came since the last sweep, so each pays for two looks at an owner.
        if self.known.len() >= (2 * self.kept).max(UNUSED_OWNERS_MIN) {
            self.sweep();
        }
        self.known.insert(owner.clone());
        owner.clone()
    }

    /// How many are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets owners that nobody else has.
    fn sweep(&mut self) {
        self.known.retain(Owner::is_shared);
        self.kept = self.known.len();
        self.known.shrink_to((2 * self.kept).max(UNUSED_OWNERS_MIN));
    }
}

impl Clone for Owners {
    /// Nobody: copies are taken often and seldom changed, and a copy's hold on an owner would keep
    /// it from being forgotten.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Owners {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Owners {}

impl fmt::Debug for Owners {
    /// Only how many: their order is that of a hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owners({})", self.known.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Principal;

    #[test]
    fn equal_owners_share_one_handle() {
        let mut owners = Owners::default();
        let first = owners.shared(&owner(1));
        assert_eq!(owners.shared(&owner(1)), first);
        assert_eq!(owners.shared(&owner(2)), owner(2));
        assert_eq!(owners.known.len(), 2);
        assert!(first.is_shared());
    }

    #[test]
    fn owners_that_came_and_went_leave_few() {
        let mut owners = Owners::default();
        let stays: Vec<_> = (0..3_000).map(|n| owners.shared(&owner(n))).collect();
        for n in 3_000..200_000 {
            drop(owners.shared(&owner(n)));
            assert!(owners.known.len() <= 2 * stays.len(), "{}", owners.known.len());
        }
        assert!(owners.known.capacity() < 20_000, "{}", owners.known.capacity());
        assert!(stays.iter().all(|owner| owners.known.contains(owner)));
    }

    #[test]
    fn owners_who_hold_nothing_are_forgotten_after_a_crowd() {
        let mut owners = Owners::default();
        let crowd: Vec<_> = (0..100_000).map(|n| owners.shared(&owner(n))).collect();
        drop(crowd);
        (0..200_001).for_each(|n| drop(owners.shared(&owner(n))));
        assert!(owners.known.len() <= UNUSED_OWNERS_MIN, "{}", owners.known.len());
        assert!(owners.known.capacity() <= 4 * UNUSED_OWNERS_MIN, "{}", owners.known.capacity());
    }

    fn owner(n: u64) -> Owner {
        Owner::new(Principal::anonymous(), format!("worker/{n}").parse().unwrap())
    }
}
