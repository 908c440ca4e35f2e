//! Durations as text: one grammar for the configuration and the command line.

use std::time::Duration;

/// The units, each with its nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// The most digits of a number, before and behind its point: its nanoseconds fit into 128 bits.
const DIGITS_MAX: usize = 20;

/// Parses numbers, each with its unit, such as `500ms`, `1.5h` or `1h30m`, as Go's flags have them (the former load generator was
/// such a program). Spaces may stand around the text, and between a number and its unit. `None` for anything else, and for
/// durations that [`Duration`] cannot hold.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let mut nanoseconds = 0u128;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let unit_start = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, behind) = rest.split_at(unit_start);
        let unit_end = behind.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        nanoseconds = nanoseconds.checked_add(scale(number, *unit_ns)?)?;
        rest = behind;
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (nanoseconds % 1_000_000_000) as u32))
}

/// A decimal number of units, in nanoseconds; what is smaller is cut off.
fn scale(number: &str, unit_ns: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.')
        || (whole.is_empty() && fraction.is_empty())
        || DIGITS_MAX < whole.len().max(fraction.len())
    {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let fraction_ns = digits(fraction)? * unit_ns / 10u128.pow(fraction.len() as u32);
    Some(digits(whole)? * unit_ns + fraction_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(parse_duration(text), expected, "{text}");
        let ms = |count| Some(Duration::from_millis(count));
        check("30s", ms(30_000));
        check("5m", ms(300_000));
        check("2d", ms(172_800_000));
        check("1h2m3s4ms", ms(3_723_004));
        check("30s1m", ms(90_000));
        check("1.5h", ms(5_400_000));
        check(".5s", ms(500));
        check("5.s", ms(5_000));
        check("0s", ms(0));
        check(" 2 d ", ms(172_800_000));
        check("2000us", ms(2));
        check("2000µs", ms(2));
        check("0.0000000015s", Some(Duration::from_nanos(1)));
        check("18446744073709551615s", Some(Duration::from_secs(u64::MAX)));
        for bad in ["", "30", "s", ".s", "5x", "-5s", "+5s", "1.2.3s", "1h 30m", "5m3", "1e3s", "18446744073709551616s"]
        {
            check(bad, None);
        }
        check(&format!("{}d", "9".repeat(20)), None);
        check(&format!("{}s", "0".repeat(21)), None);
    }
}
