//! API keys: long-lived secrets of services.

use std::{collections::HashMap, fmt, sync::Arc};

use subtle::{Choice, ConstantTimeEq};

use super::{Credential, Fingerprint, Grants, Identity};

/// The least bytes of a key. Shorter ones can be guessed.
const API_KEY_BYTES_MIN: usize = 16;

/// One `[[api_keys]]` table.
#[derive(Clone, Default)]
pub struct ApiKey {
    pub secret: String,
    /// Its name, which is the client's subject.
    pub name: String,
    pub role: Option<String>,
    /// Patterns of topics that it may subscribe to.
    pub subscribe: Vec<String>,
    /// Patterns of topics that it may publish to.
    pub publish: Vec<String>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.name)
    }
}

/// A secret and its identity.
type KnownKey = (Box<[u8]>, Arc<Identity>);

/// All API keys of a hub, by the fingerprint of the secret: a look-up costs the same however many keys there are, and its time
/// reveals nothing about a secret, because the hash has a random key.
#[derive(Clone, Default)]
pub(super) struct ApiKeys {
    by_hash: HashMap<Fingerprint, Vec<KnownKey>>,
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.by_hash.len())
    }
}

impl ApiKeys {
    pub(super) fn load(keys: Vec<ApiKey>) -> Result<Self, String> {
        let mut loaded = Self::default();
        for key in keys {
            if key.secret.len() < API_KEY_BYTES_MIN {
                let bytes = key.secret.len();
                return Err(format!("key `{}` has {bytes} bytes; at least {API_KEY_BYTES_MIN} are needed", key.name));
            }
            let secret: Box<[u8]> = key.secret.as_bytes().into();
            if loaded.identify(&key.secret).is_some() {
                return Err(format!("key `{}` is there twice", key.name));
            }
            let of_key = |wrong: String| format!("key `{}`: {wrong}", key.name);
            let identity = Identity {
                subject: key.name.as_str().into(),
                is_api_key: true,
                credential: Credential::ApiKey(Fingerprint::of(&secret)),
                role: key.role.as_deref().map(Box::from),
                subscribe: Grants::parse(&key.subscribe).map_err(of_key)?,
                publish: Grants::parse(&key.publish).map_err(of_key)?,
                ..Identity::default()
            };
            loaded.by_hash.entry(Fingerprint::of(&secret)).or_default().push((secret, Arc::new(identity)));
        }
        Ok(loaded)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// The identity of the key with this fingerprint, if there is one.
    pub(super) fn of_fingerprint(&self, key: Fingerprint) -> Option<Arc<Identity>> {
        self.by_hash.get(&key)?.first().map(|(_, identity)| Arc::clone(identity))
    }

    /// The same keys with identities of this generation.
    pub(super) fn of_generation(&self, generation: u64) -> Self {
        let mut keys = self.clone();
        for (_, identity) in keys.by_hash.values_mut().flatten() {
            *identity = Arc::new(Identity { generation, ..Identity::clone(identity) });
        }
        keys
    }

    /// The identity of the key `shown`. Keys with the same fingerprint are compared in constant time.
    pub(super) fn identify(&self, shown: &str) -> Option<Arc<Identity>> {
        let mut found = None;
        for (secret, identity) in self.by_hash.get(&Fingerprint::of(shown.as_bytes()))? {
            let same: Choice = secret.ct_eq(shown.as_bytes());
            if bool::from(same) {
                found = Some(Arc::clone(identity));
            }
        }
        found
    }
}
