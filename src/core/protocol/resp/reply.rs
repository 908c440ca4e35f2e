//! Replies of a server, as borrowed values.

use std::fmt;

/// One reply of any type. Borrows from the bytes it was parsed from.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `+`: a status.
    Simple(&'a str),
    /// `-` or `!`: an error; its first word is the code.
    Error(&'a str),
    /// `:`: a signed number.
    Integer(i64),
    /// `$`: a binary string; `None` is RESP2's null string.
    Bulk(Option<&'a [u8]>),
    /// `*`: an ordered list.
    Array(Vec<Self>),
    /// `>`: out-of-band data (RESP3).
    Push(Vec<Self>),
    /// `%`: pairs in the order in which they came (RESP3).
    Map(Vec<(Self, Self)>),
    /// `~`: an unordered list (RESP3).
    Set(Vec<Self>),
    /// `_`, and RESP2's null array.
    Null,
    /// `#` (RESP3).
    Boolean(bool),
    /// `,` (RESP3).
    Double(f64),
    /// `(`: a number of any size, as its digits (RESP3).
    BigNumber(&'a str),
    /// `=`: text with its three-letter format, such as `txt` (RESP3).
    Verbatim {
        /// Three letters.
        format: &'a str,
        /// What follows the colon.
        text: &'a [u8],
    },
}

/// What arrives on a connection that subscribes, by kind. Sharded subscriptions are reported like others.
#[derive(Clone, Debug, PartialEq)]
pub enum Push<'a> {
    /// Something was published to a subscribed channel.
    Message { channel: &'a [u8], payload: &'a [u8] },
    /// Something was published to a channel that a subscribed pattern matches.
    PatternMessage {
        /// The pattern that matched.
        pattern: &'a [u8],
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// A channel is subscribed from here on.
    Subscribed {
        channel: &'a [u8],
        /// How many subscriptions the connection has now.
        count: i64,
    },
    /// A channel is no longer subscribed.
    Unsubscribed {
        channel: &'a [u8],
        /// How many subscriptions the connection has left.
        count: i64,
    },
    /// A pattern is subscribed from here on.
    PatternSubscribed {
        pattern: &'a [u8],
        /// How many subscriptions the connection has now.
        count: i64,
    },
    /// A pattern is no longer subscribed.
    PatternUnsubscribed {
        pattern: &'a [u8],
        /// How many subscriptions the connection has left.
        count: i64,
    },
    /// Anything else: the answer to `HELLO` or `PING`, an error, an unsubscribe from nothing.
    Other(Reply<'a>),
}

/// Why bytes are not a reply within the [`RespLimits`](super::RespLimits). The connection cannot be used any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReply {
    /// A first byte that names no type.
    UnknownType(u8),
    /// A length that is no number, or negative where none may be.
    BadLength,
    /// A number, boolean, double or null that does not read as one.
    BadValue,
    /// A line or a string that does not end with CR LF.
    MissingLineEnd,
    /// A status or error that is not UTF-8.
    NotUtf8,
    /// A line over `line_bytes_max`.
    LineTooLong,
    /// A string over `bulk_bytes_max`.
    BulkTooLong,
    /// More elements than `elements_max`.
    TooManyElements,
    /// Deeper than `depth_max`.
    TooDeep,
}

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => write!(f, "no RESP type begins with `{}`", byte.escape_ascii()),
            Self::BadLength => f.write_str("a length does not read as one"),
            Self::BadValue => f.write_str("a value does not read as its type"),
            Self::MissingLineEnd => f.write_str("CR LF is missing"),
            Self::NotUtf8 => f.write_str("a status or error is not UTF-8"),
            Self::LineTooLong => f.write_str("a line is over its limit"),
            Self::BulkTooLong => f.write_str("a string is over its limit"),
            Self::TooManyElements => f.write_str("a reply has too many elements"),
            Self::TooDeep => f.write_str("a reply is nested too deeply"),
        }
    }
}

impl std::error::Error for BadReply {}
