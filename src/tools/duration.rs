//! Durations on the command line.

use std::time::Duration;

pub(crate) use fanfare_core::duration::parse_duration;

/// Parses a number of seconds above 0, such as `2.5`, as the former tools had it, or a [duration](parse_duration) such as `30s`.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    let duration = seconds.or_else(|| parse_duration(text).map(Ok)).ok_or("not a number of seconds")?;
    match duration {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be above 0: leave it out for no end".into()),
    }
}

/// The duration of a command, for people; `None` is without end.
pub(crate) fn describe_duration(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "Infinite (press Ctrl+C to stop)".into(), |it| format!("{} seconds", it.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        let check = |text: &str, expected_ms| {
            assert_eq!(parse_seconds(text), Ok(Duration::from_millis(expected_ms)), "{text}");
        };
        check("2.5", 2_500);
        check("1e1", 10_000);
        check("30s", 30_000);
        check("1m30s", 90_000);
        for bad in ["", "0", "0s", "0m", "-1", "1e99", "x", "NaN"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
