//! The ESP IoT platform's stream of a well, `GET /api/v1/sse/stream/{well_id}`, and what its Socket.IO application
//! ([`crate::endpoint::socket_io::events`]) shares with it.
//!
//! A well's events are those of the topic `wells.{well_id}`, whichever API publishes them. Their types (`telemetry_update`,
//! `alert`, `diagnostic_update`) become event names. A refusal is an `error` event, as the platform's clients expect. A browser's
//! `EventSource` sees only answers with status 200, so it gets the event with a 200 and a long retry time. Other clients get the
//! event with the true status.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    auth::{AccessDenied, Identity},
    endpoint::{Answer, Context, OpenStream, gate::access},
    event::{EventId, Start},
    protocol::{
        SseOpening,
        http::{Request, Response},
        sse::{self, Greeting, SseProfile, is_event_source},
    },
    topic::Topic,
    transport::Transport,
};

/// The configuration of the ESP IoT platform's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// The platform's name in greetings.
    pub platform: String,
    /// How often each stream gets a `heartbeat` event.
    pub heartbeat: Duration,
    /// How long a browser waits before it retries after its token was refused. The token is in its URL, so an earlier retry
    /// cannot succeed.
    pub denied_retry: Duration,
    /// The Socket.IO namespaces that serve the platform's events.
    pub namespaces: Vec<String>,
}

impl Default for Esp {
    fn default() -> Self {
        Self {
            platform: "ESP IoT Platform".to_owned(),
            heartbeat: Duration::from_secs(30),
            denied_retry: Duration::from_secs(3600),
            namespaces: vec!["/".to_owned()],
        }
    }
}

/// Opens the stream of the well `well_id`.
pub(in crate::endpoint) fn open_stream(request: &Request, well_id: &str, context: &Context<'_>) -> Answer {
    let identity = access::identify(request, context);
    if let Err(denied @ (AccessDenied::ForeignPage | AccessDenied::ForeignHost)) = identity {
        // The page cannot read the answer, whatever its status.
        return refuse(&EspError::of_denied(denied), false, context).into();
    }
    match admit(request, identity, well_id, context) {
        Ok(open) => open.into(),
        Err(refused) => refuse(&refused, is_event_source(request), context).into(),
    }
}

fn admit(
    request: &Request,
    identity: Result<Option<Arc<Identity>>, AccessDenied>,
    well_id: &str,
    context: &Context<'_>,
) -> Result<OpenStream, EspError> {
    let identity = identity.map_err(EspError::of_denied)?;
    let topic = well_topic(well_id).map_err(EspError::invalid)?;
    access::may_subscribe(identity.as_deref(), &topic).map_err(EspError::of_denied)?;
    let start = requested_start(request)?;
    let esp = &context.config.esp;
    let greeting = Some(Greeting { name: Some("connected"), data: greeting_data(well_id, context).into() });
    let profile = Some(Box::new(SseProfile::new(esp.heartbeat, esp.denied_retry)));
    let opening = SseOpening { named: true, greeting, profile, ..SseOpening::default() };
    Ok(OpenStream { topics: vec![(topic, start)], identity, ..OpenStream::new(opening) })
}

/// The refusal of a Socket.IO client without the right. Counted here, because no HTTP answer shows it.
pub(in crate::endpoint) fn deny(denied: AccessDenied, topic: Option<&Topic>, context: &Context<'_>) -> EspError {
    access::count_refusal_on(Transport::SocketIo, denied, topic, context);
    EspError::of_denied(denied)
}

fn greeting_data(well_id: &str, context: &Context<'_>) -> String {
    object(&[
        ("message", format!("Connected to {} SSE stream", context.config.esp.platform).into()),
        ("well_id", well_id.into()),
        ("timestamp", context.hub.timestamp(context.now).into()),
    ])
}

/// Where a stream begins: after the client's last event id, or else with the next event.
fn requested_start(request: &Request) -> Result<Start, EspError> {
    let id = request.header_text("last-event-id").filter(|id| !id.is_empty());
    let id = id.or_else(|| request.query("last_event_id")).or_else(|| request.query("lastEventId"));
    match id {
        None | Some("") => Ok(Start::Live),
        Some(id) => parse_start(id).ok_or_else(|| EspError::invalid(format!("last_event_id is no event's id: {id}"))),
    }
}

/// Reads a last event id. A mere number is of the platform's former server. A client that shows one gets a gap, as with the id of
/// another hub, and then the retained events.
fn parse_start(id: &str) -> Option<Start> {
    let former = |number| Start::After(EventId::new(0, number));
    let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
    id.parse().ok().or_else(|| id.parse().ok().filter(|_| is_number).map(former))
}

/// The topic of a well. The well's id is one segment, so that a right to `wells.*` is a right to every well.
pub(in crate::endpoint) fn well_topic(well_id: &str) -> Result<Topic, String> {
    if well_id.contains('.') {
        return Err(BAD_WELL_ID.to_owned());
    }
    Topic::parse(&format!("{WELLS}{well_id}")).map_err(|_| BAD_WELL_ID.to_owned())
}

/// The id of the well that `topic` belongs to, if it is a well's.
pub(in crate::endpoint) fn well_of(topic: &Topic) -> Option<&str> {
    topic.as_str().strip_prefix(WELLS).filter(|well_id| !well_id.contains('.'))
}

const WELLS: &str = "wells.";
const BAD_WELL_ID: &str = "well_id has 1 to 249 of the characters A-Z a-z 0-9 _ - : /";

/// Why a client of the platform is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::endpoint) struct EspError {
    /// The status for clients other than a browser's `EventSource`.
    pub(in crate::endpoint) status: u16,
    /// The kind of error, for programs.
    pub(in crate::endpoint) error: &'static str,
    /// What is wrong, for people.
    pub(in crate::endpoint) message: String,
}

impl EspError {
    /// A bad argument.
    pub(in crate::endpoint) fn invalid(message: impl Into<String>) -> Self {
        Self { status: 400, error: "ValidationError", message: message.into() }
    }

    /// A client without the right.
    fn of_denied(denied: AccessDenied) -> Self {
        let (error, message) = match denied {
            AccessDenied::Missing => ("AuthenticationError", "Authentication token is required"),
            AccessDenied::Invalid | AccessDenied::Expired | AccessDenied::Revoked => {
                ("AuthenticationError", sse::TOKEN_REFUSED)
            }
            AccessDenied::Forbidden => ("AuthorizationError", "The token gives no right to this"),
            AccessDenied::ForeignPage | AccessDenied::ForeignHost => ("AuthorizationError", denied.message()),
            AccessDenied::Cookie => ("AuthenticationError", denied.message()),
            AccessDenied::TooMany => ("RateLimited", denied.message()),
            AccessDenied::KeysPending => ("ServiceUnavailable", denied.message()),
        };
        Self { status: denied.status(), error, message: message.to_owned() }
    }

    /// The data of the `error` event.
    pub(in crate::endpoint) fn json(&self) -> String {
        object(&[("error", self.error.into()), ("message", self.message.as_str().into())])
    }
}

/// The `error` event, with status 200 for a browser and the true status for others.
fn refuse(refused: &EspError, is_browser: bool, context: &Context<'_>) -> Response {
    let mut response = Response::empty(if is_browser { 200 } else { refused.status });
    if is_browser {
        if refused.status == 403 && context.hub.auth.is_required() {
            // The status does not show it.
            access::count_refusal(AccessDenied::Forbidden, context);
        }
        let retry_ms = context.config.esp.denied_retry.as_millis();
        response.body = format!("retry: {retry_ms}\n").into_bytes();
    }
    sse::write_event(None, Some("error"), &refused.json(), false, &mut response.body);
    let response = response.with("Content-Type", sse::CONTENT_TYPE).with("Cache-Control", "no-store");
    match refused.status {
        401 => response.with("WWW-Authenticate", "Bearer"),
        429 if !is_browser => response.with("Retry-After", "1"),
        _ => response,
    }
}

/// A JSON object with its fields in this order.
pub(in crate::endpoint) fn object(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_stream_begins() {
        let check = |id: &str, expected: Option<Start>| assert_eq!(parse_start(id), expected, "{id}");
        let after = |major, minor| Some(Start::After(EventId::new(major, minor)));
        check("1768068834227-12", after(1_768_068_834_227, 12));
        check("0", Some(Start::First));
        check("15", after(0, 15));
        check("18446744073709551615", after(0, u64::MAX));
        check("18446744073709551616", None);
        check("+15", None);
        check("-15", None);
        check("x", None);
        check("1-1,2-2", None);
    }

    #[test]
    fn wells_are_topics_of_one_segment() {
        let check = |well_id: &str, expected: Option<&str>| {
            let topic = well_topic(well_id).ok();
            assert_eq!(topic.as_ref().map(Topic::as_str), expected, "{well_id}");
            assert_eq!(topic.as_ref().and_then(well_of), expected.map(|_| well_id));
        };
        check("WELL-001", Some("wells.WELL-001"));
        check("a/b:c_d", Some("wells.a/b:c_d"));
        check(&"x".repeat(249), Some(&format!("wells.{}", "x".repeat(249))));
        for bad in ["", "a.b", ".", "a b", "é", "*", &"x".repeat(250)] {
            check(bad, None);
        }
        let other = Topic::parse("wells.a.b").expect("a good name");
        assert_eq!(well_of(&other), None);
    }

    #[test]
    fn objects_keep_their_order_and_escape() {
        let text = object(&[("b", "a \"quote\"".into()), ("a", 1.into()), ("c", Value::Null)]);
        assert_eq!(text, r#"{"b":"a \"quote\"","a":1,"c":null}"#);
        assert_eq!(object(&[]), "{}");
    }
}
