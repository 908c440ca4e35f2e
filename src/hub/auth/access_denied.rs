//! Why a client is refused.

use std::fmt;

use crate::{close::Close, label::AuthFailure};

/// Why a client, or what it asks for, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessDenied {
    /// The client shows no credential.
    Missing,
    /// The client shows only a cookie, and its browser does not say that the request is from a page that may use it.
    Cookie,
    /// The request is from a page whose origin may not use a hub without authentication.
    ForeignPage,
    /// The request names another host, at a hub without authentication.
    ForeignHost,
    /// The credential is not valid, for whatever reason.
    Invalid,
    /// The credential has expired.
    Expired,
    /// The credential was revoked: its user or its key is gone, or the deny list names it.
    Revoked,
    /// The client is authenticated and has no right to what it asks for.
    Forbidden,
    /// The key that may have signed the token is not known yet: the identity provider's key set is being fetched.
    KeysPending,
    /// Too many invalid tokens from the address, or too many fresh ones for the user. It may try again later.
    TooMany,
}

impl AccessDenied {
    /// 401, 403 if signing in again would not help (RFC 9110 sections 15.5.2 and 15.5.4), 429 (RFC 6585 section 4) or 503 if the
    /// same token may do later.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden | Self::ForeignPage | Self::ForeignHost => 403,
            Self::TooMany => 429,
            Self::KeysPending => 503,
            Self::Missing | Self::Cookie | Self::Invalid | Self::Expired | Self::Revoked => 401,
        }
    }

    /// Whether the client may come back with the same credential.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Self::TooMany | Self::KeysPending)
    }

    /// The close of a stream that may not continue, or not even begin.
    pub fn close(self) -> Close {
        match self {
            Self::Expired => Close::TokenExpired,
            Self::Forbidden | Self::ForeignPage | Self::ForeignHost => Close::Forbidden(self.message()),
            Self::TooMany | Self::KeysPending => Close::TryLater(self.message()),
            Self::Missing | Self::Cookie | Self::Invalid | Self::Revoked => Close::Unauthenticated(self.message()),
        }
    }

    /// The reason in metrics.
    pub fn failure(self) -> AuthFailure {
        match self {
            Self::Missing => AuthFailure::TokenMissing,
            Self::Cookie => AuthFailure::CookieRefused,
            Self::ForeignPage => AuthFailure::OriginRefused,
            Self::ForeignHost => AuthFailure::HostRefused,
            Self::Invalid => AuthFailure::TokenInvalid,
            Self::Expired => AuthFailure::TokenExpired,
            Self::Revoked => AuthFailure::UserRevoked,
            Self::Forbidden => AuthFailure::Forbidden,
            Self::TooMany => AuthFailure::TooManyTokens,
            Self::KeysPending => AuthFailure::KeysPending,
        }
    }

    /// The reason in answers, the same as in metrics.
    pub fn code(self) -> &'static str {
        self.failure().label()
    }

    /// What the client is told: one sentence, short enough for a close frame's 123 bytes.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "a token is needed: Authorization: Bearer TOKEN, or ?token=TOKEN",
            Self::Cookie => {
                "a cookie came, but no Origin, Sec-Fetch-Site or Referer that says that a page of this host sent it"
            }
            Self::ForeignPage => {
                "pages of this origin may not use this hub: show a token, or name it in cors.allow_origins"
            }
            Self::ForeignHost => "`Host` is no name of this hub: add it to server.hosts",
            Self::Invalid => "the token is not valid here",
            Self::Expired => "the token has expired",
            Self::Revoked => "what you have shown is not valid any more",
            Self::Forbidden => "this token gives no right to that",
            Self::KeysPending => "the keys of the identity provider are being fetched; try again in a second",
            Self::TooMany => "too many tokens from here; try again in a second",
        }
    }
}

impl fmt::Display for AccessDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}
