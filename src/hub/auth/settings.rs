//! Settings of the section `auth`, without secrets.

use std::{fmt, str::FromStr, time::Duration};

use super::{Algorithm, ClaimRule, KeySetSettings};

/// The keys of the section `auth` that are neither secrets nor files.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSettings {
    /// Whether clients must authenticate.
    pub mode: Mode,
    /// The algorithms that tokens may be signed with. The hub signs with the first one that it has a key for.
    pub algorithms: Vec<Algorithm>,
    /// The required issuer of tokens (`iss`). Empty: any.
    pub issuer: String,
    /// The required audience of tokens (`aud`). Empty: any.
    pub audience: String,
    /// The tolerated difference between the clocks of issuers and of the hub.
    pub leeway: Duration,
    /// The key set of an identity provider.
    pub key_set: KeySetSettings,
    /// What claims of other issuers' tokens give, in addition to the hub's own claims.
    pub rules: Vec<ClaimRule>,
    /// Patterns that `rules` may give one token. A token with more is refused.
    pub rule_patterns_max: usize,
    /// The largest token, in bytes.
    pub token_bytes_max: usize,
    /// Memory for verified tokens that are kept for the next request, in bytes.
    pub cache_bytes: usize,
    /// How long a token that the hub issues is valid.
    pub token_ttl: Duration,
    /// How long after signing in a user's token may be replaced by a fresh one.
    pub session_age_max: Duration,
    /// Tokens with a wrong signature per second from one address. 0: no limit.
    pub token_failures_max: usize,
    /// Invalid tokens per second on one connection. 0: no limit.
    pub token_failures_per_connection_max: usize,
    /// Fresh tokens per second for one user. 0: no limit.
    pub refreshes_max: usize,
    /// How long a WebSocket may take to authenticate by a command.
    pub sign_in_timeout: Duration,
    /// Failed sign-ins of one user from one address within `login_failure_window`.
    pub login_failures_max: usize,
    /// Failed sign-ins from one address within `login_failure_window`, with any user names. 0: no limit.
    pub login_failures_per_address_max: usize,
    /// Failed sign-ins of one user within `login_failure_window` from all addresses that are not known for it. 0: no limit.
    pub login_failures_per_user_max: usize,
    /// The window in which failed sign-ins are counted.
    pub login_failure_window: Duration,
    /// How long an address is known for a user after the last sign-in from there. Zero: not at all.
    pub login_address_memory: Duration,
    /// Threads that check passwords.
    pub login_threads: usize,
    /// Sign-ins that may wait for these threads.
    pub login_queue_max: usize,
    /// How long a sign-in may wait for these threads.
    pub login_wait_max: Duration,
    /// Whether each sign-in sets a cookie, also one that does not ask for it.
    pub cookie: bool,
    /// Whether the cookie has the attribute Secure.
    pub cookie_secure: bool,
    /// The cookie's attribute SameSite.
    pub cookie_same_site: SameSite,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            mode: Mode::None,
            algorithms: vec![Algorithm::Hs256],
            issuer: String::new(),
            audience: String::new(),
            leeway: Duration::ZERO,
            key_set: KeySetSettings::default(),
            rules: Vec::new(),
            rule_patterns_max: 1000,
            token_bytes_max: 8 * 1024,
            cache_bytes: 4 * 1024 * 1024,
            token_ttl: Duration::from_secs(3600),
            session_age_max: Duration::from_secs(24 * 3600),
            token_failures_max: 20,
            token_failures_per_connection_max: 20,
            refreshes_max: 5,
            sign_in_timeout: Duration::from_secs(5),
            login_failures_max: 5,
            login_failures_per_address_max: 30,
            login_failures_per_user_max: 100,
            login_failure_window: Duration::from_secs(60),
            login_address_memory: Duration::from_secs(30 * 24 * 3600),
            login_threads: 1,
            login_queue_max: 64,
            login_wait_max: Duration::from_secs(10),
            cookie: false,
            cookie_secure: true,
            cookie_same_site: SameSite::Strict,
        }
    }
}

/// Whether clients must authenticate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// No authentication: every client may do everything.
    #[default]
    None,
    /// Clients show a token or an API key.
    Jwt,
}

/// Which requests from other sites carry the cookie (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    #[default]
    Strict,
    /// Only requests that navigate to the hub.
    Lax,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "jwt" => Ok(Self::Jwt),
            _ => Err("the mode is `none` or `jwt`"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Jwt => "jwt",
        })
    }
}

impl FromStr for SameSite {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "strict" => Ok(Self::Strict),
            "lax" => Ok(Self::Lax),
            _ => Err("write `strict` or `lax`"),
        }
    }
}

impl fmt::Display for SameSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Lax => "lax",
        })
    }
}
