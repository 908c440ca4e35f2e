//! Streams of compatibility APIs whose clients expect more than the standard: a greeting event, heartbeat events, and errors of
//! their own form.

use std::time::Duration;

use serde_json::json;

use super::encoder::write_event;
use crate::{clock::Moment, close::Close, event::EventId};

/// Heartbeat events, and errors in the platform's form. Boxed, because few streams have them.
#[derive(Debug)]
pub struct SseProfile {
    heartbeat_interval: Duration,
    /// When the next heartbeat is due, whether or not there are other events.
    heartbeat_due: Moment,
    /// `retry:` for a browser whose token is no longer valid. Its URL holds the token, so an early retry would fail again.
    denied_retry: Duration,
}

/// The first event of a stream, for its client alone. It is in no log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its name; `None` for an unnamed event, which arrives at `onmessage`.
    pub name: Option<&'static str>,
    /// Its data, one line.
    pub data: Box<str>,
}

impl Greeting {
    /// Appends the event. Its id is the `place` from which events follow, so the greeting moves no client away from where it
    /// stands: a client that is cut off before any other event goes on from there.
    pub fn write(&self, place: Option<EventId>, chunked: bool, out: &mut Vec<u8>) {
        write_event(place, self.name, &self.data, chunked, out);
    }
}

/// The error for clients whose token is not, or no longer, valid.
pub const TOKEN_REFUSED: &str = "Invalid or expired authentication token";

impl SseProfile {
    /// For a stream with a heartbeat event each `heartbeat_interval`.
    pub fn new(heartbeat_interval: Duration, denied_retry: Duration) -> Self {
        Self { heartbeat_interval, heartbeat_due: Moment::default(), denied_retry }
    }

    /// For a stream that is opened only to be refused.
    pub fn of_refusal() -> Self {
        Self::new(Duration::MAX, Duration::MAX)
    }

    /// The stream opens `now`; the first heartbeat comes up to `early` before its time, so that streams which begin together
    /// do not stay together.
    pub fn begin(&mut self, now: Moment, early: impl FnOnce(Duration) -> Duration) {
        self.heartbeat_due = now + early(self.heartbeat_interval);
    }

    /// When the next heartbeat is due.
    pub fn heartbeat_due(&self) -> Moment {
        self.heartbeat_due
    }

    /// Appends a heartbeat, if one is due `now`. Its id is the `place` where the client stands: some clients take the id of
    /// whatever comes last. `timestamp` as it is to be shown.
    pub fn write_heartbeat(
        &mut self,
        place: Option<EventId>,
        timestamp: &str,
        chunked: bool,
        now: Moment,
        out: &mut Vec<u8>,
    ) -> bool {
        if now < self.heartbeat_due {
            return false;
        }
        let next = self.heartbeat_due + self.heartbeat_interval;
        self.heartbeat_due = if now < next { next } else { now + self.heartbeat_interval };
        write_event(place, Some("heartbeat"), &json!({ "timestamp": timestamp }).to_string(), chunked, out);
        true
    }

    /// When a client may come back that is told to go for the reason `close`; `None`: as with other streams.
    pub fn retry_ms(&self, close: Close) -> Option<u64> {
        let retry_ms = || u64::try_from(self.denied_retry.as_millis()).unwrap_or(u64::MAX);
        (close.http_status() == Some(401)).then(retry_ms)
    }

    /// What the `error` event says of `close`.
    pub fn error_json(&self, close: Close) -> String {
        let (error, message) = match close.http_status() {
            Some(401) => ("AuthenticationError", TOKEN_REFUSED.to_owned()),
            Some(403) => ("AuthorizationError", close.to_string()),
            Some(429) => ("RateLimited", close.to_string()),
            Some(503) => ("ServiceUnavailable", close.to_string()),
            _ => ("ServerError", close.to_string()),
        };
        json!({ "error": error, "message": message }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Option<EventId> = Some(EventId::new(7, 3));

    fn profile() -> SseProfile {
        SseProfile::new(Duration::from_secs(30), Duration::from_secs(3600))
    }

    fn second(number: u64) -> Moment {
        Moment(number * 1_000_000_000)
    }

    #[test]
    fn a_greeting_has_the_id_of_the_place_from_which_events_follow() {
        let check = |name: Option<&'static str>, place: Option<EventId>, expected: &str| {
            let mut out = Vec::new();
            Greeting { name, data: "{}".into() }.write(place, false, &mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
        };
        check(Some("connected"), PLACE, "id: 7-3\nevent: connected\ndata: {}\n\n");
        check(None, PLACE, "id: 7-3\ndata: {}\n\n");
        check(None, None, "data: {}\n\n");
    }

    #[test]
    fn heartbeats_keep_their_time() {
        let mut profile = profile();
        profile.begin(second(100), |interval| interval - Duration::from_secs(2));
        let mut check = |now_s: u64, beats: bool, due_s: u64| {
            let mut out = Vec::new();
            assert_eq!(profile.write_heartbeat(PLACE, "T", false, second(now_s), &mut out), beats, "at {now_s}");
            let expected: &[u8] =
                if beats { b"id: 7-3\nevent: heartbeat\ndata: {\"timestamp\":\"T\"}\n\n" } else { b"" };
            assert_eq!(out, expected, "at {now_s}");
            assert_eq!(profile.heartbeat_due(), second(due_s), "at {now_s}");
        };
        check(127, false, 128);
        check(128, true, 158);
        check(159, true, 188);
        // One that could not be written in its time is not made up for.
        check(230, true, 260);
        check(290, true, 320);
    }

    #[test]
    fn errors_have_the_platform_s_form() {
        let check = |close: Close, expected: &str| assert_eq!(profile().error_json(close), expected);
        check(Close::TryLater("no room"), r#"{"error":"ServiceUnavailable","message":"no room"}"#);
        check(Close::Policy("no"), r#"{"error":"AuthorizationError","message":"no"}"#);
        check(Close::Internal("broken"), r#"{"error":"ServerError","message":"broken"}"#);
        check(Close::TokenExpired, &format!(r#"{{"error":"AuthenticationError","message":"{TOKEN_REFUSED}"}}"#));
        check(Close::RateLimited, &format!(r#"{{"error":"RateLimited","message":"{}"}}"#, Close::RateLimited));
        assert_eq!(profile().retry_ms(Close::Restart), None);
        assert_eq!(profile().retry_ms(Close::TokenExpired), Some(3_600_000));
    }
}
