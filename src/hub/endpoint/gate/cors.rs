//! CORS: which answers pages of other origins may read (the Fetch standard, section 3.3). [`crate::endpoint::gate::origin`]
//! decides which pages.

use crate::endpoint::{
    Answer, Context,
    gate::origin::{CorsGrant, cors_grant_for},
};
use crate::protocol::http::{Request, Response};

/// The pages of other origins that may use the hub. Without tokens they may do what everybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://app.example`, all hosts below a domain as in `https://*.app.example`, or `*` for all origins.
    pub allow_origins: Vec<String>,
    /// Whether requests of these origins may carry cookies. Answers then name the origin instead of `*`.
    pub allow_credentials: bool,
}

impl Cors {
    /// Pages of all origins, without credentials.
    pub fn open() -> Self {
        Self { allow_origins: vec!["*".to_owned()], allow_credentials: false }
    }

    /// Whether pages of all origins may read answers, without credentials.
    pub(in crate::endpoint) fn is_open(&self) -> bool {
        !self.allow_credentials && self.allows_any()
    }

    pub(in crate::endpoint) fn allows_any(&self) -> bool {
        self.allow_origins.iter().any(|allowed| allowed == "*")
    }

    /// Whether `origin` is allowed, by its name, its domain, or `*`.
    pub(in crate::endpoint) fn names(&self, origin: &str) -> bool {
        self.allow_origins.iter().any(|allowed| match allowed.split_once("*.") {
            None => allowed == origin || allowed == "*",
            Some((scheme, domain)) => is_within(origin, scheme, domain),
        })
    }
}

/// Whether `origin` is a host below `domain` with this `scheme`, which includes its slashes.
fn is_within(origin: &str, scheme: &str, domain: &str) -> bool {
    let host = origin.strip_prefix(scheme).and_then(|rest| rest.strip_suffix(domain));
    host.and_then(|host| host.strip_suffix('.')).is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    })
}

/// How long a browser may cache a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "600";
/// The request fields that are allowed if a preflight names none.
const USUAL_HEADERS: &str = "Authorization, Content-Type, Event-Type, Idempotency-Key, Last-Event-ID, X-API-Key";
/// The answer's fields that scripts may read, besides those that the Fetch standard always lets them read.
const EXPOSED_HEADERS: &str = "Retry-After, WWW-Authenticate";

/// Adds the fields that let the requesting origin read `answer`. `any_origin`: pages of every origin may.
pub(in crate::endpoint) fn allow(answer: Answer, request: &Request, context: &Context<'_>, any_origin: bool) -> Answer {
    add_fields(answer, grant(request, context, any_origin))
}

fn add_fields(answer: Answer, granted: Vec<(&'static str, String)>) -> Answer {
    match answer {
        Answer::Ended { mut stream, close } => {
            stream.headers.extend(granted);
            Answer::Ended { stream, close }
        }
        Answer::Response(mut response) => {
            response.headers.extend(granted);
            Answer::Response(response)
        }
        Answer::Stream(mut open) => {
            open.headers.extend(granted);
            Answer::Stream(open)
        }
        Answer::Later(mut headers) => {
            headers.extend(granted);
            Answer::Later(headers)
        }
        Answer::Work(mut open) => {
            open.headers.extend(granted);
            Answer::Work(open)
        }
        Answer::Engine(mut engine) => {
            engine.headers.extend(granted);
            Answer::Engine(engine)
        }
    }
}

/// The answer to OPTIONS. A preflight gets what is allowed, any other request the methods.
pub(in crate::endpoint) fn preflight(
    request: &Request,
    methods: &str,
    context: &Context<'_>,
    any_origin: bool,
) -> Answer {
    let response = Response::empty(204).with("Allow", methods);
    let may_nobody_read = || cors_grant_for(request, context, any_origin) == CorsGrant::None;
    if request.header("access-control-request-method").is_none() || may_nobody_read() {
        return response.into();
    }
    let wanted = request.header_text("access-control-request-headers").unwrap_or(USUAL_HEADERS);
    response
        .with("Access-Control-Allow-Methods", methods)
        .with("Access-Control-Allow-Headers", wanted)
        .with("Access-Control-Max-Age", PREFLIGHT_AGE_S)
        .into()
}

fn grant(request: &Request, context: &Context<'_>, any_origin: bool) -> Vec<(&'static str, String)> {
    let grant = cors_grant_for(request, context, any_origin);
    let cors = &context.config.cors;
    // A cache must not give one origin's answer to another, so an answer without a grant varies, too. It does not if the request
    // has no origin and the configuration names none: then no page of another origin could read any answer.
    let depends = request.header("origin").is_some() || !cors.allow_origins.is_empty();
    let varies = depends && !any_origin && !cors.is_open();
    let mut headers = Vec::new();
    if varies || matches!(grant, CorsGrant::Origin { .. }) {
        headers.push(("Vary", "Origin".to_owned()));
    }
    match grant {
        CorsGrant::None => {}
        CorsGrant::AnyOrigin => headers.extend(granted_to("*")),
        CorsGrant::Origin { origin, with_cookies } => {
            headers.extend(granted_to(origin));
            if with_cookies {
                headers.push(("Access-Control-Allow-Credentials", "true".to_owned()));
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_named_one_by_one_or_by_domain() {
        let check = |named: &str, origin: &str, expected: bool| {
            let cors = Cors { allow_origins: vec![named.to_owned()], allow_credentials: false };
            assert_eq!(cors.names(origin), expected, "{origin} with {named}");
        };
        check("*", "https://any.example", true);
        check("*", "null", true);
        check("https://app.example", "https://app.example", true);
        check("https://app.example", "http://app.example", false);
        check("https://app.example", "null", false);
        check("https://*.app.example", "https://a.app.example", true);
        check("https://*.app.example", "https://a.b.app.example", true);
        check("https://*.app.example", "https://app.example", false);
        check("https://*.app.example", "https://.app.example", false);
        check("https://*.app.example", "https://evilapp.example", false);
        check("https://*.app.example", "https://a.app.example:8443", false);
        check("https://*.app.example", "https://evil.example/.app.example", false);
        check("https://*.app.example:8443", "https://a.app.example:8443", true);
    }
}
