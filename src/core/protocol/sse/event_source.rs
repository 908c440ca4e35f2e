//! Which requests an `EventSource` of a browser may have sent.

use crate::protocol::http::{Method, Request};

/// Whether an `EventSource` of a browser may have sent `request`. Only browsers send `Sec-Fetch-*`, and `Origin` with a GET. A
/// page's `fetch` that asks for `text/event-stream` looks the same. If the guess is wrong, that client gets a stream that tells
/// of the refusal instead of its status.
pub fn is_event_source(request: &Request) -> bool {
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
pub fn wants_initial_id(request: &Request) -> bool {
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
