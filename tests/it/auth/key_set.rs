//! Key sets by URL: an identity provider that rotates its keys, vanishes, hangs and lies, and one that others wrote.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use fanfare_core::protocol::http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use socket2::Socket;

use super::{ask, keys::ed25519_jwk, make_keys, read, status_of, unix_s};
use crate::support::{
    Folder,
    conversation::Conversation,
    http::{HttpConnection, Response},
    hub::Hub,
    key_server::{Conduct, KeyServer},
    packages::identity_provider,
    run_program, send_signal,
    sse::SseClient,
    stdout_of, wait_until,
};

const ISSUER: &str = "https://id.example";
const API_KEY: &str = "0123456789abcdef";

/// A pair of keys; what signs with it, and its member in a key set.
struct Pair {
    id: String,
    key: EncodingKey,
    jwk: Value,
}

impl Pair {
    fn new(folder: &Folder, id: &str) -> Self {
        let (private, public) = make_keys(folder, id, &["-algorithm", "ED25519"]);
        let key = EncodingKey::from_ed_pem(&read(&private)).expect("openssl writes PEM");
        Self { id: id.to_owned(), key, jwk: ed25519_jwk(&public, id) }
    }

    fn token(&self) -> String {
        let claims = json!({
            "sub": self.id, "iss": ISSUER, "aud": "hub", "exp": unix_s() + 60, "groups": ["field"],
        });
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.key).expect("it signs")
    }
}

/// A hub for the keys at `url`, with further keys of the section `auth`. Whoever is in the group `field` may listen to `wells.**`, and
/// the API key may do so and publish there.
fn start(folder: &Folder, url: &str, more: &str) -> Hub {
    Hub::start_with(&["--config", &configure(folder, url, more)], &[])
}

/// The path of its configuration.
fn configure(folder: &Folder, url: &str, more: &str) -> String {
    let config = folder.path("fanfare.toml");
    let text = format!(
        "[auth]\nmode = \"jwt\"\nalgorithms = [\"EdDSA\"]\njwks_url = \"{url}\"\nissuer = \"{ISSUER}\"\naudience = \"hub\"\n{more}\n\
         [[auth.rule]]\nclaim = \"groups\"\nvalue = \"field\"\nsubscribe = [\"wells.**\"]\n\
         [[api_keys]]\nname = \"ingest\"\nkey = \"{API_KEY}\"\nsubscribe = [\"wells.**\"]\npublish = [\"wells.**\"]\n"
    );
    fs::write(&config, text).expect("the folder is writable");
    config
}

fn wait_until_ready(hub: &Hub) {
    wait_until("the hub has keys", || (hub.get("/ready").status == 200).then_some(()));
}

fn status(hub: &Hub, token: &str) -> u16 {
    status_of(hub, &format!("/sse?topic=wells.7&token={token}"), &[])
}

/// What a server should not do.
fn lies() -> Vec<Conduct> {
    vec![
        Conduct::Close,
        Conduct::Hang,
        Conduct::Trickle,
        Conduct::Endless,
        Conduct::Refuse("500 Internal Server Error"),
        Conduct::Refuse("302 Found\r\nLocation: /keys"),
        Conduct::Refuse("204 No Content"),
        Conduct::Answer("[]".into()),
        Conduct::Answer("{\"keys\":7}".into()),
        Conduct::Answer("{\"keys\":[]}".into()),
        Conduct::Answer("{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"},null,7]}".into()),
        Conduct::Answer("x".repeat(100_000)),
    ]
}

#[test]
fn keys_rotate_and_the_last_good_set_stays() {
    let folder = Folder::new();
    let [one, two, three] = ["one", "two", "three"].map(|id| Pair::new(&folder, id));
    let server = KeyServer::start(Conduct::Close);
    let hub = start(
        &folder,
        &server.url(),
        "jwks_interval_min = \"50ms\"\njwks_timeout = \"300ms\"\njwks_bytes_max = \"64KiB\"",
    );
    // Nothing is known yet: neither valid nor invalid.
    assert_eq!(hub.get("/ready").status, 503);
    let refused = ask(&hub, Method::Get, "/topics", &[("Authorization", &format!("Bearer {}", one.token()))], "");
    assert_eq!(
        (refused.status, refused.error_code().as_str(), refused.header("Retry-After")),
        (503, "keys_pending", Some("1"))
    );
    server.set_keys(&[&one.jwk]);
    wait_until_ready(&hub);
    assert_eq!(status(&hub, &one.token()), 200);

    server.set_keys(&[&one.jwk, &two.jwk]);
    let second = two.token();
    assert_eq!(status(&hub, &second), 503, "the set is fetched now");
    wait_until("the second key is known", || (status(&hub, &second) == 200).then_some(()));

    // Whatever the server does, the keys stay.
    for lie in lies() {
        server.set(lie.clone());
        let failures = || hub.metric("fanfare_jwks_failures_total");
        let before = failures();
        wait_until("two fetches fail", || {
            // Its key is in no set: it asks for another one.
            assert_eq!(status(&hub, &three.token()), 503, "{lie:?}");
            (before + 2.0 <= failures()).then_some(())
        });
        assert_eq!([status(&hub, &one.token()), status(&hub, &second)], [200, 200], "{lie:?}");
        let ready = hub.get("/ready");
        assert_eq!(ready.status, 200, "{lie:?}");
        assert!(ready.text().contains("the key set is"), "{lie:?}: {}", ready.text());
    }

    // A key that is gone ends the streams of its tokens.
    let token = one.token();
    let mut stream = SseClient::open(&hub, &format!("/sse?topic=wells.7&token={token}"));
    server.set_keys(&[&two.jwk]);
    let fetches = hub.metric("fanfare_jwks_fetches_total");
    wait_until("a set comes", || (fetches < hub.metric("fanfare_jwks_fetches_total")).then_some(()));
    let end = stream.read_to_end();
    assert!(
        end.iter().any(|event| event.data.contains("user_revoked") || event.data.contains("not valid any more")),
        "{end:?}"
    );
    // Asked for, and not there: now the token is known to be invalid, as is one whose key was there.
    wait_until("a set comes without the third key", || (status(&hub, &three.token()) == 401).then_some(()));
    wait_until("a set comes without the first key", || (status(&hub, &token) == 401).then_some(()));
    assert_eq!(status(&hub, &second), 200);
}

/// With the default of 10 s for a fetch, and a server that takes it all.
#[test]
fn nobody_waits_for_a_key_server_that_hangs() {
    let folder = Folder::new();
    let [one, two] = ["one", "two"].map(|id| Pair::new(&folder, id));
    let server = KeyServer::start(Conduct::Answer(json!({ "keys": [one.jwk] }).to_string()));
    let hub = start(&folder, &server.url(), "jwks_interval_min = \"10ms\"\njwks_refresh = \"1s\"");
    wait_until_ready(&hub);
    let mut stream = SseClient::open(&hub, &format!("/sse?topic=wells.7&token={}", one.token()));
    server.set(Conduct::Hang);
    let before = server.requests();
    wait_until("a fetch hangs", || {
        status(&hub, &two.token());
        (before < server.requests()).then_some(())
    });
    let began = Instant::now();
    for number in 0..50 {
        assert_eq!(status(&hub, &two.token()), 503);
        let published = ask(&hub, Method::Post, "/publish/wells.7", &[("X-API-Key", API_KEY)], &number.to_string());
        assert_eq!(published.status, 200, "{}", published.text());
        assert_eq!(stream.next_data(), number.to_string());
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: one fetch alone takes 10 s", began.elapsed());
}

#[test]
fn tokens_of_made_up_keys_cause_few_fetches() {
    let folder = Folder::new();
    let one = Pair::new(&folder, "one");
    let server = KeyServer::start(Conduct::Answer(json!({ "keys": [one.jwk] }).to_string()));
    let hub = start(&folder, &server.url(), "jwks_interval_min = \"1h\"\ntoken_failures_per_connection_max = 0");
    wait_until_ready(&hub);
    for number in 0..100 {
        let header = Header { kid: Some(format!("made up {number}")), ..Header::new(Algorithm::EdDSA) };
        let claims = json!({ "sub": "eve", "iss": ISSUER, "aud": "hub", "exp": unix_s() + 60 });
        let token = encode(&header, &claims, &one.key).expect("it signs");
        assert_eq!(status(&hub, &token), 503);
    }
    assert_eq!(server.requests(), 1);
    assert_eq!(status(&hub, &one.token()), 200);
}

/// For a key that somebody has stolen: its provider takes it away, and the operator does not wait until the set is old.
#[test]
fn a_reload_fetches_the_set_again() {
    let folder = Folder::new();
    let [one, two] = ["one", "two"].map(|id| Pair::new(&folder, id));
    let server = KeyServer::start(Conduct::Answer(json!({ "keys": [one.jwk, two.jwk] }).to_string()));
    let hub = start(&folder, &server.url(), "jwks_interval_min = \"10ms\"\njwks_refresh = \"1h\"");
    wait_until_ready(&hub);
    let mut stream = SseClient::open(&hub, &format!("/sse?topic=wells.7&token={}", one.token()));
    server.set_keys(&[&two.jwk]);
    send_signal("HUP", hub.pid());
    let end = stream.read_to_end();
    assert!(end.iter().any(|event| event.data.contains("not valid any more")), "{end:?}");
    assert_eq!(status(&hub, &two.token()), 200);
}

/// Or else whoever runs the proxy could say which keys are good.
#[test]
fn a_proxy_of_the_environment_has_no_part_in_plain_http() {
    let folder = Folder::new();
    let one = Pair::new(&folder, "one");
    let server = KeyServer::start(Conduct::Answer(json!({ "keys": [one.jwk] }).to_string()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", &configure(&folder, &server.url(), "")]);
    // Nobody listens there.
    command.envs(["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:1")));
    let hub = Hub::spawn(command, &[]);
    wait_until_ready(&hub);
    assert_eq!(status(&hub, &one.token()), 200);
}

/// HTTPS, with an authority of one's own. Without it the server is a stranger.
#[test]
fn a_key_server_proves_who_it_is() {
    let folder = Folder::new();
    let one = Pair::new(&folder, "one");
    let (certificate, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let fixed = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=keys -addext basicConstraints=critical,CA:FALSE \
                 -addext subjectAltName=IP:127.0.0.1";
    let files = ["-keyout", &key, "-out", &certificate];
    stdout_of(&run_program("openssl", "openssl", &fixed.split_whitespace().chain(files).collect::<Vec<_>>()));
    let set = json!({ "keys": [one.jwk] });
    fs::write(folder.path("keys"), format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{set}")).expect("it is ours");
    let mut command = Command::new("openssl");
    command.args(["s_server", "-HTTP", "-accept", "127.0.0.1:0", "-cert", &certificate, "-key", &key]);
    let server = Conversation::run(command.current_dir(&folder.0), "openssl");
    let accepts = server.wait_for("ACCEPT");
    let url = format!("https://{}/keys", accepts.split_whitespace().last().expect("an address"));
    let trusting = start(&folder, &url, &format!("jwks_ca_file = \"{certificate}\""));
    wait_until_ready(&trusting);
    assert_eq!(status(&trusting, &one.token()), 200);
    let doubting = start(&folder, &url, "");
    wait_until("the certificate is refused", || doubting.get("/ready").text().contains("certificate").then_some(()));
    assert_eq!(status(&doubting, &one.token()), 503);
}

/// An access token of the provider's only client.
fn token_of_provider(issuer: &str) -> String {
    let address = issuer.strip_prefix("http://").expect("it is on this machine");
    let socket = std::net::TcpStream::connect(address).expect("the provider listens");
    let login = BASE64.encode(b"dashboard:a%20secret%20of%20the%20client%2C%20for%20tests%20only");
    let headers =
        [("Authorization", format!("Basic {login}")), ("Content-Type", "application/x-www-form-urlencoded".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let body = b"grant_type=client_credentials&scope=wells%3Aread&resource=urn%3Ahub";
    let answer: Response = HttpConnection::new(Socket::from(socket)).request(Method::Post, "/token", &headers, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().expect("a text").to_owned()
}

/// A dozen lines of configuration, and the plain tokens of an OpenID provider have rights.
#[test]
fn plain_tokens_of_an_openid_provider_are_let_in() {
    let script = Path::new(identity_provider()).join("provider.mjs");
    let mut provider = Conversation::run(Command::new("node").arg(script).env_remove("NODE_OPTIONS"), "nodejs npm");
    let issuer = provider.wait_for("http://");
    let issuer = format!("http://{}", issuer.trim_start_matches("http://"));
    let folder = Folder::new();
    let config = folder.path("fanfare.toml");
    let text = format!(
        "[auth]\nmode = \"jwt\"\nalgorithms = [\"RS256\"]\ndiscovery = true\nissuer = \"{issuer}\"\naudience = \"urn:hub\"\n\
         jwks_interval_min = \"50ms\"\n\
         [[auth.rule]]\nclaim = \"realm_access.roles\"\nvalue = \"operator\"\nsubscribe = [\"wells.**\"]\n\
         [[auth.rule]]\nclaim = \"sub\"\nsubscribe = [\"users.{{sub}}.**\"]\npublish = [\"users.{{sub}}.out\"]\n\
         [[auth.rule]]\nclaim = \"scope\"\nvalue = \"orders:read\"\nsubscribe = [\"orders.**\"]\n"
    );
    fs::write(&config, text).expect("the folder is writable");
    let hub = Hub::start_with(&["--config", &config], &[]);
    wait_until_ready(&hub);
    let token = token_of_provider(&issuer);
    let of = |topic: &str| status_of(&hub, &format!("/sse?topic={topic}&token={token}"), &[]);
    assert_eq!(["wells.7.pressure", "users.dashboard.in", "users.ann.in", "orders.1"].map(of), [200, 200, 403, 403]);
    let publish = |topic: &str| {
        let bearer = format!("Bearer {token}");
        ask(&hub, Method::Post, &format!("/publish/{topic}"), &[("Authorization", &bearer)], "x").status
    };
    assert_eq!(["users.dashboard.out", "wells.7.pressure"].map(publish), [200, 403]);
    // The provider signs with another key.
    provider.say("rotate");
    provider.wait_for("another key");
    let next = token_of_provider(&issuer);
    wait_until("the new key is known", || {
        (status_of(&hub, &format!("/sse?topic=wells.7&token={next}"), &[]) == 200).then_some(())
    });
    wait_until("the former key is known to be gone", || (of("wells.7.pressure") == 401).then_some(()));
}
