//! Why a connection ended.

use std::fmt;

/// Why a connection ended, or an attempt at one. The text never holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection could be made.
    Unreachable(String),
    /// The server does not let the hub in.
    Rejected(String),
    /// The server's permissions deny the hub the subject of its probes, without which nothing is ever confirmed.
    ProbeDenied(String),
    /// The connection ended; the server's last error, if it said one.
    Closed(Option<String>),
    /// What the server sends is not the protocol.
    Broken(String),
    /// It said nothing for too long.
    Silent,
}

impl Fault {
    /// Whether the server does not take the login.
    pub(super) fn is_refused_login(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether it stays until somebody changes something at the server, or in the hub's configuration.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::ProbeDenied(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot connect: {why}"),
            Self::Rejected(answer) => write!(f, "the server refuses: {answer}"),
            Self::ProbeDenied(answer) => {
                write!(f, "the server's permissions deny the hub its inbox (nats.inbox_prefix): {answer}")
            }
            Self::Closed(None) => f.write_str("the server closed the connection"),
            Self::Closed(Some(last)) => write!(f, "the server closed the connection: {last}"),
            Self::Broken(why) => write!(f, "the server does not keep to the protocol: {why}"),
            Self::Silent => f.write_str("the server does not answer"),
        }
    }
}
