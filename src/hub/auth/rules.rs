//! The rules of authentication: the section `auth` of the configuration with the content of its files, checked as a whole.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::decode_header;

use super::{
    AccessDenied, Algorithm, ApiKey, AuthSettings, Claims, FetchedKeys, Fingerprint, Identity, Mode,
    api_keys::ApiKeys,
    keys::{KeyError, KeyTexts, VerificationKeys, has_critical},
    mapping,
    revocation::DenyList,
    users::Users,
};
use crate::clock::Moment;

/// Secrets and files, as text. Empty where none is configured.
#[derive(Clone, Default)]
#[allow(missing_debug_implementations, reason = "secrets are not shown")]
pub struct Secrets {
    /// The shared secret for tokens.
    pub secret: Vec<u8>,
    /// The public key that verifies tokens, in PEM.
    pub public_key: String,
    /// The private key that the hub signs its own tokens with, in PEM.
    pub private_key: String,
    /// The public keys that verify tokens, as a JSON Web Key Set.
    pub jwks: String,
    /// The users file.
    pub users: String,
    /// The deny list: tokens and subjects that are refused.
    pub denied: String,
    pub api_keys: Vec<ApiKey>,
}

/// The rules in force. `Debug` shows no secret.
#[derive(Debug, Default)]
pub struct AuthRules {
    pub(super) settings: AuthSettings,
    pub(super) keys: Arc<VerificationKeys>,
    /// The keys of the identity provider's set, as it was last fetched.
    pub(super) fetched: Arc<VerificationKeys>,
    pub(super) users: Arc<Users>,
    pub(super) api_keys: Arc<ApiKeys>,
    pub(super) denied: Arc<DenyList>,
    /// The number of times the rules were replaced before.
    pub(super) generation: u64,
}

impl AuthRules {
    /// Builds the rules. The error names the configuration key, and says what is wrong with it.
    pub fn new(settings: AuthSettings, secrets: Secrets) -> Result<Self, (&'static str, String)> {
        if settings.mode == Mode::None {
            if settings.key_set.is_used() {
                return Err((settings.key_set.key(), NOBODY_IS_ASKED.into()));
            }
            if !settings.rules.is_empty() {
                return Err(("auth.rule", NOBODY_IS_ASKED.into()));
            }
            secrets.refuse_unused()?;
            return Ok(Self { settings, ..Self::default() });
        }
        settings.key_set.check(&settings)?;
        let fetches = settings.key_set.is_used();
        let texts = KeyTexts {
            secret: &secrets.secret,
            public_key: &secrets.public_key,
            private_key: &secrets.private_key,
            jwks: &secrets.jwks,
        };
        let keys = VerificationKeys::load(texts, &settings.algorithms, fetches)?;
        let users = match secrets.users.as_str() {
            "" => Users::default(),
            text => Users::parse(text).map_err(|wrong| ("users.file", wrong))?,
        };
        let api_keys = ApiKeys::load(secrets.api_keys).map_err(|wrong| ("api_keys", wrong))?;
        if keys.is_empty() && api_keys.is_empty() && !fetches {
            return Err(("auth.mode", nothing_to_check_with()));
        }
        if !users.is_empty() && (keys.is_empty() || !keys.can_sign()) {
            let message = "users sign in for tokens: set auth.secret_file, or a pair of keys, to sign these with";
            return Err(("users.file", message.into()));
        }
        let denied = DenyList::parse(&secrets.denied).map_err(|wrong| ("auth.deny_file", wrong))?;
        let (keys, users, api_keys) = (Arc::new(keys), Arc::new(users), Arc::new(api_keys));
        let (denied, fetched) = (Arc::new(denied), Arc::default());
        let rules = Self { settings, keys, fetched, users, api_keys, denied, generation: 0 };
        if !rules.users.is_empty() && !rules.takes_its_own() {
            let message = "it does not go with the key that tokens are checked with: users could not sign in";
            return Err(("auth.private_key_file", message.into()));
        }
        Ok(rules)
    }

    /// Fails unless the hub accepts the tokens that it signs itself.
    fn takes_its_own(&self) -> bool {
        self.keys.sign(&Claims::default()).is_some_and(|token| self.keys.check(&token).is_ok())
    }

    /// What is [in place of](Self::in_place_of) `former`, to come into force after it.
    pub(super) fn after(&self, former: &Self) -> Self {
        let generation = former.generation + 1;
        let api_keys = Arc::new(self.api_keys.of_generation(generation));
        Self { api_keys, generation, ..self.in_place_of(former) }
    }

    /// The same keys, with their algorithms, rules, users, API keys and deny list, with the other settings of `former`: all that a reload
    /// puts in place of it.
    #[must_use]
    pub(crate) fn in_place_of(&self, former: &Self) -> Self {
        let AuthSettings { algorithms, rules, .. } = self.settings.clone();
        Self {
            settings: AuthSettings { algorithms, rules, ..former.settings.clone() },
            keys: Arc::clone(&self.keys),
            // Where they come from does not change.
            fetched: Arc::clone(&former.fetched),
            users: Arc::clone(&self.users),
            api_keys: Arc::clone(&self.api_keys),
            denied: Arc::clone(&self.denied),
            generation: self.generation,
        }
    }

    /// The same with the keys of a set that was fetched anew.
    #[must_use]
    pub fn with_fetched(&self, fetched: FetchedKeys) -> Self {
        let generation = self.generation + 1;
        Self {
            settings: self.settings.clone(),
            keys: Arc::clone(&self.keys),
            fetched: Arc::new(fetched.0),
            users: Arc::clone(&self.users),
            api_keys: Arc::new(self.api_keys.of_generation(generation)),
            denied: Arc::clone(&self.denied),
            generation,
        }
    }

    /// The claims of `token`, if one of the keys has signed it. They are not checked.
    pub(super) fn verify(&self, token: &str) -> Result<Verified, Unverified> {
        if let Ok((claims, key)) = self.keys.check(token) {
            return Ok(Verified { claims, key, is_fetched: false });
        }
        let algorithm = self.fetched_algorithm(token).ok_or(Unverified::Invalid)?;
        if let Ok((claims, key)) = self.fetched.check(token) {
            return Ok(Verified { claims, key, is_fetched: true });
        }
        let header = decode_header(token).map_err(|_| Unverified::Invalid)?;
        let is_known = header.kid.as_deref().is_some_and(|id| self.fetched.has_id(id, algorithm));
        let claims = payload_of(token).and_then(|payload| serde_json::from_str(&payload).ok());
        match claims {
            Some(claims) if !is_known => Err(Unverified::UnknownKey(Box::new(claims), header.kid)),
            _ => Err(Unverified::Invalid),
        }
    }

    /// The algorithm of `token`, if a key of a set that is fetched may have signed it. A secret is never in such a set.
    fn fetched_algorithm(&self, token: &str) -> Option<Algorithm> {
        if !self.settings.key_set.is_used() || has_critical(token) {
            return None;
        }
        let header = decode_header(token).ok()?;
        let fits = |algorithm: &&Algorithm| !algorithm.is_symmetric() && algorithm.native() == header.alg;
        self.settings.algorithms.iter().find(fits).copied()
    }

    /// Whether a token that this key has verified is still good.
    pub(super) fn has_key(&self, key: Fingerprint) -> bool {
        let AuthSettings { algorithms, .. } = &self.settings;
        self.keys.has(key, algorithms) || self.fetched.has(key, algorithms)
    }

    /// The id of the key with this fingerprint, if it has one.
    pub(super) fn key_id(&self, key: Fingerprint) -> Option<&str> {
        self.keys.id_of(key).or_else(|| self.fetched.id_of(key))
    }

    /// The settings, without secrets.
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// Whose a token of another issuer with these claims is. `payload`: all its claims as JSON, if rules map some of them.
    pub(super) fn identify(
        &self,
        claims: Claims,
        payload: Option<Box<str>>,
        expires: Moment,
    ) -> Result<Identity, AccessDenied> {
        let AuthSettings { rules, rule_patterns_max, .. } = &self.settings;
        let mapped = payload.as_deref().map(|payload| mapping::map(rules, payload, *rule_patterns_max)).transpose()?;
        let mut mapped = mapped.unwrap_or_default();
        let rules = std::mem::take(&mut mapped.rules).into();
        Ok(Identity { claims: payload, rules, ..claims.identify(mapped, expires)? })
    }

    /// The claims of `token` as JSON, if rules map some of them.
    pub(super) fn payload(&self, token: &str) -> Option<Box<str>> {
        (!self.settings.rules.is_empty()).then(|| payload_of(token)).flatten()
    }

    /// Whether clients must authenticate.
    pub fn is_required(&self) -> bool {
        self.settings.mode == Mode::Jwt
    }
}

impl Secrets {
    /// A configured secret without authentication is an error: the operator expects it to be used.
    fn refuse_unused(&self) -> Result<(), KeyError> {
        let given = [
            ("auth.secret", !self.secret.is_empty()),
            ("auth.public_key_file", !self.public_key.is_empty()),
            ("auth.private_key_file", !self.private_key.is_empty()),
            ("auth.jwks_file", !self.jwks.is_empty()),
            ("users.file", !self.users.is_empty()),
            ("auth.deny_file", !self.denied.is_empty()),
            ("api_keys", !self.api_keys.is_empty()),
        ];
        let unused = given.into_iter().find_map(|(key, is_set)| is_set.then_some(key));
        unused.map_or(Ok(()), |key| Err((key, NOBODY_IS_ASKED.into())))
    }
}

/// A token that a key has signed.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) claims: Claims,
    pub(super) key: Fingerprint,
    /// Whether the key is of the set that is fetched.
    pub(super) is_fetched: bool,
}

/// A token that none of the keys has signed.
#[derive(Debug)]
pub(super) enum Unverified {
    Invalid,
    /// Another set may have the key, of which this is the id. What the claims say is not to be relied on.
    UnknownKey(Box<Claims>, Option<String>),
}

/// The claims of `token` as JSON.
pub(super) fn payload_of(token: &str) -> Option<Box<str>> {
    let decoded = BASE64URL_NOPAD.decode(token.split('.').nth(1)?.as_bytes()).ok()?;
    String::from_utf8(decoded).ok().map(String::into_boxed_str)
}

const NOBODY_IS_ASKED: &str = "nobody is asked for it: set auth.mode = \"jwt\", or leave it out";

fn nothing_to_check_with() -> String {
    let names = Algorithm::ALL.map(Algorithm::name).join(", ");
    format!(
        "there is nothing to check clients with: set auth.secret_file, auth.public_key_file, auth.jwks_file or auth.jwks_url, with \
         `auth.algorithms` of {names}, or [[api_keys]]"
    )
}
