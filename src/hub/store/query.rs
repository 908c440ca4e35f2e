//! Queries of stored readings, and their results. Pure.

use std::{fmt, str::FromStr, sync::Arc};

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The well.
    pub well_id: Arc<str>,
    /// From this time on, in µs since 1970.
    pub from_us: u64,
    /// Up to this time, exclusive.
    pub to_us: u64,
    /// After this reading, for the next page.
    pub after: Option<ReadingCursor>,
    /// The most readings to return.
    pub limit: u32,
    /// The order.
    pub order: Order,
}

/// The order of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Newest first.
    #[default]
    NewestFirst,
    /// Oldest first.
    OldestFirst,
}

/// The position of a reading among those of its well: by time, then by number. Readings that are stored later do not shift it. The
/// API shows it as `TIME-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadingCursor {
    /// In µs since 1970.
    pub time_us: u64,
    /// The reading's number.
    pub record_id: i64,
}

/// A page of readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// The readings, each a JSON object.
    pub readings: Vec<String>,
    /// The position after which the next page begins, if there is one.
    pub next: Option<ReadingCursor>,
}

/// Called with the readings.
pub(crate) type ReadReply = Box<dyn FnOnce(Result<Page, ReadFailed>) + Send>;

/// Why a query failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ReadFailed {
    /// Too many queries wait already.
    QueueFull,
    /// The database cannot be reached.
    Away,
    /// The query took too long.
    TooLong,
}

impl FromStr for ReadingCursor {
    type Err = ();

    /// Parses the form that `Display` writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (time_us, record_id) = text.split_once('-').ok_or(())?;
        let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain(time_us) || !is_plain(record_id) {
            return Err(());
        }
        Ok(Self { time_us: time_us.parse().map_err(drop)?, record_id: record_id.parse().map_err(drop)? })
    }
}

impl fmt::Display for ReadingCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time_us, self.record_id)
    }
}

impl fmt::Display for ReadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "too many questions wait for the database",
            Self::Away => "the database cannot be reached",
            Self::TooLong => "the database took too long: ask for less time, or fewer readings",
        })
    }
}
