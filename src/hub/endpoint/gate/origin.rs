//! The web page that a request comes from, and whether it may use authority that a browser adds by itself.
//!
//! There are two such authorities: a cookie, and access to a hub that asks for no token. Any page that a person opens could use
//! them. So only these pages may: those of the hub's own origin, those of loopback origins, and those that `cors.allow_origins`
//! names. A request with a token or an API key may come from anywhere, because a page cannot show what it does not have.
//!
//! At a hub that asks for no token, `Host`, or the authority of a target in absolute form, must be a name of the hub, too.
//! Otherwise a page could make its own name resolve to the hub's address (DNS rebinding), and its browser would take hub and page
//! for one origin.

use core::net::IpAddr;

use crate::{
    auth::AccessDenied,
    endpoint::{Config, Context, gate::access},
    protocol::http::{Method, Request, is_authority},
};

/// The names under which a hub without tokens answers. It also answers under loopback addresses and names, and under names
/// without a dot, which nobody can register.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Names such as `hub.example`, all names below a domain as in `*.hub.example`, or `*` for any.
    pub names: Vec<String>,
    /// The addresses of the hub's listeners. An unspecified address stands for every address.
    pub addresses: Vec<IpAddr>,
}

impl Hosts {
    /// Whether `authority`, the value of `Host`, is a name of the hub.
    fn allow(&self, authority: &str) -> bool {
        let host = split_authority(authority).0;
        let is_named = |allowed: &String| match allowed.strip_prefix("*.") {
            Some(domain) => {
                host.len() > domain.len() + 1
                    && host.as_bytes()[host.len() - domain.len() - 1] == b'.'
                    && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
            }
            None => allowed == "*" || allowed.eq_ignore_ascii_case(host),
        };
        let is_own = match host.parse::<IpAddr>() {
            Ok(address) => {
                let listens = |own: &IpAddr| own.is_unspecified() || own.to_canonical() == address.to_canonical();
                self.addresses.iter().any(listens)
            }
            Err(_) => !host.contains('.'),
        };
        is_own || is_loopback(host) || self.names.iter().any(is_named)
    }
}

/// The page that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestingPage<'a> {
    /// No page that the browser tells of: a program asks, or a person typed the address or followed a link.
    Unknown,
    /// A page of the origin that the request is for.
    SameOrigin,
    /// A page of this machine.
    Loopback,
    /// Any other page, with its origin if the browser names it.
    CrossOrigin(Option<&'a str>),
}

/// The page that `request` comes from. `Origin` decides, or else `Sec-Fetch-Site`, which browsers send only to HTTPS and loopback
/// addresses, or else `Referer`, if it is of the same origin and the method is safe.
fn requesting_page(request: &Request) -> RequestingPage<'_> {
    let host = request.host().unwrap_or_default();
    if request.header("origin").is_some() {
        return match request.header_text("origin") {
            Some(origin) if !is_serialized_origin(origin) => RequestingPage::CrossOrigin(Some(origin)),
            Some(origin) if is_same_origin(origin, host) => RequestingPage::SameOrigin,
            Some(origin) if web_authority(origin).is_some_and(|(_, own)| is_loopback(split_authority(own).0)) => {
                RequestingPage::Loopback
            }
            origin => RequestingPage::CrossOrigin(origin),
        };
    }
    let is_safe = matches!(request.method, Method::Get | Method::Head);
    let navigates = is_safe && request.header_text("sec-fetch-mode") == Some("navigate");
    match request.header_text("sec-fetch-site") {
        Some("same-origin") => RequestingPage::SameOrigin,
        // A site does not depend on ports.
        Some("same-site") if is_loopback(split_authority(host).0) => RequestingPage::Loopback,
        Some("none") => RequestingPage::Unknown,
        Some(_) if navigates => RequestingPage::Unknown,
        Some(_) => RequestingPage::CrossOrigin(None),
        None if is_safe && request.header_text("referer").is_some_and(|page| is_same_origin(page, host)) => {
            RequestingPage::SameOrigin
        }
        None => RequestingPage::Unknown,
    }
}

/// Checks that `request` may use a hub that asks for no token.
pub(in crate::endpoint) fn admit_without_token(request: &Request, config: &Config) -> Result<(), AccessDenied> {
    if config.cors.allows_any() {
        return Ok(());
    }
    if request.host().is_some_and(|host| !config.hosts.allow(host)) {
        return Err(AccessDenied::ForeignHost);
    }
    match requesting_page(request) {
        RequestingPage::CrossOrigin(origin) if !origin.is_some_and(|origin| config.cors.names(origin)) => {
            Err(AccessDenied::ForeignPage)
        }
        _ => Ok(()),
    }
}

/// Checks that the cookie of `request` counts. A browser sends the cookie with requests of any page, so it must say that a page
/// asks which may use it. `Host` may be any name: no browser sends a cookie to another name than the one that set it.
pub(in crate::endpoint) fn admit_cookie(request: &Request, config: &Config) -> Result<(), AccessDenied> {
    let is_named = |origin: &str| origin != "null" && config.cors.allow_credentials && config.cors.names(origin);
    let counts = match requesting_page(request) {
        RequestingPage::SameOrigin => true,
        RequestingPage::Loopback => request.host().is_some_and(|host| config.hosts.allow(host)),
        RequestingPage::CrossOrigin(origin) => origin.is_some_and(is_named),
        RequestingPage::Unknown => false,
    };
    if counts { Ok(()) } else { Err(AccessDenied::Cookie) }
}

/// Whether the request comes from a page that may not use cookies here.
pub(in crate::endpoint) fn is_cross_origin(request: &Request, config: &Config) -> bool {
    let says_whose = request.header("origin").is_some() || request.header("sec-fetch-site").is_some();
    says_whose && admit_cookie(request, config).is_err()
}

/// Checks that the page that `request` comes from may open a WebSocket: browsers ask for no permission before they do (RFC 6455
/// section 10.2). At a hub with tokens every page may, because the client can sign in later, unless `cors.allow_origins` names
/// origins.
pub(in crate::endpoint) fn may_connect(request: &Request, context: &Context<'_>) -> Result<(), AccessDenied> {
    let config = context.config;
    if !context.hub.auth.is_required() {
        return admit_without_token(request, config).inspect_err(|denied| access::count_refusal(*denied, context));
    }
    match requesting_page(request) {
        RequestingPage::CrossOrigin(origin)
            if !may_authenticate(request, config) && !origin.is_some_and(|it| config.cors.names(it)) =>
        {
            Err(AccessDenied::ForeignPage)
        }
        _ => Ok(()),
    }
}

/// The pages that may read an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoint) enum CorsGrant<'a> {
    /// No page of another origin.
    None,
    /// Any page, without the cookies of its user.
    AnyOrigin,
    /// The page of this origin, with or without cookies.
    Origin { origin: &'a str, with_cookies: bool },
}

/// The pages that may read the answer to `request`. `any_origin`: every page may, as the API's document promises.
pub(in crate::endpoint) fn cors_grant_for<'a>(
    request: &'a Request,
    context: &Context<'_>,
    any_origin: bool,
) -> CorsGrant<'a> {
    let (config, asks) = (&context.config, context.hub.auth.is_required());
    let Some(origin) = request.header_text("origin") else {
        return if any_origin { CorsGrant::AnyOrigin } else { CorsGrant::None };
    };
    let known_host = || request.host().is_none_or(|host| config.hosts.allow(host));
    let page = match requesting_page(request) {
        // The port may differ where `Host` has none.
        RequestingPage::SameOrigin | RequestingPage::Loopback if asks || known_host() => {
            CorsGrant::Origin { origin, with_cookies: true }
        }
        _ if config.cors.names(origin) => CorsGrant::Origin { origin, with_cookies: config.cors.allow_credentials },
        _ if asks && may_authenticate(request, config) => CorsGrant::AnyOrigin,
        _ => CorsGrant::None,
    };
    match page {
        CorsGrant::Origin { with_cookies: true, .. } if access::relies_on_cookie(request) => page,
        _ if any_origin || config.cors.is_open() => CorsGrant::AnyOrigin,
        page => page,
    }
}

/// Whether a page of another origin may authenticate: if it shows a credential, if a preflight announces one, or if the
/// configuration names no origins.
fn may_authenticate(request: &Request, config: &Config) -> bool {
    let announces = |name: &str| request.header_lists("access-control-request-headers", name);
    let names_none = config.cors.allow_origins.is_empty() || config.cors.allows_any();
    names_none || access::has_explicit_credential(request) || announces("authorization") || announces("x-api-key")
}

/// Whether `url`, an origin or a page's address, is of the origin that `host` names. The scheme is not compared, because behind a
/// proxy that ends TLS the hub does not know its own. The port is not compared if `host` has none, because some proxies send only
/// the name.
fn is_same_origin(url: &str, host: &str) -> bool {
    let Some((scheme, authority)) = web_authority(url) else { return false };
    let default_port = if scheme == "https" { "443" } else { "80" };
    let ((name, port), (own_name, own_port)) = (split_authority(authority), split_authority(host));
    !own_name.is_empty()
        && name.eq_ignore_ascii_case(own_name)
        && own_port.is_none_or(|own_port| own_port == port.unwrap_or(default_port))
}

/// The scheme and authority of a web address. `None` if the authority is malformed or has a user: the text before an `@` is
/// easily taken for the host.
fn web_authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    is_authority(authority.as_bytes()).then_some((scheme, authority))
}

/// Whether `value` is an origin as browsers serialize it (RFC 6454 section 6.2): nothing follows the authority.
fn is_serialized_origin(value: &str) -> bool {
    web_authority(value).is_some_and(|(scheme, authority)| value.len() == scheme.len() + "://".len() + authority.len())
}

/// The host and port of an authority (RFC 3986 section 3.2). An IPv6 address loses its brackets, a name the dot at its end.
fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    (host.strip_suffix('.').unwrap_or(host), port)
}

/// Whether `host` is this machine. Browsers resolve `localhost` and all names below it themselves.
fn is_loopback(host: &str) -> bool {
    let is_local_name = |name: &str| {
        let end = name.len().checked_sub("localhost".len());
        end.is_some_and(|at| {
            name.is_char_boundary(at)
                && name[at..].eq_ignore_ascii_case("localhost")
                && (at == 0 || name.as_bytes()[at - 1] == b'.')
        })
    };
    host.parse::<IpAddr>().map_or_else(|_| is_local_name(host), |address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests;
