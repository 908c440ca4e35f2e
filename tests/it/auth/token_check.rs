//! `fanfare token check`: what a token is worth, in words.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{SECRET, sign, unix_s, with};
use crate::support::{
    Folder,
    key_server::{Conduct, KeyServer},
};

/// The exit status of the check of `token`, and all that the command says.
fn check(config: &str, token: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["token", "check", "-", "--config", config]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was just built");
    writeln!(child.stdin.take().expect("it was just asked for"), "{token}").expect("it reads");
    let output = child.wait_with_output().expect("it is our child");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("it is UTF-8");
    assert!(token.is_empty() || !said.contains(token), "the token is shown: {said}");
    (output.status.code().expect("it is not killed"), said)
}

fn write(folder: &Folder, rest: &str) -> String {
    let config = folder.path("fanfare.toml");
    let text = format!("[auth]\nmode = \"jwt\"\naudience = \"hub\"\n{rest}");
    fs::write(&config, text).expect("the folder is writable");
    config
}

fn claims() -> Value {
    json!({
        "sub": "auth0|5f", "aud": "hub", "exp": unix_s() + 600, "groups": ["ops", "dev"], "tenant": "north",
        "publish": ["orders.*"],
    })
}

#[test]
fn each_right_has_its_rule() {
    let folder = Folder::new();
    let rules = "[[auth.rule]]\nclaim = \"groups\"\nvalue = \"ops\"\nrole = \"operator\"\nsubscribe = [\"wells.**\", \"users.{sub}.*\"]\n\
                 [[auth.rule]]\nclaim = \"groups\"\nvalue = \"boss\"\nrole = \"admin\"\n\
                 [[auth.rule]]\nclaim = \"scope\"\nvalue = \"x\"\nrole = \"admin\"\n\
                 [[auth.rule]]\nclaim = \"tenant\"\npublish = [\"t.{tenant}.{groups}\"]\n";
    let key = "[[api_keys]]\nname = \"ingest\"\nkey = \"0123456789abcdef\"\npublish = [\"wells.*\"]\n";
    let config = write(&folder, &format!("secret = \"{SECRET}\"\n{rules}{key}"));
    let (code, said) = check(&config, &sign(&claims()));
    assert_eq!(code, 0, "{said}");
    for line in [
        "accepted: sub \"auth0|5f\", valid for ",
        "may publish to orders.*: the token's own claim",
        "role \"operator\", unless a rule before gives one: [[auth.rule]] 1 (groups: \"ops\")",
        "may subscribe to wells.**: [[auth.rule]] 1 (groups: \"ops\")",
        "nothing by users.{sub}.* in [[auth.rule]] 1 (groups: \"ops\"): `sub` is \"auth0|5f\", which is no segment",
        "nothing by [[auth.rule]] 2 (groups: \"boss\"): the claim has other values",
        "nothing by [[auth.rule]] 3 (scope: \"x\"): the token does not have the claim",
        "may publish to t.north.ops: [[auth.rule]] 4 (tenant: any value)",
        "may publish to t.north.dev: [[auth.rule]] 4 (tenant: any value)",
    ] {
        assert!(said.lines().any(|it| it.starts_with(line)), "{line}: {said}");
    }
    assert_eq!(said.lines().count(), 9, "{said}");
    let (code, said) = check(&config, "0123456789abcdef");
    assert_eq!(
        (code, said.as_str()),
        (0, "accepted: the API key \"ingest\"\nmay publish to wells.*: its [[api_keys]] table\n")
    );
}

#[test]
fn each_refusal_has_its_reason() {
    let folder = Folder::new();
    fs::write(folder.path("denied.toml"), "sub = [\"mallory\"]\n").expect("the folder is writable");
    let config = write(&folder, &format!("secret = \"{SECRET}\"\nissuer = \"me\"\ndeny_file = \"denied.toml\"\n"));
    let good = with(claims(), "iss", "me");
    let refused = |token: &str, reason: &str| {
        let (code, said) = check(&config, token);
        assert_eq!(code, 1, "{said}");
        assert!(said.starts_with(&format!("fanfare: refused: {reason}")), "{reason}: {said}");
    };
    assert_eq!(check(&config, &sign(&good)).0, 0);
    refused(&sign(&with(good.clone(), "exp", unix_s() - 60)), "it expired 6");
    refused(&sign(&with(good.clone(), "nbf", unix_s() + 60)), "it is not valid for ");
    refused(&sign(&with(good.clone(), "iss", "you")), "its issuer (iss) is Some(\"you\"), and auth.issuer is \"me\"");
    refused(
        &sign(&with(good.clone(), "aud", "other")),
        "its audience (aud) is One(\"other\"), and auth.audience is \"hub\"",
    );
    refused(&sign(&with(good.clone(), "sub", "mallory")), "auth.deny_file names its jti or sub");
    refused(&sign(&with(good.clone(), "publish", json!(["a..b"]))), "a pattern in its claims is none");
    refused(&sign(&with(good.clone(), "fanfare_login", unix_s())), "its user is not in users.file");
    refused(&sign(&good).replace('.', ".A"), "its signature is of none of the keys");
    refused("garbage", "it is no JSON Web Token");
    refused("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", "it is signed with RS256, and auth.algorithms has HS256");
    refused(&"x".repeat(10_000), "it has 10000 bytes");
}

/// With a key set by URL it is fetched once, as a hub does.
#[test]
fn the_key_set_is_fetched() {
    let folder = Folder::new();
    let server = KeyServer::start(Conduct::Answer(
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] }).to_string(),
    ));
    let settings = format!("algorithms = [\"EdDSA\"]\nissuer = \"me\"\njwks_url = \"{}\"\n", server.url());
    let config = write(&folder, &settings);
    // {"alg":"EdDSA","kid":"2"}
    let token = "eyJhbGciOiJFZERTQSIsImtpZCI6IjIifQ.eyJleHAiOjF9.AAAA";
    let (code, said) = check(&config, token);
    assert_eq!(
        (code, said.as_str()),
        (1, "fanfare: refused: its key \"2\" (kid) is not in the key set of the identity provider\n")
    );
    assert_eq!(server.requests(), 1);
    server.set(Conduct::Refuse("500 Internal Server Error"));
    let (code, said) = check(&config, token);
    assert!(code == 1 && said.starts_with("fanfare: the key set: http://") && said.contains("status 500"), "{said}");
}
