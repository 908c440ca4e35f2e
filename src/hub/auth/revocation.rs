//! Rights that end before what a client has shown expires: what an identity was shown by, so that it can be asked again whether
//! that still counts, and the list of tokens and subjects that are refused.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
};

use serde::Deserialize;

use super::{Auth, AuthRules, Denied, Identity, users::without_texts};

/// What a client has shown, as far as the hub has to know it to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing that could be taken away.
    #[default]
    Nothing,
    ApiKey(Fingerprint),
    Token {
        /// The key that its signature was checked with.
        key: Fingerprint,
        /// What it calls itself (`jti`), if it does.
        id: Option<Box<str>>,
    },
}

/// Stands for a key or a secret, from which nobody learns it: a hash whose own key this process made up at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(secret: &[u8]) -> Self {
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(HASH.hash_one(secret))
    }
}

/// Tokens and subjects that are refused although what they show is valid. The file is TOML: `jti = ["…"]`, `sub = ["…"]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyList {
    /// Tokens, by what they call themselves (RFC 7519 section 4.1.7).
    #[serde(default)]
    jti: HashSet<Box<str>>,
    /// Subjects of tokens, users, and names of API keys.
    #[serde(default)]
    sub: HashSet<Box<str>>,
}

impl DenyList {
    /// Reads the list. An empty text names nobody; an empty name is a mistake, for it would name all that have none.
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
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Denied> {
        let names_token = match &identity.credential {
            Credential::Token { id: Some(id), .. } => self.jti.contains(id),
            _ => false,
        };
        if names_token || self.names_subject(&identity.subject) { Err(Denied::Revoked) } else { Ok(()) }
    }
}

impl Auth {
    /// Counts the sets of rules that there have been: an [`Identity`] of another generation is to be [renewed](Self::renew)
    /// before its rights are used.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    /// What `identity` may do under the rules of now, whenever it was let in. Refuses whoever would not be let in any more: its
    /// user or key is gone, the key that its token was signed with is another, or the deny list names it. Whether its time is
    /// over is not looked at.
    pub fn renew(&self, identity: &Arc<Identity>) -> Result<Arc<Identity>, Denied> {
        let rules = self.rules();
        if identity.generation == rules.generation { Ok(Arc::clone(identity)) } else { rules.renew(identity) }
    }
}

impl AuthRules {
    fn renew(&self, identity: &Identity) -> Result<Arc<Identity>, Denied> {
        self.denied.check(identity)?;
        let renewed = match &identity.credential {
            Credential::Nothing => identity.clone(),
            Credential::ApiKey(key) => {
                // One with another name is somebody else's.
                let known = self.api_keys.of_fingerprint(*key).filter(|known| known.subject == identity.subject);
                return known.ok_or(Denied::Revoked);
            }
            Credential::Token { key, .. } if !self.keys.has(*key) => return Err(Denied::Revoked),
            Credential::Token { .. } => match (identity.login_unix_s, identity.expires) {
                (Some(login_unix_s), Some(expires)) => {
                    let user = self.users.find(&identity.subject).filter(|user| !user.is_disabled);
                    let user = user.ok_or(Denied::Revoked)?;
                    let credential = identity.credential.clone();
                    Identity { credential, ..user.identify(&identity.subject, login_unix_s, expires) }
                }
                _ => identity.clone(),
            },
        };
        Ok(Arc::new(Identity { generation: self.generation, ..renewed }))
    }
}
