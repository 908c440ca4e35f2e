use std::fs;

use super::{
    super::tests::{ConfigFile as Scratch, other_value},
    *,
};
use crate::config::{Override, load};

fn read(flags: &[Override]) -> Config {
    load(None, [].into_iter(), flags).unwrap_or_else(|error| panic!("{error}"))
}

fn set(key: &'static str, value: &str) -> Override {
    Override { flag: "--flag", key, value: value.to_owned() }
}

const SECRETS: [&str; 2] = [
    "geheim, of forty-eight bytes or more as HS384 wants, one",
    "geheim, of forty-eight bytes or more as HS384 wants, two",
];

const PASSWORD_HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$YWJjZGVmZ2hpamtsbW5vcA";

/// What each key needs beside it, and its other value.
fn flip(key: &Key<RawConfig>) -> (Vec<Override>, String) {
    let needed: &[(&'static str, &str)] = match key.path {
        "cors.allow_credentials" => &[("cors.allow_origins", "https://a.example")],
        "proxy.proxy_protocol" => &[("proxy.trusted", "10.0.0.1")],
        path if path.starts_with("bridge.") => {
            &[("redis.url", "redis://h"), ("nats.url", "nats://h"), ("bridge.map", "a")]
        }
        path if path.starts_with("auth.") => &[("auth.mode", "jwt"), ("auth.secret", SECRETS[0])],
        _ => &[],
    };
    let value = match key.path {
        "auth.secret" => SECRETS[1].to_owned(),
        "auth.algorithms" => "HS384".to_owned(),
        _ => other_value(key),
    };
    (needed.iter().map(|(key, value)| set(key, value)).collect(), value)
}

/// What is reported is what happens.
#[test]
fn each_key_takes_effect_or_waits_as_it_is_reported() {
    // Read from files, or changed with another key only.
    let apart = [
        "topics.class",
        "quota",
        "api_keys",
        "auth.rule",
        "topics.log",
        "topics.source",
        "topics.policy",
        "auth.mode",
        "auth.jwks_url",
        "auth.discovery",
        "ready.require",
    ];
    let apart = [&apart[..], &["bridge.from", "bridge.to"]].concat();
    let is_apart = |path: &str| apart.contains(&path) || path.ends_with("_file") || path == "users.file";
    for key in KEYS.iter().filter(|key| !is_apart(key.path)) {
        let (mut flags, value) = flip(key);
        let before = read(&flags);
        flags.push(set(key.path, &value));
        check(&before, &read(&flags), key.path);
    }
}

/// `path` alone differs, by its value or by its file's content.
#[track_caller]
fn check(before: &Config, after: &Config, path: &str) {
    let reload = before.reload(after).expect("the mode is the same");
    let changed: Vec<&str> = reload.changes.iter().map(|change| change.key).collect();
    assert_eq!(changed, [path]);
    let takes_effect = reload.changes[0].takes_effect;
    let expected = if takes_effect { after } else { before };
    assert_eq!(format!("{:#?}", reload.config), format!("{expected:#?}"), "{path}");
    // What waits is reported again, and what took effect is not.
    let again = reload.config.reload(after).expect("the mode is the same").changes;
    assert_eq!(again.len(), usize::from(!takes_effect), "{path}");
}

#[test]
fn the_content_of_a_file_takes_effect_as_it_is_reported() {
    let user = |name: &str| format!("[[user]]\nusername = \"{name}\"\npassword = \"{PASSWORD_HASH}\"\n");
    let url = |password: &str| format!("redis://hub:{password}@localhost/3\n");
    /// The key of a file, the keys it needs, and its content before and after.
    type Case = (&'static str, &'static [(&'static str, &'static str)], [String; 2]);
    const SIGNING: [(&str, &str); 2] = [("auth.mode", "jwt"), ("auth.secret", SECRETS[0])];
    let store_url = |password: &str| format!("postgres://hub:{password}@localhost/telemetry\n");
    const NATS: (&str, &str) = ("nats.url", "nats://h");
    let nats_url = |password: &str| format!("nats://hub:{password}@localhost\n");
    let cases: [Case; 11] = [
        ("nats.url_file", &[], [nats_url("one"), nats_url("two")]),
        ("nats.password_file", &[NATS, ("nats.user", "hub")], SECRETS.map(str::to_owned)),
        ("nats.token_file", &[NATS], SECRETS.map(str::to_owned)),
        ("nats.nkey_file", &[NATS], SECRETS.map(str::to_owned)),
        ("nats.credentials_file", &[NATS], SECRETS.map(str::to_owned)),
        ("redis.url_file", &[], [url("one"), url("two")]),
        ("store.url_file", &[], [store_url("one"), store_url("two")]),
        ("redis.sentinel_password_file", &[("redis.url", "redis+sentinel://h/s")], SECRETS.map(str::to_owned)),
        ("auth.deny_file", &SIGNING, [String::new(), "sub = [\"mallory\"]\n".to_owned()]),
        ("auth.secret_file", &[SIGNING[0]], SECRETS.map(str::to_owned)),
        ("users.file", &SIGNING, [user("ann"), user("ben")]),
    ];
    for (key, needed, contents) in cases {
        let file = Scratch::new(key, "");
        let mut flags: Vec<Override> = needed.iter().map(|(key, value)| set(key, value)).collect();
        flags.push(set(key, &file.0.display().to_string()));
        let [before, after] = contents.map(|content| {
            fs::write(&file.0, content).expect("it is ours");
            read(&flags)
        });
        let changes = before.reload(&after).expect("the mode is the same").changes;
        assert_eq!(changes, [KeyChange { key, shown: String::new(), takes_effect: true }]);
        check(&before, &after, key);
    }
}

#[test]
fn another_server_waits_with_its_login() {
    let read = |url: &str, password: &str| read(&[set("redis.url", url), set("redis.sentinel_password", password)]);
    let before = read("redis+sentinel://a:one@h/s", "one");
    for other in ["redis+sentinel://a:two@h/s2", "redis+sentinel://a:two@h,i/s", "redis+sentinel://a:two@h/s/1"] {
        let reload = before.reload(&read(other, "two")).expect("the mode is the same");
        assert!(reload.changes.iter().all(|change| !change.takes_effect), "{other}: {:?}", reload.changes);
        assert_eq!(format!("{:?}", reload.config), format!("{before:?}"), "{other}");
    }
    let reload = before.reload(&read("redis+sentinel://b:two@h/s", "two")).expect("the mode is the same");
    assert!(reload.changes.iter().all(|change| change.takes_effect), "{:?}", reload.changes);
}

#[test]
fn another_database_waits_with_its_login() {
    let store = |url: &str| read(&[set("store.url", url)]);
    let before = store("postgres://a:one@h/db");
    let elsewhere = [
        "postgres://a:two@h/db2",
        "postgres://a:two@i/db",
        "postgres://a:two@h:1/db",
        "postgres://a:two@h/db?sslmode=require",
    ];
    for other in elsewhere {
        let reload = before.reload(&store(other)).expect("the mode is the same");
        assert!(reload.changes.iter().all(|change| !change.takes_effect), "{other}: {:?}", reload.changes);
        assert_eq!(format!("{:?}", reload.config.store), format!("{:?}", before.store), "{other}");
    }
    let reload = before.reload(&store("postgres://b:two@h/db")).expect("the mode is the same");
    assert!(reload.changes.iter().all(|change| change.takes_effect), "{:?}", reload.changes);
}

#[test]
fn each_listed_key_exists() {
    for listed in RELOADED.iter().flat_map(|row| row.keys.iter().chain(row.waiting)) {
        let found = KEYS.iter().any(|key| key.path == *listed || listed.ends_with('.') && key.path.starts_with(listed));
        assert!(found, "{listed}");
    }
}

#[test]
fn a_file_that_became_empty_is_refused() {
    let read = |text: &str| {
        let file = Scratch::new("reload-empty", text);
        load(Some(&file.0), [].into_iter(), &[]).unwrap_or_else(|error| panic!("{error}"))
    };
    let (full, empty, comment) = (read("[drain]\nwindow = \"7s\"\n"), read(""), read("# all defaults\n"));
    assert!(full.reload(&empty).is_err_and(|wrong| wrong.contains("is empty now")));
    assert!(full.reload(&comment).is_ok() && empty.reload(&empty).is_ok() && empty.reload(&full).is_ok());
}

#[test]
fn no_secret_is_shown() {
    let mode = set("auth.mode", "jwt");
    let [one, two] = SECRETS.map(|secret| {
        let url = format!("redis://hub:{}@localhost", secret.replace([' ', ','], "-"));
        read(&[mode.clone(), set("auth.secret", secret), set("redis.url", &url)])
    });
    let changes = one.reload(&two).expect("the mode is the same").changes;
    let secret = KeyChange { key: "auth.secret", shown: String::new(), takes_effect: true };
    let url = KeyChange { key: "redis.url", shown: String::new(), takes_effect: true };
    assert_eq!(changes, [url, secret]);
    assert!(!format!("{one:?}{two:?}{changes:?}").contains("geheim"));
    assert!(one.reload(&read(&[])).is_err());
}
