//! Why a connection ends: one value that says who is to blame and which rule was broken, and from which the HTTP status,
//! the WebSocket close code, the metric label and the log word all follow.

use std::fmt;

use crate::gap::GapReason;

/// Every way for a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The peer closed, or all it asked for is answered.
    Done,
    /// The peer closed its WebSocket, with this code if it gave one: the close frame that answers says the same.
    PeerClosed(Option<u16>),
    /// The peer vanished: reset, timed out, or ended in the middle of something.
    PeerGone,
    /// The peer broke HTTP's rules; the text names the rule.
    BadRequest(&'static str),
    /// The request expects what cannot be met (417, RFC 9110 section 10.1.1).
    ExpectationFailed,
    /// The request line alone is over the head's limit (414, RFC 9112 section 3).
    TargetTooLong,
    /// Request head over its limit in bytes or fields (431).
    HeadTooLarge,
    /// Request body over its limit (413).
    BodyTooLarge,
    /// The request's head or body did not arrive in time (408).
    RequestTimeout,
    /// The peer broke WebSocket's rules (RFC 6455); the text names the rule.
    BadFrame(&'static str),
    /// Text that is not UTF-8 (RFC 6455 section 8.1).
    BadUtf8,
    /// A message over its limit.
    MessageTooBig,
    /// The peer keeps sending faster than its limit allows.
    RateLimited,
    /// The peer asks for what the rules here forbid; the text names the rule.
    Policy(&'static str),
    /// The peer has not said who it is, or not in a way that counts; the text says which.
    Unauthenticated(&'static str),
    /// What the peer has shown is valid no more.
    TokenExpired,
    /// The peer has no right to what it asks for; the text says so.
    Forbidden(&'static str),
    /// The peer leaves too much of what it asked for unread.
    Slow,
    /// Events are missing, and the peer's transport has no way to say so in-band, or its topic's policy is to close: it
    /// is to come back and resume.
    Gap(GapReason),
    /// The hub is at a limit of its own; the peer may come back; the text names the limit.
    TryLater(&'static str),
    /// The hub shuts down.
    Restart,
    /// A contradiction of our own.
    Internal(&'static str),
}

impl Close {
    /// The HTTP status of the answer that precedes the end, where there is one.
    pub fn http_status(self) -> Option<u16> {
        match self {
            Self::Done | Self::PeerClosed(_) | Self::PeerGone => None,
            Self::BadRequest(_) | Self::BadFrame(_) | Self::BadUtf8 => Some(400),
            Self::Unauthenticated(_) | Self::TokenExpired => Some(401),
            Self::Policy(_) | Self::Forbidden(_) => Some(403),
            Self::RequestTimeout => Some(408),
            Self::BodyTooLarge | Self::MessageTooBig => Some(413),
            Self::TargetTooLong => Some(414),
            Self::ExpectationFailed => Some(417),
            Self::RateLimited => Some(429),
            Self::HeadTooLarge => Some(431),
            Self::Internal(_) => Some(500),
            Self::Slow | Self::Gap(_) | Self::TryLater(_) | Self::Restart => Some(503),
        }
    }

    /// The WebSocket close code (RFC 6455 section 7.4); 4401 and 4408 are ours.
    pub fn websocket_code(self) -> u16 {
        match self {
            Self::PeerClosed(Some(code)) => code,
            Self::Done | Self::PeerClosed(None) | Self::PeerGone => 1000,
            Self::BadRequest(_) | Self::BadFrame(_) | Self::ExpectationFailed => 1002,
            Self::HeadTooLarge | Self::TargetTooLong => 1002,
            Self::BadUtf8 => 1007,
            Self::RateLimited | Self::Policy(_) | Self::Forbidden(_) | Self::RequestTimeout => 1008,
            Self::MessageTooBig | Self::BodyTooLarge => 1009,
            Self::Internal(_) => 1011,
            Self::Restart => 1012,
            Self::TryLater(_) => 1013,
            Self::Unauthenticated(_) | Self::TokenExpired => 4401,
            Self::Slow | Self::Gap(_) => 4408,
        }
    }

    /// The word for it in metrics and logs.
    pub fn label(self) -> &'static str {
        LABELS[self.index()]
    }

    /// Its place in [`LABELS`].
    pub fn index(self) -> usize {
        match self {
            Self::Done | Self::PeerClosed(_) => 0,
            Self::PeerGone => 1,
            Self::BadRequest(_) | Self::ExpectationFailed => 2,
            Self::HeadTooLarge | Self::TargetTooLong => 3,
            Self::BodyTooLarge => 4,
            Self::RequestTimeout => 5,
            Self::BadFrame(_) => 6,
            Self::BadUtf8 => 7,
            Self::MessageTooBig => 8,
            Self::RateLimited => 9,
            Self::Policy(_) => 10,
            Self::Slow => 11,
            Self::TryLater(_) => 12,
            Self::Restart => 13,
            Self::Internal(_) => 14,
            Self::Gap(_) => 15,
            Self::Unauthenticated(_) => 16,
            Self::TokenExpired => 17,
            Self::Forbidden(_) => 18,
        }
    }
}

/// The label of each variant, by [`Close::index`]. Variants that an operator need not tell apart share one.
pub const LABELS: [&str; 19] = [
    "done",
    "peer_gone",
    "bad_request",
    "head_too_large",
    "body_too_large",
    "request_timeout",
    "bad_frame",
    "bad_utf8",
    "message_too_big",
    "rate_limited",
    "policy",
    "slow",
    "try_later",
    "restart",
    "internal",
    "gap",
    "unauthenticated",
    "token_expired",
    "forbidden",
];

/// What the peer is told: one sentence, short enough for a close frame's 123 bytes.
impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done | Self::PeerClosed(_) => f.write_str("done"),
            Self::PeerGone => f.write_str("peer gone"),
            Self::BadRequest(rule) | Self::BadFrame(rule) | Self::Policy(rule) | Self::TryLater(rule) => {
                f.write_str(rule)
            }
            Self::Unauthenticated(why) | Self::Forbidden(why) => f.write_str(why),
            Self::TokenExpired => f.write_str("the token has expired"),
            Self::ExpectationFailed => f.write_str("no expectation but 100-continue can be met"),
            Self::TargetTooLong => f.write_str("the request target is too long"),
            Self::HeadTooLarge => f.write_str("the request head is too large"),
            Self::BodyTooLarge => f.write_str("the request body is too large"),
            Self::RequestTimeout => f.write_str("the request did not arrive in time"),
            Self::BadUtf8 => f.write_str("text must be UTF-8"),
            Self::MessageTooBig => f.write_str("the message is too big"),
            Self::RateLimited => f.write_str("too many messages"),
            Self::Slow => f.write_str("reads too slowly"),
            Self::Gap(reason) => write!(f, "events are missing: {reason}"),
            Self::Restart => f.write_str("the hub restarts"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}
