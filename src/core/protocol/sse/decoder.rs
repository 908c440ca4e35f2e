//! What a client reads from an event stream.

use std::{borrow::Cow, mem};

use crate::close::Close;

/// Reads an event stream in whatever pieces it comes (WHATWG HTML section 9.2.6).
///
/// An event that lies whole in a piece is handed on as slices of it; only what a piece cuts is copied.
#[derive(Debug)]
pub struct Decoder {
    /// The beginning of a line whose end is yet to come.
    line: Vec<u8>,
    /// The event under way, as far as earlier pieces brought it: its type, and its data lines, each ended by LF.
    event: Vec<u8>,
    data: Vec<u8>,
    id_last: Vec<u8>,
    /// The value of the latest `id` field, if it is new: the next blank line makes it the last event id.
    id_next: Vec<u8>,
    id_is_new: bool,
    retry_ms: Option<u64>,
    comments: u64,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_return: bool,
    /// Not a line yet: a byte order mark may come.
    at_start: bool,
}

/// One event, as slices of the input where it came in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseMessage<'a> {
    /// The last event id, which this event or an earlier one set; empty if none did.
    pub id: &'a [u8],
    /// The event's type; empty for an unnamed event, which browsers deliver as `message`.
    pub event: &'a [u8],
    /// The payload, its lines joined by LF.
    pub data: &'a [u8],
}

impl<'a> SseMessage<'a> {
    /// The payload as text: what is not UTF-8 is replaced, as section 9.2.6 has it.
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.data)
    }
}

/// The most bytes one event, or one line, may have.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The parts of the event under way that lie in the piece being read.
#[derive(Default)]
struct Borrowed<'a> {
    event: Option<&'a [u8]>,
    /// The only data line so far.
    data: Option<&'a [u8]>,
}

impl Decoder {
    /// For a new stream.
    pub fn new() -> Self {
        Self {
            //= HTML section 9.2.6: "a last event ID buffer must be associated with it."
            line: Vec::new(),
            event: Vec::new(),
            data: Vec::new(),
            id_last: Vec::new(),
            id_next: Vec::new(),
            id_is_new: false,
            retry_ms: None,
            comments: 0,
            after_return: false,
            at_start: true,
        }
    }

    /// The last event id: what a client sends as `Last-Event-ID` when it comes back. Empty if there is none.
    pub fn last_event_id(&self) -> &[u8] {
        &self.id_last
    }

    /// The reconnection time the server asked for, in ms.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// How many comments came: heartbeats, mostly.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    /// Takes what the server sent and hands each event that is complete with it to `on`. Fails with
    /// [`Close::MessageTooBig`] if an event exceeds 16 MiB; nothing else is an error.
    #[inline]
    pub fn receive(&mut self, bytes: &[u8], mut on: impl FnMut(SseMessage<'_>)) -> Result<(), Close> {
        let mut rest = self.skip_line_feed(bytes);
        let mut borrowed = Borrowed::default();
        //= HTML section 9.2.6: "The stream must then be parsed by reading everything line by line"
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            let (line, behind) = (&rest[..end], &rest[end + 1..]);
            rest = if rest[end] == b'\r' { self.skip_after_return(behind) } else { behind };
            if self.line.is_empty() {
                self.take_line(line, &mut borrowed, &mut on);
            } else {
                self.take_cut_line(line, &mut borrowed, &mut on);
            }
        }
        self.keep(&mut borrowed);
        self.line.extend_from_slice(rest);
        if EVENT_BYTES_MAX < self.line.len() + self.data.len() {
            return Err(Close::MessageTooBig);
        }
        Ok(())
    }

    fn skip_line_feed<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if bytes.is_empty() || !mem::take(&mut self.after_return) {
            return bytes;
        }
        bytes.strip_prefix(b"\n").unwrap_or(bytes)
    }

    fn skip_after_return<'a>(&mut self, behind: &'a [u8]) -> &'a [u8] {
        self.after_return = behind.is_empty();
        behind.strip_prefix(b"\n").unwrap_or(behind)
    }

    /// A line whose beginning came with an earlier piece.
    fn take_cut_line(&mut self, line_end: &[u8], borrowed: &mut Borrowed<'_>, on: &mut impl FnMut(SseMessage<'_>)) {
        self.keep(borrowed);
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(line_end);
        let mut of_line = Borrowed::default();
        self.take_line(&line, &mut of_line, on);
        self.keep(&mut of_line);
        line.clear();
        self.line = line;
    }

    #[inline]
    fn take_line<'a>(&mut self, line: &'a [u8], borrowed: &mut Borrowed<'a>, on: &mut impl FnMut(SseMessage<'_>)) {
        let line =
            //= HTML section 9.2.6: "Streams must be decoded using the UTF-8 decode algorithm."
            if mem::take(&mut self.at_start) { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if line.is_empty() {
            //= HTML section 9.2.6: "Once the end of the file is reached, any pending data must be discarded."
            self.dispatch(mem::take(borrowed), on);
        } else if let Some(value) = field_value(line, b"data") {
            self.take_data(value, borrowed);
        } else if let Some(value) = field_value(line, b"id") {
            self.take_id(value);
        } else if let Some(value) = field_value(line, b"event") {
            borrowed.event = Some(value);
        } else if let Some(value) = field_value(line, b"retry") {
            self.take_retry(value);
        } else if line[0] == b':' {
            self.comments += 1;
        }
    }

    fn take_data<'a>(&mut self, value: &'a [u8], borrowed: &mut Borrowed<'a>) {
        if self.data.is_empty() && borrowed.data.is_none() {
            borrowed.data = Some(value);
            return;
        }
        self.keep_data(borrowed.data.take());
        self.keep_data(Some(value));
    }

    fn take_id(&mut self, value: &[u8]) {
        if memchr::memchr(0, value).is_some() {
            return;
        }
        self.id_next.clear();
        self.id_next.extend_from_slice(value);
        self.id_is_new = true;
    }

    fn take_retry(&mut self, value: &[u8]) {
        if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
            let digits = std::str::from_utf8(value).unwrap_or_default();
            self.retry_ms = Some(digits.parse().unwrap_or(u64::MAX));
        }
    }

    /// Section 9.2.6, "dispatch the event": without a data line there is none, but the id counts.
    #[inline]
    fn dispatch(&mut self, borrowed: Borrowed<'_>, on: &mut impl FnMut(SseMessage<'_>)) {
        if mem::take(&mut self.id_is_new) {
            mem::swap(&mut self.id_last, &mut self.id_next);
        }
        let kept = self.data.strip_suffix(b"\n");
        if let Some(data) = borrowed.data.or(kept) {
            on(SseMessage { id: &self.id_last, event: borrowed.event.unwrap_or(&self.event), data });
        }
        self.event.clear();
        self.data.clear();
    }

    /// Copies what lies in a piece that is about to go.
    fn keep(&mut self, borrowed: &mut Borrowed<'_>) {
        self.keep_data(borrowed.data.take());
        if let Some(event) = borrowed.event.take() {
            self.event.clear();
            self.event.extend_from_slice(event);
        }
    }

    fn keep_data(&mut self, line: Option<&[u8]>) {
        if let Some(line) = line {
            self.data.extend_from_slice(line);
            self.data.push(b'\n');
        }
    }
}

/// The value of `line` if its field is `name`: what follows the colon and one space, or nothing if there is no colon.
#[inline]
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        [] => Some(&[]),
        _ => None,
    }
}
