//! Entries of a stream, as the client library hands them over, and the events in them.

use bytes::Bytes;
use redis::Value;

use crate::{
    event::{EventId, digest},
    gap::GapReason,
};

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamEntry {
    pub(super) id: EventId,
    pub(super) content: Result<EntryContent, NoEvent>,
}

/// The event that an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryContent {
    pub(super) kind: Option<Box<str>>,
    pub(super) data: Bytes,
    /// Whether a bridge has brought it.
    pub(super) is_carried: bool,
}

impl StreamEntry {
    /// The digest of the event that it is; `None` if it is none.
    pub(super) fn digest(&self) -> Option<u64> {
        let content = self.content.as_ref().ok()?;
        Some(digest(content.kind.as_deref(), &content.data))
    }
}

/// Why an entry is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEvent {
    /// It is not text, or has a type that no event may have.
    Unfit,
    /// It tells that events are missing at its place in the stream. Whether a bridge has brought it.
    Gap(GapReason, bool),
}

/// The field that says so, with the reason.
pub(super) const GAP: &str = "gap";

/// The `data` of such an entry. It is no text, so a hub that does not know the field reports a gap `source_lost` there.
pub(super) const GAP_DATA: &[u8] = b"\xFF";

/// The field of each entry that a bridge has brought: where from, and if that is a log, the id up to which it is carried with the entry.
pub(super) const CARRIED: &str = "carried";

impl NoEvent {
    /// The reason of the gap at its place.
    pub(super) fn reason(self) -> GapReason {
        match self {
            Self::Unfit => GapReason::SourceLost,
            Self::Gap(reason, _) => reason,
        }
    }

    /// Whether a bridge has brought it.
    pub(super) fn is_carried(self) -> bool {
        matches!(self, Self::Gap(_, true))
    }
}

/// The server's answer is not what the command is answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadAnswer;

/// The entries in an answer to `XRANGE`, or those of one stream in an answer to `XREAD`.
pub(super) fn read_entries(answer: Value) -> Result<Vec<StreamEntry>, BadAnswer> {
    match answer {
        Value::Array(entries) => entries.into_iter().map(read_entry).collect(),
        Value::Nil => Ok(Vec::new()),
        _ => Err(BadAnswer),
    }
}

/// A stream's key, and entries of it.
pub(super) type KeyEntries = (Vec<u8>, Vec<StreamEntry>);

/// The streams in an answer to `XREAD`, each with its key; none if nothing came in time.
pub(super) fn read_streams(answer: Value) -> Result<Vec<KeyEntries>, BadAnswer> {
    if answer == Value::Nil {
        return Ok(Vec::new());
    }
    let read_stream = |(key, entries)| match key {
        Value::BulkString(key) => Ok((key, read_entries(entries)?)),
        _ => Err(BadAnswer),
    };
    let streams = match answer {
        Value::Map(streams) => streams,
        Value::Array(streams) => streams.into_iter().map(read_pair).collect::<Result<_, _>>()?,
        _ => return Err(BadAnswer),
    };
    streams.into_iter().map(read_stream).collect()
}

/// A map, which is a plain list of names and values in version 2 of the protocol.
pub(super) fn read_map(answer: Value) -> Result<Vec<(Value, Value)>, BadAnswer> {
    match answer {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(items) if items.len() % 2 == 0 => {
            let mut items = items.into_iter();
            Ok(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
        }
        _ => Err(BadAnswer),
    }
}

/// An id as the server writes it.
pub(super) fn read_id(value: &Value) -> Result<EventId, BadAnswer> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(BadAnswer),
        _ => Err(BadAnswer),
    }
}

fn read_pair(value: Value) -> Result<(Value, Value), BadAnswer> {
    match value {
        Value::Array(pair) => <[Value; 2]>::try_from(pair).map(|[key, value]| (key, value)).map_err(|_| BadAnswer),
        _ => Err(BadAnswer),
    }
}

fn read_entry(value: Value) -> Result<StreamEntry, BadAnswer> {
    let (id, fields) = read_pair(value)?;
    let as_bytes = |value| match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(BadAnswer),
    };
    let read_field = |(name, value)| Ok((as_bytes(name)?, as_bytes(value)?));
    let fields: Vec<_> = read_map(fields)?.into_iter().map(read_field).collect::<Result<_, _>>()?;
    Ok(StreamEntry { id: read_id(&id)?, content: read_content(fields) })
}

type FieldBytes = (Vec<u8>, Vec<u8>);

fn read_content(mut fields: Vec<FieldBytes>) -> Result<EntryContent, NoEvent> {
    let Some(data) = fields.iter().position(|(name, _)| name == b"data") else {
        return Ok(EntryContent { kind: None, data: as_object(&fields)?.into(), is_carried: false });
    };
    let data = std::mem::take(&mut fields[data].1);
    let is_carried = fields.iter().any(|(name, _)| name == CARRIED.as_bytes());
    if data == GAP_DATA
        && let Some((_, reason)) = fields.iter().find(|(name, _)| name == GAP.as_bytes())
    {
        return Err(NoEvent::Gap(GapReason::of_marker(&String::from_utf8_lossy(reason)), is_carried));
    }
    if simdutf8::basic::from_utf8(&data).is_err() {
        return Err(NoEvent::Unfit);
    }
    let kind = fields.into_iter().find(|(name, value)| name == b"type" && !value.is_empty());
    let kind = kind.map(|(_, value)| String::from_utf8(value).map(String::into_boxed_str)).transpose();
    let kind = kind.map_err(|_| NoEvent::Unfit)?;
    // Any program may have added it; the hub itself refuses such a type.
    if kind.as_deref().is_some_and(|kind| kind.contains(['\r', '\n', '\0'])) {
        return Err(NoEvent::Unfit);
    }
    Ok(EntryContent { kind, data: data.into(), is_carried })
}

/// A JSON object of all fields, in their order. Of a name that comes more than once, the last value counts.
fn as_object(fields: &[FieldBytes]) -> Result<String, NoEvent> {
    let mut object = String::from("{");
    for (index, (name, value)) in fields.iter().enumerate() {
        if fields[index + 1..].iter().any(|(later, _)| later == name) {
            continue;
        }
        if 1 < object.len() {
            object.push(',');
        }
        object.push_str(&as_string(name)?);
        object.push(':');
        object.push_str(&as_string(value)?);
    }
    object.push('}');
    Ok(object)
}

fn as_string(text: &[u8]) -> Result<String, NoEvent> {
    let text = std::str::from_utf8(text).map_err(|_| NoEvent::Unfit)?;
    serde_json::to_string(text).map_err(|_| NoEvent::Unfit)
}
