//! Who a client is, and what it may do: headers that proxies send first, tokens, and the patterns that these grant.

use std::{sync::Arc, time::Duration};

use fanfare::auth::{Auth, AuthRules, AuthSettings, Identity, Mode, Secrets};
use fanfare_core::{
    clock::Moment,
    outbox::Outbox,
    protocol::{Session, SessionLimits, proxy},
    topic::Topic,
};
use jsonwebtoken::{EncodingKey, Header, encode};

use super::{check, shapes};

const NOW: Moment = Moment(1_000_000_000);

/// Lets a connection through a proxy take `bytes`, so many of them at once.
fn take_header(bytes: &[u8], read_bytes: usize) {
    let mut limits =
        SessionLimits { proxy: proxy::ProxyLimits { header_bytes_max: usize::MAX }, ..SessionLimits::default() };
    limits.http.body_bytes_max = usize::MAX;
    let (mut session, mut outbox, mut asks) = (Session::behind_proxy(NOW), Outbox::new(), Vec::new());
    for read in bytes.chunks(read_bytes) {
        match session.receive(&mut read.to_vec(), &limits, &mut outbox, &mut asks, NOW) {
            Ok(next) => session = next,
            Err(_) => return,
        }
    }
}

/// A header of version 2 with `fields` behind the addresses; not more than its length can say.
fn binary_header(fields: &[u8]) -> Vec<u8> {
    const INET: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];
    let fields = &fields[..fields.len().min(usize::from(u16::MAX) - INET.len())];
    let length = u16::try_from(INET.len() + fields.len()).expect("no more than that").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11], &length, &INET, fields].concat()
}

/// A header has at most 64 KiB, so each connection of a row sends one of that size.
#[test]
fn headers_of_proxies() {
    const HEADER_BYTES: usize = 16 * 1024;
    let fields: [(&str, &[u8]); 4] = [
        ("empty fields", &[0x04, 0, 0]),
        ("fields of a byte", &[0xea, 0, 1, b'x']),
        ("a field within a field", &[0x20, 0xff, 0xff]),
        ("zeros", &[0]),
    ];
    for (name, field) in fields {
        for read_bytes in [1, HEADER_BYTES] {
            let header = |bytes: usize| binary_header(&field.repeat(bytes / field.len()));
            check(&format!("a header with {name}, {read_bytes} bytes a read"), 4 * 1024, 4, header, |header| {
                take_header(header, read_bytes);
            });
        }
    }
    let behind = |header: &[u8], bytes: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n");
        [header, head.as_bytes(), &b"x".repeat(bytes)].concat()
    };
    let lines = [
        ("PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", "an address"),
        ("PROXY UNKNOWN\r\n", "no address"),
        ("PROXY UNKNOWN ", "no end of the line"),
    ];
    for (line, name) in lines {
        for read_bytes in [1, 64 * 1024, usize::MAX] {
            let body = |bytes: usize| behind(line.as_bytes(), bytes);
            check(&format!("a body behind a line with {name}, {read_bytes} bytes a read"), 16 * 1024, 4, body, |all| {
                take_header(all, read_bytes);
            });
        }
    }
    let body = |bytes: usize| behind(&binary_header(b""), bytes);
    check("a body behind a header, read together", 16 * 1024, 4, body, |all| take_header(all, usize::MAX));
}

const SECRET: &str = "a secret of no less than thirty-two bytes";

/// Takes tokens of any length, and remembers none.
fn auth() -> Auth {
    let settings =
        AuthSettings { mode: Mode::Jwt, token_bytes_max: usize::MAX, cache_bytes: 0, ..AuthSettings::default() };
    let secrets = Secrets { secret: SECRET.into(), ..Secrets::default() };
    let rules = AuthRules::new(settings, secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
    Auth::new(Arc::new(rules), NOW, Duration::from_secs(1_300_819_000))
}

/// A token over a list of patterns in JSON.
fn token(patterns: &str) -> String {
    let claims = format!("{{\"sub\":\"ann\",\"exp\":1e300,\"subscribe\":{patterns},\"publish\":[]}}");
    let claims: Box<serde_json::value::RawValue> = serde_json::from_str(&claims).expect("they are JSON");
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("the key fits the header")
}

/// Patterns with numbers in them, as a list in JSON of about so many bytes.
fn numbered(bytes: usize, write: fn(usize) -> String) -> String {
    let mut list = String::from("[");
    for number in 0.. {
        list.push_str(&format!("\"{}\"", write(number)));
        if bytes <= list.len() {
            break;
        }
        list.push(',');
    }
    list + "]"
}

/// A shape's name, and what makes one of about so many bytes.
type Shape = (&'static str, fn(usize) -> String);

/// Those that are dear to look through.
const PATTERNS: &[Shape] = &[
    ("names", |number| format!("a{number}")),
    ("names under one", |number| format!("a.b.c.d.e.f.{number}")),
    ("names with a rest", |number| format!("a{number}.**")),
    ("names in the middle", |number| format!("a.{number}.*")),
    ("names behind a star", |number| format!("*.{number}")),
    // Each of eight begins as a long name does.
    ("stars and names", |number| {
        let begin: String = (0..3).map(|bit| if number >> bit & 1 == 0 { "*." } else { "a." }).collect();
        format!("{begin}b{number}")
    }),
    ("one pattern", |_| "a.*".into()),
];

#[test]
fn tokens_of_many_patterns() {
    for (name, write) in PATTERNS {
        let tokens = |bytes: usize| token(&numbered(bytes, *write));
        let identify = |token: &String| drop(auth().identify(Some(token), None, NOW).expect("the token is good"));
        check(&format!("a token of {name}"), 4 * 1024, 20, tokens, identify);
    }
    for (name, open, part, close) in [
        ("a long pattern", "[\"a", ".a", "\"]"),
        ("a long pattern of stars", "[\"*", ".*", "\"]"),
        ("short patterns", "[\"a\"", ",\"a\"", "]"),
        ("broken patterns", "[\"a\"", ",\"\"", "]"),
    ] {
        let tokens = |bytes: usize| token(&shapes::repeated(open, part, close, bytes));
        // A pattern of a byte takes what the allocator gives at least, and two words.
        check(&format!("a token of {name}"), 4 * 1024, 20, tokens, |token| _ = auth().identify(Some(token), None, NOW));
    }
}

/// Who sends many names under a token of many patterns pays for both, and not for each with each.
#[test]
fn names_under_many_patterns() {
    let names: &[Shape] = &[
        ("other names", |number| format!("b{number}")),
        ("names before all others", |number| format!("A.{number}")),
        ("long names", |number| format!("a.a.a.a.a.a.a.{number}")),
        ("names under one", |number| format!("a.b.c.d.e.f.g{number}")),
    ];
    for (pattern, write) in PATTERNS {
        for (name, write_name) in names {
            let make = |bytes: usize| {
                let identity = auth().identify(Some(&token(&numbered(bytes / 2, *write))), None, NOW);
                let identity = identity.expect("the token is good").expect("it is asked for");
                let names = (0..bytes / 16).map(|number| Topic::parse(&write_name(number)).expect("a good name"));
                (identity, names.collect())
            };
            let look = |(identity, names): &(Arc<Identity>, Vec<Topic>)| {
                for topic in names {
                    assert!(identity.may_subscribe(topic).is_err() || identity.may_publish(topic).is_err());
                    drop(identity.next_subscribable(topic.as_str()));
                }
            };
            check(&format!("{name} under patterns of {pattern}"), 4 * 1024, 2, make, look);
        }
    }
}
