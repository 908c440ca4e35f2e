//! Who may do what: identities, the rights they have, and how a credential becomes an identity. Pure: files are read by
//! config, and the time is told.

mod identity;

use std::{fmt, sync::Arc};

pub use identity::{Grants, Identity};

use crate::clock::Moment;

/// How the hub knows its clients; one per process.
#[derive(Debug, Default)]
pub struct Auth {}

impl Auth {
    /// Asks nobody: whoever comes may do everything.
    pub fn open() -> Self {
        Self::default()
    }

    /// Whether a client has to show who it is.
    pub fn is_required(&self) -> bool {
        false
    }

    /// Whose token `token` is; `None` stands for a client that shows none.
    pub fn identify(&self, token: Option<&str>, now: Moment) -> Result<Option<Arc<Identity>>, Denied> {
        let _ = (token, now);
        Ok(None)
    }
}

/// Why a client is not let in, or not to what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// It shows nothing.
    Missing,
    /// What it shows is not valid, whatever is wrong with it.
    Invalid,
    /// What it shows was valid once.
    Expired,
    /// It is known, but has no right to what it asks for.
    Forbidden,
}

impl Denied {
    /// 401, or 403 if signing in again would not help (RFC 9110 sections 15.5.2 and 15.5.4).
    pub fn status(self) -> u16 {
        if self == Self::Forbidden { 403 } else { 401 }
    }

    /// The word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Invalid => "token_invalid",
            Self::Expired => "token_expired",
            Self::Forbidden => "forbidden",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a token is needed: Authorization: Bearer TOKEN, or ?token=TOKEN",
            Self::Invalid => "the token is not valid here",
            Self::Expired => "the token has expired",
            Self::Forbidden => "this token gives no right to that",
        })
    }
}
