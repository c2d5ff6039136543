//! Randomness, as an argument: request ids and the jitter of pauses.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

/// Where a client takes its randomness from. A test or a simulation gives it one of its own.
pub trait Chance: fmt::Debug + Send + Sync {
    /// Sixteen random bytes. Only the version and variant bits of a UUID v4 may be fixed among them.
    fn bytes(&self) -> [u8; 16];
}

/// The machine's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn bytes(&self) -> [u8; 16] {
        Uuid::new_v4().into_bytes()
    }
}

/// The same numbers for the same seed, so that a run can be repeated. Not for two clients of one server:
/// their request ids would be the same.
#[derive(Debug)]
pub struct SeededChance(AtomicU64);

impl SeededChance {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// SplitMix64.
    fn number(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Chance for SeededChance {
    fn bytes(&self) -> [u8; 16] {
        let both = (u128::from(self.number()) << 64) | u128::from(self.number());
        both.to_le_bytes()
    }
}

/// A fresh request id: a UUID v4.
pub(super) fn request_id(chance: &dyn Chance) -> String {
    uuid::Builder::from_random_bytes(chance.bytes()).into_uuid().to_string()
}

/// A pause that is up to a fifth shorter or longer, so that clients that failed together do not come
/// back together.
pub(super) fn jittered(chance: &dyn Chance, pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fraction(chance))
}

/// A pause that is up to a tenth shorter and never longer, for what must not be late.
pub(super) fn hastened(chance: &dyn Chance, pause: Duration) -> Duration {
    pause.mul_f64(1.0 - 0.1 * fraction(chance))
}

/// Somewhere from 0 to 1.
fn fraction(chance: &dyn Chance) -> f64 {
    let [a, b, c, d, ..] = chance.bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn request_ids_are_v4_and_never_the_same() {
        let seeded = SeededChance::new(7);
        for chance in [&SystemChance as &dyn Chance, &seeded] {
            let ids: BTreeSet<String> = (0..1_000).map(|_| request_id(chance)).collect();
            assert_eq!(ids.len(), 1_000);
            for id in ids {
                assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4, "{id}");
            }
        }
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_reaches_for_both() {
        let chance = SeededChance::new(7);
        let pause = Duration::from_secs(10);
        let around: Vec<Duration> = (0..1_000).map(|_| jittered(&chance, pause)).collect();
        let (shortest, longest) = (around.iter().min().unwrap(), around.iter().max().unwrap());
        assert!((8_000..8_200).contains(&shortest.as_millis()), "{shortest:?}");
        assert!((11_800..=12_000).contains(&longest.as_millis()), "{longest:?}");
        assert!((0..1_000).all(|_| hastened(&chance, pause) <= pause));
    }
}
