//! Authentication and authorization: credentials, the identities they stand for, and their rights. Pure: `config` reads the
//! files, and the time is an argument.
//!
//! A token is verified with a configured key and the algorithm of that key. Its claims are the client's rights, with one
//! exception: a token from the hub's own login (it has the claim `fanfare_login`) has the rights that the users file gives
//! its user now. So a user who is removed from that file, or disabled in it, is refused before the token expires, and tokens
//! of other issuers need no entry in it. Other claims of theirs give rights by `[[auth.rule]]` tables (`mapping.rs`).

mod access_denied;
mod algorithm;
mod api_keys;
mod cache;
mod claims;
mod counters;
mod explain;
mod fair_queue;
mod grants;
mod identity;
mod jwks;
mod key_set;
mod keys;
mod login;
mod mapping;
mod passwords;
mod quota;
mod revocation;
mod rsa;
mod rules;
mod settings;
mod signatures;
#[cfg(test)]
mod tests;
mod throttle;
mod users;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use access_denied::AccessDenied;
pub use algorithm::Algorithm;
pub use api_keys::ApiKey;
pub use claims::{Audience, Claims};
pub use grants::Grants;
pub use identity::Identity;
pub use key_set::{FetchedKeys, KeyRequests, KeySetSettings, check_url};
pub use login::{IssuedToken, LoginRefused};
pub use mapping::{ClaimRule, PatternTemplate};
pub use passwords::{PasswordWork, hash_password};
pub use quota::{PublishRequest, PublishTotals, QuotaConfig, QuotaRule, Quotas, Requester, TenantSelector};
pub use revocation::{Credential, Fingerprint};
pub use rules::{AuthRules, Secrets};
use rules::{Unverified, Verified};
pub use settings::{AuthSettings, Mode, SameSite};
pub use signatures::{ConnectionId, TokenOrigin};
pub use throttle::LoginLimit;

use crate::clock::Moment;
use cache::TokenCache;
use signatures::{SignatureConfig, SignatureLimits};
use throttle::{LoginThrottle, LoginThrottleLimits};

/// Authenticates clients. Clones share all state.
#[derive(Clone, Debug)]
pub struct Auth(Arc<AuthState>);

#[derive(Debug)]
struct AuthState {
    /// The settings at the start: a reload does not change them.
    settings: AuthSettings,
    /// Replaced only while the cache is locked, so that the cache holds no identity by former rules.
    rules: RwLock<Arc<AuthRules>>,
    /// The generation of `rules`, or of the former ones while they are being replaced.
    generation: AtomicU64,
    cache: Mutex<TokenCache>,
    throttle: Mutex<LoginThrottle>,
    signatures: Mutex<SignatureLimits>,
    passwords: PasswordWork,
    key_requests: KeyRequests,
    /// The wall clock's time at [`Moment`] zero, in nanoseconds since 1970.
    epoch_unix_ns: AtomicU64,
}

impl Default for Auth {
    fn default() -> Self {
        Self::open()
    }
}

impl Auth {
    /// Without authentication: every client may do everything.
    pub fn open() -> Self {
        Self::new(Arc::default(), Moment(0), Duration::ZERO)
    }

    /// Authenticates by `rules`. `unix` is the wall clock at `now`, since 1970.
    pub fn new(rules: Arc<AuthRules>, now: Moment, unix: Duration) -> Self {
        let settings = rules.settings().clone();
        let limits = LoginThrottleLimits {
            per_pair: settings.login_failures_max,
            per_address: settings.login_failures_per_address_max,
            per_user: settings.login_failures_per_user_max,
            window: settings.login_failure_window,
            known_for: settings.login_address_memory,
        };
        let signatures = SignatureConfig {
            wrong_per_address: settings.token_failures_max,
            failed_per_connection: settings.token_failures_per_connection_max,
            made_per_user: settings.refreshes_max,
        };
        let auth = Self(Arc::new(AuthState {
            cache: Mutex::new(TokenCache::new(settings.cache_bytes)),
            throttle: Mutex::new(LoginThrottle::new(limits)),
            signatures: Mutex::new(SignatureLimits::new(signatures)),
            passwords: PasswordWork::new(settings.login_queue_max, settings.login_wait_max),
            key_requests: KeyRequests::new(&settings.key_set),
            epoch_unix_ns: AtomicU64::new(0),
            generation: AtomicU64::new(rules.generation),
            rules: RwLock::new(rules),
            settings,
        }));
        auth.set_clock(now, unix);
        auth
    }

    /// Sets the wall clock: `unix` since 1970 at `now`. To be called again from time to time, because a wall clock may be set.
    pub fn set_clock(&self, now: Moment, unix: Duration) {
        let unix_ns = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        self.0.epoch_unix_ns.store(unix_ns.saturating_sub(now.0), Ordering::Relaxed);
    }

    /// Whether clients must authenticate.
    pub fn is_required(&self) -> bool {
        self.settings().mode == Mode::Jwt
    }

    /// The configured settings, without secrets.
    pub fn settings(&self) -> &AuthSettings {
        &self.0.settings
    }

    /// Replaces keys, users, API keys and the deny list by those of `rules`, and asks for the identity provider's key set again; the
    /// settings stay as at the start. Identities from before have another [generation](Self::generation).
    pub fn replace(&self, rules: &AuthRules) {
        let mut cache = self.cache();
        self.put_in_force(rules.after(&self.rules()), &mut cache);
        drop(cache);
        self.throttle().retain_users(|user| rules.users.find(user).is_some());
        self.0.key_requests.fetch_again();
    }

    /// Replaces the keys of the identity provider's set by those of `fetched`, whose fetch began at `began`. Returns whether they are
    /// others: then identities have another [generation](Self::generation).
    pub fn replace_fetched(&self, fetched: FetchedKeys, began: Moment) -> bool {
        let mut cache = self.cache();
        let rules = self.rules();
        let is_new = !rules.fetched.is_same(&fetched.0);
        if is_new {
            self.put_in_force(rules.with_fetched(fetched), &mut cache);
        }
        drop(cache);
        self.0.key_requests.on_fetched(began);
        is_new
    }

    /// What clients ask of the thread that fetches the identity provider's key set.
    pub fn key_requests(&self) -> &KeyRequests {
        &self.0.key_requests
    }

    /// The algorithms in force.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        self.rules().settings.algorithms.clone()
    }

    fn put_in_force(&self, next: AuthRules, cache: &mut TokenCache) {
        let generation = next.generation;
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        // Whoever sees it finds the rules in force.
        self.0.generation.store(generation, Ordering::Release);
        *cache = TokenCache::new(self.settings().cache_bytes);
    }

    /// The identity of `token`, a token or an API key that `origin` has shown; `None` for a client that shows none. An address with
    /// too many wrong signatures, or a connection with too many invalid tokens, is refused for the rest of the second, except
    /// with tokens that were verified lately: these cost no signature.
    pub fn identify(
        &self,
        token: Option<&str>,
        origin: impl Into<TokenOrigin>,
        now: Moment,
    ) -> Result<Option<Arc<Identity>>, AccessDenied> {
        if !self.is_required() {
            return Ok(None);
        }
        let token = token.filter(|token| !token.is_empty()).ok_or(AccessDenied::Missing)?;
        if self.settings().token_bytes_max < token.len() {
            return Err(AccessDenied::Invalid);
        }
        let rules = self.rules();
        if let Some(identity) = rules.api_keys.identify(token) {
            return rules.denied.check(&identity).map(|()| Some(identity));
        }
        if let Some(identity) = self.cache().find(token, now) {
            return Ok(Some(identity));
        }
        let origin = origin.into();
        self.signatures().may_check(origin, now)?;
        let checked = self.check(&rules, token, now);
        let identity = Arc::new(checked.map_err(|denied| self.signatures().on_failed(origin, denied, now))?);
        let mut cache = self.cache();
        if Arc::ptr_eq(&rules, &self.rules()) {
            cache.keep(token.into(), Arc::clone(&identity));
        }
        Ok(Some(identity))
    }

    /// Whether `connection` has shown so many invalid tokens that no more are verified now.
    pub fn has_spent(&self, connection: ConnectionId, now: Moment) -> bool {
        self.is_required() && self.signatures().has_spent(Some(connection), now)
    }

    /// The connection `from` has moved to another reactor and is `to` there: its counts move with it.
    pub fn follow(&self, from: ConnectionId, to: ConnectionId, now: Moment) {
        if self.is_required() {
            self.signatures().follow(from, to, now);
        }
    }

    /// The identity of the API key `key`.
    pub fn identify_key(&self, key: &str) -> Result<Arc<Identity>, AccessDenied> {
        let rules = self.rules();
        let identity = rules.api_keys.identify(key).ok_or(AccessDenied::Invalid)?;
        rules.denied.check(&identity).map(|()| identity)
    }

    /// Verifies a token that is not in the cache.
    fn check(&self, rules: &AuthRules, token: &str, now: Moment) -> Result<Identity, AccessDenied> {
        let AuthRules { settings, users, .. } = rules;
        let Verified { mut claims, key, is_fetched } = self.verify(rules, token, now)?;
        claims.check(settings, self.unix_s(now))?;
        let expires = self.moment_of(claims.exp + settings.leeway.as_secs_f64());
        let credential = Credential::Token { key, id: claims.jti.take().map(Box::from) };
        let (issuer, key_id) = (claims.iss.take().map(Box::from), rules.key_id(key).map(Box::from));
        // Whatever other issuers say, they know nothing of logins here.
        let identity = match claims.fanfare_login.filter(|_| !is_fetched) {
            None => rules.identify(claims, rules.payload(token), expires)?,
            Some(login_unix_s) => {
                let user = users.find(&claims.sub).filter(|user| !user.is_disabled).ok_or(AccessDenied::Revoked)?;
                user.identify(&claims.sub, login_unix_s, expires)
            }
        };
        let identity = Identity { credential, issuer, key_id, generation: rules.generation, ..identity };
        rules.denied.check(&identity).map(|()| identity)
    }

    /// The claims of `token`, if a key that is known has signed it. Where another key set may have the key, it is asked for.
    fn verify(&self, rules: &AuthRules, token: &str, now: Moment) -> Result<Verified, AccessDenied> {
        rules.verify(token).map_err(|unknown| match unknown {
            Unverified::Invalid => AccessDenied::Invalid,
            // Only where it would be valid with the right signature.
            Unverified::UnknownKey(claims, id) => match claims.check(&rules.settings, self.unix_s(now)) {
                Ok(()) => self.0.key_requests.on_unknown(id.as_deref(), now),
                Err(_) => AccessDenied::Invalid,
            },
        })
    }

    fn rules(&self) -> Arc<AuthRules> {
        Arc::clone(&self.0.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signatures(&self) -> MutexGuard<'_, SignatureLimits> {
        self.0.signatures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock at `now`, in seconds since 1970.
    fn unix_s(&self, now: Moment) -> f64 {
        let epoch_ns = self.0.epoch_unix_ns.load(Ordering::Relaxed);
        Duration::from_nanos(epoch_ns.saturating_add(now.0)).as_secs_f64()
    }

    /// The moment of `unix_s` (seconds since 1970), by the wall clock as it is set now.
    fn moment_of(&self, unix_s: f64) -> Moment {
        let unix = Duration::try_from_secs_f64(unix_s.max(0.0)).unwrap_or(Duration::MAX);
        let unix_ns = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        Moment(unix_ns.saturating_sub(self.0.epoch_unix_ns.load(Ordering::Relaxed)))
    }
}
