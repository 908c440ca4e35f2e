//! What is left of rights that were given before the rules changed.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::{login::users, *};
use crate::topic::Topic;

const KEY: &str = "0123456789abcdef";

fn key(secret: &str, name: &str, subscribe: &str) -> ApiKey {
    ApiKey { secret: secret.into(), name: name.into(), subscribe: vec![subscribe.into()], ..ApiKey::default() }
}

fn rules(secrets: Secrets) -> AuthRules {
    AuthRules::new(settings(), secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"))
}

fn given() -> Secrets {
    Secrets { users: users(""), api_keys: vec![key(KEY, "ingest", "orders.*")], ..secrets() }
}

fn sign(claims: serde_json::Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::Hs256.native()), &claims, &key).expect("it signs")
}

/// Keys are replaced with the algorithms that they are for; all other settings stay.
#[test]
fn algorithms_are_those_of_the_rules_in_force() {
    let auth = auth_of(settings(), secrets());
    let token = sign(json!({ "sub": "eve", "exp": UNIX_S + 60 }));
    assert!(auth.identify(Some(&token), None, NOW).is_ok());
    let other = AuthSettings { algorithms: vec![Algorithm::Hs384], issuer: "somebody".into(), ..settings() };
    let secret = SECRET.repeat(2).into_bytes();
    let key = EncodingKey::from_secret(&secret);
    let next = AuthRules::new(other, Secrets { secret, ..Secrets::default() });
    auth.replace(&next.unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}")));
    assert_eq!(auth.identify(Some(&token), None, NOW).err(), Some(AccessDenied::Invalid));
    let claims = json!({ "sub": "eve", "exp": UNIX_S + 60 });
    let token = encode(&Header::new(Algorithm::Hs384.native()), &claims, &key).expect("it signs");
    assert!(auth.identify(Some(&token), None, NOW).is_ok(), "the issuer of the start, which is any");
}

/// Each kind of client was let in, and then the rules change. What it may do then: `orders` may still listen to orders, `none`
/// to nothing any more; otherwise the code of the refusal.
#[test]
fn rights_are_those_of_now() {
    let claims = |more: serde_json::Value| {
        let mut claims = json!({ "sub": "eve", "exp": UNIX_S + 60, "subscribe": ["orders.*"] });
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        sign(claims)
    };
    let foreign = claims(json!({ "jti": "t1" }));
    let of_user = claims(json!({ "sub": "ann", "fanfare_login": UNIX_S }));
    let check = |then: Secrets, expected: [&str; 3]| {
        let auth = auth_of(settings(), given());
        let tokens = [foreign.as_str(), of_user.as_str(), KEY];
        let before = tokens.map(|token| auth.identify(Some(token), None, NOW).expect("valid").expect("somebody's"));
        assert_eq!(auth.renew(&before[0]).map(|it| it.generation), Ok(0));
        let shown = format!("{then:?}", then = then.denied);
        auth.replace(&rules(then));
        assert_eq!(auth.generation(), 1);
        let topic = Topic::parse("orders.1").expect("a valid name");
        let found = before.each_ref().map(|identity| match auth.renew(identity) {
            Ok(renewed) => {
                assert_eq!((renewed.generation, renewed.expires), (1, identity.expires));
                if renewed.may_subscribe(&topic).is_ok() { "orders" } else { "none" }
            }
            Err(denied) => denied.code(),
        });
        assert_eq!(found, expected, "{shown}");
    };
    const GONE: &str = "user_revoked";
    check(given(), ["orders"; 3]);
    // Tokens of others say themselves what they give; users and keys are worth what the files say.
    let fewer = users("").replace("orders.*", "other.*");
    let keys = |key: ApiKey| vec![key];
    check(
        Secrets { users: fewer, api_keys: keys(key(KEY, "ingest", "other.*")), ..secrets() },
        ["orders", "none", "none"],
    );
    check(Secrets { users: users("disabled = true"), ..given() }, ["orders", GONE, "orders"]);
    check(Secrets { users: String::new(), ..given() }, ["orders", GONE, "orders"]);
    check(Secrets { secret: SECRET.replace('a', "b").into(), ..given() }, [GONE, GONE, "orders"]);
    check(Secrets { api_keys: Vec::new(), ..given() }, ["orders", "orders", GONE]);
    check(
        Secrets { api_keys: keys(key("another key, as long", "ingest", "orders.*")), ..given() },
        ["orders", "orders", GONE],
    );
    check(Secrets { api_keys: keys(key(KEY, "other", "orders.*")), ..given() }, ["orders", "orders", GONE]);
    let denied = |text: &str| Secrets { denied: text.into(), ..given() };
    check(denied("jti = [\"t1\"]"), [GONE, "orders", "orders"]);
    check(denied("sub = [\"ann\"]"), ["orders", GONE, "orders"]);
    check(denied("sub = [\"ingest\", \"eve\"]"), [GONE, "orders", GONE]);
    check(denied("jti = [\"t2\", \"ann\"]\nsub = [\"t1\", \"Ann\"]"), ["orders"; 3]);
    check(denied("# nobody\n"), ["orders"; 3]);
}

#[test]
fn who_is_denied_is_not_let_in() {
    let denied = "jti = [\"t1\"]\nsub = [\"ingest\", \"mallory\"]";
    let auth = auth_of(settings(), Secrets { denied: denied.into(), ..given() });
    let claims = |sub: &str, jti: &str| sign(json!({ "sub": sub, "jti": jti, "exp": UNIX_S + 60 }));
    let check = |token: &str, expected: &str| assert_eq!(identify(&auth, token, NOW), expected, "{token}");
    check(&claims("eve", "t2"), "eve");
    // Not from the cache either.
    check(&claims("eve", "t2"), "eve");
    check(&claims("eve", "t1"), "user_revoked");
    check(&claims("mallory", "t2"), "user_revoked");
    check(KEY, "user_revoked");
    assert_eq!(auth.identify_key(KEY).err(), Some(AccessDenied::Revoked));
    // A name that is no text names nothing (RFC 7519 section 4.1.7).
    check(&sign(json!({ "sub": "eve", "jti": 1, "exp": UNIX_S + 60 })), "token_invalid");
}

#[test]
fn a_deny_list_that_says_nothing_clear_is_a_mistake() {
    let check = |text: &str, wrong: &str| {
        let (key, message) = AuthRules::new(settings(), Secrets { denied: text.into(), ..given() }).expect_err(text);
        assert_eq!(key, "auth.deny_file");
        assert!(message.contains(wrong), "{message}");
    };
    check("sub = \"ann\"", "it is no deny list");
    check("ann", "it is no deny list");
    check("user = [\"ann\"]", "it is no deny list");
    check("sub = [\"\"]", "a name in it is empty");
    let (key, _) = AuthRules::new(AuthSettings::default(), Secrets { denied: "sub = []".into(), ..Secrets::default() })
        .expect_err("nobody is asked");
    assert_eq!(key, "auth.deny_file");
}

#[test]
fn each_token_that_the_hub_makes_has_a_name_of_its_own() {
    let rules = rules(given());
    let names = [0, 1].map(|_| {
        let minted = rules.mint(Claims::default(), Duration::from_secs(60), UNIX_S).expect("there is a key");
        rules.keys.check(&minted.token).expect("its own").0.jti.expect("it has one")
    });
    assert_ne!(names[0], names[1]);
    assert!(15 < names[0].len());
}
