//! The fields of a payload that identify an event and say when it was made, as `publish`, `produce` and the systems before
//! them write them. All are optional; a field of an unexpected type counts as missing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The fields, as they stand in the payload.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Marks<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    sensor: Option<&'a RawValue>,
    #[serde(borrow)]
    sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    published_at_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

impl<'a> Marks<'a> {
    /// Parses `payload`: no fields if it is no JSON object.
    pub(super) fn of(payload: &'a [u8]) -> Self {
        // serde would accept an array as the fields in their order.
        if !payload.trim_ascii_start().starts_with(b"{") {
            return Self::default();
        }
        serde_json::from_slice(payload).unwrap_or_default()
    }

    /// The event's unique name, as in the payload.
    pub(super) fn event_id(&self) -> Option<&'a str> {
        self.event_id.map(RawValue::get)
    }

    /// The sensor's name, if it is a text.
    pub(super) fn sensor(&self) -> Option<Cow<'a, str>> {
        text(self.sensor?)
    }

    /// Source and sensor, as in the payload, and the event's sequence number, if it has one.
    pub(super) fn numbered(&self) -> Option<(&'a str, &'a str, u64)> {
        let sequence = self.sequence?.get().parse().ok()?;
        let [source, sensor] = [self.source, self.sensor].map(|field| field.map_or("", RawValue::get));
        (!source.is_empty() || !sensor.is_empty()).then_some((source, sensor, sequence))
    }

    /// The timestamp in the event: a Unix time in ms.
    pub(super) fn stamp_ms(&self) -> Option<f64> {
        [self.published_at_ms, self.timestamp].into_iter().flatten().find_map(unix_ms)
    }
}

fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
}

/// Parses a number of ms, or an RFC 3339 timestamp.
fn unix_ms(value: &RawValue) -> Option<f64> {
    let number = || value.get().parse().ok().filter(|ms: &f64| ms.is_finite());
    let moment = || {
        let moment = OffsetDateTime::parse(&text(value)?, &Rfc3339).ok()?;
        #[expect(clippy::cast_precision_loss, reason = "to the microsecond for centuries")]
        Some(moment.unix_timestamp_nanos() as f64 / 1e6)
    };
    number().or_else(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        type Expected<'e> = (Option<&'e str>, Option<(&'e str, &'e str, u64)>, Option<f64>);
        let check = |payload: &str, expected: Expected<'_>| {
            let marks = Marks::of(payload.as_bytes());
            assert_eq!((marks.event_id(), marks.numbered(), marks.stamp_ms()), expected, "{payload}");
        };
        check(
            r#"{"event_id":"e","source":"s","sequence":7,"published_at_ms":1768068834227}"#,
            (Some("\"e\""), Some(("\"s\"", "", 7)), Some(1_768_068_834_227.0)),
        );
        let sensor = r#" {"source":"p","sensor":"S1","sequence":0,"timestamp":"1970-01-01T00:00:01.5Z"}"#;
        check(sensor, (None, Some(("\"p\"", "\"S1\"", 0)), Some(1500.0)));
        check(r#"{"published_at_ms":null,"timestamp":5.25}"#, (None, None, Some(5.25)));
        check(r#"{"published_at_ms":true,"timestamp":5}"#, (None, None, Some(5.0)));
        check(r#"{"sensor":"S1","sequence":"7"}"#, (None, None, None));
        check(r#"{"sequence":7}"#, (None, None, None));
        check(r#"{"source":"s","sequence":-1}"#, (None, None, None));
        check(r#"{"source":"s","sequence":18446744073709551615}"#, (None, Some(("\"s\"", "", u64::MAX)), None));
        check(r#"["e","s","S1",7,1,2]"#, (None, None, None));
        for other in ["", "7", "null", "not json", "{\"source\":\"s\"", "\"text\""] {
            check(other, (None, None, None));
        }
    }

    #[test]
    fn sensors_are_texts() {
        let check = |payload: &str, expected: Option<&str>| {
            assert_eq!(Marks::of(payload.as_bytes()).sensor().as_deref(), expected, "{payload}");
        };
        check(r#"{"sensor":"Sensor1"}"#, Some("Sensor1"));
        check(r#"{"sensor":"S\u00e9"}"#, Some("Sé"));
        check(r#"{"sensor":1}"#, None);
        check(r#"{"sensor":null}"#, None);
    }
}
