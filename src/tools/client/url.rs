//! A hub's address.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
};

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
    /// The value of a request's `Host` field.
    pub(crate) fn host(&self) -> String {
        match &self.endpoint {
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
        let (host, port) = split_authority(authority, if is_tls { 443 } else { 80 })?;
        Ok(Self {
            endpoint: Endpoint::Tcp { host: host.into(), port, is_tls },
            prefix: path.trim_end_matches('/').into(),
        })
    }
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
    if is_plain(host) || is_bracketed(host) { Ok((host, port)) } else { Err(format!("`{host}` is not a host")) }
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
        for bad in ["", "redis://hub", "http://", "hub:99999", "a b:1", "::1", "hub/x?y", "u@hub", "http://[::1"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_prefix_precedes_each_path() {
        let url: HubUrl = "http://proxy/hub/".parse().expect("a good URL");
        assert_eq!((url.host(), url.target("/sse")), ("proxy:80".into(), "/hub/sse".into()));
    }
}
