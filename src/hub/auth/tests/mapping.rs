//! What rules make of the claims of other issuers' tokens.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    super::mapping::{Mismatch, Unfilled},
    *,
};
use crate::topic::Topic;

fn templates(texts: &[&str]) -> Vec<PatternTemplate> {
    texts.iter().map(|text| text.parse().unwrap_or_else(|wrong| panic!("{wrong}"))).collect()
}

fn rule(claim: &str, value: &str, subscribe: &[&str]) -> ClaimRule {
    ClaimRule {
        subscribe: templates(subscribe),
        ..ClaimRule { claim: claim.into(), value: value.into(), ..ClaimRule::default() }
    }
}

fn sign(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["exp"] = (UNIX_S + 60).into();
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::Hs256.native()), &claims, &key).expect("it signs")
}

fn auth(rules: Vec<ClaimRule>) -> Auth {
    auth_of(AuthSettings { rules, ..settings() }, secrets())
}

fn identity(auth: &Auth, claims: &Value) -> Arc<Identity> {
    auth.identify(Some(&sign(claims)), None, NOW).expect("it is valid").expect("somebody's")
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

/// As Keycloak makes them.
fn keycloak() -> Value {
    json!({
        "sub": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "typ": "Bearer", "azp": "dashboard", "sid": "0c5f", "acr": "1",
        "aud": ["hub", "account"], "allowed-origins": ["https://wells.example"],
        "realm_access": { "roles": ["offline_access", "operator"] },
        "resource_access": { "hub": { "roles": ["publisher"] }, "my.app": { "roles": ["viewer"] } },
        "scope": "openid email wells:read", "email_verified": true, "preferred_username": "ann", "groups": ["/field/north"],
    })
}

/// As Auth0 makes them.
fn auth0() -> Value {
    json!({
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "azp": "my_client_id", "scope": "openid profile", "gty": "password",
        "aud": ["https://hub.example/", "https://acme.eu.auth0.com/userinfo"], "permissions": ["read:wells", "write:orders"],
        "https://wells.example/roles": ["operator"], "https://wells.example/tenant": "north",
    })
}

/// As Microsoft Entra ID makes them.
fn entra() -> Value {
    json!({
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "oid": "00000000-0000-0000-66f3-3332eca7ea81", "ver": "2.0",
        "tid": "9122040d-6c67-4c5b-b112-36a304b66dad", "roles": ["Wells.Operate"], "scp": "Wells.Read Orders.Read",
        "groups": ["b1c4", "c2d5"], "name": "Ann Example", "preferred_username": "ann@example.org",
    })
}

#[test]
fn which_claims_meet_a_rule() {
    let check = |claims: Value, claim: &str, value: &str, expected: Result<(), Mismatch>| {
        assert_eq!(rule(claim, value, &[]).check(&claims), expected, "{claim} = {value:?}");
    };
    check(keycloak(), "realm_access.roles", "operator", Ok(()));
    check(keycloak(), "realm_access.roles", "oper", Err(Mismatch::OtherValue));
    check(keycloak(), "realm_access.roles", "Operator", Err(Mismatch::OtherValue));
    check(keycloak(), "realm_access", "operator", Err(Mismatch::OtherValue));
    check(keycloak(), "realm_access", "", Ok(()));
    check(keycloak(), "roles", "operator", Err(Mismatch::Missing));
    check(keycloak(), "resource_access.hub.roles", "publisher", Ok(()));
    check(keycloak(), "resource_access.my.app.roles", "viewer", Ok(()));
    check(keycloak(), "resource_access.other.roles", "viewer", Err(Mismatch::Missing));
    check(keycloak(), "scope", "wells:read", Ok(()));
    check(keycloak(), "scope", "openid email", Err(Mismatch::OtherValue));
    check(keycloak(), "email_verified", "true", Ok(()));
    check(keycloak(), "groups", "/field/north", Ok(()));
    check(auth0(), "permissions", "read:wells", Ok(()));
    check(auth0(), "https://wells.example/roles", "operator", Ok(()));
    check(auth0(), "https://wells.example/tenant", "north", Ok(()));
    check(entra(), "roles", "Wells.Operate", Ok(()));
    check(entra(), "scp", "Orders.Read", Ok(()));
    check(entra(), "groups", "c2d5", Ok(()));
    // Words count in scopes alone: people may choose their names.
    check(entra(), "name", "Example", Err(Mismatch::OtherValue));
    check(entra(), "name", "Ann Example", Ok(()));
    check(entra(), "scope.name", "Ann", Err(Mismatch::Missing));
    for (claim, is_there) in [
        (json!(null), false),
        (json!(false), false),
        (json!(""), false),
        (json!([]), false),
        (json!({}), false),
        (json!(true), true),
        (json!(0), true),
        (json!("x"), true),
        (json!([null]), true),
    ] {
        let expected = if is_there { Ok(()) } else { Err(Mismatch::OtherValue) };
        check(json!({ "c": claim }), "c", "", expected);
    }
    check(json!({ "level": 3 }), "level", "3", Ok(()));
    check(json!({ "levels": [[3], { "3": 3 }, null] }), "levels", "3", Err(Mismatch::OtherValue));
    // Of members with dots in their names, the longest name counts.
    let nested = json!({ "a.b": { "c": "long" }, "a": { "b": { "c": "short" }, "b.d": "deep" } });
    check(nested.clone(), "a.b.c", "long", Ok(()));
    check(nested, "a.b.d", "deep", Ok(()));
}

/// What a claim says is never a wildcard, and never another level.
#[test]
fn patterns_are_filled_with_plain_segments_only() {
    let check = |template: &str, claims: Value, expected: Result<&[&str], Unfilled>| {
        let filled = templates(&[template])[0].fill(&claims);
        let filled = filled.map(|patterns| patterns.iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(filled, expected, "{template} {claims}");
    };
    check("users.*.**", json!({}), Ok(&["users.*.**"]));
    check("users.{sub}.**", keycloak(), Ok(&["users.f81d4fae-7dec-11d0-a765-00a0c91e6bf6.**"]));
    check("t.{https://wells.example/tenant}.x-{https://wells.example/tenant}", auth0(), Ok(&["t.north.x-north"]));
    check("t.{groups}.*", entra(), Ok(&["t.b1c4.*", "t.c2d5.*"]));
    check(
        "t.{tid}.{groups}",
        entra(),
        Ok(&["t.9122040d-6c67-4c5b-b112-36a304b66dad.b1c4", "t.9122040d-6c67-4c5b-b112-36a304b66dad.c2d5"]),
    );
    check("t.{level}", json!({ "level": 3 }), Ok(&["t.3"]));
    check("t.{realm_access.roles}", keycloak(), Ok(&["t.offline_access", "t.operator"]));
    let no_segment = |value: &str| Err(Unfilled::NoSegment("sub".into(), value.into()));
    for value in [
        "*", "**", ".", "..", "a.b", "a.", ".a", "", " ", "a b", ">", "a*", "?", "[ab]", "ä", "{name}", "a\n", "a\0",
        "auth0|5f",
    ] {
        for template in ["users.{sub}.**", "{sub}", "{sub}.**", "users.u-{sub}"] {
            check(template, json!({ "sub": value, "name": "x" }), no_segment(value));
        }
    }
    check("u.{sub}", json!({ "sub": ["*", "ann", "a.b"] }), Ok(&["u.ann"]));
    check("u.{sub}", json!({}), Err(Unfilled::Missing("sub".into())));
    check("u.{sub}", json!({ "sub": { "x": "y" } }), Err(Unfilled::Missing("sub".into())));
    check("u.{sub}", json!({ "sub": [] }), Err(Unfilled::Missing("sub".into())));
    check("u.{a}.{b}", json!({ "a": ["1", "2"], "b": ["3", "4"] }), Err(Unfilled::TwoLists("a".into(), "b".into())));
    check("u.{sub}", json!({ "sub": "x".repeat(255) }), Err(Unfilled::TooLong));
    for bad in [
        "users.{sub",
        "users.{}",
        "users.{{sub}}",
        "users.{sub}}",
        "users.sub}",
        "a..{sub}",
        "**.{sub}",
        "*{sub}",
        "{sub}*",
        "",
    ] {
        assert!(bad.parse::<PatternTemplate>().is_err(), "{bad}");
    }
}

#[test]
fn tokens_of_providers_get_rights_by_rules() {
    let operators = |claim: &str, value: &str| {
        vec![
            rule(claim, value, &["wells.**"]),
            ClaimRule { publish: templates(&["users.{sub}.out"]), ..rule("sub", "", &["users.{sub}.**"]) },
        ]
    };
    let check = |claims: Value, claim: &str, value: &str, wells: bool, own: bool| {
        let identity = identity(&auth(operators(claim, value)), &claims);
        assert_eq!(identity.may_subscribe(&topic("wells.7.pressure")).is_ok(), wells, "{claim}");
        let sub = claims["sub"].as_str().expect("a text").replace('|', "-");
        assert_eq!(identity.may_subscribe(&topic(&format!("users.{sub}.inbox"))).is_ok(), own, "{sub}");
        assert_eq!(identity.may_publish(&topic(&format!("users.{sub}.out"))).is_ok(), own, "{sub}");
        for other in ["users.somebody.inbox", "users", "orders.1"] {
            assert!(identity.may_subscribe(&topic(other)).is_err(), "{other}");
        }
        assert!(identity.may_publish(&topic("wells.7.pressure")).is_err());
    };
    check(keycloak(), "realm_access.roles", "operator", true, true);
    check(keycloak(), "realm_access.roles", "admin", false, true);
    // Auth0's subject is no segment.
    check(auth0(), "permissions", "read:wells", true, false);
    check(entra(), "roles", "Wells.Operate", true, true);
    check(entra(), "scp", "Wells.Read", true, true);
}

/// The claims that the hub has of its own count besides, and a rule's role before the token's.
#[test]
fn rules_add_to_what_the_token_says() {
    let claims = json!({ "sub": "ann", "roles": ["ops", "dev"], "subscribe": ["orders.*"], "role": "guest" });
    let roles = vec![
        ClaimRule { role: "operator".into(), ..rule("roles", "ops", &["wells.*"]) },
        ClaimRule { role: "admin".into(), ..rule("roles", "boss", &["**"]) },
        ClaimRule { role: "developer".into(), ..rule("roles", "dev", &[]) },
    ];
    let mapped = identity(&auth(roles), &claims);
    assert_eq!(mapped.role.as_deref(), Some("operator"));
    let may = ["orders.1", "wells.1", "other.1"].map(|name| mapped.may_subscribe(&topic(name)).is_ok());
    assert_eq!(may, [true, true, false]);
    let without = identity(&auth(Vec::new()), &claims);
    assert_eq!((without.role.as_deref(), without.claims.is_some()), (Some("guest"), false));
    // Other issuers' `role` and `name` may be of other types.
    let odd = json!({ "sub": "ann", "roles": "ops", "role": ["admin"], "name": { "first": "Ann" }, "username": 7 });
    let odd = identity(&auth(vec![rule("roles", "ops", &["wells.*"])]), &odd);
    assert_eq!((odd.role.as_deref(), odd.name(), odd.is_admin()), (None, "ann", false));
    assert!(odd.may_subscribe(&topic("wells.1")).is_ok());
    // Many values: as many patterns as are allowed, and no more.
    let groups =
        |count: usize| json!({ "sub": "ann", "groups": (0..count).map(|group| group.to_string()).collect::<Vec<_>>() });
    let many = |count: usize| {
        let settings =
            AuthSettings { rules: vec![rule("sub", "", &["g.{groups}"])], rule_patterns_max: 10, ..settings() };
        identify(&auth_of(settings, secrets()), &sign(&groups(count)), NOW)
    };
    assert_eq!([many(10), many(11)], ["ann", "token_invalid"]);
}

/// Streams that are open under former rules have the rights of the present ones.
#[test]
fn rights_by_rules_are_those_of_the_rules_in_force() {
    let auth = auth(vec![rule("roles", "ops", &["wells.*"])]);
    let before = identity(&auth, &json!({ "sub": "ann", "roles": ["ops"], "subscribe": ["orders.*"] }));
    let check = |rules: Vec<ClaimRule>, expected: [bool; 3]| {
        let next = AuthRules::new(AuthSettings { rules, ..settings() }, secrets());
        auth.replace(&next.unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}")));
        let renewed = auth.renew(&before).expect("the key is the same");
        let may = ["wells.1", "alarms.1", "orders.1"].map(|name| renewed.may_subscribe(&topic(name)).is_ok());
        assert_eq!(may, expected);
        assert_eq!((renewed.expires, &renewed.credential), (before.expires, &before.credential));
    };
    check(vec![rule("roles", "ops", &["alarms.*"])], [false, true, true]);
    check(Vec::new(), [false, false, true]);
    check(vec![rule("roles", "dev", &["alarms.*"]), rule("sub", "ann", &["wells.*"])], [true, false, true]);
    let (key, _) = AuthRules::new(
        AuthSettings { rules: vec![rule("sub", "", &["a"])], ..AuthSettings::default() },
        Secrets::default(),
    )
    .expect_err("nobody is asked");
    assert_eq!(key, "auth.rule");
}
