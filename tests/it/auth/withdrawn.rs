//! Rights that are withdrawn while streams use them. The streams end at the SIGHUP, not at their next activity.

use std::fs;

use serde_json::{Value, json};

use super::{SECRET, claims, hash_password, sign, status_of, unix_s, with};
use crate::support::{
    Folder,
    hub::Hub,
    redis::{HOST, RedisServer, free_port},
    send_signal,
    socket_io::{CLOSE, Carried, Polled, SocketClient},
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

const KEY: &str = "0123456789abcdef";

/// A hub whose files can be changed, and which checks a silent stream once in ten minutes.
struct Changing {
    folder: Folder,
    hash: String,
    hub: Hub,
}

impl Changing {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(settings: &[(&str, &str)]) -> Self {
        let (folder, hash) = (Folder::new(), hash_password("correct"));
        let write = |name: &str, text: &str| fs::write(folder.path(name), text).expect("the folder is writable");
        write("users.toml", &user(&hash, "ann", "a.*"));
        write("secret", SECRET);
        write("denied.toml", "");
        write("fanfare.toml", &config("a.*"));
        let path = folder.path("fanfare.toml");
        let hub = Hub::start_with(&["--config", &path, "--reactors", "2"], settings);
        Self { folder, hash, hub }
    }

    /// Changes a file, and has the hub reload all of them.
    fn change(&self, name: &str, text: &str) {
        fs::write(self.folder.path(name), text).expect("the folder is writable");
        send_signal("HUP", self.hub.pid());
    }
}

fn user(hash: &str, name: &str, topics: &str) -> String {
    format!(
        "[[user]]\nusername = \"{name}\"\npassword = \"{hash}\"\nsubscribe = [\"{topics}\"]\npublish = [\"{topics}\"]\n"
    )
}

fn config(topics: &str) -> String {
    format!(
        "[auth]\nmode = \"jwt\"\nsecret_file = \"secret\"\ndeny_file = \"denied.toml\"\n[users]\nfile = \"users.toml\"\n\
         [sse]\nheartbeat = \"10m\"\n[websocket]\nping_interval = \"10m\"\n\
         [[api_keys]]\nname = \"ingest\"\nkey = \"{KEY}\"\nsubscribe = [\"{topics}\"]\npublish = [\"{topics}\"]\n"
    )
}

/// A token of another issuer, one of the hub's own login, and an API key.
fn credentials() -> [String; 3] {
    let of_login = json!({ "sub": "ann", "exp": unix_s() + 60, "fanfare_login": unix_s() });
    [sign(&with(with(claims(), "sub", "eve"), "jti", "t1")), sign(&of_login), KEY.to_owned()]
}

/// The streams of one client, by every transport.
struct Streams {
    sse: SseClient,
    raw: WebSocketClient,
    v1: WebSocketClient,
    carried: Carried,
    polled: Polled,
}

impl Streams {
    fn open(hub: &Hub, token: &str) -> Self {
        let auth = json!({ "token": token });
        let (mut carried, mut polled) = (Carried::open(hub), Polled::open(hub));
        carried.enter_with(&auth);
        polled.enter_with(&auth);
        carried.subscribe("a.b");
        polled.subscribe("a.b");
        Self {
            sse: SseClient::open(hub, &format!("/sse?topic=a.b&token={token}")),
            raw: WebSocketClient::open(hub, &format!("/ws?topic=a.b&token={token}")),
            v1: WebSocketClient::open_v1(hub, &format!("/ws?topic=a.b&token={token}")),
            carried,
            polled,
        }
    }

    /// Checks that all of them end for this reason.
    #[track_caller]
    fn expect_end(mut self, websocket_code: u16, code: &str) {
        let rest = self.sse.read_to_end();
        let [error] = rest.as_slice() else { panic!("one event should come before the end, not {rest:?}") };
        let said: Value = serde_json::from_str(&error.data).expect("JSON");
        assert_eq!(
            (error.kind.as_str(), &said["error"], &said["code"]),
            ("error", &json!("AuthenticationError"), &json!(code))
        );
        assert_eq!([self.raw.close_code(), self.v1.close_code()], [Some(websocket_code); 2]);
        assert_eq!(self.carried.expect_event("error")["code"], code);
        assert_eq!(self.polled.expect_event("error")["code"], code);
        // So that clients do not reconnect by themselves with the same credential.
        assert_eq!((self.carried.next_packet().as_str(), self.polled.next_packet().as_str()), ("41", "41"));
        self.carried.wait_for_end();
        assert_eq!((self.carried.close_code, self.polled.next_packet().as_str()), (Some(websocket_code), CLOSE));
    }

    /// Checks that all of them go on.
    #[track_caller]
    fn expect_event(&mut self, data: &str) {
        assert_eq!((self.sse.next_data(), self.raw.next_text()), (data.to_owned(), data.to_owned()));
        assert_eq!(self.v1.next_json()["data"].to_string(), data);
        assert_eq!(self.carried.expect_event("message").to_string(), data);
        assert_eq!(self.polled.expect_event("message").to_string(), data);
    }
}

/// Streams whose right is withdrawn end, on every transport and for each kind of credential. Others go on.
#[test]
fn streams_end_with_the_rights_they_were_opened_by() {
    const FORBIDDEN: Option<(u16, &str)> = Some((1008, "forbidden"));
    const GONE: Option<(u16, &str)> = Some((4401, "unauthenticated"));
    let check = |change: fn(&Changing), expected: [Option<(u16, &str)>; 3]| {
        let changing = Changing::start();
        let hub = &changing.hub;
        let tokens = credentials();
        let streams = tokens.each_ref().map(|token| Streams::open(hub, token));
        change(&changing);
        let mut left = Vec::new();
        for ((streams, token), expected) in streams.into_iter().zip(&tokens).zip(expected) {
            match expected {
                Some((websocket_code, code)) => {
                    streams.expect_end(websocket_code, code);
                    let status = if websocket_code == 4401 { 401 } else { 403 };
                    assert_eq!(status_of(hub, &format!("/sse?topic=a.b&token={token}"), &[]), status);
                }
                None => left.push((streams, token)),
            }
        }
        let [(_, publisher), ..] = left.as_slice() else { panic!("somebody should be left") };
        let published = hub.post(&format!("/publish/a.b?token={publisher}"), "1");
        assert_eq!(published.status, 200, "{}", published.text());
        left.iter_mut().for_each(|(streams, _)| streams.expect_event("1"));
    };
    check(|it| it.change("users.toml", &user(&it.hash, "ann", "c.*")), [None, FORBIDDEN, None]);
    check(|it| it.change("users.toml", &user(&it.hash, "bob", "a.*")), [None, GONE, None]);
    check(|it| it.change("secret", &SECRET.replace('a', "b")), [GONE, GONE, None]);
    check(|it| it.change("fanfare.toml", &config("c.*")), [None, None, FORBIDDEN]);
    check(|it| it.change("fanfare.toml", &config("a.*").replace(KEY, "another key, as long")), [None, None, GONE]);
    check(|it| it.change("denied.toml", "jti = [\"t1\"]"), [GONE, None, None]);
    check(|it| it.change("denied.toml", "sub = [\"ann\", \"ingest\"]"), [None, GONE, GONE]);
}

/// A subscription waits until the broker has confirmed its topic. By then the client may have lost the right.
#[test]
fn a_subscription_that_waited_begins_by_the_rights_of_now() {
    let port = free_port();
    let url = format!("redis://{HOST}:{port}");
    let settings = [
        ("redis.url", url.as_str()),
        ("redis.backoff_max", "100ms"),
        ("server.live_timeout", "10m"),
        ("limits.messages_per_second", "1000"),
    ];
    let changing = Changing::start_with(&settings);
    let [_, token, key] = credentials();
    let open = |token: &str| WebSocketClient::open_v1(&changing.hub, &format!("/ws?token={token}"));
    let (mut loser, mut keeper) = (open(&token), open(&key));
    for client in [&mut loser, &mut keeper] {
        client.send(&json!({ "op": "subscribe", "topic": "a.b" }).to_string());
    }
    let publish = json!({ "op": "publish", "topic": "a.b", "data": 1 });
    assert_ne!(loser.ask(&publish)["code"], "Forbidden");
    changing.change("users.toml", &user(&changing.hash, "ann", "c.*"));
    wait_until("the right is gone", || (loser.ask(&publish)["code"] == "Forbidden").then_some(()));
    let _server = RedisServer::start_at(port);
    assert_eq!(loser.close_code(), Some(1008));
    assert_eq!(keeper.next_json()["op"], "subscribed");
}

/// A client without subscriptions stays connected, with its present rights.
#[test]
fn commands_count_by_the_rights_of_now() {
    let changing = Changing::start();
    let hub = &changing.hub;
    let [_, token, _] = credentials();
    let mut v1 = WebSocketClient::open_v1(hub, &format!("/ws?token={token}"));
    let mut carried = Carried::open(hub);
    carried.enter_with(&json!({ "token": token }));
    let publish = json!({ "op": "publish", "topic": "a.b", "data": 1 });
    assert_eq!(v1.ask(&publish)["op"], "published");
    changing.change("users.toml", &user(&changing.hash, "ann", "c.*"));
    wait_until("the right to publish is gone", || (v1.ask(&publish)["code"] == "Forbidden").then_some(()));
    assert_eq!(v1.ask(&json!({ "op": "publish", "topic": "c.d", "data": 1 }))["op"], "published");
    carried.emit("publish", &json!({ "topic": "a.b", "data": 1 }));
    assert_eq!(carried.expect_event("error")["error"], "AuthorizationError");
    carried.subscribe("c.d");
    changing.change("users.toml", &user(&changing.hash, "bob", "a.*"));
    assert_eq!(v1.next(), Incoming::Close(Some(4401), "what you have shown is not valid any more".into()));
    assert_eq!(carried.expect_event("error")["error"], "AuthenticationError");
}
