//! Random numbers that protect nothing (SplitMix64). They spread pauses, and name messages.

use std::hash::{BuildHasher, RandomState};

/// Returns a random seed. It comes from the standard library, because only workers may ask aws-lc
/// for random numbers (`host/exit.rs`), and every thread asks here.
pub fn seed() -> u64 {
    RandomState::new().hash_one(())
}

/// A sequence of random numbers. Its first 2^64 numbers all differ.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        self.number() as f64 / u64::MAX as f64
    }
}
