//! Where numbers begin, and epochs.

use crate::domain::id::{Revision, SessionId};

/// Low bits of a number: those that count within an epoch.
const COUNT_BITS: u32 = 48;

/// Where the numbers of an instance begin. Every instance begins above all numbers that a deleted
/// one ever used, so that no token and no sesid comes twice.
///
/// The high 16 bits of a number are its *epoch*. Whoever restores a backup cannot know which numbers
/// were used after it was taken, here or elsewhere, so a restored instance goes on in the next epoch:
/// no number of the backup's past or future comes twice.
///
/// ```
/// use jet_session::domain::id::Revision;
/// use jet_session::domain::table::Floor;
///
/// let floor = Floor { revision: Revision::new(7), sesid: 5 };
/// let next = floor.next_epoch().unwrap();
/// assert_eq!((floor.epoch(), next.epoch()), (0, 1));
/// assert_eq!((next.revision.get(), next.sesid), (1 << 48, 1 << 48));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Floor {
    /// No event at or below this revision is new.
    pub revision: Revision,
    /// No session at or below this number is new.
    pub sesid: u64,
}

impl Floor {
    /// The floor above both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { revision: self.revision.max(other.revision), sesid: self.sesid.max(other.sesid) }
    }

    /// The epoch that its numbers have reached: the high 16 bits of the larger one.
    pub const fn epoch(self) -> u16 {
        let (revision, sesid) = (epoch_of(self.revision.get()), epoch_of(self.sesid));
        if revision > sesid { revision } else { sesid }
    }

    /// Where the next epoch begins; nothing after the last one.
    #[must_use]
    pub fn next_epoch(self) -> Option<Self> {
        let begin = u64::from(self.epoch().checked_add(1)?) << COUNT_BITS;
        Some(Self { revision: Revision::new(begin), sesid: begin })
    }
}

/// The epoch of a number.
pub(super) const fn epoch_of(number: u64) -> u16 {
    let [high, low, ..] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Whether a number only marks the beginning of its epoch. No session has such a number.
pub(super) const fn begins_epoch(number: u64) -> bool {
    number.trailing_zeros() >= COUNT_BITS
}

/// The highest sesids that were issued: one for the present epoch and one for each earlier epoch in
/// which any was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Issued {
    /// Of earlier epochs, ascending.
    earlier: Vec<u64>,
    last: u64,
}

impl Issued {
    /// Everything up to `last` in the epoch of that, and `earlier` ones. Of these only the highest of
    /// an epoch counts, and none that is not of an earlier epoch.
    pub(super) fn new(mut earlier: Vec<u64>, last: u64) -> Self {
        earlier.retain(|sesid| epoch_of(*sesid) < epoch_of(last) && !begins_epoch(*sesid));
        earlier.sort_unstable_by(|a, b| b.cmp(a));
        earlier.dedup_by_key(|sesid| epoch_of(*sesid));
        earlier.reverse();
        Self { earlier, last }
    }

    /// The highest of the present epoch, or where that begins.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The highest of each earlier epoch, ascending.
    pub(super) fn earlier(&self) -> &[u64] {
        &self.earlier
    }

    /// Goes on above `sesid`, or where it is if that is higher.
    pub(super) fn raise(&mut self, sesid: u64) {
        if epoch_of(sesid) > epoch_of(self.last) && !begins_epoch(self.last) {
            self.earlier.push(self.last);
        }
        self.last = self.last.max(sesid);
    }

    /// The number after the last, unless those of the epoch are used up: the next epoch is for
    /// restored instances alone.
    pub(super) fn next(&self) -> Option<SessionId> {
        let next = self.last.checked_add(1).filter(|next| !begins_epoch(*next))?;
        SessionId::new(next)
    }

    /// Whether numbering comes to this number within the present epoch.
    pub(super) fn reaches(&self, sesid: u64) -> bool {
        epoch_of(sesid) == epoch_of(self.last) && !begins_epoch(sesid)
    }

    /// Whether a session ever had this number: whether it is at or below the highest of its epoch.
    pub(super) fn contains(&self, sesid: u64) -> bool {
        let epoch = epoch_of(sesid);
        let highest = if epoch == epoch_of(self.last) {
            Some(self.last)
        } else {
            let nth = self.earlier.partition_point(|highest| epoch_of(*highest) < epoch);
            self.earlier.get(nth).copied().filter(|highest| epoch_of(*highest) == epoch)
        };
        !begins_epoch(sesid) && highest.is_some_and(|highest| sesid <= highest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_that_of_the_larger_number() {
        for (revision, sesid, epoch, next) in [
            (0, 0, 0, Some(1 << 48)),
            ((1 << 48) - 1, 5, 0, Some(1 << 48)),
            (1 << 48, 5, 1, Some(2 << 48)),
            (5, (3 << 48) | 1, 3, Some(4 << 48)),
            (65_534 << 48, 0, 65_534, Some(65_535 << 48)),
            (65_535 << 48, 0, 65_535, None),
            (7, u64::MAX, 65_535, None),
        ] {
            let floor = Floor { revision: Revision::new(revision), sesid };
            assert_eq!(floor.epoch(), epoch, "{floor:?}");
            let next = next.map(|begin| Floor { revision: Revision::new(begin), sesid: begin });
            assert_eq!(floor.next_epoch(), next, "{floor:?}");
            assert!(next.is_none_or(|next| next.max(floor) == next && next > floor));
        }
    }

    #[test]
    fn a_number_was_issued_if_it_is_not_above_the_highest_of_its_epoch() {
        let at = |epoch: u64, count: u64| (epoch << 48) | count;
        let mut issued = Issued::new(Vec::new(), at(0, 2));
        issued.raise(at(0, 1));
        assert_eq!((issued.last(), issued.earlier()), (at(0, 2), [].as_slice()));
        for next in [at(1, 0), at(3, 0), at(3, 4), at(5, 0)] {
            issued.raise(next);
        }
        assert_eq!((issued.last(), issued.earlier()), (at(5, 0), [at(0, 2), at(3, 4)].as_slice()));
        for yes in [at(0, 1), at(0, 2), at(3, 1), at(3, 4)] {
            assert!(issued.contains(yes), "{yes:x}");
        }
        for no in [at(0, 3), at(1, 0), at(1, 1), at(3, 0), at(3, 5), at(5, 0), at(5, 1), u64::MAX] {
            assert!(!issued.contains(no), "{no:x}");
        }
        assert_eq!(issued.next(), SessionId::new(at(5, 1)));
    }

    #[test]
    fn no_number_is_issued_past_the_end_of_an_epoch() {
        for last in [(1 << 48) - 1, (8 << 48) - 1, u64::MAX] {
            assert_eq!(Issued::new(Vec::new(), last).next(), None, "{last:x}");
            assert_eq!(Issued::new(Vec::new(), last - 1).next(), SessionId::new(last));
        }
    }

    #[test]
    fn of_what_was_remembered_only_the_highest_of_earlier_epochs_counts() {
        let at = |epoch: u64, count: u64| (epoch << 48) | count;
        let remembered = vec![at(1, 7), at(0, 3), at(1, 9), at(2, 0), at(3, 1), at(4, 1)];
        let issued = Issued::new(remembered, at(3, 5));
        assert_eq!(issued.earlier(), [at(0, 3), at(1, 9)]);
    }
}
