//! The parts of authentication by themselves, and limits at their exact values.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

use super::{
    super::{cache::TokenCache, counters::Counters, mapping::Mapped, signatures::SignatureConfig, users},
    login::users,
    *,
};
use crate::topic::{Pattern, Topic};

/// Two pairs of keys, made for these tests.
pub(super) const PAIRS: [[&str; 2]; 2] = [
    [
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKVzNWoVOsnaFu2Bq4QeZD8JUqCzIBvfOkscqZwmdaK5\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA/5ghTqwJDNn7tZtXaTwSJUlNgFlqQSy1PuVDzgfAXsU=\n-----END PUBLIC KEY-----\n",
    ],
    [
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBbp7L1PXw2TpiKhoYWz5FsEh5cI06AjUDaUffnMXHHb\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAk/hx8WUwvB2lRjBLT1vpIRFauDgwkymYiD2d2ZmNV7U=\n-----END PUBLIC KEY-----\n",
    ],
];

/// A pair of RSA keys of 1024 bits, made for these tests.
const SMALL_RSA: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----
MIICeQIBADANBgkqhkiG9w0BAQEFAASCAmMwggJfAgEAAoGBAMFEtSTJjoZB/hYaZB2aOStmheMzCsjqHJszuhqc0diS0jg9OYdWgLp+a2py1Yc/cRFS21krW4zHf6+G
GG55gghLyaUVvCgNfTPBRQdE6w3z0sM/FT3Hs3h+1H9J4F5Iec4pHDMjjHx420n1UhCkqYdu0oOlp70QDzavCAGKqKnNAgMBAAECgYEAhhdDjviA+EmFHpTE7Xz5OVFy
h0X8r5Uur8fd0WUIeziyve5Moce0nK/lmv99gs7The903JMme7BWuNNS1CNdwWrpOForBZLqSNLT1bl3/ptTsrfuprbdMFja52dfh2Lxj0ISEzFDGP5TlqEQNfVYr5bB
uN07E0bxO1fBrA/IiskCQQDmh2/hOxBWShd2NLz1ezwfIL1zzfkm/QEWY9YxK/dkiYw58JugU/DSHHwKic+6eBzTepd3qzgR4QIN8AFgqp4PAkEA1p9YSLKA9BtRukyV
29SHu0HH7skG0sxtn2TY3zGZd+oTGBIrp7alkHJo9GqNS4iZQsZabDAcWh3u2w4uy6PWYwJBANfPyQxYx+WQPUCbBJ7nfJRDiTilhe9bAa6dTkMAPvzuy8jeGENS8esx
YWpYM5EEqy/L34rXTolmVQ8JNbDyaT8CQQDOjaKorGrhA93fH0/mtp8+v+tMS1puy+IA0kzKWXDq8HMZ6nrrOSQUZZfPCzEa7ccadc2Wa6MNs9sqJXcx82cjAkEA5XJ7
lnTJoPekYAWhjuH3DO5CGOBEIZG+SX55UQchkgKx8vP6d0cEyl26nxQ4KW0bf9empa8hQgcr3XQXA6ftaA==
-----END PRIVATE KEY-----
",
    "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDBRLUkyY6GQf4WGmQdmjkrZoXjMwrI6hybM7oanNHYktI4PTmHVoC6fmtqctWHP3ERUttZK1uMx3+vhhhueYIIS8ml
FbwoDX0zwUUHROsN89LDPxU9x7N4ftR/SeBeSHnOKRwzI4x8eNtJ9VIQpKmHbtKDpae9EA82rwgBiqipzQIDAQAB
-----END PUBLIC KEY-----
",
];

fn minted(auth: &Auth, claims: Claims) -> String {
    auth.rules().mint(claims, Duration::from_secs(60), UNIX_S).expect("there is a key").token
}

fn of(subject: &str) -> Claims {
    Claims { sub: subject.into(), ..Claims::default() }
}

/// What a token says, unchecked.
fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url")).expect("JSON")
}

fn grants(patterns: &[&str]) -> Grants {
    Grants::new(patterns.iter().map(|text| Pattern::parse(text).expect("a good pattern")))
}

#[test]
fn a_token_has_at_most_so_many_bytes() {
    let token = minted(&auth_of(settings(), secrets()), of("ann"));
    let most = |token_bytes_max| auth_of(AuthSettings { token_bytes_max, ..settings() }, secrets());
    assert_eq!(identify(&most(token.len()), &token, NOW), "ann");
    assert_eq!(identify(&most(token.len() - 1), &token, NOW), "token_invalid");
}

#[test]
fn a_token_says_who_made_it_for_whom_and_when() {
    let plain = payload(&minted(&auth_of(settings(), secrets()), of("ann")));
    assert_eq!((&plain["sub"], &plain["iat"], &plain["exp"]), (&"ann".into(), &UNIX_S.into(), &(UNIX_S + 60).into()));
    assert!(plain.get("iss").is_none() && plain.get("aud").is_none(), "{plain}");
    let named = auth_of(AuthSettings { issuer: "hub".into(), audience: "all".into(), ..settings() }, secrets());
    let token = minted(&named, of("ann"));
    assert_eq!((&payload(&token)["iss"], &payload(&token)["aud"]), (&"hub".into(), &"all".into()));
    assert_eq!(identify(&named, &token, NOW), "ann");
}

#[test]
fn a_recipient_is_one_of_those_named() {
    let audience = |names: &[&str]| Audience::Many(names.iter().map(|name| (*name).to_owned()).collect());
    let claims = |aud: Audience| Claims { aud, exp: UNIX_S as f64 + 60.0, ..Claims::default() };
    let check = |aud: Audience, expected: Result<(), AccessDenied>| {
        let settings = AuthSettings { audience: "hub".into(), ..settings() };
        assert_eq!(claims(aud.clone()).check(&settings, UNIX_S as f64), expected, "{aud:?}");
    };
    check(Audience::One("hub".into()), Ok(()));
    check(Audience::One("other".into()), Err(AccessDenied::Invalid));
    check(audience(&["hub"]), Ok(()));
    check(audience(&["other", "hub"]), Ok(()));
    check(audience(&["other", "another"]), Err(AccessDenied::Invalid));
    check(audience(&[]), Err(AccessDenied::Invalid));
}

#[test]
fn a_client_has_a_name_to_read() {
    let check = |username: Option<&str>, name: Option<&str>, expected: &str| {
        let claims = Claims { username: username.map(str::to_owned), name: name.map(str::to_owned), ..of("7") };
        assert_eq!(
            claims.identify(Mapped::default(), NOW).expect("good patterns").name(),
            expected,
            "{username:?} {name:?}"
        );
    };
    check(None, None, "7");
    check(Some("ann"), None, "ann");
    check(None, Some("Ann A."), "Ann A.");
    check(Some("ann"), Some("Ann A."), "ann");
}

#[test]
fn a_guest_has_so_much_time() {
    let guest = Identity::guest(NOW);
    assert!(guest.is_guest && guest.has_expired(NOW) && !guest.has_expired(Moment(NOW.0 - 1)));
}

#[test]
fn the_next_topic_is_one_that_may_be_listened_to() {
    let identity = Identity { subscribe: grants(&["orders.*"]), publish: grants(&["a"]), ..Identity::default() };
    assert_eq!(identity.next_subscribable("a"), Some("orders.".to_owned()));
    assert_eq!(identity.next_subscribable("orders.1"), Some("orders.1".to_owned()));
    assert_eq!(identity.next_subscribable("z"), None);
}

/// Caches and budgets count it.
#[test]
fn what_an_identity_holds() {
    let held = |identity: &Identity| identity.held_bytes();
    let identity = |subscribe: &[&str], publish: &[&str]| Identity {
        subject: "1234567".into(),
        username: Some("123".into()),
        role: Some("12".into()),
        subscribe: grants(subscribe),
        publish: grants(publish),
        ..Identity::default()
    };
    let one = grants(&["abc"]).held_bytes();
    assert!(size_of::<Pattern>() + 3 < one && one < 100, "{one}");
    assert_eq!(grants(&[]).held_bytes(), 0);
    assert_eq!(grants(&["abcdef"]).held_bytes(), one + 3);
    assert_eq!(grants(&["abc", "abd"]).held_bytes(), 2 * one);
    assert_eq!(held(&identity(&[], &[])), 12);
    assert_eq!(held(&identity(&["abc"], &[])), 12 + one);
    assert_eq!(held(&identity(&["abc"], &["abd", "abe"])), 12 + 3 * one);
}

/// Half of the bytes are of tokens that were asked for lately.
#[test]
fn a_cache_holds_as_many_bytes_as_it_may() {
    let identity = Arc::new(Identity { subject: "x".repeat(50).into(), ..Identity::default() });
    let entry_bytes = 10 + 50 + 256;
    let token = |number: u32| format!("token {number:04}");
    let keep = |cache: &mut TokenCache, number: u32| cache.keep(token(number).into(), Arc::clone(&identity));
    for (bytes_max, count) in [(2 * entry_bytes - 2, 0), (2 * entry_bytes, 1), (4 * entry_bytes, 1)] {
        let mut cache = TokenCache::new(bytes_max);
        keep(&mut cache, 1);
        assert_eq!(cache.len(), count, "{bytes_max} bytes");
    }
    let mut cache = TokenCache::new(4 * entry_bytes);
    (1..=4).for_each(|number| keep(&mut cache, number));
    assert_eq!(cache.len(), 4, "two and two");
    keep(&mut cache, 5);
    assert_eq!(cache.len(), 3, "the two that came first are forgotten");
    let mut known = |number| cache.find(&token(number), NOW).is_some();
    assert_eq!([known(1), known(2), known(3), known(5)], [false, false, true, true]);
}

#[test]
fn counters_forget_what_is_over_and_then_what_failed_least() {
    const KEYS_MAX: u32 = 16_384;
    let window = Duration::from_secs(60);
    let filled = || {
        let mut counters = Counters::new(window);
        for key in 0..KEYS_MAX {
            assert_eq!(counters.add(key, NOW + Duration::from_nanos(key.into())), 1);
        }
        counters
    };
    let mut counters = filled();
    counters.add(0, NOW);
    assert_eq!(counters.len(), KEYS_MAX as usize, "a key that is known needs no room");
    counters.add(KEYS_MAX, NOW);
    assert_eq!(counters.len(), KEYS_MAX as usize / 2);
    assert_eq!(counters.get(&0, NOW).failures, 2, "it has failed most");
    let mut counters = filled();
    counters.add(KEYS_MAX, NOW + window + Duration::from_nanos(u64::from(KEYS_MAX) / 2));
    assert_eq!(counters.len(), KEYS_MAX as usize / 2, "those within their window, and the new one");
}

#[test]
fn a_refusal_says_why_in_one_sentence() {
    let all = [
        AccessDenied::Missing,
        AccessDenied::Cookie,
        AccessDenied::ForeignPage,
        AccessDenied::ForeignHost,
        AccessDenied::Invalid,
        AccessDenied::Expired,
        AccessDenied::Revoked,
        AccessDenied::Forbidden,
        AccessDenied::TooMany,
    ];
    for denied in all {
        let message = denied.message();
        // RFC 6455 section 5.5: a close frame has room for so much.
        assert!((20..=123).contains(&message.len()) && message.contains(' '), "{message}");
        assert_eq!(denied.to_string(), message);
        assert_eq!(all.iter().filter(|other| other.message() == message).count(), 1, "{message}");
    }
}

#[test]
fn a_pair_of_keys_signs_and_checks() {
    let eddsa = || AuthSettings { algorithms: vec![Algorithm::EdDsa], ..settings() };
    let of_pair = |private: &str, public: &str, users: String| {
        let (private_key, public_key) = (private.to_owned(), public.to_owned());
        AuthRules::new(eddsa(), Secrets { private_key, public_key, users, ..Secrets::default() })
    };
    let [[private, public], [_, other_public]] = PAIRS;
    let rules = of_pair(private, public, users("")).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
    let auth = Auth::new(Arc::new(rules), NOW, Duration::from_secs(UNIX_S));
    assert_eq!(identify(&auth, &minted(&auth, of("eve")), NOW), "eve");
    let check = |private: &str, public: &str, wrong_key: &str| {
        let (key, wrong) = of_pair(private, public, users("")).expect_err("users could not sign in");
        assert_eq!(key, wrong_key, "{wrong}");
    };
    check(private, other_public, "auth.private_key_file");
    check("", public, "users.file");
    assert!(of_pair(private, other_public, String::new()).is_ok(), "nobody signs in");
}

#[test]
fn pem_files_with_small_rsa_keys_are_refused() {
    let rsa = || AuthSettings { algorithms: vec![Algorithm::Rs256], ..settings() };
    let check = |secrets: Secrets, wrong_key: &str| {
        let (key, wrong) = AuthRules::new(rsa(), secrets).expect_err("it has half of the bits");
        assert_eq!(key, wrong_key, "{wrong}");
        assert!(wrong.starts_with("the key has 1024 bits, and RS256 needs at least 2048"), "{wrong}");
    };
    check(Secrets { public_key: SMALL_RSA[1].into(), ..Secrets::default() }, "auth.public_key_file");
    check(Secrets { private_key: SMALL_RSA[0].into(), ..Secrets::default() }, "auth.private_key_file");
}

#[test]
fn what_lacks_a_key_says_where_to_set_it() {
    let check = |algorithms: &[Algorithm], secrets: Secrets, wrong: &str| {
        let settings = AuthSettings { algorithms: algorithms.to_vec(), ..settings() };
        let (key, message) = AuthRules::new(settings, secrets).expect_err("a key is missing");
        assert_eq!(key, "auth.algorithms");
        assert!(message.ends_with(wrong), "{message}");
    };
    let both = [Algorithm::Hs256, Algorithm::EdDsa];
    check(&both, secrets(), "no key for EdDSA: set auth.public_key_file, auth.jwks_file or auth.jwks_url");
    let public = Secrets { public_key: PAIRS[0][1].into(), ..Secrets::default() };
    check(&both, public, "no key for HS256: set auth.secret_file");
    assert!(auth_of(settings(), secrets()).rules().is_required());
    assert!(!Auth::open().rules().is_required());
}

/// The key of RFC 8037 appendix A.2, and what its members say of it.
#[test]
fn a_set_has_keys_of_edwards_curves() {
    let key = |more: &str| {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"{more}}}]}}"#)
    };
    let check = |jwks: String, algorithms: &[Algorithm], expected: bool| {
        let settings = AuthSettings { algorithms: algorithms.to_vec(), ..settings() };
        let rules = AuthRules::new(settings, Secrets { jwks: jwks.clone(), ..Secrets::default() });
        assert_eq!(rules.is_ok(), expected, "{jwks}");
    };
    check(key(""), &[Algorithm::EdDsa], true);
    check(key(r#","alg":"EdDSA""#), &[Algorithm::EdDsa], true);
    check(key(r#","alg":"ES256""#), &[Algorithm::EdDsa], false);
    check(key("").replace("Ed25519", "P-256"), &[Algorithm::EdDsa], false);
}

#[test]
fn limits_of_zero_are_none() {
    let settings = || AuthSettings { token_failures_max: 0, token_failures_per_connection_max: 0, ..settings() };
    let auth = auth_of(settings(), secrets());
    let connection = ConnectionId { reactor: 0, token: 1 };
    let origin = TokenOrigin { address: Some([192, 0, 2, 1].into()), connection: Some(connection) };
    for _ in 0..50 {
        assert_eq!(auth.identify(Some("x.y.z"), origin, NOW).err(), Some(AccessDenied::Invalid));
    }
    assert!(!auth.has_spent(connection, NOW));
    assert!(auth.identify(Some(&minted(&auth, of("ann"))), origin, NOW).is_ok());
    let none = SignatureConfig { wrong_per_address: 0, failed_per_connection: 0, made_per_user: 0 };
    let mut limits = SignatureLimits::new(none);
    assert!((0..50).all(|_| limits.begin_refresh("ann", NOW).is_ok()));
    assert_eq!(limits.on_failed(origin, AccessDenied::Invalid, NOW), AccessDenied::Invalid);
    assert_eq!(limits.failed_len(), 0, "what has no limit is not remembered");
}

#[test]
fn expired_tokens_do_not_count_for_an_address() {
    let auth = auth_of(AuthSettings { token_failures_max: 3, ..settings() }, secrets());
    let (token, late) = (minted(&auth, of("ann")), NOW + Duration::from_secs(3600));
    for _ in 0..10 {
        let address = Some(core::net::IpAddr::from([192, 0, 2, 1]));
        assert_eq!(auth.identify(Some(&token), address, late).err(), Some(AccessDenied::Expired));
    }
}

/// A connection may be moved to another reactor.
#[test]
fn what_a_connection_has_spent_moves_with_it() {
    let auth = auth_of(AuthSettings { token_failures_per_connection_max: 2, ..settings() }, secrets());
    let [spent, moved, blank] = [1, 2, 3].map(|token| ConnectionId { reactor: 0, token });
    for _ in 0..2 {
        let origin = TokenOrigin { address: None, connection: Some(spent) };
        assert!(auth.identify(Some("x.y.z"), origin, NOW).is_err());
    }
    let has_spent = |auth: &Auth| [spent, moved, blank].map(|connection| auth.has_spent(connection, NOW));
    assert_eq!(has_spent(&auth), [true, false, false]);
    auth.follow(spent, moved, NOW);
    assert_eq!(has_spent(&auth), [true, true, false]);
    auth.follow(blank, spent, NOW);
    assert_eq!(has_spent(&auth), [true, true, false], "nothing has come of nothing");
    let open = Auth::open();
    open.follow(spent, moved, NOW);
    assert_eq!(has_spent(&open), [false; 3]);
}

#[test]
fn each_reload_is_a_generation() {
    let auth = auth_of(settings(), secrets());
    let token = minted(&auth, of("ann"));
    for generation in 0..3 {
        assert_eq!(auth.generation(), generation);
        let identity = auth.identify(Some(&token), None, NOW).expect("valid").expect("somebody's");
        assert_eq!(identity.generation, generation);
        auth.replace(&auth.rules());
    }
}

/// Also after it was renewed once.
#[test]
fn a_renewed_identity_still_has_its_credential() {
    let auth = auth_of(settings(), Secrets { users: users(""), ..secrets() });
    let token = minted(&auth, Claims { fanfare_login: Some(UNIX_S), ..of("ann") });
    let identity = auth.identify(Some(&token), None, NOW).expect("valid").expect("somebody's");
    auth.replace(&auth.rules());
    let renewed = auth.renew(&identity).expect("nothing has changed");
    let other = Secrets { users: users(""), secret: SECRET.replace('a', "b").into(), ..Secrets::default() };
    auth.replace(&AuthRules::new(settings(), other).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}")));
    assert_eq!(auth.renew(&renewed).err(), Some(AccessDenied::Revoked), "the key that signed it is gone");
}

#[test]
fn a_user_has_the_role_of_the_file() {
    let auth = auth_of(settings(), Secrets { users: users("role = \"admin\""), ..secrets() });
    let token = minted(&auth, Claims { fanfare_login: Some(UNIX_S), ..of("ann") });
    let identity = auth.identify(Some(&token), None, NOW).expect("valid").expect("somebody's");
    assert!(identity.may_publish(&Topic::parse("anything").expect("a good name")).is_ok());
}

#[test]
fn names_and_passwords_have_at_most_so_many_bytes() {
    let auth = auth_of(settings(), Secrets { users: users(""), ..secrets() });
    assert_eq!(auth.log_in((&"x".repeat(255), "y".repeat(1024)), None, NOW, drop), Ok(()));
    let named = |bytes: usize| users::Users::parse(&users("").replace("ann", &"x".repeat(bytes))).map(drop);
    assert_eq!(named(255), Ok(()));
    assert!(named(256).is_err() && named(300).is_err());
    assert!(hash_password(&"x".repeat(1024)).is_ok());
}

#[test]
fn a_parser_s_message_shows_no_text() {
    let check = |message: &str, expected: &str| assert_eq!(users::without_texts(message), expected);
    check("plain", "plain");
    check("a \"b\" c \"d\" e", "a \"…\" c \"…\" e");
    check("\"a\"", "\"…\"");
}
