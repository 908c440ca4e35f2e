//! Makes a record of an object in a body, or says what is wrong with it.

use std::{ops::Range, sync::Arc};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    endpoint::compat::esp::wells::well_topic,
    json::{self, Members, Traits},
    store::{FIELDS, Kind, Record, whole_second, write_time},
    topic::Topic,
};

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) status: u16,
    pub(super) message: String,
    /// The object's index in an array.
    pub(super) index: Option<usize>,
    pub(super) field: Option<String>,
}

/// Reads an object step by step, since a body may be one object of a megabyte. Builds no tree of values: members that the
/// platform does not document are copied verbatim.
///
/// The object has a record's members, or it is the event that the hub makes of a record, as the platform's document prints it:
/// `{"event":"alert","timestamp":…,"well_id":…,"alert":{…}}`. An event's members come in any order, so it is read twice: as a
/// whole, and then the object in it. The number that the event gives the record (`telemetry_id`) is another server's and is
/// dropped.
#[derive(Debug, Default)]
pub(super) struct RecordReader {
    /// The offset up to which members are read; `None`: not begun.
    offset: Option<usize>,
    is_object: bool,
    /// The value of `event`, and the member that holds the event's record.
    event: Option<Range<usize>>,
    member: Option<Range<usize>>,
    /// How many members are neither documented nor part of an event.
    others: usize,
    /// Set while the object inside of an event is read.
    envelope: Option<EventEnvelope>,
    /// The value as it is written. If a member comes several times, the last one counts.
    well_id: Option<Range<usize>>,
    timestamp: Option<Range<usize>>,
    /// Whether the object has the record's number, which only the hub may give.
    has_id: bool,
    /// The documented members of the kind, in the order of [`documented`].
    fields: [Option<Range<usize>>; FIELDS.len()],
    /// All other members, verbatim: `,"name":value` for each.
    rest: String,
}

/// The members of an event outside of its record, as they are written.
#[derive(Debug)]
struct EventEnvelope {
    well_id: Option<Range<usize>>,
    timestamp: Option<Range<usize>>,
}

impl RecordReader {
    /// Reads at least `bytes` more of `text`, to the end of a member. `true`: all is read. `text` is always the same JSON, of
    /// these `traits`.
    pub(super) fn advance(&mut self, kind: Kind, (text, traits): (&str, Traits), bytes: usize) -> bool {
        let mut members = match self.offset {
            Some(offset) => Members::behind(text, offset),
            None => match Members::of(text) {
                Some(members) => members,
                None => return true,
            },
        };
        self.is_object = true;
        let (fields, mut scratch) = (documented(kind), String::new());
        let stop = members.offset() + bytes;
        while members.offset() < stop {
            let Some((name, value)) = members.next() else { return !self.enter_event(kind, text) };
            let range = Some(range_of(text, value));
            match json::decode_with(name, &mut scratch) {
                Some("well_id") => self.well_id = range,
                Some("timestamp") => self.timestamp = range,
                known => match fields.iter().position(|field| known == Some(*field)) {
                    Some(field) => self.fields[field] = range,
                    None if known == Some(kind.id_name()) && self.envelope.is_some() => {}
                    None => {
                        self.has_id |= known == Some(kind.id_name());
                        match known {
                            Some("event") => self.event = range,
                            Some(known) if known == kind.member() => self.member = range,
                            _ => self.others += 1,
                        }
                        self.keep(name, value, traits);
                    }
                },
            }
        }
        self.offset = Some(members.offset());
        false
    }

    /// Called at the end of the object. If it is an event with a record and nothing else, starts to read the record and returns
    /// true.
    fn enter_event(&mut self, kind: Kind, text: &str) -> bool {
        let value = |range: &Option<Range<usize>>| range.clone().and_then(|range| text.get(range));
        let is_event = value(&self.event).and_then(json::decode).is_some_and(|event| event == kind.event());
        let has_more = self.has_id || 0 < self.others || self.fields.iter().any(Option::is_some);
        let inner = self.member.clone().filter(|inner| text[inner.clone()].starts_with('{'));
        let Some(inner) = inner.filter(|_| is_event && !has_more && self.envelope.is_none()) else { return false };
        let envelope = Some(EventEnvelope { well_id: self.well_id.take(), timestamp: self.timestamp.take() });
        *self = Self { offset: Some(inner.start + 1), is_object: true, envelope, ..Self::default() };
        true
    }

    fn keep(&mut self, name: &str, value: &str, traits: Traits) {
        self.rest.push(',');
        self.rest.push_str(name);
        self.rest.push(':');
        if traits.has_space {
            json::write_compact(value, &mut self.rest);
        } else {
            self.rest.push_str(value);
        }
    }

    /// The record, once all is read. `received_us`: when the request came, in µs since 1970.
    pub(super) fn finish(
        self,
        kind: Kind,
        (text, traits): (&str, Traits),
        received_us: u64,
    ) -> Result<Record, Invalid> {
        if !self.is_object {
            return Err(wrong("each element must be an object"));
        }
        let value = |range: &Option<Range<usize>>| range.clone().and_then(|range| text.get(range));
        let of_event = self.envelope.as_ref();
        let (well_id, topic) = match of_event.and_then(|event| value(&event.well_id)) {
            None => take_well(value(&self.well_id))?,
            outer if self.well_id.is_none() => take_well(outer)?,
            outer => {
                let (outer, inner) = (take_well(outer)?, take_well(value(&self.well_id))?);
                if outer != inner {
                    return Err(wrong_field("well_id", "is given twice, and differs"));
                }
                outer
            }
        };
        // The time of measurement, or else of the event, or else of the request.
        let measured = take_time(value(&self.timestamp))?;
        let made = take_time(of_event.and_then(|event| value(&event.timestamp)))?;
        let time_us = measured.or(made).unwrap_or_else(|| whole_second(received_us));
        // The hub would give the record another number than the client's.
        if self.has_id {
            return Err(wrong_field(kind.id_name(), "is given by the server"));
        }
        if traits.has_nul {
            return Err(wrong("a text contains the character U+0000, which the database cannot hold"));
        }
        if !traits.is_strict() {
            return Err(wrong(
                "the body is not JSON that the database can hold: it is nested too deeply, or has a number or a character that is none",
            ));
        }
        let mut body = Body::begin(time_us);
        let fields = self.fields.each_ref().map(value);
        match kind {
            Kind::Telemetry => write_telemetry(fields, &mut body)?,
            Kind::Alert => write_alert(fields, &mut body)?,
            Kind::Diagnostic if self.rest.is_empty() => {
                return Err(wrong("a diagnostic must say something besides well_id and timestamp"));
            }
            Kind::Diagnostic => {}
        }
        let body = body.end(self.rest);
        Ok(Record { key: None, kind, well_id, topic, time_us, received_us, body: body.into() })
    }

    /// The memory it holds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.rest.capacity()
    }
}

/// The range of `part` in `text`, from which it was taken.
fn range_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    start..start + part.len()
}

/// The values of a kind's documented members, in the order of [`documented`].
type Fields<'a> = [Option<&'a str>; FIELDS.len()];

/// The members that a kind documents, besides those of all kinds.
fn documented(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Telemetry => &FIELDS,
        Kind::Alert => &["type", "severity", "message", "value", "threshold"],
        Kind::Diagnostic => &[],
    }
}

fn take_well(value: Option<&str>) -> Result<(Arc<str>, Topic), Invalid> {
    let Some(value) = value.filter(|value| !matches!(*value, "null" | "\"\"")) else {
        return Err(wrong_field("well_id", "is required"));
    };
    let well_id = json::decode(value).ok_or_else(|| wrong_field("well_id", "must be a string"))?;
    topic_of(&well_id).map(|topic| (well_id.into(), topic))
}

/// The topic of a well, whose id is one segment of the name.
pub(super) fn topic_of(well_id: &str) -> Result<Topic, Invalid> {
    well_topic(well_id).map_err(|_| wrong_field("well_id", "must be 1 to 249 of A-Z a-z 0-9 _ - : /"))
}

fn take_time(value: Option<&str>) -> Result<Option<u64>, Invalid> {
    let Some(value) = value.filter(|value| *value != "null") else { return Ok(None) };
    let time_us = json::decode(value).and_then(|text| parse_time(&text));
    time_us.map(Some).ok_or_else(|| wrong_field("timestamp", BAD_TIMESTAMP))
}

const BAD_TIMESTAMP: &str = "must be a time of RFC 3339 from 1970 to 9999, such as 2025-11-20T10:30:00Z";

/// Reads a time of RFC 3339, in µs since 1970. A time without an offset, as Python's `isoformat` writes it, is in UTC.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = parse(text).or_else(|| parse(&format!("{text}Z")))?;
    u64::try_from(time.unix_timestamp_nanos() / 1000).ok().filter(|time_us| *time_us <= TIME_US_MAX)
}

/// The last µs of the year 9999.
pub(super) const TIME_US_MAX: u64 = 253_402_300_799_999_999;

/// The documented measurements first. All of them are numbers, and at least one must be there.
fn write_telemetry(fields: Fields<'_>, body: &mut Body) -> Result<(), Invalid> {
    for (field, value) in FIELDS.iter().zip(fields) {
        write_number(field, value, body)?;
    }
    if body.members == 1 {
        return Err(wrong(&format!("at least one measurement is required: {}", FIELDS.join(", "))));
    }
    Ok(())
}

fn write_alert(fields: Fields<'_>, body: &mut Body) -> Result<(), Invalid> {
    let names = documented(Kind::Alert);
    for (field, value) in names.iter().zip(fields).take(3) {
        let text = match value {
            // The platform's document has alerts without one.
            None | Some("null") if *field == "message" => continue,
            None | Some("null") => return Err(wrong_field(field, "is required")),
            Some(text) if text.starts_with('"') && text != "\"\"" => text,
            Some(_) => return Err(wrong_field(field, "must be a string that is not empty")),
        };
        if *field == "severity" && !json::decode(text).is_some_and(|text| SEVERITIES.contains(&&*text)) {
            return Err(wrong_field(field, "must be info, warning or critical"));
        }
        body.add(field, text);
    }
    for (field, value) in names.iter().zip(fields).skip(3) {
        write_number(field, value, body)?;
    }
    Ok(())
}

const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

/// Writes a measurement. `null` means that it was not taken. A JSON number is finite, and is written as a double or an integer,
/// so that the database can read it as either.
fn write_number(field: &str, value: Option<&str>, body: &mut Body) -> Result<(), Invalid> {
    let Some(value) = value.filter(|value| *value != "null") else { return Ok(()) };
    let is_number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number = serde_json::from_str::<serde_json::Number>(value).ok().filter(|_| is_number);
    let number = number.ok_or_else(|| wrong_field(field, "must be a finite number"))?;
    body.add(field, &number.to_string());
    Ok(())
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

    fn add(&mut self, name: &str, value: &str) {
        self.text.push_str(&format!(",\"{name}\":{value}"));
        self.members += 1;
    }

    fn end(mut self, rest: String) -> String {
        // Both may have a megabyte.
        if self.text.len() < rest.len() {
            let mut whole = rest;
            whole.insert_str(0, &self.text);
            self.text = whole;
        } else {
            self.text.push_str(&rest);
        }
        self.text.push('}');
        self.text
    }
}

pub(super) fn wrong(message: &str) -> Invalid {
    Invalid { status: 400, message: message.to_owned(), index: None, field: None }
}

fn wrong_field(field: &str, what: &str) -> Invalid {
    Invalid { field: Some(field.to_owned()), ..wrong(&format!("{field} {what}")) }
}
