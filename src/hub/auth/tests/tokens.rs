//! What is taken for a token, and from whom.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::topic::Topic;

/// A token over `claims`, signed with `secret`.
fn token(header: &Header, claims: &Value, secret: &str) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("the key fits the header")
}

fn header(algorithm: Algorithm) -> Header {
    Header::new(algorithm.native())
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": UNIX_S + 60, "subscribe": ["orders.*"] })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// The parts of a token as they come, unsigned.
fn raw(header: &str, claims: &Value, signature: &str) -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    format!("{}.{}.{signature}", part(header), part(&claims.to_string()))
}

#[test]
fn a_token_counts_if_it_is_signed_and_holds_now() {
    let auth = auth_of(settings(), secrets());
    let check = |token: &str, expected: &str| assert_eq!(identify(&auth, token, NOW), expected, "{token}");
    let signed = |claims: Value| token(&header(Algorithm::Hs256), &claims, SECRET);

    check(&signed(claims()), "ann");
    check(&signed(with("exp", UNIX_S + 1)), "ann");
    check(&signed(with("exp", UNIX_S as f64 + 0.5)), "ann");
    check(&signed(with("exp", UNIX_S)), "token_expired");
    check(&signed(with("exp", 0)), "token_expired");
    check(&signed(with("exp", -1)), "token_expired");
    check(&signed(with("exp", 1e300)), "ann");
    check(&signed(with("exp", "tomorrow")), "token_invalid");
    check(&signed(with("exp", Value::Null)), "token_invalid");
    check(&signed(with("nbf", UNIX_S + 1)), "token_invalid");
    check(&signed(with("nbf", UNIX_S)), "ann");
    check(&signed(with("iat", "whenever")), "ann");
    check(&signed(with("subscribe", json!(["a..b"]))), "token_invalid");
    check(&signed(with("subscribe", "orders.*")), "token_invalid");
    check(&signed(with("aud", "somebody")), "ann");
    check(&signed(with("fanfare_login", UNIX_S)), "user_revoked");
    check(&signed(json!({ "exp": UNIX_S + 60 })), "");
    check(&signed(json!({ "sub": "ann" })), "token_invalid");
    check(&signed(json!(["ann"])), "token_invalid");

    check(&token(&header(Algorithm::Hs256), &claims(), "another secret, of no less than 32 bytes"), "token_invalid");
    check(&token(&header(Algorithm::Hs512), &claims(), SECRET), "token_invalid");
    let critical = Header { crit: Some(vec!["exp".into()]), ..header(Algorithm::Hs256) };
    check(&token(&critical, &claims(), SECRET), "token_invalid");
    check(&token(&Header { kid: Some("any".into()), ..header(Algorithm::Hs256) }, &claims(), SECRET), "ann");

    check(&raw(r#"{"alg":"none"}"#, &claims(), ""), "token_invalid");
    check(&raw(r#"{"alg":"None"}"#, &claims(), ""), "token_invalid");
    check(&raw(r#"{"alg":"HS256"}"#, &claims(), ""), "token_invalid");
    check(&raw(r#"{"alg":"HS256"}"#, &claims(), "AAAA"), "token_invalid");
    check(&raw("{}", &claims(), "AAAA"), "token_invalid");
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{0}", "ü.ü.ü", "Bearer x"] {
        let expected = if garbage.is_empty() { "token_missing" } else { "token_invalid" };
        check(garbage, expected);
    }
    check(&signed(with("padding", "x".repeat(8192))), "token_invalid");
}

#[test]
fn no_part_of_a_token_can_be_changed() {
    let auth = auth_of(AuthSettings { cache_bytes: 0, ..settings() }, secrets());
    let token = token(&header(Algorithm::Hs256), &claims(), SECRET);
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = String::from_utf8(bytes).expect("it is ASCII");
        assert_eq!(identify(&auth, &forged, NOW), "token_invalid", "byte {at}");
        assert!(identify(&auth, &token[..at], NOW).starts_with("token_"), "{at} bytes");
    }
}

#[test]
fn a_configured_issuer_and_audience_are_required() {
    let auth = auth_of(AuthSettings { issuer: "me".into(), audience: "hub".into(), ..settings() }, secrets());
    let check = |issuer: Value, audience: Value, expected: &str| {
        let mut claims = claims();
        (claims["iss"], claims["aud"]) = (issuer.clone(), audience.clone());
        let token = token(&header(Algorithm::Hs256), &claims, SECRET);
        assert_eq!(identify(&auth, &token, NOW), expected, "{issuer} {audience}");
    };
    check("me".into(), "hub".into(), "ann");
    check("me".into(), json!(["other", "hub"]), "ann");
    check("you".into(), "hub".into(), "token_invalid");
    check("me".into(), "other".into(), "token_invalid");
    check("me".into(), json!([]), "token_invalid");
    check(Value::Null, "hub".into(), "token_invalid");
    let without = token(&header(Algorithm::Hs256), &claims(), SECRET);
    assert_eq!(identify(&auth, &without, NOW), "token_invalid");
}

#[test]
fn the_leeway_counts_both_ways_and_for_the_end() {
    let auth = auth_of(AuthSettings { leeway: Duration::from_secs(10), ..settings() }, secrets());
    let check = |name: &str, offset_s: i64, expected: &str| {
        let token = token(&header(Algorithm::Hs256), &with(name, UNIX_S as i64 + offset_s), SECRET);
        assert_eq!(identify(&auth, &token, NOW), expected, "{name} {offset_s}");
    };
    check("exp", -9, "ann");
    check("exp", -10, "token_expired");
    check("nbf", 10, "ann");
    check("nbf", 11, "token_invalid");
    let token = token(&header(Algorithm::Hs256), &with("exp", UNIX_S + 5), SECRET);
    let identity = auth.identify(Some(&token), None, NOW).expect("it is valid").expect("somebody's");
    assert_eq!(identity.expires, Some(NOW + Duration::from_secs(15)));
}

#[test]
fn a_token_that_was_checked_still_expires() {
    let auth = auth_of(settings(), secrets());
    let token = token(&header(Algorithm::Hs256), &claims(), SECRET);
    let at = |seconds: u64| identify(&auth, &token, NOW + Duration::from_secs(seconds));
    assert_eq!(at(0), "ann");
    assert_eq!(auth.cache().len(), 1);
    assert_eq!([at(30), at(59)], ["ann", "ann"]);
    assert_eq!([at(60), at(61)], ["token_expired", "token_expired"]);
}

#[test]
fn the_cache_stays_within_its_bytes_and_keeps_what_is_asked_for() {
    let auth = auth_of(AuthSettings { cache_bytes: 16 * 1024, ..settings() }, secrets());
    let of = |subject: usize| token(&header(Algorithm::Hs256), &with("sub", subject.to_string()), SECRET);
    for subject in 0..200 {
        assert_eq!(identify(&auth, &of(subject), NOW), subject.to_string());
        assert_eq!(identify(&auth, &of(0), NOW), "0");
    }
    let entries = auth.cache().len();
    assert!((10..=32).contains(&entries), "{entries} entries");
    assert!(auth.cache().find(&of(0), NOW).is_some(), "it was asked for all the time");
    assert!(auth.cache().find(&of(1), NOW).is_none(), "it was not asked for again");
}

#[test]
fn a_wall_clock_that_is_set_counts_for_what_comes() {
    let auth = auth_of(AuthSettings { cache_bytes: 0, ..settings() }, secrets());
    let token = token(&header(Algorithm::Hs256), &claims(), SECRET);
    assert_eq!(identify(&auth, &token, NOW), "ann");
    auth.set_clock(NOW, Duration::from_secs(UNIX_S + 3600));
    assert_eq!(identify(&auth, &token, NOW), "token_expired");
}

/// The examples of RFC 7515, appendices A.2 and A.3, which were valid until 1300819380.
const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const ES256_SIGNATURE: &str = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const RS256_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
    jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN93\
    83LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp\
    0igcN_IoypGlUPQGe77Rw";
const RS256_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0B\
    m4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-\
    UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2\
    PAcDTW9gb54h4FRWyuXpoQ";

fn elliptic_key() -> Value {
    json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    })
}

fn rsa_key() -> Value {
    json!({ "kty": "RSA", "n": RS256_MODULUS, "e": "AQAB" })
}

fn example(header: &str, signature: &str) -> String {
    format!("{}.{PAYLOAD}.{signature}", BASE64URL_NOPAD.encode(header.as_bytes()))
}

fn auth_with_keys(keys: &[Value], algorithms: &[Algorithm]) -> Result<Auth, String> {
    let jwks = json!({ "keys": keys }).to_string();
    let settings = AuthSettings { algorithms: algorithms.to_vec(), ..settings() };
    let rules = AuthRules::new(settings, Secrets { jwks, ..Secrets::default() }).map_err(|(_, wrong)| wrong)?;
    Ok(Auth::new(Arc::new(rules), NOW, Duration::from_secs(UNIX_S)))
}

/// `key` with one more member.
fn and(mut key: Value, name: &str, value: impl Into<Value>) -> Value {
    key[name] = value.into();
    key
}

#[test]
fn keys_of_a_set_are_known_by_their_kind() {
    let both = [Algorithm::Rs256, Algorithm::Es256];
    let rs256 = example(r#"{"alg":"RS256"}"#, RS256_SIGNATURE);
    let es256 = example(r#"{"alg":"ES256"}"#, ES256_SIGNATURE);
    let auth = auth_with_keys(&[rsa_key(), elliptic_key()], &both).expect("both keys are there");
    assert_eq!([identify(&auth, &rs256, NOW), identify(&auth, &es256, NOW)], ["", ""]);
    let later = NOW + Duration::from_secs(380);
    assert_eq!([identify(&auth, &rs256, later), identify(&auth, &es256, later)], ["token_expired", "token_expired"]);

    // Only one of the two is allowed.
    let auth = auth_with_keys(&[rsa_key(), elliptic_key()], &[Algorithm::Es256]).expect("the key is there");
    assert_eq!([identify(&auth, &rs256, NOW), identify(&auth, &es256, NOW)], ["token_invalid", ""]);
    // A key that says that it is for another algorithm.
    let other = and(rsa_key(), "alg", "RS512");
    let auth = auth_with_keys(&[other, elliptic_key()], &[Algorithm::Es256]).expect("the key is there");
    assert_eq!(identify(&auth, &rs256, NOW), "token_invalid");
}

/// RFC 7517 section 4.3: a key that is not for checking signatures is passed over, and one that says so twice is malformed.
#[test]
fn keys_are_used_for_what_they_are_meant() {
    let token = example(r#"{"alg":"ES256"}"#, ES256_SIGNATURE);
    let check = |key: Value, is_used: bool| match auth_with_keys(std::slice::from_ref(&key), &[Algorithm::Es256]) {
        Ok(auth) => assert_eq!((identify(&auth, &token, NOW).as_str(), is_used), ("", true), "{key}"),
        Err(wrong) => assert!(!is_used && wrong.contains("none of its keys"), "{key}: {wrong}"),
    };
    let operations = |names: Value| and(elliptic_key(), "key_ops", names);
    check(elliptic_key(), true);
    check(operations(json!(["verify"])), true);
    check(operations(json!(["sign", "verify"])), true);
    check(operations(json!(["verify", "another"])), true);
    check(operations(json!(["sign"])), false);
    check(operations(json!(["encrypt", "wrapKey"])), false);
    check(operations(json!([])), false);
    check(operations(json!(["verify", "verify"])), false);
    check(operations(json!(["Verify"])), false);
    check(operations(json!("verify")), false);
    check(operations(json!([1])), false);
    check(and(operations(json!(["verify"])), "use", "sig"), true);
    check(and(operations(json!(["verify"])), "use", "enc"), false);
    check(and(operations(json!(["sign"])), "use", "sig"), false);
    check(and(elliptic_key(), "use", 1), false);
    // Another key of the same set counts all the same.
    let keys = [operations(json!(["sign"])), elliptic_key()];
    let auth = auth_with_keys(&keys, &[Algorithm::Es256]).expect("one is for checking");
    assert_eq!(identify(&auth, &token, NOW), "");
}

/// RFC 7518 section 3.3. A set with such a key is a mistake, whatever else is in it.
#[test]
fn rsa_keys_that_are_too_small_are_refused() {
    let modulus = BASE64URL_NOPAD.decode(RS256_MODULUS.as_bytes()).expect("it is base64url");
    let of_bits = |bits: usize| {
        let mut modulus = modulus[..bits.div_ceil(8)].to_vec();
        modulus[0] = if bits.is_multiple_of(8) { 0x80 } else { 1 };
        and(and(rsa_key(), "n", BASE64URL_NOPAD.encode(&modulus)), "kid", "old")
    };
    let check = |bits: usize, expected: Option<&str>| {
        let loaded = auth_with_keys(&[rsa_key(), of_bits(bits)], &[Algorithm::Rs256]);
        match (loaded, expected) {
            (Ok(_), None) => {}
            (Err(wrong), Some(expected)) => assert!(wrong.contains(expected), "{bits}: {wrong}"),
            (outcome, _) => panic!("{bits}: {outcome:?}"),
        }
    };
    check(2048, None);
    check(1024, Some("the key `old` has 1024 bits, and RS256 needs at least 2048"));
    check(2041, Some("has 2041 bits"));
    // Of no matter where it would not be taken anyway.
    let other = [elliptic_key(), of_bits(1024)];
    assert!(auth_with_keys(&other, &[Algorithm::Es256]).is_ok());
    let unused = and(of_bits(1024), "use", "enc");
    assert!(auth_with_keys(&[rsa_key(), unused], &[Algorithm::Rs256]).is_ok());
}

/// RFC 7515 section 4.1.11: nothing is understood here, so whatever is critical is refused, and so is every other form.
#[test]
fn a_token_with_something_critical_is_refused() {
    let auth = auth_of(settings(), secrets());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let check = |member: &str, expected: &str| {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let message = format!("{}.{}", part(&format!(r#"{{"alg":"HS256"{member}}}"#)), part(&claims().to_string()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::Hs256.native());
        let signature = signature.expect("the key is for it");
        assert_eq!(identify(&auth, &format!("{message}.{signature}"), NOW), expected, "{member}");
    };
    check("", "ann");
    check(r#","typ":"JWT","b64":true,"other":null"#, "ann");
    for form in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null", r#""exp""#, "{}", "1", "true", "[null]", "[[]]"] {
        check(&format!(r#","crit":{form}"#), "token_invalid");
        check(&format!(r#","cr\u0069t":{form}"#), "token_invalid");
    }
    check(r#","crit":null,"crit":null"#, "token_invalid");
    check(r#","b64":false,"crit":["b64"]"#, "token_invalid");
}

#[test]
fn a_secret_may_be_of_any_bytes() {
    let bytes: Vec<u8> = (0..32).map(|byte| (byte * 8) | 0x80).collect();
    let signed = encode(&header(Algorithm::Hs256), &claims(), &EncodingKey::from_secret(&bytes)).expect("it signs");
    let auth = auth_of(settings(), Secrets { secret: bytes, ..Secrets::default() });
    assert_eq!(identify(&auth, &signed, NOW), "ann");
}

#[test]
fn the_id_of_a_key_must_fit() {
    let check = |id: Option<&str>, named: Option<&str>, expected: usize| {
        let key = id.map_or_else(elliptic_key, |id| and(elliptic_key(), "kid", id));
        let auth = auth_with_keys(&[key], &[Algorithm::Es256]).expect("the key is there");
        let rules = auth.rules();
        let tried = rules.keys.candidates(named, Algorithm::Es256.native());
        assert_eq!(tried.count(), expected, "{id:?} {named:?}");
    };
    check(None, None, 1);
    check(None, Some("1"), 1);
    check(Some("1"), Some("1"), 1);
    check(Some("1"), None, 1);
    check(Some("1"), Some("2"), 0);
}

#[test]
fn a_set_without_a_fitting_key_is_a_mistake() {
    let check = |keys: &[Value], wrong: &str| {
        let refused = auth_with_keys(keys, &[Algorithm::Es256]).expect_err("no key");
        assert!(refused.contains(wrong), "{refused}");
    };
    check(&[], "none of its keys");
    check(&[rsa_key()], "none of its keys");
    check(&[and(elliptic_key(), "use", "enc")], "none of its keys");
    check(&[and(elliptic_key(), "crv", "P-384")], "none of its keys");
    check(&[json!({ "kty": "oct", "k": "c2VjcmV0" })], "none of its keys");
    check(&[json!("no key at all"), json!({ "kty": "new" })], "none of its keys");
    let secrets = Secrets { jwks: "[]".into(), ..Secrets::default() };
    let refused = AuthRules::new(AuthSettings { algorithms: vec![Algorithm::Es256], ..settings() }, secrets);
    assert_eq!(refused.expect_err("no set").0, "auth.jwks_file");
}

/// Who knows the public key, as everybody may, must not be able to sign with it as if it were a secret.
#[test]
fn a_public_key_is_no_secret() {
    let auth = auth_with_keys(&[rsa_key(), elliptic_key()], &[Algorithm::Rs256, Algorithm::Es256]).expect("two keys");
    let modulus = BASE64URL_NOPAD.decode(RS256_MODULUS.as_bytes()).expect("it is base64url");
    for secret in [RS256_MODULUS.as_bytes(), &modulus] {
        let key = EncodingKey::from_secret(secret);
        let forged = encode(&header(Algorithm::Hs256), &claims(), &key).expect("any secret will do");
        assert_eq!(identify(&auth, &forged, NOW), "token_invalid");
    }
    // The same where a secret is configured besides.
    let settings = AuthSettings { algorithms: vec![Algorithm::Hs256, Algorithm::Es256], ..settings() };
    let jwks = json!({ "keys": [elliptic_key()] }).to_string();
    let auth = auth_of(settings, Secrets { jwks, ..secrets() });
    let confused = example(r#"{"alg":"HS256"}"#, ES256_SIGNATURE);
    assert_eq!(identify(&auth, &confused, NOW), "token_invalid");
    assert_eq!(identify(&auth, &example(r#"{"alg":"ES256"}"#, ES256_SIGNATURE), NOW), "");
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let check = |algorithms: &[Algorithm], secrets: Secrets, key: &str, wrong: &str| {
        let settings = AuthSettings { algorithms: algorithms.to_vec(), ..settings() };
        let (found, message) = AuthRules::new(settings, secrets).expect_err("it makes no sense");
        assert_eq!(found, key, "{message}");
        assert!(message.contains(wrong), "{message}");
    };
    let secret = |text: &str| Secrets { secret: text.into(), ..Secrets::default() };
    let (hs256, hs512) = (Algorithm::Hs256, Algorithm::Hs512);
    check(&[hs256], Secrets::default(), "auth.mode", "nothing to check clients with");
    check(&[hs256], secret("short"), "auth.secret", "has 5 bytes, and HS256 needs at least 32");
    check(&[hs256, hs512], secret(&SECRET[..63]), "auth.secret", "HS512 needs at least 64");
    check(&[Algorithm::Rs256], secret(SECRET), "auth.secret", "of no use");
    check(&[hs256, Algorithm::Rs256], secret(SECRET), "auth.algorithms", "no key for RS256");
    let pem = Secrets { public_key: "no key".into(), ..Secrets::default() };
    check(&[Algorithm::Rs256], pem.clone(), "auth.public_key_file", "no public key in PEM");
    let private = Secrets { public_key: String::new(), private_key: "no key".into(), ..pem };
    check(&[Algorithm::EdDsa], private, "auth.private_key_file", "no private key in PEM");
    let key = |secret: &str, subscribe: &str| {
        let key = ApiKey { secret: secret.into(), subscribe: vec![subscribe.into()], ..ApiKey::default() };
        Secrets { api_keys: vec![key.clone(), ApiKey { secret: "0123456789abcdef".into(), ..key }], ..secrets() }
    };
    check(&[hs256], key("short", "a"), "api_keys", "has 5 bytes");
    check(&[hs256], key("0123456789abcdef", "a"), "api_keys", "twice");
    check(&[hs256], key("0123456789abcdeg", "a..b"), "api_keys", "empty segment");
    let (key, _) = AuthRules::new(AuthSettings::default(), secrets()).expect_err("nobody is asked");
    assert_eq!(key, "auth.secret");
}

#[test]
fn api_keys_are_shown_in_a_header_of_their_own_or_like_a_token() {
    let key = ApiKey {
        secret: "0123456789abcdef".into(),
        name: "ingest".into(),
        publish: vec!["wells.**".into()],
        ..ApiKey::default()
    };
    let auth = auth_of(settings(), Secrets { api_keys: vec![key], ..Secrets::default() });
    assert_eq!(identify(&auth, "0123456789abcdef", NOW), "ingest");
    for wrong in ["0123456789abcdeg", "0123456789abcde", "0123456789abcdef0"] {
        assert_eq!(identify(&auth, wrong, NOW), "token_invalid");
        assert_eq!(auth.identify_key(wrong).err(), Some(AccessDenied::Invalid));
    }
    let identity = auth.identify_key("0123456789abcdef").expect("it is the key");
    let topic = Topic::parse("wells.1").expect("a valid name");
    assert_eq!((identity.may_publish(&topic), identity.may_subscribe(&topic)), (Ok(()), Err(AccessDenied::Forbidden)));
    assert!(!identity.has_expired(Moment(u64::MAX)));
    assert!(identity.is_api_key && !identity.is_admin());
    let admin = ApiKey { secret: "0123456789abcdef".into(), role: Some("admin".into()), ..ApiKey::default() };
    let auth = auth_of(settings(), Secrets { api_keys: vec![admin], ..Secrets::default() });
    assert!(auth.identify_key("0123456789abcdef").is_ok_and(|identity| identity.is_admin()));
}

#[test]
fn rights_follow_from_patterns_and_the_role() {
    let auth = auth_of(settings(), secrets());
    let check = |role: &str, topic: &str, subscribe: bool, publish: bool| {
        let mut claims = with("role", role);
        claims["publish"] = json!(["orders.eu.**"]);
        let token = token(&header(Algorithm::Hs256), &claims, SECRET);
        let identity = auth.identify(Some(&token), None, NOW).expect("it is valid").expect("somebody's");
        let topic = Topic::parse(topic).expect("a valid name");
        let found = (identity.may_subscribe(&topic).is_ok(), identity.may_publish(&topic).is_ok());
        assert_eq!(found, (subscribe, publish), "{role} {topic}");
    };
    check("reader", "orders.eu", true, false);
    check("reader", "orders.eu.de", false, true);
    check("reader", "orders", false, false);
    check("reader", "alarms", false, false);
    check("admin", "alarms", true, true);
    let guest = Identity { role: Some("admin".into()), ..Identity::guest(NOW) };
    let topic = Topic::parse("alarms").expect("a valid name");
    assert_eq!(guest.may_subscribe(&topic), Err(AccessDenied::Missing));
}

#[test]
fn what_is_shown_of_it_holds_no_secret() {
    let key = ApiKey { secret: "0123456789abcdef".into(), name: "ingest".into(), ..ApiKey::default() };
    let shown = format!("{key:?}");
    let auth = auth_of(settings(), Secrets { api_keys: vec![key], ..secrets() });
    let token = token(&header(Algorithm::Hs256), &claims(), SECRET);
    assert_eq!(identify(&auth, &token, NOW), "ann");
    let shown = format!("{shown}{auth:?}");
    for secret in [SECRET, "0123456789abcdef", &token] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
