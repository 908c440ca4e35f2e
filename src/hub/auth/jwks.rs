//! A set of public keys as issuers publish it (RFC 7517).

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Algorithm, keys::VerificationKey, rsa};

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The keys of the set `text` that are for one of `algorithms`. Others are passed over, as are those that cannot be read
/// (RFC 7517 section 5): an issuer may serve clients of other kinds from the same set. One that would be taken, but is too small,
/// is a mistake.
pub(super) fn read(text: &str, algorithms: &[Algorithm]) -> Result<Vec<VerificationKey>, String> {
    // What the parser says may quote the file, and somebody may have named the wrong one.
    let set: KeySet = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it is no JSON Web Key Set, {{\"keys\":[…]}}, from line {line}, column {column} on")
    })?;
    let mut keys = Vec::new();
    for value in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
        keys.extend(checking_key(jwk, algorithms)?);
    }
    if keys.is_empty() {
        return Err("none of its keys is a public signing key for one of the algorithms in `auth.algorithms`".into());
    }
    Ok(keys)
}

fn checking_key(jwk: Jwk, algorithms: &[Algorithm]) -> Result<Option<VerificationKey>, String> {
    let Some(algorithm) = algorithm_of(&jwk).filter(|algorithm| algorithms.contains(algorithm)) else {
        return Ok(None);
    };
    if !is_for_signatures(&jwk) {
        return Ok(None);
    }
    if let AlgorithmParameters::RSA(key) = &jwk.algorithm {
        rsa::check_member(key, jwk.common.key_id.as_deref())?;
    }
    Ok(make_key(jwk, algorithm))
}

/// Whether signatures may be checked with it: `use` is `sig`, and `key_ops` names `verify`, and nothing twice, where they are
/// there (RFC 7517 sections 4.2 and 4.3).
fn is_for_signatures(jwk: &Jwk) -> bool {
    let fits_use = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let fits_operations = jwk.common.key_operations.as_ref().is_none_or(|operations| {
        let is_unique = operations.iter().enumerate().all(|(at, operation)| !operations[..at].contains(operation));
        is_unique && operations.contains(&KeyOperations::Verify)
    });
    fits_use && fits_operations
}

fn make_key(jwk: Jwk, algorithm: Algorithm) -> Option<VerificationKey> {
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    // Each member has one form only, in the order of the library's own fields.
    let material = serde_json::to_vec(&jwk.algorithm).ok()?;
    Some(VerificationKey::new(jwk.common.key_id, algorithm, key, &material))
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
