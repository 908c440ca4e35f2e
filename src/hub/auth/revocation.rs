//! Revocation: rights that end before a credential expires. An identity remembers the credential it came from, so that it can
//! be checked again after a reload, and the deny list names tokens and subjects to refuse.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use serde::Deserialize;

use super::{AccessDenied, Auth, AuthRules, Identity, users::without_texts};
use crate::clock::Moment;

/// The credential that an identity came from, as far as it is needed to check it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Credential {
    /// No credential that could be revoked.
    #[default]
    Nothing,
    ApiKey(Fingerprint),
    Token {
        /// The key that verified its signature.
        key: Fingerprint,
        /// Its id (`jti`), if it has one.
        id: Option<Box<str>>,
    },
}

/// Identifies a key or a secret without revealing it: a hash with a random key of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(secret: &[u8]) -> Self {
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(HASH.hash_one(secret))
    }
}

/// Tokens and subjects that are refused although their credentials are valid. The file is TOML: `jti = ["…"]`, `sub = ["…"]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyList {
    /// Ids of tokens (RFC 7519 section 4.1.7).
    #[serde(default)]
    jti: HashSet<Box<str>>,
    /// Subjects of tokens, users, and names of API keys.
    #[serde(default)]
    sub: HashSet<Box<str>>,
}

impl DenyList {
    /// Parses the list. An empty text is an empty list; an empty name is an error, because it would match tokens without an id.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|error| {
            let wrong = without_texts(error.message());
            format!("it is no deny list, which has `jti = [\"…\"]` and `sub = [\"…\"]`: {wrong}")
        })?;
        match list.jti.contains("") || list.sub.contains("") {
            true => Err("a name in it is empty".into()),
            false => Ok(list),
        }
    }

    pub(super) fn names_subject(&self, subject: &str) -> bool {
        self.sub.contains(subject)
    }

    /// Whether `identity` is on the list.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), AccessDenied> {
        let names_token = match &identity.credential {
            Credential::Token { id: Some(id), .. } => self.jti.contains(id),
            _ => false,
        };
        if names_token || self.names_subject(&identity.subject) { Err(AccessDenied::Revoked) } else { Ok(()) }
    }
}

impl Auth {
    /// The number of times the rules were replaced. An [`Identity`] of another generation must be [renewed](Self::renew) before its
    /// rights are used.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The identity under the present rules. Fails if the client would be refused now: its user, its API key or the key that its
    /// token was signed with is gone, or the deny list names it. Does not check whether the identity has expired.
    pub fn renew(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, AccessDenied> {
        let rules = self.rules();
        if identity.generation == rules.generation { Ok(Arc::clone(identity)) } else { rules.renew(identity) }
    }
}

impl AuthRules {
    fn renew(&self, identity: &Identity) -> Result<Arc<Identity>, AccessDenied> {
        self.denied.check(identity)?;
        let renewed = match &identity.credential {
            Credential::Nothing => identity.clone(),
            Credential::ApiKey(key) => {
                // One with another name is somebody else's.
                let known = self.api_keys.of_fingerprint(*key).filter(|known| known.subject == identity.subject);
                return known.ok_or(AccessDenied::Revoked);
            }
            Credential::Token { key, .. } if !self.has_key(*key) => return Err(AccessDenied::Revoked),
            Credential::Token { .. } => match (identity.login_unix_s, identity.expires) {
                (Some(login_unix_s), Some(expires)) => {
                    let user = self.users.find(&identity.subject).filter(|user| !user.is_disabled);
                    let user = user.ok_or(AccessDenied::Revoked)?;
                    identity.of_same_token(user.identify(&identity.subject, login_unix_s, expires))
                }
                (None, Some(expires)) if identity.claims.is_some() => {
                    identity.of_same_token(self.map_again(identity, expires)?)
                }
                _ => identity.clone(),
            },
        };
        Ok(Arc::new(Identity { generation: self.generation, ..renewed }))
    }

    /// The identity of a token whose claims gave it rights by rules, by the present rules.
    fn map_again(&self, identity: &Identity, expires: Moment) -> Result<Identity, AccessDenied> {
        let payload = identity.claims.clone();
        let claims = serde_json::from_str(payload.as_deref().unwrap_or_default()).map_err(|_| AccessDenied::Invalid)?;
        self.identify(claims, payload, expires)
    }
}
