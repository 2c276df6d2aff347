//! Formats Unix seconds for certificates and JSON documents.

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const MINUTE: i64 = 60;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// Returns year, month, day, hour, minute and second, in the proleptic Gregorian calendar.
fn civil(unix: i64) -> (i64, i64, i64, i64, i64, i64) {
    let (days, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
    let shifted = days + 719_468; // days from 0000-03-01
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (
        year,
        month,
        day,
        second / HOUR,
        second % HOUR / MINUTE,
        second % MINUTE,
    )
}

pub(crate) fn rfc3339(unix: i64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Makes a certificate's `Time`: UTCTime until 2049, then GeneralizedTime (RFC 5280, 4.1.2.5).
pub(crate) fn x509(unix: i64) -> Vec<u8> {
    let (year, month, day, hour, minute, second) = civil(unix);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        super::der::element(0x17, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        super::der::element(0x18, format!("{year:04}{rest}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_match_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_786_913_292), "2026-08-16T20:48:12Z");
        assert_eq!(x509(2_524_607_999)[2..], *b"491231235959Z");
        assert_eq!(x509(2_524_608_000)[2..], *b"20500101000000Z");
    }
}
