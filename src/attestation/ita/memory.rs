//! Remembers keys with verified certificates, so that the same key costs no further signature
//! checks.
//!
//! The validity times are still checked: every certificate of a remembered key must be valid now.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chain::{self, TrustedKey};
use super::keys::Jwk;
use crate::attestation::memory::Memory;
use crate::attestation::report::Finding;

/// Number of remembered keys. Intel signs with one key, and with two during a change.
const MAX_REMEMBERED: usize = 4;

/// The verified keys for one policy's roots.
#[derive(Default)]
pub(in crate::attestation) struct Keys(Mutex<Vec<Remembered>>);

struct Remembered {
    /// The key with its certificates, compared byte for byte.
    key: Jwk,
    trusted: TrustedKey,
    /// When all of its certificates are valid, in Unix seconds.
    valid: RangeInclusive<u64>,
}

impl Keys {
    /// Returns a remembered key, or verifies it with [`chain::trusted_key`].
    pub(in crate::attestation) fn trusted(
        &self,
        key: &Jwk,
        roots: &[[u8; 32]],
        now: u64,
        memory: Memory,
    ) -> Result<TrustedKey, Finding> {
        if memory == Memory::Leave {
            return chain::trusted_key(key, roots, now).map(|(trusted, _)| trusted);
        }
        if let Some(trusted) = self.recall(key, now) {
            return Ok(trusted);
        }
        let (trusted, valid) = chain::trusted_key(key, roots, now)?;
        self.remember(Remembered {
            key: key.clone(),
            trusted: trusted.clone(),
            valid,
        });
        Ok(trusted)
    }

    fn remembered(&self) -> MutexGuard<'_, Vec<Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall(&self, key: &Jwk, now: u64) -> Option<TrustedKey> {
        let remembered = self.remembered();
        let known = remembered.iter().find(|known| known.key == *key);
        known
            .filter(|known| known.valid.contains(&now))
            .map(|known| known.trusted.clone())
    }

    fn remember(&self, new: Remembered) {
        let mut remembered = self.remembered();
        remembered.retain(|known| known.key != new.key);
        if remembered.len() == MAX_REMEMBERED {
            remembered.remove(0);
        }
        remembered.push(new);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::date_time_ymd;

    use super::*;
    use crate::attestation::ita::Kid;
    use crate::attestation::world::{Intel, NOW};

    const DAY: u64 = 86_400;

    fn keys(intel: &Intel) -> (Jwk, [[u8; 32]; 1]) {
        let kid = Kid::parse(&intel.kid).unwrap();
        let key = Jwk::clone(intel.key_set().find(&kid).unwrap());
        (key, [intel.root_sha256])
    }

    #[test]
    fn remembered_key_is_refused_outside_the_validity_of_any_certificate() {
        // 2027-02-01, 17 days after `NOW`.
        let soon = || date_time_ymd(2027, 2, 1);
        for shortened in 0..3 {
            let intel = Intel::with(|plan| {
                let certificates = [&mut plan.leaf, &mut plan.ca, &mut plan.root];
                certificates.into_iter().nth(shortened).unwrap().not_after = soon();
            });
            let (key, roots) = keys(&intel);
            let memory = Keys::default();
            let trusted = |now| memory.trusted(&key, &roots, now, Memory::Use).is_ok();
            assert!(trusted(NOW) && memory.recall(&key, NOW).is_some());
            assert!(trusted(NOW + 16 * DAY));
            assert!(!trusted(NOW + 18 * DAY));
            assert!(!trusted(NOW - 400 * DAY), "before 2026-01-01");
            assert!(trusted(NOW));
        }
    }

    #[test]
    fn remembered_key_that_changes_in_one_byte_is_verified_again() {
        let (key, roots) = keys(&Intel::new());
        let memory = Keys::default();
        assert!(memory.trusted(&key, &roots, NOW, Memory::Use).is_ok());
        let mut places: Vec<Jwk> = Vec::new();
        for certificate in 0..key.x5c.len() {
            let mut other = key.clone();
            *other.x5c[certificate].last_mut().unwrap() ^= 1;
            places.push(other);
        }
        let mut other = key.clone();
        other.n[0] ^= 1;
        places.push(other);
        for other in places {
            assert!(memory.trusted(&other, &roots, NOW, Memory::Use).is_err());
        }
    }

    #[test]
    fn failures_and_replays_are_not_remembered() {
        let (key, roots) = keys(&Intel::new());
        let memory = Keys::default();
        assert!(memory.trusted(&key, &roots, NOW, Memory::Leave).is_ok());
        assert!(memory.recall(&key, NOW).is_none());
        assert!(memory.trusted(&key, &[], NOW, Memory::Use).is_err());
        assert!(memory.recall(&key, NOW).is_none());
    }

    #[test]
    fn only_so_many_keys_are_remembered() {
        let memory = Keys::default();
        let mut first = None;
        for day in 1..=MAX_REMEMBERED as u8 + 1 {
            let intel = Intel::with(|plan| plan.leaf.not_before = date_time_ymd(2026, 1, day));
            let (key, roots) = keys(&intel);
            memory.trusted(&key, &roots, NOW, Memory::Use).unwrap();
            first.get_or_insert(key);
        }
        assert_eq!(memory.remembered().len(), MAX_REMEMBERED);
        assert!(memory.recall(&first.unwrap(), NOW).is_none());
    }
}
