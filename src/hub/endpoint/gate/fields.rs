//! Header fields whose values decide what is done: one that the hub cannot read is refused, for it is not the same as none.

use crate::protocol::http::{Request, Response};

/// What a client says of an event, or of where it stands: without them another event is published, or a stream begins elsewhere, and
/// nobody is told.
const TEXT_FIELDS: [&str; 3] = ["Last-Event-ID", "Event-Type", "Idempotency-Key"];

/// The answer (400) to a request that has such a field and whose value is not UTF-8.
pub(in crate::endpoint) fn refuse_unreadable(request: &Request) -> Option<Response> {
    let is_unreadable = |name: &&&str| request.header_values(name).any(|value| std::str::from_utf8(value).is_err());
    let name = TEXT_FIELDS.iter().find(is_unreadable)?;
    let message = format!("the value of the header field `{name}` is not UTF-8");
    Some(Response::error(400, "bad_header", &message, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::HttpLimits;

    #[test]
    fn what_cannot_be_read_is_refused() {
        let check = |field: &[u8], expected: Option<&str>| {
            let head = [b"GET /sse?topic=t HTTP/1.1\r\nHost: h\r\n", field, b"\r\n\r\n"].concat();
            let request = Request::parse(&head, &HttpLimits::default()).expect("a good request");
            let refused = refuse_unreadable(&request).map(|response| String::from_utf8(response.body).expect("text"));
            assert_eq!(refused.is_some(), expected.is_some(), "{refused:?}");
            assert!(refused.is_none_or(|body| expected.is_some_and(|name| body.contains(name))));
        };
        check(b"Last-Event-ID: 1-5\xe9", Some("Last-Event-ID"));
        check(b"last-event-id: 1-5\r\nLast-Event-ID: \xff", Some("Last-Event-ID"));
        check(b"event-type: caf\xe9", Some("Event-Type"));
        check(b"Idempotency-Key: caf\xe9", Some("Idempotency-Key"));
        check("Idempotency-Key: café".as_bytes(), None);
        check(b"X-Other: caf\xe9", None);
    }
}
