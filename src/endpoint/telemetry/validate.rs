//! From a body to records, or to what is wrong with it.

use std::sync::Arc;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Parcel;
use crate::{
    endpoint::wells::well_topic,
    store::{FIELDS, Kind, Record, write_time},
    topic::Topic,
};

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) status: u16,
    pub(super) message: String,
    /// Which object of an array.
    pub(super) index: Option<usize>,
    pub(super) field: Option<String>,
}

type Object = Map<String, Value>;

/// The records in `body`: one object, or an array of at most `objects_max`. Under `key` each has a key of its own, by its
/// well and its place.
pub(super) fn parse_records(
    kind: Kind,
    body: &[u8],
    key: Option<&str>,
    received_us: u64,
    objects_max: usize,
) -> Result<Parcel, Invalid> {
    let parsed: Value =
        serde_json::from_slice(body).map_err(|error| wrong(&format!("the body is not JSON: {error}")))?;
    let (objects, is_single) = match parsed {
        Value::Object(object) => (vec![Value::Object(object)], true),
        Value::Array(objects) if objects.is_empty() => return Err(wrong("the array is empty")),
        Value::Array(objects) if objects_max < objects.len() => {
            let message = format!("{} objects are too many for one request: at most {objects_max}", objects.len());
            return Err(Invalid { status: 413, ..wrong(&message) });
        }
        Value::Array(objects) => (objects, false),
        _ => return Err(wrong("the body must be an object, or an array of objects")),
    };
    let parse = |(index, object): (usize, Value)| {
        let record = parse_record(kind, object, received_us).map(|record| Record {
            key: key.map(|key| format!("{}:{}:{key}:{index}", kind.event(), record.well_id).into()),
            ..record
        });
        record.map_err(|invalid| Invalid { index: (!is_single).then_some(index), ..invalid })
    };
    let records = objects.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    Ok(Parcel { records, is_single, identity: None })
}

fn parse_record(kind: Kind, object: Value, received_us: u64) -> Result<Record, Invalid> {
    let Value::Object(mut object) = object else { return Err(wrong("each element must be an object")) };
    let (well_id, topic) = take_well(&mut object)?;
    let time_us = take_time(&mut object)?.unwrap_or(received_us);
    // The hub's own; a client that sends it would be told another one.
    if object.contains_key(kind.id_name()) {
        return Err(wrong_field(kind.id_name(), "is given by the server"));
    }
    if !object.values().all(has_no_nul) || object.keys().any(|name| name.contains('\0')) {
        return Err(wrong("a text contains the character U+0000, which the database cannot hold"));
    }
    let body = match kind {
        Kind::Telemetry => write_telemetry(time_us, object)?,
        Kind::Alert => write_alert(time_us, object)?,
        Kind::Diagnostic => write_diagnostic(time_us, &object)?,
    };
    Ok(Record { key: None, kind, well_id, topic, time_us, received_us, body: body.into() })
}

fn take_well(object: &mut Object) -> Result<(Arc<str>, Topic), Invalid> {
    let well_id = match object.remove("well_id") {
        None | Some(Value::Null) => return Err(wrong_field("well_id", "is required")),
        Some(Value::String(well_id)) if well_id.is_empty() => return Err(wrong_field("well_id", "is required")),
        Some(Value::String(well_id)) => well_id,
        Some(_) => return Err(wrong_field("well_id", "must be a string")),
    };
    topic_of(&well_id).map(|topic| (well_id.into(), topic))
}

/// The topic of a well; its id is one segment of the name.
pub(super) fn topic_of(well_id: &str) -> Result<Topic, Invalid> {
    well_topic(well_id).map_err(|_| wrong_field("well_id", "must be 1 to 249 of A-Z a-z 0-9 _ - : /"))
}

fn take_time(object: &mut Object) -> Result<Option<u64>, Invalid> {
    match object.remove("timestamp") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match parse_time(&text) {
            Some(time_us) => Ok(Some(time_us)),
            None => Err(wrong_field("timestamp", BAD_TIMESTAMP)),
        },
        Some(_) => Err(wrong_field("timestamp", BAD_TIMESTAMP)),
    }
}

const BAD_TIMESTAMP: &str = "must be a time of RFC 3339 from 1970 to 9999, such as 2025-11-20T10:30:00Z";

/// A time of RFC 3339, in µs since 1970. One without an offset, as Python's `isoformat` writes it, is taken as UTC.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = parse(text).or_else(|| parse(&format!("{text}Z")))?;
    u64::try_from(time.unix_timestamp_nanos() / 1000).ok().filter(|time_us| *time_us <= TIME_US_MAX)
}

/// The last µs of the year 9999.
pub(super) const TIME_US_MAX: u64 = 253_402_300_799_999_999;

/// The documented measurements first, all of them numbers and at least one of them there; then whatever else came, as it
/// came.
fn write_telemetry(time_us: u64, mut object: Object) -> Result<String, Invalid> {
    let mut body = Body::begin(time_us);
    for field in FIELDS {
        if let Some(value) = take_number(&mut object, field)? {
            body.add(field, &value);
        }
    }
    if body.members == 1 {
        return Err(wrong(&format!("at least one measurement is required: {}", FIELDS.join(", "))));
    }
    Ok(body.end(&object))
}

fn write_alert(time_us: u64, mut object: Object) -> Result<String, Invalid> {
    let mut body = Body::begin(time_us);
    for field in ["type", "severity", "message"] {
        let text = match object.remove(field) {
            None | Some(Value::Null) => return Err(wrong_field(field, "is required")),
            Some(Value::String(text)) if !text.is_empty() => text,
            Some(_) => return Err(wrong_field(field, "must be a string that is not empty")),
        };
        if field == "severity" && !SEVERITIES.contains(&&*text) {
            return Err(wrong_field(field, "must be info, warning or critical"));
        }
        body.add(field, &text.into());
    }
    for field in ["value", "threshold"] {
        if let Some(value) = take_number(&mut object, field)? {
            body.add(field, &value);
        }
    }
    Ok(body.end(&object))
}

const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

/// Whatever it says, as long as it says something.
fn write_diagnostic(time_us: u64, object: &Object) -> Result<String, Invalid> {
    if object.is_empty() {
        return Err(wrong("a diagnostic must say something besides well_id and timestamp"));
    }
    Ok(Body::begin(time_us).end(object))
}

/// A measurement; `null` is one that was not taken. What JSON calls a number is finite.
fn take_number(object: &mut Object, field: &str) -> Result<Option<Value>, Invalid> {
    match object.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value @ Value::Number(_)) => Ok(Some(value)),
        Some(_) => Err(wrong_field(field, "must be a finite number")),
    }
}

fn has_no_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(values) => values.iter().all(has_no_nul),
        Value::Object(object) => object.iter().all(|(name, value)| !name.contains('\0') && has_no_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A JSON object whose members keep the order in which they are added.
struct Body {
    text: String,
    members: usize,
}

impl Body {
    fn begin(time_us: u64) -> Self {
        Self { text: format!(r#"{{"timestamp":"{}""#, write_time(time_us)), members: 1 }
    }

    fn add(&mut self, name: &str, value: &Value) {
        self.text.push_str(&format!(",{}:{value}", Value::from(name)));
        self.members += 1;
    }

    fn end(mut self, rest: &Object) -> String {
        rest.iter().for_each(|(name, value)| self.add(name, value));
        self.text + "}"
    }
}

fn wrong(message: &str) -> Invalid {
    Invalid { status: 400, message: message.to_owned(), index: None, field: None }
}

fn wrong_field(field: &str, what: &str) -> Invalid {
    Invalid { field: Some(field.to_owned()), ..wrong(&format!("{field} {what}")) }
}
