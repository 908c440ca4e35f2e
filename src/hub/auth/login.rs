//! Signing in with a password, and the tokens that come of it.

use core::net::IpAddr;
use std::{
    fmt,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use rand::RngExt;

use super::{
    AccessDenied, Auth, AuthRules, Claims, Identity, LoginLimit, PasswordWork,
    passwords::{PASSWORD_BYTES_MAX, PasswordCheck, PasswordOutcome},
    throttle::{ClientNetwork, LoginOutcome, LoginThrottle},
    users::USERNAME_BYTES_MAX,
};
use crate::clock::Moment;

/// A token that the hub has issued.
#[derive(Clone)]
pub struct IssuedToken {
    pub token: String,
    /// How long it is valid.
    pub ttl: Duration,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedToken for {:?}", self.ttl)
    }
}

/// Why a password is not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefused {
    /// The hub has no users.
    NoUsers,
    /// The name or the password is longer than allowed.
    TooLong,
    /// Too many attempts failed: the limit that was reached, and the time after which to try again.
    TooMany(LoginLimit, Duration),
    /// Too many attempts are waiting, or this one has waited for too long.
    Busy,
}

impl Auth {
    /// Signs `user` in from `address`; `None` if the client's address is not known. Calls `reply` on another thread: with a token,
    /// with `None` if the name or the password is wrong, or with [`LoginRefused::Busy`]. An unknown name takes as long as the most
    /// expensive hash of the users file.
    pub fn log_in(
        &self,
        (user, password): (&str, String),
        address: Option<IpAddr>,
        now: Moment,
        reply: impl FnOnce(Result<Option<IssuedToken>, LoginRefused>) + Send + 'static,
    ) -> Result<(), LoginRefused> {
        let rules = self.rules();
        let users = &rules.users;
        let Some(dearest) = users.dearest() else { return Err(LoginRefused::NoUsers) };
        let known = users.find(user);
        if USERNAME_BYTES_MAX < user.len() || PASSWORD_BYTES_MAX < password.len() {
            return Err(LoginRefused::TooLong);
        }
        let network = ClientNetwork::of(address);
        let begun = self.throttle().begin(user, network, now);
        let admitted = begun.map_err(|(limit, wait)| LoginRefused::TooMany(limit, wait))?;
        let (auth, name) = (self.clone(), user.to_owned());
        let settle = move |checked: PasswordOutcome| {
            let is_right = checked == PasswordOutcome::Right;
            let minted = is_right.then(|| auth.mint_login(&name, auth.whole_unix_s(now), now)).flatten();
            let settled = match (checked, &minted) {
                (PasswordOutcome::NotTried, _) => Some(LoginOutcome::NotTried),
                (_, Some(_)) => Some(LoginOutcome::SignedIn),
                (_, None) => None,
            };
            if let Some(settled) = settled {
                auth.throttle().settle(&name, network, admitted, settled, now);
            }
            reply(if checked == PasswordOutcome::NotTried { Err(LoginRefused::Busy) } else { Ok(minted) });
        };
        let check = PasswordCheck {
            password,
            hash: known.unwrap_or(dearest).password_hash.clone(),
            may_enter: known.is_some_and(|user| !user.is_disabled) && !rules.denied.names_subject(user),
            dearest: dearest.cost,
            reply: Box::new(settle),
        };
        if let Some(left_out) = self.0.passwords.submit(check, admitted, now) {
            left_out.give_up();
        }
        Ok(())
    }

    /// Issues a fresh token to a user who signed in with a password not longer ago than `session_age_max`. `address` becomes a
    /// known one of the user.
    pub fn refresh(
        &self,
        identity: &Identity,
        address: Option<IpAddr>,
        now: Moment,
    ) -> Result<IssuedToken, AccessDenied> {
        let login_unix_s = identity.login_unix_s.ok_or(AccessDenied::Forbidden)?;
        self.signatures().begin_refresh(&identity.subject, now)?;
        let minted = self.mint_login(&identity.subject, login_unix_s, now).ok_or(AccessDenied::Expired)?;
        self.throttle().remember(&identity.subject, ClientNetwork::of(address), now);
        Ok(minted)
    }

    /// Whether the users file has a user of this name.
    pub(crate) fn is_user(&self, name: &str) -> bool {
        self.rules().users.find(name).is_some()
    }

    /// The queue for threads that check passwords.
    pub(crate) fn password_work(&self) -> PasswordWork {
        self.0.passwords.clone()
    }

    /// Issues a token to the user `name`, whose session began at `login_unix_s`; `None` if the session is over.
    fn mint_login(&self, name: &str, login_unix_s: u64, now: Moment) -> Option<IssuedToken> {
        let settings = self.settings();
        let unix_s = self.whole_unix_s(now);
        let session_ends = login_unix_s.saturating_add(settings.session_age_max.as_secs());
        let left = Duration::from_secs(session_ends.saturating_sub(unix_s));
        let ttl = settings.token_ttl.min(left);
        let claims = Claims { sub: name.to_owned(), fanfare_login: Some(login_unix_s), ..Claims::default() };
        if ttl < Duration::from_secs(1) {
            return None;
        }
        self.rules().mint(claims, ttl, unix_s)
    }

    fn whole_unix_s(&self, now: Moment) -> u64 {
        self.unix_s(now) as u64
    }

    pub(super) fn throttle(&self) -> MutexGuard<'_, LoginThrottle> {
        self.0.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token's id (`jti`): random, so that it is unique and cannot be guessed.
fn random_id() -> String {
    let random: [u8; 15] = rand::rng().random();
    data_encoding::BASE64URL_NOPAD.encode(&random)
}

impl AuthRules {
    /// Issues a token with `claims`, valid from `unix_s` (seconds since 1970) for `ttl`, which is rounded down to seconds. `None`
    /// without a key to sign with.
    pub fn mint(&self, claims: Claims, ttl: Duration, unix_s: u64) -> Option<IssuedToken> {
        let ttl = Duration::from_secs(ttl.as_secs());
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let claims = Claims {
            exp: (unix_s + ttl.as_secs()) as f64,
            iat: Some(unix_s),
            jti: claims.jti.or_else(|| Some(random_id())),
            iss: named(&self.settings.issuer),
            aud: named(&self.settings.audience).map(super::Audience::One).unwrap_or_default(),
            ..claims
        };
        Some(IssuedToken { token: self.keys.sign(&claims)?, ttl })
    }
}
