//! The key set of an identity provider: where it is, and when it is worth to be fetched. Who fetches it, on a thread of its own, is
//! `crate::jwks`; reactors only ask for it here, and wait for nothing.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use core::net::IpAddr;

use super::{
    AccessDenied, Algorithm, AuthSettings, Fingerprint, jwks,
    keys::{KeyError, VerificationKeys},
};
use crate::clock::Moment;

/// The keys `auth.discovery` and `auth.jwks_…`, but for `auth.jwks_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetSettings {
    /// Where the set is. Empty: nowhere, unless `discovery` finds it.
    pub url: String,
    /// Whether the issuer's metadata say where the set is (OpenID Connect Discovery 1.0).
    pub discovery: bool,
    /// The authorities to trust, in place of the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long a set is used before it is fetched again. A server may ask for less.
    pub refresh: Duration,
    /// The least time between two fetches.
    pub interval_min: Duration,
    /// How long a fetch may take in all.
    pub timeout: Duration,
    /// The largest set, in bytes.
    pub bytes_max: usize,
    /// Ids of unknown keys that are remembered.
    pub unknown_max: usize,
}

impl Default for KeySetSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            discovery: false,
            ca_file: None,
            refresh: Duration::from_secs(600),
            interval_min: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            bytes_max: 256 * 1024,
            unknown_max: 1000,
        }
    }
}

impl KeySetSettings {
    /// Whether there is a set to fetch.
    pub fn is_used(&self) -> bool {
        self.discovery || !self.url.is_empty()
    }

    /// The key that says that a set is to be fetched.
    pub(super) fn key(&self) -> &'static str {
        if self.discovery { "auth.discovery" } else { "auth.jwks_url" }
    }

    /// Checks it together with the other settings.
    pub(super) fn check(&self, settings: &AuthSettings) -> Result<(), KeyError> {
        if !self.is_used() {
            return Ok(());
        }
        if self.discovery && !self.url.is_empty() {
            return Err(("auth.discovery", "auth.jwks_url says where the key set is: keep one of the two".into()));
        }
        if settings.issuer.is_empty() {
            let message = format!("{} needs it: providers sign for many issuers with the same keys", self.key());
            return Err(("auth.issuer", message));
        }
        if self.discovery {
            check_url(&settings.issuer).map_err(|wrong| ("auth.issuer", format!("for auth.discovery, {wrong}")))?;
        } else {
            check_url(&self.url).map_err(|wrong| ("auth.jwks_url", wrong))?;
        }
        if settings.algorithms.iter().all(|algorithm| algorithm.is_symmetric()) {
            let message = format!(
                "{} needs an algorithm with public keys: RS256, which most providers use, ES256 or EdDSA",
                self.key()
            );
            return Err(("auth.algorithms", message));
        }
        Ok(())
    }
}

/// Fails unless `url` is an HTTPS URL, or an HTTP URL on this machine: who could change the set on its way could sign any token.
pub fn check_url(url: &str) -> Result<(), String> {
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has a blank or a letter that no URL has".into());
    }
    let (scheme, rest) = url.split_once("://").ok_or("it is no URL: write https://host/path")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err("it holds a login, which a public key set needs not: leave it out".into());
    }
    match scheme {
        _ if host.is_empty() => Err("it names no host".into()),
        "https" => Ok(()),
        "http" if is_loopback(host) => Ok(()),
        "http" => Err("who could change the keys on their way could sign any token: write https://".into()),
        _ => Err("it begins neither with https:// nor, on this machine, with http://".into()),
    }
}

fn is_loopback(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A key set as a provider has given it.
#[derive(Debug, Default)]
pub struct FetchedKeys(pub(super) VerificationKeys);

impl FetchedKeys {
    /// Parses the key set `text`, of which keys for `algorithms` are taken. A set without any is an error.
    pub fn parse(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        jwks::read(text, algorithms).map(|keys| Self(VerificationKeys::of(keys)))
    }

    /// The number of keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// What clients ask of the thread that fetches. Shared by all reactors.
#[derive(Debug)]
pub struct KeyRequests {
    unknown_max: usize,
    /// How long an id that a set did not have is not asked for again.
    memory: Duration,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Ids of keys, hashed, and when a client first showed a token with it.
    unknown: HashMap<Fingerprint, Moment>,
    is_wanted: bool,
    /// When the fetch of the newest set began; `None`: there was no set yet.
    fetched: Option<Moment>,
}

impl KeyRequests {
    pub(super) fn new(settings: &KeySetSettings) -> Self {
        let KeySetSettings { unknown_max, refresh, .. } = *settings;
        Self { unknown_max, memory: refresh, state: Mutex::default(), wanted: Condvar::new() }
    }

    /// A client shows a token whose key, with this id, is in no set. Returns the error for it: to come back while the next set may have
    /// the key, or that the token is invalid once a set that was fetched later did not have it either.
    pub(super) fn on_unknown(&self, id: Option<&str>, now: Moment) -> AccessDenied {
        let mut state = self.state();
        let Some(fetched) = state.fetched else { return AccessDenied::KeysPending };
        let Some(id) = id.map(|id| Fingerprint::of(id.as_bytes())) else { return AccessDenied::Invalid };
        match state.unknown.get(&id) {
            Some(asked) if *asked < fetched => return AccessDenied::Invalid,
            Some(_) => {}
            // A flood of ids that somebody makes up. What is remembered is looked for already.
            None if self.unknown_max <= state.unknown.len() => return AccessDenied::Invalid,
            None => {
                state.unknown.insert(id, now);
            }
        }
        state.is_wanted = true;
        self.wanted.notify_one();
        AccessDenied::KeysPending
    }

    /// An operator wants another set.
    pub(super) fn fetch_again(&self) {
        self.state().is_wanted = true;
        self.wanted.notify_one();
    }

    /// There is a set whose fetch began at `began`.
    pub(super) fn on_fetched(&self, began: Moment) {
        let mut state = self.state();
        state.fetched = Some(began);
        // What came during the fetch may be in the next set. What is old may have come to be.
        state.unknown.retain(|_, asked| began <= *asked || began.since(*asked) < self.memory);
    }

    /// Waits until a client or an operator wants another set, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let waited = self.wanted.wait_timeout_while(self.state(), timeout, |state| !state.is_wanted);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_wanted = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
