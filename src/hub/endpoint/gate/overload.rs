//! Responses that ask a client to retry later: a limit is reached, or the hub shuts down.

use crate::{
    budget::Budget,
    close::Close,
    endpoint::{Answer, Context, OpenSse, OpenWebSocket, Overload, Phase},
    protocol::{
        Dialect, FANFARE_V1,
        http::{Method, Request, Response},
        websocket,
    },
};

/// The close of a stream whose tenant has as many streams as its quota allows.
pub(crate) const STREAMS_USED_UP: Close = Close::TryLater("a quota of open streams is used up");

/// A full hub is unavailable (503). An address with too many connections has asked for too much (429).
fn overload_response(overload: Overload) -> Response {
    let (status, code) = match overload {
        Overload::Connections | Overload::Memory => (503, "overloaded"),
        Overload::Address => (429, "too_many_connections"),
    };
    later(status, code, overload.close())
}

/// Refuses `request` because the connection exceeds a limit.
pub(in crate::endpoint) fn refuse(request: &Request, overload: Overload) -> Answer {
    refuse_with_retry(request, overload.close(), overload_response(overload))
}

/// Makes `answer` close the connection.
pub(in crate::endpoint) fn answer_and_close(answer: Answer) -> Answer {
    match answer {
        Answer::Response(response) => response.with("Connection", "close").into(),
        other => other,
    }
}

/// Refuses a stream while the hub shuts down. Other answers pass: a request under way is still answered.
pub(in crate::endpoint) fn refuse_while_draining(request: &Request, answer: Answer, phase: Phase) -> Answer {
    if phase == Phase::Serving || !opens(&answer) {
        return answer;
    }
    refuse_with_retry(request, Close::Restart, later(503, Close::Restart.label(), Close::Restart))
}

/// Refuses a new stream while the memory budget is spent. A connection accepted earlier may still ask for one.
pub(in crate::endpoint) fn refuse_out_of_memory(request: &Request, answer: Answer, budget: &Budget) -> Answer {
    if budget.is_spent() && opens(&answer) { refuse(request, Overload::Memory) } else { answer }
}

/// Refuses a stream whose tenant has as many as its quota allows.
pub(in crate::endpoint) fn refuse_over_quota(request: &Request, mut answer: Answer, context: &Context<'_>) -> Answer {
    let (identity, hold) = match &mut answer {
        Answer::Sse(open) => (open.identity.clone(), &mut open.hold),
        Answer::WebSocket(open) => (open.identity.clone(), &mut open.hold),
        _ => return answer,
    };
    let requester = Context { identity: identity.as_deref(), ..*context }.requester();
    match context.hub.quotas.open(requester, context.now) {
        Ok(held) => *hold = held,
        Err(refused) => {
            let response = Response::error(429, "quota_exceeded", &refused.to_string(), None);
            let response = response.with("Retry-After", refused.retry_after_s.to_string());
            return refuse_with_retry(request, STREAMS_USED_UP, response);
        }
    }
    answer
}

/// Whether `answer` opens a stream or a session.
fn opens(answer: &Answer) -> bool {
    match answer {
        Answer::Sse(_) | Answer::WebSocket(_) => true,
        Answer::Engine(engine) => engine.kind.sid().is_none(),
        Answer::Response(_) | Answer::Later(_) | Answer::Work(_) | Answer::Ended { .. } => false,
    }
}

fn later(status: u16, code: &str, close: Close) -> Response {
    Response::error(status, code, &close.to_string(), None).with("Retry-After", "2").with("Connection", "close")
}

/// Refuses with `response`, or with a stream that ends at once and says when to retry. An `EventSource` of a browser retries only
/// after a 200, and a browser's `WebSocket` hides the response to a refused handshake, so both get the stream.
pub(in crate::endpoint) fn refuse_with_retry(request: &Request, close: Close, response: Response) -> Answer {
    let stream = match websocket::accept(request, &[FANFARE_V1]) {
        Ok(accepted) => {
            let dialect = if accepted.protocol.is_some() { Dialect::FanfareV1 } else { Dialect::Raw };
            OpenWebSocket { accepted, dialect, topics: Vec::new(), identity: None, hold: None }.into()
        }
        Err(_) if is_event_source(request) => OpenSse { named: true, ..OpenSse::default() }.into(),
        Err(_) => return response.into(),
    };
    Answer::Ended { stream: Box::new(stream), close }
}

/// Whether an `EventSource` of a browser may have sent `request`. Only browsers send `Sec-Fetch-*`, and `Origin` with a GET. A
/// page's `fetch` that asks for `text/event-stream` looks the same. If the guess is wrong, that client gets a stream that tells
/// of the refusal instead of its status.
pub(in crate::endpoint) fn is_event_source(request: &Request) -> bool {
    if request.method != Method::Get {
        return false;
    }
    let is_browser = ["sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "origin"];
    let accepts = request.header_text("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    accepts && is_browser.iter().any(|name| request.header(name).is_some())
}

/// Whether the client gets the ids that it starts from before the first event, in a block that has an id and no data.
///
/// An `EventSource` needs them to miss nothing if it is cut off before the first event. Other parsers make an empty event of such
/// a block, and some clients fail on it. So the client must look like an `EventSource` in all that the HTML standard has it send:
/// besides what [`is_event_source`] checks, the two fields of a request that bypasses caches. A `fetch` that bypasses caches
/// still looks so, as does a page whose developer has disabled the cache. Such a client fails once, comes back with the id, and
/// then does not get the block.
pub(in crate::endpoint) fn wants_initial_id(request: &Request) -> bool {
    let is = |name: &str, expected: &str| request.header_text(name) == Some(expected);
    is("accept", "text/event-stream")
        && is("cache-control", "no-cache")
        && is("pragma", "no-cache")
        && is_event_source(request)
        && request.header_text("last-event-id").is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::HttpLimits;

    /// The fields that Chromium sends, as far as they matter.
    #[test]
    fn who_is_told_its_place_before_the_first_event() {
        let check = |fields: &[&str], expected: bool| {
            let head = format!("GET /sse?topic=t HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", fields.join("\r\n"));
            let request = Request::parse(head.as_bytes(), &HttpLimits::default()).expect("a good request");
            assert_eq!(wants_initial_id(&request), expected, "{fields:?}");
        };
        let (accept, mode, origin) = ("Accept: text/event-stream", "Sec-Fetch-Mode: cors", "Origin: http://a");
        let (control, pragma) = ("Cache-Control: no-cache", "Pragma: no-cache");
        check(&[accept, mode, control, pragma], true);
        check(&[accept, origin, control, pragma], true);
        check(&[accept, mode, origin], false);
        check(&[accept, mode, control], false);
        check(&[accept, mode, pragma], false);
        check(&[accept, mode, "Cache-Control: max-age=0", pragma], false);
        check(&["Accept: text/event-stream, */*", mode, control, pragma], false);
        check(&[accept, control, pragma], false);
        check(&[accept, mode, control, pragma, "Last-Event-ID: 1-2"], false);
        check(&["Accept: */*", mode, control, pragma], false);
    }
}
