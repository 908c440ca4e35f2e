//! Tables of which page may do what. What real browsers send: `tests/it/page_origins.rs`.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    auth::{Auth, AuthRules, AuthSettings, Mode, Secrets},
    bus::{self, Bus},
    clock::{Clock, Moment},
    endpoint::{Cors, HUB, Hub},
    metrics::{Metrics, ReactorMetrics},
    protocol::http::HttpLimits,
};

fn request(method: &str, host: &str, headers: &str) -> Request {
    let host = if host.is_empty() { String::new() } else { format!("Host: {host}\r\n") };
    let version = if host.is_empty() { "1.0" } else { "1.1" };
    let head = format!("{method} /sse?topic=t HTTP/{version}\r\n{host}{headers}\r\n");
    Request::parse(head.as_bytes(), &HttpLimits::default()).expect("a valid head")
}

fn config(origins: &[&str], credentials: bool, hosts: &[&str]) -> Config {
    let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Config {
        cors: Cors { allow_origins: list(origins), allow_credentials: credentials },
        hosts: Hosts { names: list(hosts), addresses: vec![[10, 0, 0, 5].into()] },
        ..Config::default()
    }
}

#[test]
fn hosts_that_a_stranger_could_have_resolved_to_the_hub_are_refused() {
    let check = |host: &str, expected: bool| {
        let config = config(&[], false, &["hub.example", "*.team.example"]);
        assert_eq!(config.hosts.allow(host), expected, "{host}");
    };
    for host in
        ["localhost", "LOCALHOST:8080", "localhost.", "app.localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8080"]
    {
        check(host, true);
    }
    for host in
        ["hub.example", "Hub.Example:8080", "hub.example.", "a.team.example", "a.b.TEAM.example:1", "10.0.0.5:80"]
    {
        check(host, true);
    }
    // Of a network of containers.
    for host in ["hub", "fanfare:8080"] {
        check(host, true);
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "hub.example.evil.example",
        "xhub.example",
        "team.example",
        ".team.example",
    ] {
        check(host, false);
    }
    for host in ["192.0.2.1", "10.0.0.6:80", "[2001:db8::1]", "127.0.0.1.evil.example", "notlocalhost.evil", "0.0.0.0"]
    {
        check(host, false);
    }
    let everywhere = Hosts { addresses: vec![[0, 0, 0, 0].into()], ..Hosts::default() };
    assert!(
        everywhere.allow("192.0.2.1:8080") && everywhere.allow("[2001:db8::1]") && !everywhere.allow("evil.example")
    );
    let any = Hosts { names: vec!["*".into()], ..Hosts::default() };
    assert!(any.allow("evil.example"));
}

/// A hub without tokens serves programs, its own pages and those of this machine.
#[test]
fn pages_that_may_do_what_everybody_may() {
    const ALL: Result<(), AccessDenied> = Ok(());
    const PAGE: Result<(), AccessDenied> = Err(AccessDenied::ForeignPage);
    const HOST: Result<(), AccessDenied> = Err(AccessDenied::ForeignHost);
    let check_with = |config: &Config, host: &str, headers: &str, expected: Result<(), AccessDenied>| {
        for method in ["GET", "POST"] {
            let found = admit_without_token(&request(method, host, headers), config);
            assert_eq!(found, expected, "{method} {host} {headers:?}");
        }
    };
    let plain = config(&[], false, &["hub.example"]);
    let check = |host: &str, headers: &str, expected| check_with(&plain, host, headers, expected);
    let own = "127.0.0.1:8080";
    check(own, "", ALL);
    check("", "", ALL);
    check(own, "Origin: http://127.0.0.1:8080\r\n", ALL);
    check(own, "Origin: http://localhost:3000\r\n", ALL);
    check(own, "Origin: https://[::1]:3000\r\n", ALL);
    check(own, "Origin: http://app.localhost\r\n", ALL);
    check(own, "Sec-Fetch-Site: same-origin\r\n", ALL);
    check(own, "Sec-Fetch-Site: same-site\r\n", ALL);
    check(own, "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", ALL);
    // A link leads to it, with the page that has the link.
    check(own, "Referer: https://wiki.example/page\r\n", ALL);

    check(own, "Origin: https://evil.example\r\n", PAGE);
    check(own, "Origin: null\r\n", PAGE);
    check(own, "Origin: \u{e9}\r\n", PAGE);
    check(own, "Origin: file://\r\n", PAGE);
    check(own, "Origin: http://127.0.0.1.evil.example\r\n", PAGE);
    check(own, "Origin: http://localhost.evil.example\r\n", PAGE);
    check(own, "Origin: http://evil.example/localhost\r\n", PAGE);
    check(own, "Origin: x://localhost\r\n", PAGE);
    check(own, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", PAGE);
    check("hub.example", "Sec-Fetch-Site: same-site\r\n", PAGE);
    // Both fields: `Origin` decides.
    check(own, "Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n", PAGE);

    check("hub.example", "Origin: http://hub.example\r\n", ALL);
    check("hub.example", "Origin: https://hub.example:8443\r\n", ALL);
    check("hub.example:80", "Origin: http://hub.example\r\n", ALL);
    check("hub.example:443", "Origin: https://HUB.example\r\n", ALL);
    check("hub.example:8080", "Origin: http://hub.example:8080\r\n", ALL);
    check("hub.example:8080", "Origin: http://hub.example\r\n", PAGE);
    check("hub.example:80", "Origin: https://hub.example\r\n", PAGE);
    check("hub.example", "Origin: http://hub.example.evil.example\r\n", PAGE);
    check("hub.example", "Origin: http://localhost:3000\r\n", ALL);

    // A name of the page's own that resolves to this hub (DNS rebinding): its browser takes both for one origin.
    check("evil.example:8080", "Origin: http://evil.example:8080\r\n", HOST);
    check("evil.example:8080", "Sec-Fetch-Site: same-origin\r\n", HOST);
    check("evil.example:8080", "", HOST);

    let listed = config(&["https://app.example", "https://*.team.example"], false, &[]);
    check_with(&listed, own, "Origin: https://app.example\r\n", ALL);
    check_with(&listed, own, "Origin: https://a.team.example\r\n", ALL);
    check_with(&listed, own, "Origin: http://app.example\r\n", PAGE);
    check_with(&listed, own, "Origin: http://localhost:3000\r\n", ALL);
    let open = config(&["*"], false, &[]);
    for headers in ["", "Origin: https://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        check_with(&open, own, headers, ALL);
        check_with(&open, "evil.example", headers, ALL);
    }
    // A link, not a request by the page.
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
    assert_eq!(admit_without_token(&request("GET", own, link), &plain), ALL);
    assert_eq!(admit_without_token(&request("POST", own, link), &plain), PAGE);
}

#[test]
fn cookies_count_for_pages_that_a_browser_vouches_for() {
    let check = |host: &str, headers: &str, credentials: bool, [get, post]: [bool; 2]| {
        let config = config(&["https://app.example", "null"], credentials, &[]);
        let found = ["GET", "POST"].map(|method| admit_cookie(&request(method, host, headers), &config).is_ok());
        assert_eq!(found, [get, post], "{host} {headers:?}, credentials {credentials}");
    };
    let hub = "hub.example";
    check(hub, "", true, [false, false]);
    check(hub, "Sec-Fetch-Site: same-origin\r\n", false, [true, true]);
    check(hub, "Sec-Fetch-Site: same-site\r\n", false, [false, false]);
    check(hub, "Sec-Fetch-Site: cross-site\r\n", true, [false, false]);
    check(hub, "Sec-Fetch-Site: none\r\n", true, [false, false]);
    check(hub, "Origin: https://hub.example\r\n", false, [true, true]);
    check(hub, "Origin: https://app.example\r\n", true, [true, true]);
    check(hub, "Origin: https://app.example\r\n", false, [false, false]);
    check(hub, "Origin: https://evil.example\r\n", true, [false, false]);
    check(hub, "Origin: null\r\n", true, [false, false]);
    // Over plain HTTP, where browsers send neither with a GET.
    check(hub, "Referer: http://hub.example/page.html?a=b\r\n", false, [true, false]);
    check(hub, "Referer: http://hub.example\r\n", false, [true, false]);
    check("hub.example:8080", "Referer: http://hub.example:8080/\r\n", false, [true, false]);
    check("hub.example:8080", "Referer: http://hub.example:8081/\r\n", false, [false, false]);
    check(hub, "Referer: http://evil.example/hub.example\r\n", true, [false, false]);
    check(hub, "Referer: http://hub.example.evil.example/\r\n", true, [false, false]);
    check(hub, "Referer: http://hub.example@evil.example/\r\n", true, [false, false]);
    check(hub, "Sec-Fetch-Site: cross-site\r\nReferer: http://hub.example/\r\n", true, [false, false]);
    check(hub, "Origin: https://evil.example\r\nReferer: http://hub.example/\r\n", true, [false, false]);
    // No browser writes such origins, and another parser may take them for one of this machine.
    for origin in [
        "http://localhost:1@evil.example",
        "http://localhost:80@evil.example:80",
        "http://localhost:x.evil.example",
        "http://[::1].evil.example",
        "http://localhost/.evil.example",
        "http://localhost:8080/",
        "http://localhost:99999",
        "http://",
    ] {
        check("localhost:8080", &format!("Origin: {origin}\r\n"), true, [false, false]);
    }
    // Of this machine, at a hub on it.
    check("localhost:8080", "Origin: http://localhost:3000\r\n", false, [true, true]);
    check("localhost:8080", "Sec-Fetch-Site: same-site\r\n", false, [true, true]);
    check(hub, "Origin: http://localhost:3000\r\n", false, [false, false]);
}

fn hub(config: Config, asks: bool) -> Hub {
    let metrics =
        Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock: Clock::start() };
    let bus = Bus::new(bus::Config::default(), Vec::new(), Vec::new());
    let hub = Hub::new(&HUB, Arc::new(bus), Arc::new(metrics), config);
    if !asks {
        return hub;
    }
    let secrets = Secrets { secret: "of thirty-two bytes, or somewhat more".into(), ..Secrets::default() };
    let rules =
        AuthRules::new(AuthSettings { mode: Mode::Jwt, ..AuthSettings::default() }, secrets).expect("they make sense");
    hub.with_auth(Auth::new(Arc::new(rules), Moment(0), Duration::ZERO))
}

fn context<'a>(hub: &'a Hub, config: &'a Config) -> Context<'a> {
    Context {
        hub,
        config,
        reactor: 0,
        token: 0,
        now: Moment(0),
        admin: false,
        overload: None,
        identity: None,
        peer: None,
        audited: None,
    }
}

/// By `Access-Control-Allow-Origin`: `-` nobody, `*` any page without cookies, `o` the requesting page, `c` the same with
/// cookies.
#[test]
fn pages_that_may_read_the_answer() {
    let check = |origins: &[&str], headers: &str, [open, asking, public]: [&str; 3]| {
        let config = config(origins, false, &[]);
        let [of_open, of_asking] = [false, true].map(|asks| hub(config.clone(), asks));
        let request = request("GET", "127.0.0.1:8080", headers);
        let read = |hub: &Hub, any_origin: bool| match cors_grant_for(&request, &context(hub, &config), any_origin) {
            CorsGrant::None => "-",
            CorsGrant::AnyOrigin => "*",
            CorsGrant::Origin { with_cookies: false, .. } => "o",
            CorsGrant::Origin { with_cookies: true, .. } => "c",
        };
        let found = [read(&of_open, false), read(&of_asking, false), read(&of_open, true)];
        assert_eq!(found, [open, asking, public], "{headers:?} with {origins:?}");
    };
    let (evil, null, local) =
        ("Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://localhost:3000\r\n");
    check(&[], "", ["-", "-", "*"]);
    check(&[], evil, ["-", "*", "*"]);
    check(&[], null, ["-", "*", "*"]);
    check(&[], local, ["c", "c", "*"]);
    check(&[], &format!("{local}Cookie: fanfare_token=x\r\n"), ["c", "c", "c"]);
    check(&[], &format!("{evil}Cookie: fanfare_token=x\r\n"), ["-", "*", "*"]);
    check(&["*"], evil, ["*", "*", "*"]);
    check(&["*"], null, ["*", "*", "*"]);
    check(&["*"], local, ["*", "*", "*"]);
    let app = &["https://app.example"];
    check(app, "Origin: https://app.example\r\n", ["o", "o", "*"]);
    check(app, evil, ["-", "-", "*"]);
    // A client with a token may come from any page.
    check(app, &format!("{evil}Authorization: Bearer x\r\n"), ["-", "*", "*"]);
    check(app, &format!("{evil}Access-Control-Request-Headers: content-type, Authorization\r\n"), ["-", "*", "*"]);
    check(app, &format!("{evil}Access-Control-Request-Headers: x-api-key\r\n"), ["-", "*", "*"]);
}

#[test]
fn pages_that_may_open_a_websocket() {
    let check = |origins: &[&str], headers: &str, [open, asking]: [bool; 2]| {
        let request = request("GET", "127.0.0.1:8080", headers);
        let found = [false, true].map(|asks| {
            let config = config(origins, false, &[]);
            may_connect(&request, &context(&hub(config.clone(), asks), &config)).is_ok()
        });
        assert_eq!(found, [open, asking], "{headers:?} with {origins:?}");
    };
    let (evil, app) = ("Origin: https://evil.example\r\n", &["https://app.example"]);
    check(&[], "", [true, true]);
    check(&[], "Origin: http://127.0.0.1:8080\r\n", [true, true]);
    // The client may sign in by a command.
    check(&[], evil, [false, true]);
    check(&[], "Origin: null\r\n", [false, true]);
    check(&["*"], evil, [true, true]);
    check(app, "Origin: https://app.example\r\n", [true, true]);
    check(app, evil, [false, false]);
    check(app, "Origin: http://localhost:1\r\n", [true, true]);
    check(app, &format!("{evil}Authorization: Bearer x\r\n"), [false, true]);
}
