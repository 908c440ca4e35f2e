//! What the hub writes on an event stream.

use std::io::Write;

use crate::{
    event::{Event, EventId, gap_json, is_word_of_sse},
    frame::SseForm,
    gap::Gap,
    protocol::http,
    topic::Topic,
};

/// The complete frame of `event`, in one allocation of exactly its size.
///
/// A payload of several lines becomes several `data:` lines; CR LF, LF and CR all end a line (section 9.2.6), and the
/// client joins the lines with LF.
pub fn encode_event(event: &Event, form: SseForm) -> Vec<u8> {
    let id = form.with_id.then_some(event.id);
    // A gap has its name even on a stream without names: it must not be taken for an event.
    let kind = event.shown_kind(is_word_of_sse).filter(|_| form.named || event.gap.is_some());
    let gap_data = (event.gap.is_some() && !form.named).then(|| typed_gap(event.text()));
    //= HTML section 9.2.5: "Event streams in this format must always be encoded as UTF-8."
    let payload = event.payload();
    let data = gap_data.as_ref().map_or(&payload[..], String::as_bytes);
    //= HTML section 9.2.5: "Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF)
    //=   character pair, a single U+000A LINE FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character."
    let fields = Fields { id, event: kind, data };
    let mut out = Vec::with_capacity(framed_len(fields.len(), form.chunked));
    fields.write_framed(form.chunked, &mut out);
    out
}

/// Appends a gap that concerns this reader only, with the id of its end; a stream over several topics writes its own id
/// ahead of it ([`write_cursor_id`]).
pub fn write_gap(topic: &Topic, gap: Gap, form: SseForm, out: &mut Vec<u8>) {
    let plain = gap_json(topic, gap);
    let data = if form.named { plain } else { typed_gap(&plain) };
    write_event(form.with_id.then_some(gap.to), Some("gap"), &data, form.chunked, out);
}

/// What a stream without names is told of a gap. Not all of its clients look at an event's name; those tell events apart by
/// the `type` in their data, and show the `message`.
fn typed_gap(gap_json: &str) -> String {
    let fields = gap_json.strip_prefix('{').unwrap_or(gap_json);
    format!("{{\"type\":\"gap\",\"message\":\"events are missing here\",{fields}")
}

/// Appends an event that is not in a log: an error, a greeting. `event` must hold no line break.
pub fn write_event(id: Option<EventId>, event: Option<&str>, data: &str, chunked: bool, out: &mut Vec<u8>) {
    Fields { id, event, data: data.as_bytes() }.write_framed(chunked, out);
}

/// Appends the `id:` line of a stream over several topics: where the client stands in each, in the order of the topics in
/// its URL, joined by commas. It goes ahead of a shared frame without an id, whose blank line ends the block of both.
pub fn write_cursor_id(ids: impl ExactSizeIterator<Item = EventId> + Clone, chunked: bool, out: &mut Vec<u8>) {
    write_ids(ids, b"\n", chunked, out);
}

/// Appends a block that has ids alone: by the standard it is no event, but whoever comes back begins there (section
/// 9.2.6, "dispatch the event"). It also completes the block that [`write_open`] began.
pub fn write_place(ids: impl ExactSizeIterator<Item = EventId> + Clone, chunked: bool, out: &mut Vec<u8>) {
    write_ids(ids, b"\n\n", chunked, out);
}

fn write_ids(ids: impl ExactSizeIterator<Item = EventId> + Clone, end: &[u8], chunked: bool, out: &mut Vec<u8>) {
    let commas = ids.len().saturating_sub(1);
    let line_len = b"id: ".len() + commas + ids.clone().map(id_len).sum::<usize>() + end.len();
    begin_chunk(line_len, chunked, out);
    out.extend_from_slice(b"id: ");
    for (index, id) in ids.enumerate() {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{}{id}", if index == 0 { "" } else { "," });
    }
    out.extend_from_slice(end);
    end_chunk(chunked, out);
}

/// Appends the head of a stream and its first bytes: a comment, so that proxies and clients see the stream open at once,
/// and `retry:`. No blank line follows: some clients make an empty event of a block without data, so `retry:` stands in
/// the block of the first event.
///
/// `chunked`: otherwise the stream ends with the connection, and the head says so. `date` as [`http::format_date`] gives it.
pub fn write_open(chunked: bool, date: &str, retry_ms: u64, extra_headers: &[(&str, &str)], out: &mut Vec<u8>) {
    out.reserve(OPEN_BYTES);
    http::write_status(200, date, out);
    for (name, value) in STREAM_HEADERS.iter().chain(extra_headers) {
        http::write_field(name, value, out);
    }
    //= RFC 9112 section 6.1: "A sender MUST NOT apply the chunked transfer coding more than once to a message body"
    //= RFC 9112 section 6.2: "A sender MUST NOT send a Content-Length header field in any message that contains a
    //=   Transfer-Encoding header field."
    out.extend_from_slice(if chunked { b"Transfer-Encoding: chunked\r\n\r\n" } else { b"Connection: close\r\n\r\n" });
    begin_chunk(b":\nretry: \n".len() + decimal_len(retry_ms), chunked, out);
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, ":\nretry: {retry_ms}");
    end_chunk(chunked, out);
}

/// What the head of a stream takes, unless it has further fields: growing to it step by step would cost as much as writing.
const OPEN_BYTES: usize = 256;

/// The comment that keeps a quiet stream open. Without a blank line, for the reason [`write_open`] gives.
pub fn heartbeat(chunked: bool) -> &'static [u8] {
    if chunked { b"2\r\n:\n\r\n" } else { b":\n" }
}

/// Appends the end of a stream to a client that shall come back after `retry_ms`: `retry:`, and an `error` event with
/// `error` as its data if there is something to say. Then the connection is to be closed.
pub fn write_final(chunked: bool, retry_ms: u64, error: Option<&str>, out: &mut Vec<u8>) {
    begin_chunk(b"retry: \n".len() + decimal_len(retry_ms), chunked, out);
    // Writing into a Vec cannot fail.
    let _ = writeln!(out, "retry: {retry_ms}");
    end_chunk(chunked, out);
    if let Some(error) = error {
        write_event(None, Some("error"), error, chunked, out);
    }
    if chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// The media type of event streams (section 9.2.5).
pub const CONTENT_TYPE: &str = "text/event-stream";

/// `no-cache`: a stream must not be answered from a cache. `X-Accel-Buffering`: nginx would hold events back.
const STREAM_HEADERS: [(&str, &str); 3] =
    [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")];

/// One block of a stream.
struct Fields<'a> {
    id: Option<EventId>,
    event: Option<&'a str>,
    data: &'a [u8],
}

impl Fields<'_> {
    /// How many bytes [`Fields::write`] writes.
    fn len(&self) -> usize {
        let id = self.id.map_or(0, |id| b"id: \n".len() + id_len(id));
        let event = self.event.map_or(0, |event| b"event: \n".len() + event.len());
        let data: usize = lines(self.data).map(|line| b"data: \n".len() + line.len()).sum();
        id + event + data + b"\n".len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(id) = self.id {
            // Writing into a Vec cannot fail.
            let _ = writeln!(out, "id: {id}");
        }
        if let Some(event) = self.event {
            write_line(b"event: ", event.as_bytes(), out);
        }
        for line in lines(self.data) {
            write_line(b"data: ", line, out);
        }
        out.push(b'\n');
    }

    fn write_framed(&self, chunked: bool, out: &mut Vec<u8>) {
        begin_chunk(self.len(), chunked, out);
        self.write(out);
        end_chunk(chunked, out);
    }
}

fn write_line(field: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(field);
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The lines of a payload; one, empty, if it is empty.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
            return rest.take();
        };
        let next = if text[end..].starts_with(b"\r\n") { end + 2 } else { end + 1 };
        rest = Some(&text[next..]);
        Some(&text[..end])
    })
}

fn framed_len(len: usize, chunked: bool) -> usize {
    if chunked { hex_len(len) + b"\r\n".len() + len + b"\r\n".len() } else { len }
}

fn begin_chunk(len: usize, chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        // Writing into a Vec cannot fail.
        let _ = write!(out, "{len:x}\r\n");
    }
}

fn end_chunk(chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}

fn id_len(id: EventId) -> usize {
    let fingerprint = id.fingerprint.map_or(0, |fingerprint| b"~".len() + fingerprint.text_len());
    decimal_len(id.major) + b"-".len() + decimal_len(id.minor) + fingerprint
}

fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn hex_len(number: usize) -> usize {
    number.checked_ilog2().map_or(1, |log| log as usize / 4 + 1)
}
