//! What is stored: a reading, an alert or a diagnostic of a well. Pure.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{event::EventId, topic::Topic};

/// What kind of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Measurements.
    Telemetry,
    /// Something is out of bounds.
    Alert,
    /// What a diagnosis found.
    Diagnostic,
}

/// The measurements that have a column of their own, by the names that clients use.
pub(crate) const FIELDS: [&str; 9] =
    ["flow_rate", "pip", "motor_current", "motor_temp", "vibration", "vsd_frequency", "flow_variance", "torque", "gor"];

/// One row on its way into the database, and out as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Under the same key a repeat is neither stored nor published again. `None`: this is no repeat.
    pub key: Option<Box<str>>,
    /// What it is.
    pub kind: Kind,
    /// Whose it is: one segment of a topic's name.
    pub well_id: Arc<str>,
    /// Where its event goes.
    pub topic: Topic,
    /// When it was measured, in µs since 1970.
    pub time_us: u64,
    /// When the hub got it, in µs since 1970.
    pub received_us: u64,
    /// What it says: a JSON object, not empty.
    pub body: Box<str>,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The number that the database gave it; unique over all kinds and all hubs.
    pub record_id: i64,
    /// Whether it has been published; if not, it will be.
    pub published: bool,
    /// Its event's id, if the hub or a broker gave it one.
    pub event_id: Option<Box<str>>,
}

/// Called with what became of records, in order.
pub(crate) type KeepReply = Box<dyn FnOnce(Result<Vec<Kept>, KeepFailed>) + Send>;

/// Why records were not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeepFailed {
    /// Too much waits already: nothing was stored.
    QueueFull,
    /// The memory budget is spent: nothing was stored.
    NoRoom,
    /// The database cannot be reached: nothing was stored.
    Away,
    /// The database went away during the commit and did not come back in time: it may have been stored.
    Unknown,
    /// The database will not have it: nothing was stored.
    Refused,
}

impl Kind {
    /// All of them, by their codes.
    pub(crate) const ALL: [Self; 3] = [Self::Telemetry, Self::Alert, Self::Diagnostic];

    /// The event's type.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry_update",
            Self::Alert => "alert",
            Self::Diagnostic => "diagnostic_update",
        }
    }

    /// Under which name the event carries the body.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Telemetry => "data",
            Self::Alert => "alert",
            Self::Diagnostic => "diagnostic",
        }
    }

    /// The name of a record's number in answers.
    pub(crate) fn id_name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry_id",
            Self::Alert => "alert_id",
            Self::Diagnostic => "diagnostic_id",
        }
    }

    /// As the database has it.
    pub(super) fn code(self) -> i16 {
        self as i16
    }

    pub(super) fn of_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Record {
    /// Its event's payload. `record_id` is `None` where nothing is stored.
    pub(crate) fn payload(&self, record_id: Option<i64>) -> Bytes {
        let Self { kind, well_id, body, .. } = self;
        let (event, member, received) = (kind.event(), kind.member(), write_time(whole_second(self.received_us)));
        let head = format!(r#"{{"event":"{event}","timestamp":"{received}","well_id":"{well_id}","{member}":"#);
        let body = match kind {
            Kind::Telemetry => with_number(body, record_id),
            Kind::Alert | Kind::Diagnostic => body.to_string(),
        };
        Bytes::from(format!("{head}{body}}}"))
    }

    /// What it is taken to weigh, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.body.len() + self.well_id.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// `body` with its number as the first member.
fn with_number(body: &str, record_id: Option<i64>) -> String {
    let number = record_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    format!(r#"{{"telemetry_id":{number},{}"#, body.strip_prefix('{').unwrap_or(body))
}

/// `time_us` without the part of a second: the precision of all times that the hub gives itself, as the platform's document prints them.
pub(crate) fn whole_second(time_us: u64) -> u64 {
    time_us - time_us % 1_000_000
}

/// `time_us`, in µs since 1970, in the form of RFC 3339: UTC, and a fraction only where there is one. So what a client has measured
/// to a fraction of a second keeps it.
pub(crate) fn write_time(time_us: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1000);
    // Times beyond the year 9999 are let in nowhere.
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// An event's id as the database keeps it.
pub(super) fn write_event_id(id: Option<EventId>) -> Option<Box<str>> {
    id.map(|id| id.to_string().into())
}

impl fmt::Display for KeepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "too much waits to be stored; nothing was stored",
            Self::NoRoom => "the memory budget is spent; nothing was stored",
            Self::Away => "the database cannot be reached; nothing was stored",
            Self::Unknown => {
                "the database did not answer; it may have been stored: repeat with the same Idempotency-Key"
            }
            Self::Refused => "the database does not take this; nothing was stored",
        })
    }
}
