//! How large the parts of a log are.

use crate::domain::limits;

/// How large the parts of a log are, in bytes unless it says otherwise. What the program uses is the
/// default, which is in [`limits`] with its reasons; tests make everything small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The first segment.
    pub segment_first: u64,
    /// The longest segment.
    pub segment_max: u64,
    /// The reserve.
    pub reserve: u64,
    /// How much is logged before a snapshot is taken, at least.
    pub snapshot_log_min: u64,
    /// Segments that are kept though no snapshot needs them.
    pub history_max: u64,
    /// Answered changes that wait for their late sync.
    pub lazy_max: usize,
    /// How many numbers a LAZY instance takes at a time.
    pub taken_numbers: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_first: limits::SEGMENT_BYTES_FIRST,
            segment_max: limits::SEGMENT_BYTES_MAX,
            reserve: limits::RESERVE_BYTES,
            snapshot_log_min: limits::SNAPSHOT_LOG_BYTES_MIN,
            history_max: limits::HISTORY_BYTES_MAX,
            lazy_max: limits::LAZY_BYTES_MAX,
            taken_numbers: limits::TAKEN_NUMBERS,
        }
    }
}
