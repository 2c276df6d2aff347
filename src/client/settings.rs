//! Settings by key: a table of times and a table of sizes, each with its name, its bounds and its
//! place in a [`Config`]. The defaults are the values of a new configuration.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::config::Config;
use crate::error::{Error, Result, Status};
use crate::session::{BOUND_BYTES, BOUND_REQUESTS, Stage};

/// The bounds of any time, in milliseconds: up to a day.
pub const BOUND_TIME: RangeInclusive<u64> = 1..=86_400_000;
/// With a lower maximum age, a client would do little else than connect.
const BOUND_AGE: RangeInclusive<u64> = 10_000..=*BOUND_TIME.end();
/// The range of the counter of failures.
const BOUND_ATTEMPTS: RangeInclusive<u64> = 1..=u32::MAX as u64;

/// One setting.
pub struct Setting {
    /// The number of its C constant. A stage's time limit has the number of the stage.
    pub key: i32,
    /// The name of its C constant.
    pub name: &'static str,
    /// The allowed values.
    pub bounds: RangeInclusive<u64>,
    /// Whether 0 is allowed too, which turns it off.
    pub zero: bool,
    place: Place,
}

/// The place of a value in the configuration.
#[derive(Clone, Copy)]
enum Place {
    Time(fn(&mut Config) -> &mut Duration),
    Size(fn(&mut Config) -> &mut usize),
}

const fn setting(
    key: i32,
    name: &'static str,
    bounds: RangeInclusive<u64>,
    place: Place,
) -> Setting {
    Setting {
        key,
        name,
        bounds,
        zero: false,
        place,
    }
}

const fn time(key: i32, name: &'static str, place: fn(&mut Config) -> &mut Duration) -> Setting {
    setting(key, name, BOUND_TIME, Place::Time(place))
}

const fn bytes(key: i32, name: &'static str, place: fn(&mut Config) -> &mut usize) -> Setting {
    setting(key, name, BOUND_BYTES, Place::Size(place))
}

macro_rules! stage {
    ($stage:ident, $name:literal) => {
        time(Stage::$stage as i32, $name, |config| {
            &mut config.limits.stage[Stage::$stage as usize]
        })
    };
}

/// The times.
pub static DURATIONS: [Setting; 18] = [
    stage!(Resolve, "CONFER_DURATION_STAGE_RESOLVE"),
    stage!(Tcp, "CONFER_DURATION_STAGE_TCP"),
    stage!(Tls, "CONFER_DURATION_STAGE_TLS"),
    stage!(Upgrade, "CONFER_DURATION_STAGE_UPGRADE"),
    stage!(Handshake, "CONFER_DURATION_STAGE_HANDSHAKE"),
    stage!(KeySet, "CONFER_DURATION_STAGE_KEY_SET"),
    stage!(Verify, "CONFER_DURATION_STAGE_VERIFY"),
    stage!(Proxy, "CONFER_DURATION_STAGE_PROXY"),
    time(100, "CONFER_DURATION_CONNECT", |c| &mut c.limits.connect),
    time(101, "CONFER_DURATION_ANSWER", |c| &mut c.answer),
    time(102, "CONFER_DURATION_KEEPALIVE", |c| {
        &mut c.limits.keepalive
    }),
    time(103, "CONFER_DURATION_DEAD_PEER", |c| {
        &mut c.limits.dead_after
    }),
    time(104, "CONFER_DURATION_PROBE", |c| &mut c.limits.probe),
    time(105, "CONFER_DURATION_IDLE_EVENTS", |c| {
        &mut c.limits.idle.events
    }),
    time(106, "CONFER_DURATION_IDLE_OTHER", |c| {
        &mut c.limits.idle.pieces
    }),
    Setting {
        bounds: BOUND_AGE,
        zero: true,
        ..time(107, "CONFER_DURATION_MAX_AGE", |c| &mut c.max_age)
    },
    time(108, "CONFER_DURATION_FIRST_RETRY", |c| &mut c.first_retry),
    time(109, "CONFER_DURATION_LONGEST_RETRY", |c| {
        &mut c.longest_retry
    }),
];

/// The sizes and counts.
pub static LIMITS: [Setting; 7] = [
    bytes(0, "CONFER_LIMIT_STREAM_REST", |c| {
        &mut c.limits.bounds.stream_rest
    }),
    bytes(1, "CONFER_LIMIT_STREAM_UNREAD", |c| {
        &mut c.limits.bounds.stream
    }),
    bytes(2, "CONFER_LIMIT_CLIENT_UNREAD", |c| {
        &mut c.limits.bounds.client
    }),
    bytes(3, "CONFER_LIMIT_UNFINISHED", |c| {
        &mut c.limits.bounds.unfinished
    }),
    bytes(4, "CONFER_LIMIT_UNSENT", |c| &mut c.limits.bounds.unsent),
    setting(
        5,
        "CONFER_LIMIT_REQUESTS",
        BOUND_REQUESTS,
        Place::Size(|c| &mut c.limits.bounds.requests),
    ),
    Setting {
        zero: true,
        ..setting(
            6,
            "CONFER_LIMIT_ATTEMPTS",
            BOUND_ATTEMPTS,
            Place::Size(|c| &mut c.attempts),
        )
    },
];

impl Setting {
    /// Sets a value within the bounds.
    pub fn set(&self, config: &mut Config, value: u64) -> Result<()> {
        if value != 0 || !self.zero {
            bounded(self.name, value, &self.bounds).map_err(|error| match self.zero {
                true => error.adding("(or 0)"),
                false => error,
            })?;
        }
        match self.place {
            Place::Time(place) => *place(config) = Duration::from_millis(value),
            Place::Size(place) => *place(config) = usize::try_from(value).unwrap_or(usize::MAX),
        }
        Ok(())
    }

    /// Its default.
    pub fn default(&self) -> u64 {
        let config = &mut Config::new();
        match self.place {
            Place::Time(place) => place(config).as_millis() as u64,
            Place::Size(place) => *place(config) as u64,
        }
    }
}

/// Checks a value against its bounds.
pub fn bounded(name: &str, value: u64, bounds: &RangeInclusive<u64>) -> Result<()> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = (bounds.start(), bounds.end());
    let message = format!("{name}: invalid value {value} (expected {least} to {most})");
    Err(Error::new(Status::InvalidArgument, message))
}

/// Checks a time limit.
pub fn time_limit(name: &str, milliseconds: u64) -> Result<Duration> {
    bounded(name, milliseconds, &BOUND_TIME)?;
    Ok(Duration::from_millis(milliseconds))
}
