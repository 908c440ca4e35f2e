//! How an event's type travels through Redis, which knows only payloads.
//!
//! An event without a type is its payload, verbatim: whatever else listens to the channel sees what was published. One
//! with a type is `0xFF fanfare1 LF {"type":…} LF payload`. No UTF-8 text begins with 0xFF, so nothing that a foreign
//! publisher may rightly send is ever mistaken for an envelope.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What every envelope begins with. The digit is the version of the form.
const MAGIC: &[u8] = b"\xFFfanfare1\n";

/// The most an envelope adds to a payload, in bytes: what the reader allows on top of the largest payload.
pub(super) const ENVELOPE_BYTES_MAX: usize = 16 * 1024;

/// An event as it came out of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) data: &'a [u8],
}

/// It begins like an envelope and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadEnvelope;

/// The line between the two line feeds. Fields that a later version may add are passed over.
#[derive(Serialize, Deserialize)]
struct Header<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// The bytes to publish.
pub(super) fn seal(kind: Option<&str>, data: &Bytes) -> Bytes {
    let Some(kind) = kind else { return data.clone() };
    let header = Header { kind: kind.into() };
    let mut sealed = Vec::with_capacity(MAGIC.len() + kind.len() + data.len() + 16);
    sealed.extend_from_slice(MAGIC);
    serde_json::to_writer(&mut sealed, &header).expect("a string always has a JSON form, and a Vec takes it");
    sealed.push(b'\n');
    sealed.extend_from_slice(data);
    sealed.into()
}

/// The event in `payload`.
pub(super) fn open(payload: &[u8]) -> Result<Opened<'_>, BadEnvelope> {
    let Some(sealed) = payload.strip_prefix(MAGIC) else { return Ok(Opened { kind: None, data: payload }) };
    let line_end = memchr::memchr(b'\n', sealed).ok_or(BadEnvelope)?;
    let header: Header<'_> = serde_json::from_slice(&sealed[..line_end]).map_err(|_| BadEnvelope)?;
    Ok(Opened { kind: Some(header.kind).filter(|kind| !kind.is_empty()), data: &sealed[line_end + 1..] })
}
