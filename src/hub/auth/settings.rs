//! What the configuration says on sign-in, apart from secrets.

use std::{fmt, str::FromStr, time::Duration};

use super::Algorithm;

/// The keys of the section `auth` that are no secrets and no files.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSettings {
    /// Whether clients have to say who they are.
    pub mode: Mode,
    /// The algorithms that tokens may be signed with. The first one that there is a key for signs the hub's own.
    pub algorithms: Vec<Algorithm>,
    /// Who must have made a token (`iss`); empty: anybody who has the key.
    pub issuer: String,
    /// For whom a token must be (`aud`); empty: for anybody.
    pub audience: String,
    /// How far the clocks of issuers may be apart from the hub's.
    pub leeway: Duration,
    /// The longest token, in bytes.
    pub token_bytes_max: usize,
    /// What checked tokens that are kept for the next request may occupy, in bytes.
    pub cache_bytes: usize,
    /// How long a token is valid that the hub makes.
    pub token_ttl: Duration,
    /// For how long after its password a user may have its token replaced by a fresh one.
    pub session_age_max: Duration,
    /// Tokens with a wrong signature that one address may show within a second; zero: no limit.
    pub token_failures_max: usize,
    /// Tokens that are not good which one connection may show within a second; zero: no limit.
    pub token_failures_per_connection_max: usize,
    /// Fresh tokens that one user may be given within a second; zero: no limit.
    pub refreshes_max: usize,
    /// How long a WebSocket may take to sign in by a command.
    pub sign_in_timeout: Duration,
    /// Failed logins of one user from one address within `login_failure_window`, after which there are no more.
    pub login_failures_max: usize,
    /// Failed logins from one address within that window, whatever the users; zero: no limit.
    pub login_failures_per_address_max: usize,
    /// Failed logins of one user within that window, from all addresses that are not known for the user; zero: no limit.
    pub login_failures_per_user_max: usize,
    /// For how long failed logins count.
    pub login_failure_window: Duration,
    /// For how long an address counts as known for a user after the last sign-in from there; zero: none does.
    pub login_address_memory: Duration,
    /// Threads that check passwords.
    pub login_threads: usize,
    /// Logins that may wait for these.
    pub login_queue_max: usize,
    /// For how long a login may wait for these.
    pub login_wait_max: Duration,
    /// Whether a login sets a cookie although it does not ask for one.
    pub cookie: bool,
    /// Whether the cookie is sent over TLS only.
    pub cookie_secure: bool,
    /// Whether the cookie comes along from other sites.
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

/// Whether clients have to say who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whoever comes may do everything.
    #[default]
    None,
    /// By a token or an API key.
    Jwt,
}

/// Which requests from other sites carry the cookie (RFC 6265bis section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    #[default]
    Strict,
    /// Only those that lead a person to the hub.
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
