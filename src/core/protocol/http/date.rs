//! The form of dates in HTTP (RFC 9110 section 5.6.7).

/// The date for `Date` fields, written anew whenever the clock shows another second: a later one, or an earlier one after the
/// clock was set back.
#[derive(Debug, Default)]
pub struct DateText {
    /// The Unix second that `text` says.
    unix_s: Option<u64>,
    text: String,
}

impl DateText {
    /// The date at `unix_s`, seconds since 1970, as [`format_date`] gives it.
    pub fn at(&mut self, unix_s: u64) -> &str {
        if self.unix_s != Some(unix_s) {
            (self.unix_s, self.text) = (Some(unix_s), format_date(unix_s));
        }
        &self.text
    }
}

/// `unix_s`, seconds since 1970, as an IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn format_date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil_date(days);
    // 1970-01-01 was a Thursday, the first of these.
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    //= RFC 9110 section 5.6.7: "the sender MUST generate those timestamps in the IMF-fixdate format."
    //= RFC 9110 section 5.6.7: "A sender MUST NOT generate additional whitespace in an HTTP-date beyond that specifically
    //=   included as SP in the grammar."
    format!("{weekday}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month])
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The Gregorian year, the month's index and the day of the month of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, usize, u64) {
    let mut rest = days;
    let mut year = 1970 + 400 * (rest / DAYS_IN_400_YEARS);
    rest %= DAYS_IN_400_YEARS;
    while days_in_year(year) <= rest {
        rest -= days_in_year(year);
        year += 1;
    }
    let mut month = 0;
    while days_in_month(year, month) <= rest {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

/// After which the calendar repeats.
const DAYS_IN_400_YEARS: u64 = 146_097;

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}
