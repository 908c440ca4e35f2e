//! What a client gets that the hub has no room for.

use super::Answer;
use crate::{
    close::Close,
    protocol::{
        Dialect, FANFARE_V1,
        http::{Request, Response},
        websocket,
    },
};

const REASON: &str = "the hub has all the connections it is configured to serve";

/// A browser's `EventSource` never comes back after anything but a 200, and its `WebSocket` keeps what else a handshake
/// was answered to itself. Both are therefore served a stream that ends at once and says when to come back. All others
/// get an honest 503.
pub(super) fn refuse(request: &Request) -> Answer {
    let stream = match websocket::accept(request, &[FANFARE_V1]) {
        Ok(accepted) => {
            let dialect = if accepted.protocol.is_some() { Dialect::FanfareV1 } else { Dialect::Raw };
            Answer::WebSocket { accepted, dialect, topics: Vec::new() }
        }
        Err(_) if is_event_source(request) => {
            Answer::Sse { topics: Vec::new(), named: true, tells_place: false, headers: Vec::new() }
        }
        Err(_) => {
            let response = Response::error(503, "overloaded", REASON, None);
            return response.with("Retry-After", "2").with("Connection", "close").into();
        }
    };
    Answer::Ended { stream: Box::new(stream), close: Close::TryLater(REASON) }
}

/// Whether a browser asks on behalf of an `EventSource`. Browsers alone send `Sec-Fetch-*`, and `Origin` with a GET.
pub(super) fn is_event_source(request: &Request) -> bool {
    let is_browser = ["sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "origin"];
    let accepts = request.header_text("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    accepts && is_browser.iter().any(|name| request.header(name).is_some())
}
