//! What a client gets whom the hub wants to come back later: beyond a limit of its own, or while it shuts down.

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

/// How a stream ends whose tenant has as many as a quota lets it have.
pub(crate) const STREAMS_USED_UP: Close = Close::TryLater("a quota of open streams is used up");

/// A full hub is unavailable (503), an address with too many connections has asked for too much (429).
fn overload_response(overload: Overload) -> Response {
    let (status, code) = match overload {
        Overload::Connections | Overload::Memory => (503, "overloaded"),
        Overload::Address => (429, "too_many_connections"),
    };
    later(status, code, overload.close())
}

/// Refuses whatever `request` asks for.
pub(in crate::endpoint) fn refuse(request: &Request, overload: Overload) -> Answer {
    refuse_with_retry(request, overload.close(), overload_response(overload))
}

/// `answer`, after which the connection ends.
pub(in crate::endpoint) fn answer_and_close(answer: Answer) -> Answer {
    match answer {
        Answer::Response(response) => response.with("Connection", "close").into(),
        other => other,
    }
}

/// `answer`, unless it is a stream and the hub is about to end: then there would be no point in opening it. Any other
/// request that was under way is still answered.
pub(in crate::endpoint) fn refuse_while_draining(request: &Request, answer: Answer, phase: Phase) -> Answer {
    if phase == Phase::Serving || !opens(&answer) {
        return answer;
    }
    refuse_with_retry(request, Close::Restart, later(503, Close::Restart.label(), Close::Restart))
}

/// `answer`, unless it is a new stream and the memory budget is spent. A connection that was let in while there was room may
/// ask for one when there is none.
pub(in crate::endpoint) fn refuse_out_of_memory(request: &Request, answer: Answer, budget: &Budget) -> Answer {
    if budget.is_spent() && opens(&answer) { refuse(request, Overload::Memory) } else { answer }
}

/// `answer`, unless it is a stream and its tenant has as many as a quota lets it have.
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

/// Whether it opens a stream or a session.
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

/// A browser's `EventSource` never comes back after anything but a 200, and its `WebSocket` keeps what else a handshake
/// was answered to itself. Both are therefore served a stream that ends at once and says when to come back. All others
/// get the honest `response`.
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

/// Whether a browser asks on behalf of an `EventSource`, or may do so. Browsers alone send `Sec-Fetch-*`, and `Origin` with a
/// GET. A page's `fetch` looks the same where it asks for `text/event-stream`: a wrong guess costs such a client the status of
/// a refusal, of which the stream tells as well.
pub(in crate::endpoint) fn is_event_source(request: &Request) -> bool {
    if request.method != Method::Get {
        return false;
    }
    let is_browser = ["sec-fetch-mode", "sec-fetch-site", "sec-fetch-dest", "origin"];
    let accepts = request.header_text("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    accepts && is_browser.iter().any(|name| request.header(name).is_some())
}

/// Whether `request` is told where it stands before the first event, by a block that has an id and no data.
///
/// An `EventSource` needs the place to miss nothing if it is cut off before any event came. Other parsers make an empty event
/// of such a block, and some clients never get over it. So the client must look like an `EventSource` in all that the standard
/// has it send: besides what [`is_event_source`] looks at, the two fields of a request that goes past all caches. What still
/// looks so is a `fetch` past all caches, and a page whose developer has switched the cache off: after one failure such a
/// client comes back with the id, and then it is not told again.
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
