//! Other origins (the Fetch standard, section 3.3): which pages may read answers, open WebSockets, and use cookies.

use super::Answer;
use crate::protocol::http::{Request, Response};

/// Who may read answers from another origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://app.example`, all hosts of a domain as in `https://*.app.example`, or `*` for all.
    pub allow_origins: Vec<String>,
    /// Whether cookies and credentials may come along; then the origin is named instead of `*`.
    pub allow_credentials: bool,
}

impl Cors {
    /// Whether any origin may read, as long as it sends no credentials.
    pub(super) fn is_open(&self) -> bool {
        !self.allow_credentials && self.allows_any()
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self { allow_origins: vec!["*".to_owned()], allow_credentials: false }
    }
}

impl Cors {
    fn allows_any(&self) -> bool {
        self.allow_origins.iter().any(|allowed| allowed == "*")
    }

    /// Whether `origin` is named, by itself or with others of its domain.
    fn names(&self, origin: &str) -> bool {
        self.allow_origins.iter().any(|allowed| match allowed.split_once("*.") {
            None => allowed == origin,
            Some((scheme, domain)) => is_within(origin, scheme, domain),
        })
    }
}

/// Whether `origin` begins with `scheme` (up to its slashes) and is a host below `domain`.
fn is_within(origin: &str, scheme: &str, domain: &str) -> bool {
    let host = origin.strip_prefix(scheme).and_then(|rest| rest.strip_suffix(domain));
    host.and_then(|host| host.strip_suffix('.')).is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    })
}

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "600";
/// What a preflight that does not say what it needs is told that it may send.
const USUAL_HEADERS: &str = "Authorization, Content-Type, Event-Type, Idempotency-Key, Last-Event-ID, X-API-Key";
/// Fields of answers that scripts may read besides the few that they always may.
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate";

/// Adds to `answer` what lets the requesting origin read it.
pub(super) fn allow(answer: Answer, request: &Request, cors: &Cors) -> Answer {
    let granted = grant(request, cors);
    match answer {
        Answer::Ended { stream, close } => Answer::Ended { stream: Box::new(allow(*stream, request, cors)), close },
        Answer::Response(mut response) => {
            response.headers.extend(granted);
            Answer::Response(response)
        }
        Answer::Sse(mut open) => {
            open.headers.extend(granted);
            Answer::Sse(open)
        }
        Answer::Later(mut headers) => {
            headers.extend(granted);
            Answer::Later(headers)
        }
        Answer::Work(mut open) => {
            open.headers.extend(granted);
            Answer::Work(open)
        }
        Answer::Engine(mut ask) => {
            ask.headers.extend(granted);
            Answer::Engine(ask)
        }
        Answer::WebSocket(open) => Answer::WebSocket(open),
    }
}

/// Whether the page that `request` comes from may connect: browsers ask nobody before they open a WebSocket (RFC 6455
/// section 10.2). A client that names no origin is no browser, and the hub's own pages always may.
pub(super) fn may_connect(request: &Request, cors: &Cors) -> bool {
    request.header("origin").is_none() || may_read(request, cors) || is_same_origin(request)
}

/// The answer to OPTIONS: to a preflight, what is allowed; to anybody else, the methods.
pub(super) fn preflight(request: &Request, methods: &str, cors: &Cors) -> Answer {
    let response = Response::empty(204).with("Allow", methods);
    if request.header("access-control-request-method").is_none() || !may_read(request, cors) {
        return response.into();
    }
    let wanted = request.header_text("access-control-request-headers").unwrap_or(USUAL_HEADERS);
    response
        .with("Access-Control-Allow-Methods", methods)
        .with("Access-Control-Allow-Headers", wanted)
        .with("Access-Control-Max-Age", PREFLIGHT_AGE_S)
        .into()
}

fn may_read(request: &Request, cors: &Cors) -> bool {
    request.header_text("origin").is_some_and(|origin| cors.allows_any() || cors.names(origin))
}

fn grant(request: &Request, cors: &Cors) -> Vec<(&'static str, String)> {
    if cors.is_open() {
        let asked = request.header("origin").is_some();
        return if asked { granted_to("*") } else { Vec::new() };
    }
    // Who asks decides on the answer, even on one without a grant: a cache must not give it to others.
    let mut headers = vec![("Vary", "Origin".to_owned())];
    if let Some(origin) = request.header_text("origin").filter(|_| may_read(request, cors)) {
        headers.extend(granted_to(origin));
        if cors.allow_credentials {
            headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        }
    }
    headers
}

fn granted_to(origin: &str) -> Vec<(&'static str, String)> {
    vec![
        ("Access-Control-Allow-Origin", origin.to_owned()),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS.to_owned()),
    ]
}

/// The refusal of a page that may not connect.
pub(super) fn check_websocket(request: &Request, cors: &Cors) -> Result<(), Response> {
    if may_connect(request, cors) {
        return Ok(());
    }
    let message = "pages of this origin may not connect here: it is not among cors.allow_origins";
    Err(Response::error(403, "origin_refused", message, None))
}

/// Whether the page that asks is the hub's own, or one that may use the cookies of its users: named, and with credentials
/// allowed. A browser has to say so, by `Sec-Fetch-Site` or `Origin`; where neither is there, nobody has.
pub(super) fn is_of_trusted_page(request: &Request, cors: &Cors) -> bool {
    if request.header_text("sec-fetch-site") == Some("same-origin") {
        return true;
    }
    let is_named = |origin: &str| origin != "null" && cors.allow_credentials && cors.names(origin);
    is_same_origin(request) || request.header_text("origin").is_some_and(is_named)
}

/// Whether the page that asks belongs to somebody whom nobody has allowed to use cookies here.
pub(super) fn is_of_foreign_page(request: &Request, cors: &Cors) -> bool {
    let says_whose = request.header("origin").is_some() || request.header("sec-fetch-site").is_some();
    says_whose && !is_of_trusted_page(request, cors)
}

/// Whether `Origin` names the host that the request is for. The scheme is not compared: behind a proxy that ends TLS the hub
/// does not know its own.
fn is_same_origin(request: &Request) -> bool {
    let (Some(origin), Some(host)) = (request.header_text("origin"), request.header_text("host")) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let plain = |authority: &str| authority.strip_suffix(default_port).unwrap_or(authority).to_ascii_lowercase();
    plain(authority) == plain(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::Limits;

    fn request(headers: &str) -> Request {
        let head = format!("GET /ws HTTP/1.1\r\nHost: hub.example\r\n{headers}\r\n");
        Request::parse(head.as_bytes(), &Limits::default()).expect("a valid head")
    }

    fn cors(origins: &[&str], allow_credentials: bool) -> Cors {
        Cors { allow_origins: origins.iter().map(ToString::to_string).collect(), allow_credentials }
    }

    #[test]
    fn only_pages_of_allowed_origins_open_websockets() {
        let check = |origins: &[&str], origin: &str, expected: bool| {
            let headers = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let outcome = check_websocket(&request(&headers), &cors(origins, false));
            assert_eq!(outcome.is_ok(), expected, "{origin} with {origins:?}");
        };
        check(&["*"], "https://any.example", true);
        check(&[], "", true);
        check(&[], "https://hub.example", true);
        check(&[], "https://HUB.example:443", true);
        check(&[], "http://hub.example:80", true);
        check(&[], "http://hub.example:443", false);
        check(&[], "https://hub.example.evil.example", false);
        check(&["https://app.example"], "https://app.example", true);
        check(&["https://app.example"], "http://app.example", false);
        check(&["https://app.example"], "null", false);
        check(&["https://*.app.example"], "https://a.app.example", true);
        check(&["https://*.app.example"], "https://a.b.app.example", true);
        check(&["https://*.app.example"], "https://app.example", false);
        check(&["https://*.app.example"], "https://.app.example", false);
        check(&["https://*.app.example"], "https://evilapp.example", false);
        check(&["https://*.app.example"], "https://a.app.example:8443", false);
        check(&["https://*.app.example"], "https://evil.example/.app.example", false);
        check(&["https://*.app.example:8443"], "https://a.app.example:8443", true);
    }

    #[test]
    fn cookies_count_for_pages_that_a_browser_vouches_for() {
        let check = |headers: &str, allow_credentials: bool, trusted: bool, foreign: bool| {
            let cors = cors(&["https://app.example", "null"], allow_credentials);
            let request = request(headers);
            let found = (is_of_trusted_page(&request, &cors), is_of_foreign_page(&request, &cors));
            assert_eq!(found, (trusted, foreign), "{headers:?}, credentials {allow_credentials}");
        };
        check("", true, false, false);
        check("Sec-Fetch-Site: same-origin\r\n", false, true, false);
        check("Sec-Fetch-Site: same-site\r\n", false, false, true);
        check("Sec-Fetch-Site: cross-site\r\n", true, false, true);
        check("Sec-Fetch-Site: none\r\n", true, false, true);
        check("Origin: https://hub.example\r\n", false, true, false);
        check("Origin: https://app.example\r\n", true, true, false);
        check("Origin: https://app.example\r\n", false, false, true);
        check("Origin: https://evil.example\r\n", true, false, true);
        check("Origin: null\r\n", true, false, true);
    }

    #[test]
    fn what_a_page_is_told() {
        let check = |origins: &[&str], credentials: bool, origin: &str, expected: &[(&str, &str)]| {
            let headers = if origin.is_empty() { String::new() } else { format!("Origin: {origin}\r\n") };
            let granted = grant(&request(&headers), &cors(origins, credentials));
            let granted: Vec<(&str, &str)> = granted.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(granted, expected, "{origin} with {origins:?}");
        };
        let (allow, expose) = ("Access-Control-Allow-Origin", ("Access-Control-Expose-Headers", EXPOSED_HEADERS));
        let vary = ("Vary", "Origin");
        check(&["*"], false, "", &[]);
        check(&["*"], false, "https://a.example", &[(allow, "*"), expose]);
        check(&["https://a.example"], false, "", &[vary]);
        check(&["https://a.example"], false, "https://b.example", &[vary]);
        check(&["https://a.example"], false, "https://a.example", &[vary, (allow, "https://a.example"), expose]);
        let credentials = ("Access-Control-Allow-Credentials", "true");
        let all = [vary, (allow, "https://a.example"), expose, credentials];
        check(&["https://a.example"], true, "https://a.example", &all);
    }
}
