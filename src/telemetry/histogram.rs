//! How often something took how long, or was how large.
//!
//! Histograms of metrics libraries take a lock that all threads share, or keep every sample until
//! somebody asks. Here a sample is two relaxed additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of what calls and commits take, in nanoseconds: from what the fastest call takes on a machine
/// of one's own to what nobody waits for.
pub const LATENCIES: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Samples, counted by size.
#[derive(Debug)]
pub struct Histogram {
    /// Ascending upper ends; a sample as large as one is still below it.
    ends: &'static [u64],
    /// One more than there are ends: the last is of what is larger than all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// Upper ends and how many samples lie below each and above the one before. The last has no end.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// All samples together. It may be a little older than the buckets.
    pub sum: u64,
}

impl Samples {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Histogram {
    /// Nothing yet, in buckets with these ends.
    pub fn new(ends: &'static [u64]) -> Self {
        let counts = (0..=ends.len()).map(|_| AtomicU64::new(0)).collect();
        Self { ends, counts, sum: AtomicU64::new(0) }
    }

    /// Takes a sample.
    pub fn observe(&self, sample: u64) {
        let bucket = self.ends.partition_point(|end| *end < sample);
        self.sum.fetch_add(sample, Ordering::Relaxed);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a duration, in nanoseconds.
    pub fn took(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How it is now. Whoever told something after having taken a sample finds that sample in it.
    pub fn samples(&self) -> Samples {
        let sum = self.sum.load(Ordering::Relaxed);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let ends = self.ends.iter().copied().map(Some).chain([None]);
        Samples { buckets: ends.zip(counts).collect(), sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_in_the_first_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[10, 20]);
        for sample in [0, 10, 11, 20, 21, u64::MAX / 2] {
            histogram.observe(sample);
        }
        let samples = histogram.samples();
        assert_eq!(samples.buckets, [(Some(10), 2), (Some(20), 2), (None, 2)]);
        assert_eq!(samples.count(), 6);
        assert_eq!(samples.sum, 62 + u64::MAX / 2);
    }

    #[test]
    fn a_duration_counts_in_nanoseconds() {
        let histogram = Histogram::new(LATENCIES);
        histogram.took(Duration::from_micros(50));
        histogram.took(Duration::from_secs(11));
        let samples = histogram.samples();
        assert_eq!(samples.buckets[0], (Some(50_000), 1));
        assert_eq!(*samples.buckets.last().unwrap(), (None, 1));
        assert_eq!(samples.sum, 11_000_050_000);
    }
}
