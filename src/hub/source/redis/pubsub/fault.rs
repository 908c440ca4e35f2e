//! Why a connection ended.

use std::fmt;

use crate::source::redis::{Unfit, error_codes::is_refusal};

/// Why a session, or an attempt at one, ended. The text never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection could be made.
    Unreachable(String),
    /// The connection failed.
    Broken(String),
    /// The server closed it.
    Closed,
    /// The server does not let us in, or cannot serve at present.
    Rejected(String),
    /// Bytes that are no RESP, or an answer to nothing.
    BadReply(String),
    /// It said nothing for too long.
    Silent,
    /// It is not one that the hub may use: a replica, or a sentinel.
    Unfit(Unfit),
    /// The sentinels agree on another server.
    Outdated,
    /// It knows no sharded Pub/Sub. The text says what it is.
    TooOld(String),
}

impl Fault {
    /// Whether the server does not take the login.
    pub(super) fn is_refused_login(&self) -> bool {
        matches!(self, Self::Rejected(answer) if is_refusal(answer))
    }

    /// Whether it stays until somebody changes something at the server, or in the hub's configuration.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Rejected(answer) => {
                ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED"].iter().any(|code| answer.starts_with(code))
            }
            Self::Unfit(unfit) => *unfit != Unfit::Detached,
            Self::TooOld(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot connect: {why}"),
            Self::Broken(why) => write!(f, "the connection failed: {why}"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Rejected(answer) => write!(f, "the server refuses: {answer}"),
            Self::BadReply(why) => write!(f, "the server does not speak Redis's protocol: {why}"),
            Self::Silent => f.write_str("the server does not answer"),
            Self::Outdated => f.write_str("the sentinels name another server as the master"),
            Self::Unfit(unfit) => unfit.fmt(f),
            Self::TooOld(what) => write!(
                f,
                "sharded Pub/Sub needs Redis 7.0 or later, and {what}: upgrade it, or set redis.cluster_pubsub to \"classic\""
            ),
        }
    }
}
