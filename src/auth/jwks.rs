//! A set of public keys as issuers publish it (RFC 7517).

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Algorithm, keys::CheckingKey};

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The keys of the set `text` that are for one of `algorithms`. Others are passed over, as are those that cannot be read
/// (RFC 7517 section 5): an issuer may serve clients of other kinds from the same set.
pub(super) fn read(text: &str, algorithms: &[Algorithm]) -> Result<Vec<CheckingKey>, String> {
    let set: KeySet = serde_json::from_str(text).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let keys: Vec<CheckingKey> = set
        .keys
        .into_iter()
        .filter_map(|value| checking_key(serde_json::from_value(value).ok()?, algorithms))
        .collect();
    if keys.is_empty() {
        return Err("none of its keys is a public signing key for one of the algorithms in `auth.algorithms`".into());
    }
    Ok(keys)
}

fn checking_key(jwk: Jwk, algorithms: &[Algorithm]) -> Option<CheckingKey> {
    let is_for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let algorithm = algorithm_of(&jwk)?;
    if !is_for_signatures || !algorithms.contains(&algorithm) {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // Each member has one form only, in the order of the library's own fields.
    let material = serde_json::to_vec(&jwk.algorithm).ok()?;
    Some(CheckingKey::new(jwk.common.key_id, algorithm, key, &material))
}

/// The algorithm that a key of this kind is for. Its own `alg` may narrow that down, and mostly is not there. A secret
/// (`oct`) has no place in a public set: with it a token could be forged by whoever reads the set.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::Rs256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::Es256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDsa,
        _ => return None,
    };
    let stated = match jwk.common.key_algorithm {
        None => return Some(algorithm),
        Some(KeyAlgorithm::RS256) => Algorithm::Rs256,
        Some(KeyAlgorithm::ES256) => Algorithm::Es256,
        Some(KeyAlgorithm::EdDSA) => Algorithm::EdDsa,
        Some(_) => return None,
    };
    (stated == algorithm).then_some(algorithm)
}
