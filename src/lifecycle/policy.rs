//! Times at which a lost connection is retried and a working one replaced. `error/status.rs` says
//! whether an error allows another attempt at all.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Settings for retries of a lost connection.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// Attempts in a row that may fail before the client ends.
    pub attempts: u32,
    /// The longest delay before the first attempt. It doubles with each attempt.
    pub first: Duration,
    /// The longest delay before any attempt.
    pub most: Duration,
}

impl Reconnect {
    /// The delay before an attempt, counted from 1: a random part (`dice`, 0 to 1) of a limit that
    /// doubles ("full jitter"), so that the clients of a server that restarted do not all return at
    /// the same time.
    pub fn pause(&self, attempt: u32, dice: f64) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1).min(30));
        let limit = self.first.saturating_mul(doubled).min(self.most);
        limit.mul_f64(dice.clamp(0.0, 1.0))
    }
}

/// When a working connection is replaced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Renew {
    /// The longest life of a connection.
    pub max_age: Option<Duration>,
    /// Replace it when its evidence expires.
    pub with_evidence: bool,
}

/// The library asks for a fresh token this long before the old one expires, so that no request is
/// refused.
const TOKEN_LEAD: Duration = Duration::from_secs(60);
/// The shortest time between two renewals, whatever tokens and evidence say about their ends.
const MIN_AGE: Duration = Duration::from_secs(10);

/// The interval for looking at the wall clock. Timers stand still while a machine sleeps, but
/// evidence and tokens expire.
pub const LOOK: Duration = Duration::from_secs(30);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub wall: SystemTime,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        Now {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Seconds since 1970 by the wall clock.
    pub fn unix(self) -> u64 {
        let since = self.wall.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }
}

/// When a connection was made, and when its evidence and token end, in Unix seconds.
pub struct Born {
    pub at: Now,
    pub evidence_ends: Option<u64>,
    /// `None` if the token has no end, or if the application gives no fresh token.
    pub token_ends: Option<u64>,
}

impl Born {
    /// Its age, by the clock that shows more: only the wall clock runs while the machine sleeps.
    pub fn age(&self, now: Now) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.at.monotonic);
        let wall = now.wall.duration_since(self.at.wall);
        wall.map_or(monotonic, |wall| wall.max(monotonic))
    }
}

impl Born {
    /// Whether a fresh token is due.
    pub fn token_is_ending(&self, now: Now) -> bool {
        let lead = TOKEN_LEAD.as_secs();
        self.token_ends.is_some_and(|at| now.unix() + lead >= at)
    }
}

impl Renew {
    /// Whether a connection must not take another request: it is too old, or its evidence has
    /// expired.
    pub fn due(&self, born: &Born, now: Now) -> bool {
        let expired = born.evidence_ends.is_some_and(|at| now.unix() >= at);
        let over = self.max_age.is_some_and(|max| born.age(now) >= max);
        over || (self.with_evidence && expired)
    }

    /// The time until a connection must be replaced, if ever. Never below the shortest time between
    /// two renewals, so that a wrong `exp` cannot cause a storm.
    pub fn left(&self, born: &Born, now: Now) -> Option<Duration> {
        let until = |at: u64| Duration::from_secs(at.saturating_sub(now.unix()));
        let age = born.age(now);
        let over = self.max_age.map(|max| max.saturating_sub(age));
        let evidence = born.evidence_ends.filter(|_| self.with_evidence).map(until);
        let token = born
            .token_ends
            .map(|at| until(at).saturating_sub(TOKEN_LEAD));
        let soonest = [over, evidence, token].into_iter().flatten().min()?;
        Some(soonest.max(MIN_AGE.saturating_sub(age)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn now() -> Now {
        Now {
            monotonic: Instant::now(),
            wall: UNIX_EPOCH + HOUR * 1_000,
        }
    }

    fn later(now: Now, monotonic: Duration, wall: i64) -> Now {
        let by = Duration::from_secs(wall.unsigned_abs());
        Now {
            monotonic: now.monotonic + monotonic,
            wall: if wall < 0 {
                now.wall - by
            } else {
                now.wall + by
            },
        }
    }

    fn born(at: Now, evidence: i64, token: Option<i64>) -> Born {
        let ends = |seconds: i64| at.unix().checked_add_signed(seconds).unwrap();
        Born {
            at,
            evidence_ends: Some(ends(evidence)),
            token_ends: token.map(ends),
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_cap_and_is_a_random_part_of_that() {
        let reconnect = Reconnect {
            attempts: 9,
            first: Duration::from_secs(1),
            most: Duration::from_secs(5),
        };
        let longest = [1, 2, 3, 4, u32::MAX].map(|attempt| reconnect.pause(attempt, 1.0).as_secs());
        assert_eq!(longest, [1, 2, 4, 5, 5]);
        assert_eq!(reconnect.pause(3, 0.0), Duration::ZERO);
        assert_eq!(reconnect.pause(3, 0.5), Duration::from_secs(2));
        assert_eq!(reconnect.pause(3, f64::INFINITY), Duration::from_secs(4));
    }

    #[test]
    fn expired_evidence_counts_where_the_policy_asks_and_whichever_clock_tells_of_it() {
        let start = now();
        let born = born(start, 300, None);
        let renew = Renew {
            max_age: None,
            with_evidence: true,
        };
        let minutes = |n: u64| Duration::from_secs(60 * n);
        assert!(!renew.due(&born, later(start, minutes(4), 240)));
        assert!(renew.due(&born, later(start, minutes(5), 300)));
        assert!(
            renew.due(&born, later(start, minutes(1), 3_600)),
            "it slept"
        );
        assert!(
            !renew.due(&born, later(start, minutes(1), -3_600)),
            "set back"
        );
        assert!(!Renew::default().due(&born, later(start, HOUR, 3_600)));
        assert_eq!(renew.left(&born, start), Some(minutes(5)));
        let asleep = later(start, minutes(1), 3_600);
        assert_eq!(renew.left(&born, asleep), Some(Duration::ZERO));
        assert_eq!(Renew::default().left(&born, start), None);
    }

    #[test]
    fn an_age_is_that_of_the_clock_that_shows_more() {
        let start = now();
        let born = born(start, 1, None);
        let renew = Renew {
            max_age: Some(HOUR),
            with_evidence: false,
        };
        assert!(!renew.due(&born, later(start, HOUR / 2, 1_800)));
        assert!(renew.due(&born, later(start, HOUR, -3_600)));
        assert!(renew.due(&born, later(start, HOUR / 2, 3_600)));
        assert_eq!(renew.left(&born, start), Some(HOUR));
        let half = later(start, HOUR / 2, 1_800);
        assert_eq!(renew.left(&born, half), Some(HOUR / 2));
    }

    #[test]
    fn a_token_is_replaced_a_minute_before_its_end_and_never_in_a_storm() {
        let start = now();
        let in_time = born(start, 1, Some(900));
        let renew = Renew::default();
        assert_eq!(renew.left(&in_time, start), Some(Duration::from_secs(840)));
        for lie in [-1_000_000, 0, 61] {
            let lies = born(start, 1, Some(lie));
            assert_eq!(renew.left(&lies, start), Some(MIN_AGE));
            let soon = later(start, MIN_AGE, 10);
            assert_eq!(renew.left(&lies, soon), Some(Duration::ZERO));
        }
    }
}
