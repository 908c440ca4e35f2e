//! Which web page a request comes from, as far as its browser says, and whether that page may use authority that nobody has to
//! show: that of a hub which asks nobody, and that of a cookie. Both come along with whatever page a person has open. So they
//! are for pages of the hub's own origin, of loopback origins, and of those that `cors.allow_origins` names. Whoever shows a
//! token or an API key may come from anywhere: no page can show what it does not have.
//!
//! At a hub that asks nobody, `Host`, or the authority of a target in absolute form, has to be a name of the hub as well. Otherwise a page could have its own name resolved to
//! the hub's address (DNS rebinding), and its browser would take hub and page for one origin.

use core::net::IpAddr;

use crate::{
    auth::Denied,
    endpoint::{Config, Context, gate::access},
    protocol::http::{Method, Request, is_authority},
};

/// By which names the hub may be asked where it asks nobody who it is. Besides these, loopback addresses and names are, and
/// names without a dot, which nobody can register and resolve to an address of choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Names such as `hub.example`, all below a domain as in `*.hub.example`, or `*` for any.
    pub names: Vec<String>,
    /// The addresses that the hub was told to listen at. An unspecified one stands for every address.
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
    /// None, as far as can be seen: a program asks, or a person who has typed an address or followed a link.
    Unknown,
    /// One of the origin that the request is for.
    SameOrigin,
    /// One of this machine.
    Loopback,
    /// Any other; its origin, where the browser names it.
    CrossOrigin(Option<&'a str>),
}

/// The page that `request` comes from. `Origin` counts first, then `Sec-Fetch-Site`, which browsers send to HTTPS and loopback
/// addresses only, then `Referer`, which counts where it speaks for the page and the method is safe.
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
        // Ports make no other site.
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

/// Whether whoever sent `request` may do what everybody may, at a hub that asks nobody who it is.
pub(in crate::endpoint) fn admit_without_token(request: &Request, config: &Config) -> Result<(), Denied> {
    if config.cors.allows_any() {
        return Ok(());
    }
    if request.host().is_some_and(|host| !config.hosts.allow(host)) {
        return Err(Denied::ForeignHost);
    }
    match requesting_page(request) {
        RequestingPage::CrossOrigin(origin) if !origin.is_some_and(|origin| config.cors.names(origin)) => {
            Err(Denied::ForeignPage)
        }
        _ => Ok(()),
    }
}

/// Whether the cookie of `request` counts: a browser sends it along with whatever any page asks for, so it has to say that a
/// page asks which may use it. `Host` need not be known: no browser sends a cookie to another name than it got it from.
pub(in crate::endpoint) fn admit_cookie(request: &Request, config: &Config) -> Result<(), Denied> {
    let is_named = |origin: &str| origin != "null" && config.cors.allow_credentials && config.cors.names(origin);
    let counts = match requesting_page(request) {
        RequestingPage::SameOrigin => true,
        RequestingPage::Loopback => request.host().is_some_and(|host| config.hosts.allow(host)),
        RequestingPage::CrossOrigin(origin) => origin.is_some_and(is_named),
        RequestingPage::Unknown => false,
    };
    if counts { Ok(()) } else { Err(Denied::Cookie) }
}

/// Whether the page that asks belongs to somebody whom nobody has allowed to use cookies here.
pub(in crate::endpoint) fn is_cross_origin(request: &Request, config: &Config) -> bool {
    let says_whose = request.header("origin").is_some() || request.header("sec-fetch-site").is_some();
    says_whose && admit_cookie(request, config).is_err()
}

/// Whether the page that `request` comes from may connect: browsers ask nobody before they open a WebSocket (RFC 6455 section
/// 10.2). Where clients have to say who they are, they may do so later, so all may; unless `cors.allow_origins` names some.
pub(in crate::endpoint) fn may_connect(request: &Request, context: &Context<'_>) -> Result<(), Denied> {
    let config = context.config;
    if !context.hub.auth.is_required() {
        return admit_without_token(request, config).inspect_err(|denied| access::count_refusal(*denied, context));
    }
    match requesting_page(request) {
        RequestingPage::CrossOrigin(origin)
            if !may_authenticate(request, config) && !origin.is_some_and(|it| config.cors.names(it)) =>
        {
            Err(Denied::ForeignPage)
        }
        _ => Ok(()),
    }
}

/// Who may read the answer to `request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoint) enum CorsGrant<'a> {
    /// No page of another origin.
    None,
    /// Any page, without the cookies of its user.
    AnyOrigin,
    /// The page of this origin, with or without cookies.
    Origin { origin: &'a str, with_cookies: bool },
}

/// Which page may read the answer. `any_origin`: what every page may read, since the API is documented so.
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
        // The ports may be others, where `Host` has none.
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

/// Whether a page of any origin may show who it is: one that shows it, or announces to do so in the request that a preflight
/// asks for; and any, where no origins are named.
fn may_authenticate(request: &Request, config: &Config) -> bool {
    let announces = |name: &str| request.header_lists("access-control-request-headers", name);
    let names_none = config.cors.allow_origins.is_empty() || config.cors.allows_any();
    names_none || access::has_explicit_credential(request) || announces("authorization") || announces("x-api-key")
}

/// Whether `url`, an origin or the address of a page, is of the origin that `host` names. The scheme is not compared: behind a
/// proxy that ends TLS the hub does not know its own. Nor is the port where `host` has none: some proxies send the name alone.
fn is_same_origin(url: &str, host: &str) -> bool {
    let Some((scheme, authority)) = web_authority(url) else { return false };
    let default_port = if scheme == "https" { "443" } else { "80" };
    let ((name, port), (own_name, own_port)) = (split_authority(authority), split_authority(host));
    !own_name.is_empty()
        && name.eq_ignore_ascii_case(own_name)
        && own_port.is_none_or(|own_port| own_port == port.unwrap_or(default_port))
}

/// Scheme and authority of a web address. None if the authority is malformed, or tells a user: what stands in front of an `@` is
/// easily taken for the host.
fn web_authority(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    is_authority(authority.as_bytes()).then_some((scheme, authority))
}

/// Whether `value` is a web page's origin as browsers write it (RFC 6454 section 6.2): nothing follows the authority.
fn is_serialized_origin(value: &str) -> bool {
    web_authority(value).is_some_and(|(scheme, authority)| value.len() == scheme.len() + "://".len() + authority.len())
}

/// Host and port of an authority (RFC 3986 section 3.2): an IPv6 address without its brackets, a name without a dot at its end.
fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (address, rest.strip_prefix(':'));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    (host.strip_suffix('.').unwrap_or(host), port)
}

/// Whether `host` is this machine for whoever asks for it: browsers resolve `localhost` and all below it themselves.
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
