//! Keys of a set that is fetched: which tokens wait for them, and which are invalid.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{login::users, parts::PAIRS, *};

const ISSUER: &str = "https://id.example";

fn key_set() -> KeySetSettings {
    KeySetSettings { url: "https://id.example/keys".into(), unknown_max: 4, ..KeySetSettings::default() }
}

fn fetching() -> AuthSettings {
    AuthSettings { algorithms: vec![Algorithm::EdDsa], issuer: ISSUER.into(), key_set: key_set(), ..settings() }
}

/// The public key of the pair `index` as a member of a set. The last 32 bytes of its PEM are the key itself (RFC 8410).
fn jwk(index: usize, id: &str) -> Value {
    let body: String = PAIRS[index][1].lines().filter(|line| !line.starts_with('-')).collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).expect("it is PEM");
    let key = data_encoding::BASE64URL_NOPAD.encode(&der[der.len() - 32..]);
    json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": id, "x": key })
}

fn claims() -> Value {
    json!({ "sub": "ann", "iss": ISSUER, "exp": UNIX_S + 60 })
}

fn sign(index: usize, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::EdDsa.native()) };
    encode(&header, claims, &EncodingKey::from_ed_pem(PAIRS[index][0].as_bytes()).expect("a private key"))
        .expect("it signs")
}

fn fetched(keys: &[Value]) -> FetchedKeys {
    FetchedKeys::parse(&json!({ "keys": keys }).to_string(), &[Algorithm::EdDsa]).expect("a good set")
}

fn at(seconds: u64) -> Moment {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn tokens_of_unknown_keys_wait_for_the_next_set() {
    let auth = auth_of(fetching(), Secrets::default());
    let check = |id: Option<&str>, seconds: u64, expected: &str| {
        assert_eq!(identify(&auth, &sign(0, id, &claims()), at(seconds)), expected, "{id:?} at {seconds}");
    };
    // Nothing is known before the first set.
    check(Some("1"), 0, "keys_pending");
    check(None, 0, "keys_pending");
    assert!(auth.replace_fetched(fetched(&[jwk(1, "other")]), at(1)));
    check(None, 2, "token_invalid");
    check(Some("1"), 2, "keys_pending");
    check(Some("1"), 3, "keys_pending");
    // A set that was asked for earlier says nothing.
    assert!(!auth.replace_fetched(fetched(&[jwk(1, "other")]), at(1)));
    check(Some("1"), 3, "keys_pending");
    // The next one does not have the key either.
    auth.replace_fetched(fetched(&[jwk(1, "other")]), at(4));
    check(Some("1"), 5, "token_invalid");
    check(Some("2"), 5, "keys_pending");
    // One has it.
    assert!(auth.replace_fetched(fetched(&[jwk(1, "other"), jwk(0, "1")]), at(6)));
    check(Some("1"), 7, "ann");
    check(None, 7, "ann");
    // Its id is known, and another key has signed.
    assert_eq!(identify(&auth, &sign(1, Some("1"), &claims()), at(7)), "token_invalid");
    // Ids that somebody makes up have a bound, and are forgotten.
    for id in ["a", "b"] {
        check(Some(id), 8, "keys_pending");
    }
    check(Some("c"), 8, "token_invalid");
    auth.replace_fetched(fetched(&[jwk(0, "1")]), at(9) + key_set().refresh);
    let late = sign(0, Some("c"), &json!({ "sub": "ann", "iss": ISSUER, "exp": UNIX_S + 6000 }));
    assert_eq!(identify(&auth, &late, at(10) + key_set().refresh), "keys_pending");
}

/// Nobody makes the hub fetch a set with tokens that no key could make valid.
#[test]
fn only_tokens_that_could_be_valid_wait() {
    let both = vec![Algorithm::Hs256, Algorithm::EdDsa];
    let auth = auth_of(AuthSettings { audience: "hub".into(), algorithms: both, ..fetching() }, secrets());
    auth.replace_fetched(fetched(&[jwk(1, "other")]), NOW);
    let good = json!({ "sub": "ann", "iss": ISSUER, "aud": "hub", "exp": UNIX_S + 60 });
    let check = |name: &str, value: Value, expected: &str| {
        let mut claims = good.clone();
        claims[name] = value.clone();
        assert_eq!(identify(&auth, &sign(0, Some("1"), &claims), NOW), expected, "{name} = {value}");
    };
    check("sub", "ann".into(), "keys_pending");
    check("iss", "https://id.example/".into(), "token_invalid");
    check("aud", "other".into(), "token_invalid");
    check("exp", UNIX_S.into(), "token_invalid");
    check("exp", "soon".into(), "token_invalid");
    check("nbf", (UNIX_S + 9).into(), "token_invalid");
    let critical =
        Header { kid: Some("1".into()), crit: Some(vec!["x".into()]), ..Header::new(Algorithm::EdDsa.native()) };
    let key = EncodingKey::from_ed_pem(PAIRS[0][0].as_bytes()).expect("a private key");
    assert_eq!(identify(&auth, &encode(&critical, &good, &key).expect("it signs"), NOW), "token_invalid");
    // An algorithm that is not allowed, and a secret: whoever reads the set could sign with what is in it.
    for (algorithm, key) in [
        (Algorithm::Hs256, PAIRS[1][1].as_bytes()),
        (Algorithm::Hs256, jwk(1, "")["x"].as_str().expect("a text").as_bytes()),
    ] {
        for id in ["1", "other"] {
            let header = Header { kid: Some(id.into()), ..Header::new(algorithm.native()) };
            let token = encode(&header, &good, &EncodingKey::from_secret(key)).expect("it signs");
            assert_eq!(identify(&auth, &token, NOW), "token_invalid");
        }
    }
    for garbage in ["a.b.c", "..", "eyJhbGciOiJFZERTQSJ9..", "eyJhbGciOiJFZERTQSJ9.e30.AAAA"] {
        assert_eq!(identify(&auth, garbage, NOW), "token_invalid");
    }
}

#[test]
fn streams_end_with_the_key_of_their_token() {
    let auth = auth_of(
        AuthSettings { algorithms: vec![Algorithm::Hs256, Algorithm::EdDsa], ..fetching() },
        Secrets { users: users(""), ..secrets() },
    );
    auth.replace_fetched(fetched(&[jwk(0, "1"), jwk(1, "2")]), NOW);
    let who = |token: &str| auth.identify(Some(token), None, NOW).expect("valid").expect("somebody's");
    let (one, two) = (who(&sign(0, Some("1"), &claims())), who(&sign(1, Some("2"), &claims())));
    let generation = auth.generation();
    auth.replace_fetched(fetched(&[jwk(0, "1"), jwk(1, "2")]), at(1));
    assert_eq!(auth.generation(), generation, "the same keys change nothing");
    auth.replace_fetched(fetched(&[jwk(1, "2")]), at(2));
    assert_eq!(auth.renew(&one).err(), Some(AccessDenied::Revoked));
    assert!(auth.renew(&two).is_ok());
    // A reload keeps the set, but for keys of algorithms that are not allowed any more.
    let next = |algorithms: &[Algorithm]| {
        let settings = AuthSettings { algorithms: algorithms.to_vec(), ..fetching() };
        let given = if algorithms.contains(&Algorithm::Hs256) { secrets() } else { Secrets::default() };
        AuthRules::new(settings, given).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"))
    };
    auth.replace(&next(&[Algorithm::EdDsa]));
    assert!(auth.renew(&two).is_ok());
    assert_eq!(identify(&auth, &sign(1, Some("2"), &claims()), NOW), "ann");
    auth.replace(&next(&[Algorithm::Hs256, Algorithm::Es256]));
    assert_eq!(auth.renew(&two).err(), Some(AccessDenied::Revoked));
    assert_eq!(identify(&auth, &sign(1, Some("2"), &claims()), NOW), "token_invalid");
}

/// An identity says who vouches for it, also after the rules have changed.
#[test]
fn who_made_a_token_is_known() {
    let rule = |claim: &str| ClaimRule { claim: claim.into(), ..ClaimRule::default() };
    let given = |rules| AuthSettings { rules, ..fetching() };
    let auth = auth_of(given(vec![rule("roles"), rule("sub"), rule("iss")]), Secrets::default());
    auth.replace_fetched(fetched(&[jwk(0, "0"), jwk(1, "1")]), NOW);
    let check = |identity: &Identity, rules: &[u32]| {
        let made_by = (identity.issuer.as_deref(), identity.key_id.as_deref(), &*identity.rules);
        assert_eq!(made_by, (Some(ISSUER), Some("1"), rules));
    };
    // A token need not name its key.
    let identity = auth.identify(Some(&sign(1, None, &claims())), None, NOW).expect("it is valid").expect("somebody's");
    check(&identity, &[2, 3]);
    let next = AuthRules::new(given(vec![rule("sub"), rule("roles")]), Secrets::default());
    auth.replace(&next.unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}")));
    check(&auth.renew(&identity).expect("it is still valid"), &[1]);
}

/// A claim of the hub's own login says nothing in a token of another issuer: it would give the rights of a user here.
#[test]
fn other_issuers_know_nothing_of_logins_here() {
    let both = AuthSettings { algorithms: vec![Algorithm::Hs256, Algorithm::EdDsa], ..fetching() };
    let auth = auth_of(both, Secrets { users: users(""), ..secrets() });
    auth.replace_fetched(fetched(&[jwk(0, "1")]), NOW);
    let token =
        sign(0, Some("1"), &json!({ "sub": "ann", "iss": ISSUER, "exp": UNIX_S + 60, "fanfare_login": UNIX_S }));
    let identity = auth.identify(Some(&token), None, NOW).expect("it is valid").expect("somebody's");
    assert_eq!((identity.login_unix_s, identity.subscribe.clone()), (None, Grants::default()));
}

#[test]
fn settings_that_would_trust_anybody_are_refused() {
    let check = |settings: AuthSettings, expected: Option<&str>| {
        let outcome = AuthRules::new(settings, Secrets::default());
        assert_eq!(outcome.as_ref().err().map(|(key, _)| *key), expected, "{outcome:?}");
    };
    let at = |url: &str| AuthSettings { key_set: KeySetSettings { url: url.into(), ..key_set() }, ..fetching() };
    check(fetching(), None);
    for good in
        ["https://id.example:8443/keys?x=y", "http://127.0.0.1:80/keys", "http://localhost/keys", "http://[::1]:1/k"]
    {
        check(at(good), None);
    }
    for bad in [
        "http://id.example/keys",
        "http://127.0.0.1.example/",
        "http://localhost:80@id.example/",
        "https://a:b@id.example/",
        "https:///keys",
        "ftp://id.example",
        "id.example/keys",
        "https://id.example/a b",
    ] {
        check(at(bad), Some("auth.jwks_url"));
    }
    check(AuthSettings { issuer: String::new(), ..fetching() }, Some("auth.issuer"));
    check(AuthSettings { algorithms: vec![Algorithm::Hs256], ..fetching() }, Some("auth.algorithms"));
    check(AuthSettings { algorithms: vec![Algorithm::Hs256, Algorithm::EdDsa], ..fetching() }, Some("auth.algorithms"));
    check(AuthSettings { mode: Mode::None, ..fetching() }, Some("auth.jwks_url"));
    let discovery = KeySetSettings { url: String::new(), discovery: true, ..key_set() };
    check(AuthSettings { key_set: discovery.clone(), ..fetching() }, None);
    check(AuthSettings { key_set: discovery, issuer: "http://id.example".into(), ..fetching() }, Some("auth.issuer"));
    check(
        AuthSettings { key_set: KeySetSettings { discovery: true, ..key_set() }, ..fetching() },
        Some("auth.discovery"),
    );
}
