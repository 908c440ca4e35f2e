//! The keys that verify and sign tokens. Each is for one algorithm, which the configuration pins: the algorithm in a token's
//! header decides nothing (RFC 8725 sections 3.1 and 3.2).

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, TokenData, Validation, decode, decode_header, encode};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{AccessDenied, Algorithm, Claims, Fingerprint, jwks, rsa};

/// The most keys tried for a token that names none. Each costs a signature.
const CANDIDATES_MAX: usize = 16;

/// All keys of a hub.
#[derive(Debug, Default)]
pub(super) struct VerificationKeys {
    checking: Vec<VerificationKey>,
    signing: Option<SigningKey>,
}

/// A key that verifies signatures.
#[derive(Debug)]
pub(super) struct VerificationKey {
    /// Its name in a key set (RFC 7517 section 4.5).
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    fingerprint: Fingerprint,
    validation: Validation,
}

#[derive(Debug)]
struct SigningKey {
    algorithm: Algorithm,
    key: EncodingKey,
}

/// The texts that keys are read from. Empty where none is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyTexts<'a> {
    pub(super) secret: &'a [u8],
    pub(super) public_key: &'a str,
    pub(super) private_key: &'a str,
    pub(super) jwks: &'a str,
}

/// A configuration key, and what is wrong with its value.
pub(super) type KeyError = (&'static str, String);

impl VerificationKeys {
    /// Reads the keys in `texts` for `algorithms`. A text that is for none of these, and an algorithm without a key, are errors.
    /// `fetches`: whether public keys come from a set that is fetched.
    pub(super) fn load(texts: KeyTexts<'_>, algorithms: &[Algorithm], fetches: bool) -> Result<Self, KeyError> {
        let mut keys = Self::default();
        keys.take_secret(texts.secret, algorithms)?;
        keys.take_public_key(texts.public_key, algorithms)?;
        keys.take_private_key(texts.private_key, algorithms)?;
        if !texts.jwks.is_empty() {
            let read = jwks::read(texts.jwks, algorithms).map_err(|wrong| ("auth.jwks_file", wrong))?;
            keys.checking.extend(read);
        }
        let comes_later = |algorithm: &Algorithm| fetches && !algorithm.is_symmetric();
        match algorithms.iter().find(|algorithm| !keys.check_with(**algorithm) && !comes_later(algorithm)) {
            Some(algorithm) if fetches || !keys.checking.is_empty() => {
                Err(("auth.algorithms", format!("there is no key for {algorithm}: {}", where_to_set(*algorithm))))
            }
            _ => Ok(keys),
        }
    }

    /// Those of a set.
    pub(super) fn of(checking: Vec<VerificationKey>) -> Self {
        Self { checking, signing: None }
    }

    /// The number of keys that verify.
    pub(super) fn len(&self) -> usize {
        self.checking.len()
    }

    /// Whether `other` has the same keys, with the same ids, in the same order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let known = |keys: &Self| keys.checking.iter().map(|key| (key.fingerprint, key.id.clone())).collect::<Vec<_>>();
        known(self) == known(other)
    }

    /// Whether one of these keys has this id and is for this algorithm.
    pub(super) fn has_id(&self, id: &str, algorithm: Algorithm) -> bool {
        self.checking.iter().any(|key| key.id.as_deref() == Some(id) && key.algorithm == algorithm)
    }

    /// Whether no token can be verified.
    pub(super) fn is_empty(&self) -> bool {
        self.checking.is_empty()
    }

    /// Whether tokens can be signed.
    pub(super) fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// The claims of `token` and the key that signed it, if the key is known. The claims are not checked.
    pub(super) fn check(&self, token: &str) -> Result<(Claims, Fingerprint), AccessDenied> {
        let header = decode_header(token).map_err(|_| AccessDenied::Invalid)?;
        // Whatever it says is critical, it is nothing that is understood here (RFC 7515 section 4.1.11).
        if has_critical(token) {
            return Err(AccessDenied::Invalid);
        }
        let candidates = self.candidates(header.kid.as_deref(), header.alg);
        let check = |key: &VerificationKey| {
            let TokenData { claims, .. } = decode(token, &key.key, &key.validation).ok()?;
            Some((claims, key.fingerprint))
        };
        candidates.filter_map(check).next().ok_or(AccessDenied::Invalid)
    }

    /// Whether there is a key with this fingerprint, for one of `algorithms`.
    pub(super) fn has(&self, key: Fingerprint, algorithms: &[Algorithm]) -> bool {
        let is_it = |known: &VerificationKey| known.fingerprint == key && algorithms.contains(&known.algorithm);
        self.checking.iter().any(is_it)
    }

    /// The id of the key with this fingerprint, if it has one.
    pub(super) fn id_of(&self, key: Fingerprint) -> Option<&str> {
        self.checking.iter().find(|known| known.fingerprint == key)?.id.as_deref()
    }

    /// Signs a token with `claims`; `None` without a key to sign with.
    pub(super) fn sign(&self, claims: &Claims) -> Option<String> {
        let SigningKey { algorithm, key } = self.signing.as_ref()?;
        encode(&Header::new(algorithm.native()), claims, key).ok()
    }

    /// The keys to try for a token with this header. The header only selects: each key verifies with its own algorithm.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: jsonwebtoken::Algorithm,
    ) -> impl Iterator<Item = &VerificationKey> {
        let fits = move |key: &&VerificationKey| {
            let same_id = key.id.is_none() || id.is_none() || key.id.as_deref() == id;
            same_id && key.algorithm.native() == algorithm
        };
        self.checking.iter().filter(fits).take(CANDIDATES_MAX)
    }

    fn check_with(&self, algorithm: Algorithm) -> bool {
        self.checking.iter().any(|key| key.algorithm == algorithm)
    }

    fn take_secret(&mut self, secret: &[u8], algorithms: &[Algorithm]) -> Result<(), KeyError> {
        const KEY: &str = "auth.secret";
        if secret.is_empty() {
            return Ok(());
        }
        let symmetric: Vec<Algorithm> = algorithms.iter().copied().filter(|it| it.is_symmetric()).collect();
        let Some(first) = symmetric.first() else { return Err((KEY, no_use("a secret", "HS256"))) };
        for algorithm in &symmetric {
            check_length(*algorithm, secret)?;
            let key = DecodingKey::from_secret(secret);
            self.checking.push(VerificationKey::new(None, *algorithm, key, secret));
        }
        self.signing = Some(SigningKey { algorithm: *first, key: EncodingKey::from_secret(secret) });
        Ok(())
    }

    fn take_public_key(&mut self, pem: &str, algorithms: &[Algorithm]) -> Result<(), KeyError> {
        if pem.is_empty() {
            return Ok(());
        }
        let found = algorithms.iter().find_map(|it| Some((*it, public_key(*it, pem.as_bytes())?)));
        let Some((algorithm, key)) = found else {
            let message = "it holds no public key in PEM for one of the algorithms in `auth.algorithms`";
            return Err(("auth.public_key_file", message.into()));
        };
        if algorithm == Algorithm::Rs256 {
            rsa::check_public(&key).map_err(|wrong| ("auth.public_key_file", wrong))?;
        }
        self.checking.push(VerificationKey::new(None, algorithm, key, pem.trim().as_bytes()));
        Ok(())
    }

    fn take_private_key(&mut self, pem: &str, algorithms: &[Algorithm]) -> Result<(), KeyError> {
        if pem.is_empty() {
            return Ok(());
        }
        let found = algorithms.iter().find_map(|it| Some((*it, private_key(*it, pem.as_bytes())?)));
        let Some((algorithm, key)) = found else {
            let message = "it holds no private key in PEM for one of the algorithms in `auth.algorithms`";
            return Err(("auth.private_key_file", message.into()));
        };
        if algorithm == Algorithm::Rs256 {
            rsa::check_private(&key).map_err(|wrong| ("auth.private_key_file", wrong))?;
        }
        self.signing = Some(SigningKey { algorithm, key });
        Ok(())
    }
}

impl VerificationKey {
    /// A key with the fingerprint of `material`, by which it is recognized after a reload.
    pub(super) fn new(id: Option<String>, algorithm: Algorithm, key: DecodingKey, material: &[u8]) -> Self {
        let mut validation = Validation::new(algorithm.native());
        // Here only the signature is checked. Times are told, and an issuer or audience that a token lacks is no match:
        // `Claims::check` sees to both.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let fingerprint = Fingerprint::of(&[algorithm.name().as_bytes(), material].concat());
        Self { id, algorithm, key, fingerprint, validation }
    }
}

fn check_length(algorithm: Algorithm, secret: &[u8]) -> Result<(), KeyError> {
    let least = algorithm.secret_bytes_min().unwrap_or_default();
    if least <= secret.len() {
        return Ok(());
    }
    let bytes = secret.len();
    let message = format!(
        "the secret has {bytes} bytes, and {algorithm} needs at least {least} (RFC 7518 section 3.2): \
         make one with `openssl rand -base64 {least}`"
    );
    Err(("auth.secret", message))
}

/// Whether the header of `token` has a member `crit` of any value: the library ignores one that is `null`.
pub(super) fn has_critical(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        crit: Present,
    }
    let head = token.split('.').next().unwrap_or_default();
    let head = BASE64URL_NOPAD.decode(head.as_bytes()).ok();
    // What cannot be read is refused as well.
    head.and_then(|head| serde_json::from_slice(&head).ok()).is_none_or(|head: Head| head.crit.0)
}

/// Whether a member is present.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

fn no_use(what: &str, algorithm: &str) -> String {
    format!("{what} is of no use with these `auth.algorithms`: add {algorithm}, or leave it out")
}

fn where_to_set(algorithm: Algorithm) -> &'static str {
    match algorithm.is_symmetric() {
        true => "set auth.secret_file",
        false => "set auth.public_key_file, auth.jwks_file or auth.jwks_url",
    }
}

/// Parses a PEM. Fails if it holds another kind of key than the algorithm needs.
fn public_key(algorithm: Algorithm, pem: &[u8]) -> Option<DecodingKey> {
    match algorithm {
        Algorithm::Rs256 => DecodingKey::from_rsa_pem(pem).ok(),
        Algorithm::Es256 => DecodingKey::from_ec_pem(pem).ok(),
        Algorithm::EdDsa => DecodingKey::from_ed_pem(pem).ok(),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
    }
}

fn private_key(algorithm: Algorithm, pem: &[u8]) -> Option<EncodingKey> {
    match algorithm {
        Algorithm::Rs256 => EncodingKey::from_rsa_pem(pem).ok(),
        Algorithm::Es256 => EncodingKey::from_ec_pem(pem).ok(),
        Algorithm::EdDsa => EncodingKey::from_ed_pem(pem).ok(),
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
    }
}
