//! Server-Sent Events (WHATWG HTML, section 9.2), encoder and decoder.
//!
//! To HTTP/1.1 a stream is one chunked response. Every piece encoded here is whole chunks, so a shared frame is written as it
//! is. To HTTP/1.0, and to a trusted proxy, the same bytes go without chunks, and the stream ends with the connection.

mod decoder;
mod encoder;
mod event_source;
mod profile;
mod stream;

pub use decoder::{Decoder, SseMessage};
pub use encoder::{
    CONTENT_TYPE, encode_event, heartbeat, write_cursor_id, write_event, write_final, write_gap, write_open,
    write_place,
};
pub use event_source::{is_event_source, wants_initial_id};
pub use profile::{Greeting, SseProfile, TOKEN_REFUSED};
pub use stream::{SseOpening, SseStream};

#[cfg(test)]
mod tests;
