//! Files that hubs of several releases share, and tokens that one issues and another is shown.

use super::{
    super::{Claims, revocation::DenyList, users::Users},
    *,
};
use crate::tests::{FormKind, LATER_MEMBER, check_forms, members, object};

/// A user of [`USERS`].
fn show_user(users: &Users, name: &str) -> String {
    let Some(user) = users.find(name) else { return format!("no {name}") };
    let identity = user.identify(name, UNIX_S, NOW);
    let may = |name: &str| {
        let topic = crate::topic::Topic::parse(name).expect("a good name");
        (identity.may_subscribe(&topic).is_ok(), identity.may_publish(&topic).is_ok())
    };
    let (hash, is_disabled) = (&user.password_hash, user.is_disabled);
    let (orders, news) = (may("orders.1"), may("news"));
    format!("{name}: {hash}, disabled {is_disabled}, role {:?}, orders.1 {orders:?}, news {news:?}", identity.role)
}

const USERS: &str = "\
[[user]]
username = \"ann\"
password = \"$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$FOpd0D6ehj4VbRD1PnQNFMwsOpcKPnR9aNjJOeXgbxk\"
role = \"clerk\"
subscribe = [\"orders.*\"]
publish = [\"news\"]

[[user]]
username = \"bob\"
password = \"$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$FOpd0D6ehj4VbRD1PnQNFMwsOpcKPnR9aNjJOeXgbxk\"
disabled = true
";

/// People write these files, so what is not known there is a misspelling: nothing may be added before all hubs know it.
#[test]
fn files() {
    let lines = |text: &str| text.lines().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
    let join = |parts: &[Vec<u8>]| String::from_utf8(parts.join(&b'\n')).expect("text");
    let read = |parts: &[Vec<u8>]| {
        let users = Users::parse(&join(parts)).expect("a users file");
        ["ann", "bob", "eve"].map(|name| show_user(&users, name)).join("; ")
    };
    check_forms(&FormKind {
        name: "users-file",
        written: vec![("a users file", lines(USERS))],
        read: &read,
        extend: None,
    });
    let read = |parts: &[Vec<u8>]| {
        let denied = DenyList::parse(&join(parts)).expect("a deny list");
        let token = |id: &str| Identity {
            credential: Credential::Token { key: Fingerprint::of(b"k"), id: Some(id.into()) },
            ..Identity::default()
        };
        let is_denied = |id: &str| denied.check(&token(id)).is_err();
        let names = denied.names_subject("ann");
        format!("token-1 denied {}, token-2 denied {}, ann denied {names}", is_denied("token-1"), is_denied("token-2"))
    };
    let list = lines("jti = [\"token-1\"]\nsub = [\"ann\"]");
    check_forms(&FormKind { name: "deny-list", written: vec![("a deny list", list)], read: &read, extend: None });
}

/// Behind one name a client may show the token of one hub to another.
#[test]
fn claims() {
    let login = Claims {
        sub: "ann".to_owned(),
        exp: (UNIX_S + 3600) as f64,
        jti: Some("id-1".to_owned()),
        iat: Some(UNIX_S),
        iss: Some("hub".to_owned()),
        aud: Audience::One("clients".to_owned()),
        fanfare_login: Some(UNIX_S),
        ..Claims::default()
    };
    let minted = Claims {
        role: Some("clerk".to_owned()),
        subscribe: vec!["orders.*".to_owned()],
        publish: vec!["news".to_owned()],
        fanfare_login: None,
        ..login.clone()
    };
    let form = |claims: &Claims| members(&serde_json::to_vec(claims).expect("claims"));
    let written = vec![("a login's", form(&login)), ("those of `fanfare token`", form(&minted))];
    let read = |parts: &[Vec<u8>]| {
        let Claims { sub, exp, jti, iss, aud, role, subscribe, publish, fanfare_login, .. } =
            serde_json::from_slice(&object(parts)).expect("claims");
        format!(
            "sub {sub}, exp {exp}, jti {jti:?}, iss {iss:?}, aud {aud:?}, role {role:?}, subscribe {subscribe:?}, publish {publish:?}, login {fanfare_login:?}"
        )
    };
    let later = |parts: &mut Vec<Vec<u8>>| parts.push(LATER_MEMBER.to_vec());
    check_forms(&FormKind { name: "claims", written, read: &read, extend: Some(&later) });
}
