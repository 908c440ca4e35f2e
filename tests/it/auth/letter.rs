//! Credentials exactly as their standards define them, also those that the hub reads when it starts.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use fanfare_core::protocol::http::Method;
use jsonwebtoken::{EncodingKey, Header, encode};

use super::{SECRET, ask, claims, make_keys, mint, sign, start, status_of};
use crate::support::{Folder, hub::Hub, wait_until};

/// The output of `fanfare config check` for these variables, or for a file with this text, and whether it fails.
fn check_config(settings: &[(&str, &str)], text: &str) -> (bool, String) {
    let folder = Folder::new();
    let path = folder.path("fanfare.toml");
    fs::write(&path, text).expect("the folder is writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["config", "check", "--config", &path]);
    for (key, value) in settings {
        command.env(format!("FANFARE_{}", key.to_uppercase().replace('.', "__")), value);
    }
    let output = command.output().expect("it was just built");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    (output.status.success(), said)
}

/// RFC 6750 section 2: more than one credential of a kind is none. A proxy in front of the hub may have checked another one.
#[test]
fn what_is_shown_twice_does_not_count() {
    let hub = start(&[]);
    let (token, other) = (sign(&claims()), "garbage");
    let bearer = |token: &str| format!("Bearer {token}");
    let (good, bad) = (bearer(&token), bearer(other));
    let check = |target: &str, headers: &[(&str, &str)], expected: u16| {
        assert_eq!(status_of(&hub, target, headers), expected, "{target} {headers:?}");
    };
    let stream = "/sse?topic=a.b";
    check(stream, &[("Authorization", &good)], 200);
    for twice in [[&good, &good], [&good, &bad], [&bad, &good]] {
        check(stream, &twice.map(|value| ("Authorization", value.as_str())), 401);
    }
    check(stream, &[("Authorization", &good), ("authorization", "Basic YTpi")], 401);
    check(stream, &[("X-API-Key", other), ("x-api-key", other)], 401);
    check(&format!("{stream}&token={token}"), &[], 200);
    check(&format!("{stream}&token={token}&token={token}"), &[], 401);
    let headers = [("Authorization", good.as_str()), ("Authorization", good.as_str())];
    let refused = ask(&hub, Method::Post, "/publish/a.b", &headers, "1");
    assert_eq!((refused.status, refused.error_code().as_str()), (401, "token_invalid"));
}

/// A secret of random bytes, as `openssl rand 32` makes it. Each byte counts.
#[test]
fn a_secret_file_may_hold_raw_bytes() {
    let folder = Folder::new();
    let path = folder.path("jwt.key");
    let mut bytes: Vec<u8> = (0..32).map(|byte| (byte * 8) | 0x80).collect();
    // White space around a text secret is removed.
    bytes[0] = b' ';
    bytes[31] = b'\n';
    fs::write(&path, &bytes).expect("the folder is writable");
    let settings = [("auth.mode", "jwt"), ("auth.secret_file", path.as_str())];
    let hub = Hub::start_with(&[], &settings);
    let signed = encode(&Header::default(), &claims(), &EncodingKey::from_secret(&bytes)).expect("it signs");
    let made = mint(&settings, &["--sub", "ann", "--subscribe", "a.*"]);
    let trimmed = encode(&Header::default(), &claims(), &EncodingKey::from_secret(&bytes[1..31])).expect("it signs");
    let found = [signed, made, trimmed].map(|token| status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]));
    assert_eq!(found, [200, 200, 401]);
}

#[test]
fn keys_that_are_too_small_are_refused_at_the_start() {
    let folder = Folder::new();
    let (private, public) = make_keys(&folder, "small", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let (right, right_public) = make_keys(&folder, "large", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let check = |public: &str, private: &str, expected: Option<&str>| {
        let rsa = [("auth.mode", "jwt"), ("auth.algorithms", "RS256"), ("auth.public_key_file", public)];
        let (is_good, said) = check_config(&[&rsa[..], &[("auth.private_key_file", private)]].concat(), "");
        assert_eq!(is_good, expected.is_none(), "{said}");
        assert!(said.contains(expected.unwrap_or_default()), "{said}");
    };
    const WRONG: &str = "the key has 1024 bits, and RS256 needs at least 2048";
    check(&right_public, &right, None);
    check(&public, &right, Some(WRONG));
    check(&right_public, &private, Some(WRONG));
}

#[test]
fn no_mistake_in_the_configuration_prints_a_secret() {
    const HIDDEN: &str = "geheim-geheim-geheim-geheim-geheim";
    let check = |text: &str| {
        let (is_good, said) = check_config(&[], &text.replace("geheim", HIDDEN));
        assert!(!is_good, "{text}");
        assert!(!said.contains("geheim"), "{text}:\n{said}");
    };
    for name in ["secert", "Secret", "secret_", "jwt_secret_key", "sercet.value"] {
        check(&format!("[auth]\n{name} = \"geheim\""));
        check(&format!("auth.{name} = 'geheim'"));
        check(&format!("[auth]\n{name} = [\n  \"geheim\"\n]"));
        check(&format!("[auth]\n{name} = \"\"\"\ngeheim\"\"\""));
        check(&format!("auth = {{ {name} = \"geheim\" }}"));
    }
    check("[auth]\nsecret = 'geheim");
    check("[auth]\nsecret = [\"geheim\"]");
    check("[auth]\nsecret \"geheim\"");
    check("[redis]\npasswort = \"geheim\"");
    check("[redis]\nulr = \"redis://:geheim@host\"");
    check("[redis]\nurl = \"http://user:geheim@host\"");
    check("[redis]\nurl = \"redis:/user:geheim@host\"");
    check("[store]\nurl = \"postgres:user:geheim@host\"");
    check("[[api_keys]]\nname = \"a\"\nkye = \"geheim\"");
    check("[[api_keys]]\nname = \"a\"\nkey = [\"geheim\"]");
    check("api_keys = [{ name = \"a\", kye = \"geheim\" }]");
    check("api_keys = [\n  { name = \"a\", kye = \"geheim\" },\n]");
    let (is_good, said) = check_config(&[("auth.secert", HIDDEN)], "");
    assert!(!is_good && said.contains("FANFARE_AUTH__SECERT") && !said.contains(HIDDEN), "{said}");

    // The content of a file that was given by mistake must not be shown either.
    let folder = Folder::new();
    for content in [HIDDEN.to_owned(), format!("\"{HIDDEN}\""), format!("user = \"{HIDDEN}\""), format!("{HIDDEN} = 1")]
    {
        let path = folder.path("file");
        fs::write(&path, &content).expect("the folder is writable");
        for key in ["users.file", "auth.jwks_file", "auth.deny_file", "auth.public_key_file"] {
            let algorithm = if key.contains("jwks") || key.contains("public") { "HS256,ES256" } else { "HS256" };
            let settings =
                [("auth.mode", "jwt"), ("auth.secret", SECRET), ("auth.algorithms", algorithm), (key, &path)];
            let (is_good, said) = check_config(&settings, "");
            assert!(!is_good, "{key} {content}");
            // The parser reports an unknown key of the file, which may be a secret.
            assert!(content.ends_with("= 1") || !said.contains("geheim"), "{key} {content}:\n{said}");
        }
    }
}

#[test]
fn files_that_others_may_write_are_named() {
    let folder = Folder::new();
    let (secret, log) = (folder.path("jwt.key"), folder.path("log"));
    fs::write(&secret, SECRET).expect("the folder is writable");
    let settings = [("auth.mode", "jwt"), ("auth.secret_file", secret.as_str())];
    for (mode, is_named) in [(0o600, false), (0o644, false), (0o660, true), (0o602, true), (0o666, true)] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).expect("it is ours");
        let (is_good, said) = check_config(&settings, "");
        assert!(is_good, "{said}");
        let expected = format!("auth.secret_file: others may write {secret} (mode {mode:04o})");
        assert_eq!(said.contains(&expected), is_named, "{mode:o}: {said}");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" serve --listen 127.0.0.1:0 2>\"$1\"", env!("CARGO_BIN_EXE_fanfare"), &log]);
    let _hub = Hub::spawn(command, &[&settings[..], &[("log.level", "warn")]].concat());
    wait_until("the log names it", || fs::read_to_string(&log).ok()?.contains("others may write").then_some(()));
}
