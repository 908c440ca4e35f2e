//! "Request path", "Query parameters" and "Handshake".

use serde_json::{Value, json};

use super::{ECHO, Endpoint, QUICK_ECHO, Socket, text};
use crate::client::{PACES, Pace};

#[test]
fn by_polling() {
    let response = ECHO.request("GET", "EIO=4&transport=polling&t=abc", "");
    assert_eq!(response.status, 200);
    assert_eq!(response.values("content-type"), ["text/plain; charset=UTF-8"]);
    check_open(text(&response), &["websocket"], 25_000, 200);
    let quick = QUICK_ECHO.request("GET", "EIO=4&transport=polling", "");
    check_open(text(&quick), &["websocket"], 300, 1500);
}

#[test]
fn by_websocket() {
    for pace in PACES {
        let (_, opened) = Socket::session(ECHO, pace);
        check_open(&opened, &[], 25_000, 200);
    }
}

/// "Handshake": the open packet and its five keys.
fn check_open(packet: &str, upgrades: &[&str], ping_interval: u64, ping_timeout: u64) {
    let handshake: Value = serde_json::from_str(packet.strip_prefix('0').expect("it is an open packet")).expect("JSON");
    let sid = handshake["sid"].as_str().expect("a session has a name");
    assert!(20 <= sid.len() && sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{sid}");
    let expected = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": ping_interval,
        "pingTimeout": ping_timeout,
        "maxPayload": 1_000_000,
    });
    assert_eq!(handshake, expected);
}

#[test]
fn each_session_has_a_name_of_its_own() {
    let names: std::collections::HashSet<String> = (0..20).map(|_| ECHO.open()).collect();
    assert_eq!(names.len(), 20);
}

const TRANSPORT: (u16, &str) = (0, "Transport unknown");
const SESSION: (u16, &str) = (1, "Session ID unknown");
const METHOD: (u16, &str) = (2, "Bad handshake method");
const REQUEST: (u16, &str) = (3, "Bad request");
const VERSION: (u16, &str) = (5, "Unsupported protocol version");

#[test]
fn refused_by_request() {
    let check = |method: &str, query: &str, (code, message): (u16, &str)| {
        let response = ECHO.request(method, query, "");
        assert_eq!(response.status, 400, "{method} {query}");
        let body: Value = serde_json::from_slice(&response.body).expect("refusals are JSON");
        assert_eq!(body, json!({ "code": code, "message": message }), "{method} {query}");
    };
    check("GET", "", TRANSPORT);
    check("GET", "EIO=4", TRANSPORT);
    check("GET", "EIO=4&transport=", TRANSPORT);
    check("GET", "EIO=4&transport=abc", TRANSPORT);
    check("GET", "EIO=4&transport=Polling", TRANSPORT);
    check("GET", "transport=polling", VERSION);
    check("GET", "EIO=&transport=polling", VERSION);
    check("GET", "EIO=3&transport=polling", VERSION);
    check("GET", "EIO=5&transport=polling", VERSION);
    check("GET", "EIO=abc&transport=polling", VERSION);
    check("POST", "EIO=4&transport=polling", METHOD);
    check("PUT", "EIO=4&transport=polling", METHOD);
    check("GET", "EIO=4&transport=websocket", REQUEST);
    for unknown in ["abc", "", "AAAAAAAAAAAAAAAAAAAAAA", "%00", "..%2f"] {
        check("GET", &format!("EIO=4&transport=polling&sid={unknown}"), SESSION);
        check("POST", &format!("EIO=4&transport=polling&sid={unknown}"), SESSION);
    }
}

#[test]
fn refused_by_websocket() {
    let check = |query: &str, (code, message): (u16, &str)| {
        let Err(response) = Socket::try_open(ECHO, query, Pace::Whole) else { panic!("{query}: not refused") };
        assert_eq!(response.status, 400, "{query}");
        let body: Value = serde_json::from_slice(&response.body).expect("refusals are JSON");
        assert_eq!(body, json!({ "code": code, "message": message }), "{query}");
    };
    check("EIO=4", TRANSPORT);
    check("EIO=4&transport=abc", TRANSPORT);
    check("transport=websocket", VERSION);
    check("EIO=3&transport=websocket", VERSION);
    check("EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAAAA", SESSION);
    check("EIO=4&transport=websocket&sid=abc", SESSION);
}

/// A session is known where it was opened, by any of its names for the transport.
#[test]
fn one_session_has_one_endpoint() {
    let sid = ECHO.open();
    let elsewhere = Endpoint { path: "/socket.io/", ..ECHO };
    assert_eq!(ECHO.post(&sid, "4a").status, 200);
    let through_the_other = elsewhere.post(&sid, "4b");
    assert!(matches!(through_the_other.status, 200 | 400), "{}", text(&through_the_other));
    assert_eq!(ECHO.request("PUT", &super::polling(&sid), "4c").status, 400, "only GET and POST carry packets");
}
