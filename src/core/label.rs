//! Values of metric labels, as types: one that is not listed here cannot be counted, under its own name or another's.

use std::fmt;

/// An enum whose variants are the values of one label.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, by index.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// The label's value.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

labels! {
    /// What a request was for, in `fanfare_http_requests_total`.
    RouteLabel {
        /// Native Server-Sent Events.
        Sse = "sse",
        WebSocket = "ws",
        /// Native publications.
        Publish = "publish",
        /// Topics: lists and single ones.
        Topics = "topics",
        /// Retained events of a topic.
        History = "history",
        /// The event streaming service's API.
        Events = "events",
        /// Pods' changes.
        Pods = "pods",
        /// Whether the process is well.
        Health = "health",
        /// Whether the hub is ready.
        Ready = "ready",
        Stats = "stats",
        /// Figures for Prometheus.
        Metrics = "metrics",
        /// The page at `/`.
        Index = "index",
        /// Engine.IO and Socket.IO.
        SocketIo = "socketio",
        /// Wells' event streams.
        Wells = "wells",
        /// Signing in and out.
        Auth = "auth",
        Telemetry = "telemetry",
        Alerts = "alerts",
        Diagnostics = "diagnostics",
        /// No route has the path, or there is no path: the request could not be read to its end.
        Other = "other",
    }
}

labels! {
    /// Why a client was not let in, or not to what it asked for, in `fanfare_auth_failures_total`.
    AuthFailure {
        /// No token came.
        TokenMissing = "token_missing",
        /// The token is not valid.
        TokenInvalid = "token_invalid",
        /// The token was valid once.
        TokenExpired = "token_expired",
        /// The token's user has no access any more.
        UserRevoked = "user_revoked",
        /// The client has no right to what it asks for.
        Forbidden = "forbidden",
        /// The password, or the user, is wrong.
        BadPassword = "bad_password",
        /// Too many logins failed.
        TooManyFailures = "too_many_failures",
        /// Too many tokens that are not valid, or too many fresh ones.
        TooManyTokens = "too_many_tokens",
        /// The key of the token is not known yet.
        KeysPending = "keys_pending",
        /// A cookie came, and nothing that proves that a page of the hub's own sent it.
        CookieRefused = "cookie_refused",
        /// A page of an origin that is not named asked for what nobody has to sign in for.
        OriginRefused = "origin_refused",
        /// The request was for a host that the hub does not have.
        HostRefused = "host_refused",
    }
}

/// An HTTP status as a label. Each has a series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusLabel(u16);

impl StatusLabel {
    /// How many there are: 100 to 599 (RFC 9110 section 15).
    pub const COUNT: usize = 500;

    /// The label of `status`. A number that is no status is the hub's own mistake, and so counted as 500.
    pub fn new(status: u16) -> Self {
        debug_assert!((100..600).contains(&status), "{status} is no status");
        Self(if (100..600).contains(&status) { status } else { 500 })
    }

    /// The label at `index`, below [`StatusLabel::COUNT`].
    pub fn at(index: usize) -> Self {
        Self::new(u16::try_from(index + 100).unwrap_or(500))
    }

    /// Its place among all of them.
    pub fn index(self) -> usize {
        usize::from(self.0) - 100
    }
}

/// The label's value.
impl fmt::Display for StatusLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_value_is_its_own() {
        let routes = RouteLabel::ALL.map(RouteLabel::label);
        assert_eq!(HashSet::from(routes).len(), routes.len());
        let failures = AuthFailure::ALL.map(AuthFailure::label);
        assert_eq!(HashSet::from(failures).len(), failures.len());
        (100..600).for_each(|status| assert_eq!(StatusLabel::new(status).to_string(), status.to_string()));
        (0..StatusLabel::COUNT).for_each(|index| assert_eq!(StatusLabel::at(index).index(), index));
    }
}
