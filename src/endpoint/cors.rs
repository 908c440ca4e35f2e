//! Cross-origin reading (the Fetch standard, section 3.3): who may, and the headers that say so.

use super::Answer;
use crate::protocol::http::{Request, Response};

/// Who may read answers from another origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://app.example`, or `*` for all.
    pub allow_origins: Vec<String>,
    /// Whether cookies and credentials may come along; then the origin is named instead of `*`.
    pub allow_credentials: bool,
}

impl Default for Cors {
    fn default() -> Self {
        Self { allow_origins: vec!["*".to_owned()], allow_credentials: false }
    }
}

/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "600";

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
    let Some(origin) = request.header_text("origin") else { return true };
    let own = request.header_text("host");
    let is_own = origin.split_once("://").is_some_and(|(_, host)| own == Some(host));
    is_own || cors.allow_origins.iter().any(|allowed| allowed == "*" || allowed == origin)
}

/// The answer to OPTIONS: to a preflight, what is allowed; to anybody else, the methods.
pub(super) fn preflight(request: &Request, methods: &str, cors: &Cors) -> Answer {
    let response = Response::empty(204).with("Allow", methods);
    if request.header("access-control-request-method").is_none() || grant(request, cors).is_empty() {
        return response.into();
    }
    let wanted = request.header_text("access-control-request-headers").unwrap_or("Content-Type, Last-Event-ID");
    response
        .with("Access-Control-Allow-Methods", methods)
        .with("Access-Control-Allow-Headers", wanted)
        .with("Access-Control-Max-Age", PREFLIGHT_AGE_S)
        .into()
}

fn grant(request: &Request, cors: &Cors) -> Vec<(&'static str, String)> {
    let Some(origin) = request.header_text("origin") else { return Vec::new() };
    let any = cors.allow_origins.iter().any(|allowed| allowed == "*");
    if !any && !cors.allow_origins.iter().any(|allowed| allowed == origin) {
        return Vec::new();
    }
    if any && !cors.allow_credentials {
        return vec![("Access-Control-Allow-Origin", "*".to_owned())];
    }
    let mut headers = vec![("Access-Control-Allow-Origin", origin.to_owned()), ("Vary", "Origin".to_owned())];
    if cors.allow_credentials {
        headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
    }
    headers
}
