//! The protocols, server and client halves. Pure: bytes, events and `now` go in; bytes, inputs of the peer ([`PeerInput`]) and deadlines come out.

pub mod engine_io;
mod engine_session;
mod event_data;
pub mod fanfare_v1;
pub mod http;
pub mod json_values;
mod long_message;
pub mod nats;
pub mod proxy;
mod rate;
pub mod resp;
mod session;
pub mod socket_io;
pub mod sse;
pub mod websocket;

pub use engine_session::{
    EngineLimits, EngineOpening, EngineSession, Layer, SessionId, SocketIoClient, SocketIoInput, SocketIoSubscription,
    Sockets,
};
pub use event_data::EventData;
pub use long_message::{Checked, LongCheck, LongMessage};
pub use rate::RateLimit;
pub use session::{
    AfterRefusal, Ending, GapOutcome, HeldPayload, Opening, OpeningContext, PeerInput, Session, SessionCursor,
    SessionLimits, close_reason, write_unread_refusal,
};
pub use sse::{SseOpening, SseStream};
pub use websocket::{Dialect, Message, WebSocketOpening, WebSocketSession};

use crate::{
    event::Event,
    frame::{Format, SocketIoForm},
};

/// Encodes the frame of `event` in `format`, for [`crate::frame::FrameCache`]. Raw WebSocket has no form for a hole in the log:
/// such a connection is closed instead.
pub fn encode_frame(event: &Event, format: Format) -> Vec<u8> {
    match format {
        Format::Sse(form) => sse::encode_event(event, form),
        Format::WebSocketRaw => websocket::encode_text(&event.payload()),
        Format::FanfareV1 => fanfare_v1::encode_event(event),
        Format::SocketIo(form) => {
            // What sessions have of their own is added to the frames without a place.
            socket_io::encode_event(event, SocketIoForm { offset: form.offset && !form.own, own: false })
        }
    }
}
