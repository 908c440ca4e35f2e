//! Key pairs, key sets (JWKS), and API keys.

use std::fs;

use data_encoding::BASE64URL_NOPAD;
use fanfare_core::protocol::http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{ask, claims, make_keys, mint, read, status_of};
use crate::support::{Folder, hub::Hub, run_program, send_signal, wait_until};

/// The public key in PEM as a member of a key set. An Ed25519 key's last 32 bytes are the key itself (RFC 8410).
pub(super) fn ed25519_jwk(public: &str, id: &str) -> Value {
    let der = run_program("openssl", "openssl", &["pkey", "-pubin", "-in", public, "-outform", "DER"]).stdout;
    json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": id, "x": BASE64URL_NOPAD.encode(&der[der.len() - 32..]) })
}

fn sign_with(private: &str, id: &str) -> String {
    let key = EncodingKey::from_ed_pem(&read(private)).expect("openssl writes PEM");
    let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims(), &key).expect("it signs")
}

/// During a key rotation the set has both keys. Then the old one is removed.
#[test]
fn keys_of_a_set_change_without_a_break() {
    let folder = Folder::new();
    let (old, old_public) = make_keys(&folder, "old", &["-algorithm", "ED25519"]);
    let (new, new_public) = make_keys(&folder, "new", &["-algorithm", "ED25519"]);
    let (old_key, new_key) = (ed25519_jwk(&old_public, "1"), ed25519_jwk(&new_public, "2"));
    let path = folder.path("keys.json");
    let write = |keys: &[&Value]| {
        fs::write(&path, json!({ "keys": keys }).to_string()).expect("the folder is writable");
    };
    write(&[&old_key]);
    let settings = [("auth.mode", "jwt"), ("auth.algorithms", "EdDSA"), ("auth.jwks_file", path.as_str())];
    let hub = Hub::start_with(&[], &settings);
    let statuses = || {
        // The last token names the new key, but the old key signed it.
        let tokens = [sign_with(&old, "1"), sign_with(&new, "2"), sign_with(&old, "2")];
        tokens.map(|token| status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]))
    };
    assert_eq!(statuses(), [200, 401, 401]);
    for (keys, expected) in [(&[&old_key, &new_key][..], [200, 200, 401]), (&[&new_key], [401, 200, 401])] {
        write(keys);
        send_signal("HUP", hub.pid());
        wait_until("the set is read anew", || (statuses() == expected).then_some(()));
    }
    // A bad key set does not take effect.
    fs::write(&path, "garbage").expect("the folder is writable");
    send_signal("HUP", hub.pid());
    assert_eq!(hub.get("/health").status, 200);
    assert_eq!(statuses(), [401, 200, 401]);
}

#[test]
fn tokens_of_the_command_line_are_taken_by_the_hub() {
    let folder = Folder::new();
    let check = |algorithm: &str, arguments: &[&str]| {
        let (private, public) = make_keys(&folder, algorithm, arguments);
        let settings =
            [("auth.algorithms", algorithm), ("auth.public_key_file", &public), ("auth.private_key_file", &private)];
        let token = mint(&settings, &["--sub", "ann", "--subscribe", "a.*", "--ttl", "5m"]);
        let hub = Hub::start_with(&[], &[&settings[..], &[("auth.mode", "jwt")]].concat());
        assert_eq!(status_of(&hub, &format!("/sse?topic=a.b&token={token}"), &[]), 200, "{algorithm}");
        assert_eq!(status_of(&hub, &format!("/sse?topic=b.b&token={token}"), &[]), 403, "{algorithm}");
    };
    check("ES256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    check("EdDSA", &["-algorithm", "ED25519"]);
    check("RS256", &["-algorithm", "RSA"]);
}

#[test]
fn services_show_an_api_key() {
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    fs::write(folder.path("ingest.key"), "0123456789abcdef\n").expect("the folder is writable");
    let text =
        "[auth]\nmode = \"jwt\"\n[[api_keys]]\nname = \"ingest\"\nkey_file = \"ingest.key\"\npublish = [\"a.*\"]\n";
    fs::write(&config, text).expect("the folder is writable");
    let hub = Hub::start_with(&["--config", &config], &[]);
    let check = |headers: &[(&str, &str)], expected: [u16; 2]| {
        let publish = |topic: &str| ask(&hub, Method::Post, &format!("/publish/{topic}"), headers, "1").status;
        assert_eq!([publish("a.b"), publish("b.b")], expected, "{headers:?}");
    };
    check(&[("X-API-Key", "0123456789abcdef")], [200, 403]);
    check(&[("Authorization", "Bearer 0123456789abcdef")], [200, 403]);
    check(&[("X-API-Key", "0123456789abcdeg")], [401, 401]);
    check(&[], [401, 401]);
    assert_eq!(status_of(&hub, "/sse?topic=a.b", &[("X-API-Key", "0123456789abcdef")]), 403);
}
