//! Stored records: a reading, an alert or a diagnostic of a well. Pure.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{event::EventId, topic::Topic};

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A reading: measurements.
    Telemetry,
    /// An alert: a measurement is out of bounds.
    Alert,
    /// The result of a diagnosis.
    Diagnostic,
}

/// The measurements that have a column of their own, by the names that clients use.
pub(crate) const FIELDS: [&str; 9] =
    ["flow_rate", "pip", "motor_current", "motor_temp", "vibration", "vsd_frequency", "flow_variance", "torque", "gor"];

/// One record, which is stored as a row and published as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The idempotency key: a record with the same key is neither stored nor published again. `None`: the record is not a repeat.
    pub key: Option<Box<str>>,
    pub kind: Kind,
    /// The well, one segment of a topic's name.
    pub well_id: Arc<str>,
    /// The topic of its event.
    pub topic: Topic,
    /// The time of measurement, in µs since 1970.
    pub time_us: u64,
    /// The time of receipt at the hub, in µs since 1970.
    pub received_us: u64,
    /// Its content: a JSON object, not empty.
    pub body: Box<str>,
}

/// The outcome of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its number in the database, unique over all kinds and all hubs.
    pub record_id: i64,
    /// Whether it has been published. If not, it will be published later.
    pub published: bool,
    /// The id of its event, if the hub or a broker has given one.
    pub event_id: Option<Box<str>>,
}

/// Called with the outcomes of records, in order.
pub(crate) type KeepReply = Box<dyn FnOnce(Result<Vec<Kept>, KeepFailed>) + Send>;

/// Why records were not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeepFailed {
    /// The queue is full. Nothing was stored.
    QueueFull,
    /// The memory budget is spent. Nothing was stored.
    NoRoom,
    /// The database cannot be reached. Nothing was stored.
    Away,
    /// The connection was lost during the commit and not restored in time. The records may have been stored.
    Unknown,
    /// The database refuses the records. Nothing was stored.
    Refused,
}

impl Kind {
    /// All kinds, by their codes.
    pub(crate) const ALL: [Self; 3] = [Self::Telemetry, Self::Alert, Self::Diagnostic];

    /// The event's type.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry_update",
            Self::Alert => "alert",
            Self::Diagnostic => "diagnostic_update",
        }
    }

    /// The member of the event that holds the body.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Telemetry => "data",
            Self::Alert => "alert",
            Self::Diagnostic => "diagnostic",
        }
    }

    /// The member of answers that holds the record's number.
    pub(crate) fn id_name(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry_id",
            Self::Alert => "alert_id",
            Self::Diagnostic => "diagnostic_id",
        }
    }

    /// The kind as the database stores it.
    pub(super) fn code(self) -> i16 {
        self as i16
    }

    pub(super) fn of_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Record {
    /// The payload of its event. `record_id` is `None` without a database.
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

    /// Its memory for the purpose of limits, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.body.len() + self.well_id.len() + self.key.as_ref().map_or(0, |key| key.len())
    }
}

/// `body` with its number as the first member.
fn with_number(body: &str, record_id: Option<i64>) -> String {
    let number = record_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    format!(r#"{{"telemetry_id":{number},{}"#, body.strip_prefix('{').unwrap_or(body))
}

/// `time_us` cut to whole seconds: the precision of the hub's own timestamps, as in the platform's document.
pub(crate) fn whole_second(time_us: u64) -> u64 {
    time_us - time_us % 1_000_000
}

/// `time_us`, in µs since 1970, in the form of RFC 3339: UTC, with a fraction only if it is not zero. So clients' timestamps keep
/// their fractions.
pub(crate) fn write_time(time_us: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time_us) * 1000);
    // Times beyond the year 9999 are refused on receipt.
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// An event's id in the form of the database.
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
