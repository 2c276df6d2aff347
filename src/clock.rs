//! The device's clock, and times in words for errors and reports.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Returns the device's clock in Unix seconds, 0 before 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Formats a Unix time for people: `2026-11-26 13:02:11 UTC`.
pub fn in_words(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok();
    match time.and_then(|time| Timestamp::from_second(time).ok()) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("Unix second {seconds}, after the year 9999"),
    }
}

/// Makes the question whether the device's clock, which shows `now`, is right.
pub fn question(now: u64) -> String {
    format!("This device's clock says {}; is it right?", in_words(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        for (seconds, words) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (1_701_735_000, "2023-12-05 00:10:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
            (
                u64::MAX,
                "Unix second 18446744073709551615, after the year 9999",
            ),
        ] {
            assert_eq!(in_words(seconds), words);
        }
    }
}
