//! What the HTML standard requires of event streams, and what Engine.IO 4 and Socket.IO 5 require of a server.

use super::{Requirement, departs, elsewhere, met, not_concerned};

/// Event streams (HTML, section 9.2).
#[rustfmt::skip] // A table, to be read as one.
pub(super) const EVENT_STREAMS: &[Requirement] = &[
    not_concerned("9.2.2", "The steps of an EventSource: they are algorithms without a MUST",
        "A browser is tested against the hub in tests/it."),
    met("9.2.5", "Event streams in this format must always be encoded as UTF-8.",
        &["src/core/protocol/sse/encoder.rs"],
        &["src/core/protocol/sse/tests.rs: frames"]),
    met("9.2.5", "Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character pair, a single U+000A LINE FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR) character.",
        &["src/core/protocol/sse/encoder.rs"],
        &["src/core/protocol/sse/tests.rs: frames"]),
    met("9.2.6", "Streams must be decoded using the UTF-8 decode algorithm.",
        &["src/core/protocol/sse/decoder.rs"],
        &["src/core/protocol/sse/tests.rs: marks_and_encodings"]),
    met("9.2.6", "The stream must then be parsed by reading everything line by line",
        &["src/core/protocol/sse/decoder.rs"],
        &["src/core/protocol/sse/tests.rs: line_ends_and_fields"]),
    met("9.2.6", "a last event ID buffer must be associated with it.",
        &["src/core/protocol/sse/decoder.rs"],
        &["src/core/protocol/sse/tests.rs: ids"]),
    met("9.2.6", "Once the end of the file is reached, any pending data must be discarded.",
        &["src/core/protocol/sse/decoder.rs"],
        &["src/core/protocol/sse/tests.rs: line_ends_and_fields"]),
];

/// Engine.IO, protocol version 4.
#[rustfmt::skip] // A table, to be read as one.
pub(super) const ENGINE_IO: &[Requirement] = &[
    met("Handshake", "If the server accepts the connection, then it MUST respond with an `open` packet with the following JSON-encoded payload",
        &["src/core/protocol/engine_io/packet.rs"],
        &["tests/conformance/engine_io/handshake.rs: by_polling", "tests/conformance/engine_io/handshake.rs: by_websocket"]),
    not_concerned("Handshake", "What a client must send",
        "The hub is the server."),
    not_concerned("Headers", "Binary bodies of requests",
        "In version 4 a payload is text, binary messages are base64 in it."),
    met("Packet encoding", "Binary payloads MUST be base64-encoded and prefixed with a `b` character",
        &["src/core/protocol/engine_io/payload.rs"],
        &["tests/conformance/engine_io/messages.rs: come_back", "src/core/protocol/engine_io/tests.rs: frames_become_payloads"]),
    elsewhere("Query parameters", "If a mandatory query parameter is missing, then the server MUST respond with an HTTP 400 error status.",
        "src/hub/endpoint", &["tests/conformance/engine_io/handshake.rs: refused_by_request"]),
    elsewhere("Receiving data", "The server MUST return an HTTP 400 response if the session ID (from the `sid` query parameter) is not known.",
        "src/hub/reactor", &["tests/conformance/engine_io/handshake.rs: refused_by_request"]),
    elsewhere("Receiving data", "Should it happen, the server MUST return an HTTP 400 error status and close the session.",
        "src/hub/reactor", &["tests/conformance/engine_io/polling.rs: a_session_has_one_poll"]),
    elsewhere("Sending data", "The server MUST return an HTTP 400 response if the session ID (from the `sid` query parameter) is not known.",
        "src/hub/reactor", &["tests/conformance/engine_io/handshake.rs: refused_by_request"]),
    elsewhere("Sending data", "To indicate success, the server MUST return an HTTP 200 response, with the string `ok` in the response body.",
        "src/hub/reactor", &["tests/conformance/engine_io/polling.rs: posts_are_answered_with_ok"]),
    departs("Sending data", "Should it happen, the server MUST return an HTTP 400 error status and close the session.",
        "A POST counts once its body is whole; two at a time are taken in that order."),
    elsewhere("Upgrade", "send a `noop` packet to any pending `GET` request (if applicable) to cleanly close HTTP long-polling transport",
        "src/hub/reactor", &["tests/conformance/engine_io/upgrade.rs: a_poll_is_ended_by_a_noop", "tests/conformance/engine_io/upgrade.rs: the_poll_that_waits_is_ended_too", "tests/conformance/engine_io/upgrade.rs: a_session_moves"]),
    elsewhere("WebSocket", "If a mandatory query parameter is missing, then the server MUST close the WebSocket connection.",
        "src/hub/endpoint, before it is opened", &["tests/conformance/engine_io/handshake.rs: refused_by_websocket"]),
    elsewhere("WebSocket", "Should it happen, the server MUST close the WebSocket connection.",
        "src/hub/reactor", &["tests/conformance/engine_io/upgrade.rs: a_second_websocket_is_refused", "tests/conformance/engine_io/upgrade.rs: a_session_of_a_websocket_has_no_other"]),
];

/// Socket.IO, protocol version 5.
#[rustfmt::skip] // A table, to be read as one.
pub(super) const SOCKET_IO: &[Requirement] = &[
    met("Acknowledgement", "The receiver MUST respond with an `ACK` packet with the same event ID.",
        &["src/core/protocol/engine_session/sockets.rs"],
        &["tests/conformance/socket_io/events.rs: acknowledgements"]),
    met("Acknowledgement", "The payload is mandatory and MUST be an array (possibly empty).",
        &["src/core/protocol/socket_io/packet.rs"],
        &["tests/conformance/socket_io/events.rs: bad_acknowledgements_end_the_session"]),
    met("Connection to a namespace", "The server MUST respond with either",
        &["src/core/protocol/engine_session/sockets.rs"],
        &["tests/conformance/socket_io/connecting.rs: the_main_namespace", "tests/conformance/socket_io/connecting.rs: an_unknown_namespace_is_refused"]),
    met("Connection to a namespace", "If the server does not receive a `CONNECT` packet first, then it MUST close the connection immediately.",
        &["src/core/protocol/engine_session/sockets.rs"],
        &["tests/conformance/socket_io/connecting.rs: what_is_no_connect_ends_the_session"]),
    elsewhere("Connection to a namespace", "At the beginning of a Socket.IO session, the client MUST send a `CONNECT` packet",
        "src/tools, the bench", &[]),
    met("Sending and receiving data", "The payload is mandatory and MUST be a non-empty array. If that's not the case, then the receiver MUST close the connection.",
        &["src/core/protocol/engine_session/sockets.rs"],
        &["tests/conformance/socket_io/events.rs: bad_events_end_the_session"]),
];
