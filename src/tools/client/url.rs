//! A hub's address.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::protocol::http::{is_authority, percent_encode};

/// The URL of a hub: `http://host:port` or `ws://…`, with TLS `https://host:port` or `wss://…`, `unix:/path`, or only
/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubUrl {
    endpoint: Endpoint,
    /// Prefix of the path of each request, without a slash at the end.
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    Tcp { host: String, port: u16, is_tls: bool },
    Unix(PathBuf),
}

impl HubUrl {
    /// The value of a request's `Host` field: without the port if that is the scheme's own (RFC 9112 section 3.2), as browsers do it.
    pub(crate) fn host(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp { host, port, is_tls } if *port == default_port(*is_tls) => host.clone(),
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
            Endpoint::Unix(_) => "localhost".into(),
        }
    }

    /// The request target for `path` at this hub.
    pub(crate) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The path of the hub's unix socket, if it has one.
    pub(crate) fn unix_path(&self) -> Option<&Path> {
        match &self.endpoint {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// The addresses of the hub's host, in the order to try them; none for a unix socket.
    pub(crate) fn socket_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.endpoint {
            Endpoint::Tcp { host, port, .. } => Ok((bare_host(host), *port).to_socket_addrs()?.collect()),
            Endpoint::Unix(_) => Ok(Vec::new()),
        }
    }

    /// The name that the hub's certificate must have, if TLS is used: the host, without brackets.
    pub(crate) fn tls_host(&self) -> Option<&str> {
        match &self.endpoint {
            Endpoint::Tcp { host, is_tls: true, .. } => Some(bare_host(host)),
            Endpoint::Tcp { .. } | Endpoint::Unix(_) => None,
        }
    }
}

/// An IPv6 address without the brackets it has in a URL.
pub(crate) fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self { endpoint: Endpoint::Unix(path.into()), prefix: String::new() });
        }
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http" | "ws", rest)) => (false, rest),
            Some(("https" | "wss", rest)) => (true, rest),
            Some(_) => return Err("write http://host:port, https://host:port or unix:/path".into()),
            None => (false, text),
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        if path.contains(['?', '#']) || authority.contains('@') {
            return Err("write http://host:port, without a query or a login: --token signs in".into());
        }
        let (host, port) = split_authority(authority, default_port(is_tls))?;
        let prefix = encode_path(path.trim_end_matches('/'));
        Ok(Self { endpoint: Endpoint::Tcp { host: host.into(), port, is_tls }, prefix })
    }
}

fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

/// `path` with all that a URL cannot hold percent-encoded (RFC 6455 section 11.1.1); what is encoded already stays.
fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for character in path.chars() {
        if character.is_ascii_graphic() && !"\"<>\\^`{|}".contains(character) {
            encoded.push(character);
        } else {
            percent_encode(character.encode_utf8(&mut [0; 4]), &mut encoded);
        }
    }
    encoded
}

/// Host and port; an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
fn split_authority(authority: &str, default_port: u16) -> Result<(&str, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (authority, default_port),
    };
    let is_plain = |host: &str| !host.is_empty() && !host.contains([':', '[', ']', ' ']);
    let is_bracketed = |host: &str| host.strip_prefix('[').is_some_and(|rest| rest.ends_with(']'));
    match (is_plain(host) || is_bracketed(host)) && is_authority(host.as_bytes()) {
        true => Ok((host, port)),
        false if host.is_ascii() => Err(format!("`{host}` is not a host")),
        false => {
            Err(format!("`{host}` is not a host: write its ASCII form, as xn--bcher-kva.example for bücher.example"))
        }
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, is_tls } => {
                write!(f, "{}://{host}:{port}{}", if *is_tls { "https" } else { "http" }, self.prefix)
            }
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = text.parse::<HubUrl>().map(|url| url.to_string());
            assert_eq!(parsed.as_deref().ok(), expected, "{text}");
        };
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080"));
        check("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080"));
        check("ws://hub", Some("http://hub:80"));
        check("localhost:9000/hub/", Some("http://localhost:9000/hub"));
        check("http://[::1]:8080", Some("http://[::1]:8080"));
        check("http://[::1]", Some("http://[::1]:80"));
        check("unix:/run/fanfare.sock", Some("unix:/run/fanfare.sock"));
        check("https://hub", Some("https://hub:443"));
        check("wss://hub:8443/x", Some("https://hub:8443/x"));
        check("http://hub/a b/é/%20\"", Some("http://hub:80/a%20b/%C3%A9/%20%22"));
        check("http://hub/~a/b;c=d,e@f:g", Some("http://hub:80/~a/b;c=d,e@f:g"));
        check("http://xn--bcher-kva.example", Some("http://xn--bcher-kva.example:80"));
        for bad in ["", "redis://hub", "http://", "hub:99999", "a b:1", "::1", "hub/x?y", "u@hub", "http://[::1"] {
            check(bad, None);
        }
        for bad in ["http://bücher.example", "http://hub\r\nX: y", "http://a\"b", "wss://hub/#f"] {
            check(bad, None);
        }
    }

    #[test]
    fn hosts_have_the_port_that_is_not_the_schemes() {
        let check = |text: &str, expected: &str| {
            let url: HubUrl = text.parse().expect("a good URL");
            assert_eq!(url.host(), expected, "{text}");
        };
        check("http://hub", "hub");
        check("hub:80", "hub");
        check("wss://hub/x", "hub");
        check("https://hub:443", "hub");
        check("https://hub:80", "hub:80");
        check("ws://hub:443", "hub:443");
        check("http://[::1]", "[::1]");
        check("http://[::1]:8080", "[::1]:8080");
        check("unix:/run/fanfare.sock", "localhost");
    }

    #[test]
    fn a_prefix_precedes_each_path() {
        let url: HubUrl = "http://proxy/hub/".parse().expect("a good URL");
        assert_eq!((url.host(), url.target("/sse")), ("proxy".into(), "/hub/sse".into()));
    }
}
