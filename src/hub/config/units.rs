//! Durations and sizes as text: `25s`, `1h30m`, `64KiB`.

use std::time::Duration;

use crate::duration;

/// A unit's name and how many of the smallest unit it stands for, largest first.
type Unit = (&'static str, u64);

/// In milliseconds.
const DURATION_UNITS: [Unit; 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// In bytes. Powers of 1024 only: `KB` would leave open which of the two is meant.
const SIZE_UNITS: [Unit; 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration such as `25s`, `1.5h` or `1h30m` ([`duration::parse_duration`]). Below a millisecond nothing may be left: in
/// many settings it would become 0, which often means never.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration: write numbers with ms, s, m, h or d, such as \"25s\" or \"1h30m\"");
    let parsed = duration::parse_duration(text).ok_or_else(wrong)?;
    match u64::try_from(parsed.as_millis()).map(Duration::from_millis) {
        Ok(whole) if whole == parsed => Ok(parsed),
        Ok(_) => Err(format!("`{text}` is no whole number of milliseconds: write \"1ms\", \"2ms\", …")),
        Err(_) => Err(format!("`{text}` is too long")),
    }
}

/// Reads a size such as `64KiB` or `1MiB`; a bare number is bytes.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is not a size: write a whole number with B, KiB, MiB or GiB, such as \"64KiB\"");
    let bytes = text.trim().parse().ok().or_else(|| parse_amount(text, &SIZE_UNITS));
    bytes.and_then(|bytes: u64| usize::try_from(bytes).ok()).ok_or_else(wrong)
}

fn parse_amount(text: &str, units: &[Unit]) -> Option<u64> {
    let text = text.trim();
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*scale)
}

/// Writes `duration` in the largest unit that loses nothing; below a millisecond nothing is kept.
pub(super) fn write_duration(duration: Duration) -> String {
    write_amount(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS, "0s")
}

/// Writes `bytes` in the largest unit that loses nothing.
pub(super) fn write_size(bytes: usize) -> String {
    write_amount(bytes as u64, &SIZE_UNITS, "0B")
}

fn write_amount(amount: u64, units: &[Unit], zero: &str) -> String {
    let largest = units.iter().find(|(_, scale)| amount != 0 && amount.is_multiple_of(*scale));
    largest.map_or_else(|| zero.to_owned(), |(name, scale)| format!("{}{name}", amount / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, milliseconds: Option<u64>| {
            let parsed = parse_duration(text).ok();
            assert_eq!(parsed, milliseconds.map(Duration::from_millis), "{text}");
            if let Some(parsed) = parsed {
                assert_eq!(parse_duration(&write_duration(parsed)), Ok(parsed), "{text}");
            }
        };
        check("25s", Some(25_000));
        check("500ms", Some(500));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("2 d", Some(172_800_000));
        check("0s", Some(0));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1_500));
        check("2000us", Some(2));
        for bad in ["", "25", "s", "-1s", "+1s", "1S", "5 minutes", "99999999999999999999s", "9999999999999999h"] {
            check(bad, None);
        }
        let wrong = |text: &str| parse_duration(text).expect_err(text);
        for text in ["1.5ms", "999us", "1ns"] {
            assert!(wrong(text).contains("no whole number of milliseconds"), "{text}");
        }
        assert_eq!(wrong("18446744073709551615s"), "`18446744073709551615s` is too long");
        assert_eq!(write_duration(Duration::from_secs(90)), "90s");
        assert_eq!(write_duration(Duration::from_secs(300)), "5m");
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: Option<usize>| {
            let parsed = parse_size(text).ok();
            assert_eq!(parsed, bytes, "{text}");
            if let Some(parsed) = parsed {
                assert_eq!(parse_size(&write_size(parsed)), Ok(parsed), "{text}");
            }
        };
        check("64KiB", Some(65_536));
        check("1 MiB", Some(1 << 20));
        check("2GiB", Some(2 << 30));
        check("100", Some(100));
        check("100B", Some(100));
        check("0", Some(0));
        for bad in ["", "KiB", "64KB", "64k", "1.5MiB", "-1", "99999999999GiB"] {
            check(bad, None);
        }
        assert_eq!(write_size(1536), "1536B");
        assert_eq!(write_size(65_536), "64KiB");
    }
}
