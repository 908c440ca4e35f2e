//! The URLs of NATS servers.

use std::{fmt, str::FromStr};

use super::NatsAuth;
use crate::protocol::http::percent_decode;

/// The port of a URL that names none.
const PORT: u16 = 4222;

/// The servers of one system, in URLs with commas between them: `nats://[user:password@|token@]host[:port]`, or `tls://`. Each of
/// them will do. They take the same login, which stands in one of the URLs, or in each. Neither `Debug` nor `Display` shows the
/// password or the token.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    servers: Vec<NatsAddress>,
    auth: NatsAuth,
}

/// Where one server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NatsAddress {
    /// Whether nothing is said without TLS. Otherwise it is used if the server demands it.
    pub(super) is_tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why a text is not a NATS URL. Never quotes the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadNatsUrl(&'static str);

impl NatsUrl {
    /// Reads `text`.
    pub fn parse(text: &str) -> Result<Self, BadNatsUrl> {
        let mut url = Self { servers: Vec::new(), auth: NatsAuth::None };
        for text in text.split(',') {
            let (address, auth) = parse_server(text.trim())?;
            if auth != NatsAuth::None && url.auth != NatsAuth::None && auth != url.auth {
                return Err(BadNatsUrl("the servers are given different logins"));
            }
            if auth != NatsAuth::None {
                url.auth = auth;
            }
            url.servers.push(address);
        }
        Ok(url)
    }

    pub(super) fn servers(&self) -> &[NatsAddress] {
        &self.servers
    }

    /// The login in it.
    pub(super) fn auth(&self) -> &NatsAuth {
        &self.auth
    }

    /// Whether it holds a login.
    pub fn has_login(&self) -> bool {
        self.auth != NatsAuth::None
    }

    /// Whether one of the servers is spoken to in TLS only.
    pub(super) fn is_tls(&self) -> bool {
        self.servers.iter().any(|server| server.is_tls)
    }

    /// Whether `other` leads to the same servers, whatever the login is.
    pub fn is_of_same_servers(&self, other: &Self) -> bool {
        self.servers == other.servers
    }
}

fn parse_server(text: &str) -> Result<(NatsAddress, NatsAuth), BadNatsUrl> {
    let (is_tls, rest) = match text.split_once("://") {
        Some(("nats", rest)) => (false, rest),
        Some(("tls", rest)) => (true, rest),
        Some(_) => return Err(BadNatsUrl("the scheme is neither nats nor tls")),
        None => (false, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // A password may hold an `@` that is not escaped.
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let (host, port) = parse_place(place)?;
    let decode = |text: &str| percent_decode(text).ok_or(BadNatsUrl("the login is badly encoded"));
    let auth = match login.map(|login| login.split_once(':').ok_or(login)) {
        None | Some(Err("")) => NatsAuth::None,
        Some(Err(token)) => NatsAuth::Token(decode(token)?),
        Some(Ok((user, password))) => NatsAuth::User { user: decode(user)?, password: decode(password)? },
    };
    Ok((NatsAddress { is_tls, host: host.to_owned(), port }, auth))
}

fn parse_place(place: &str) -> Result<(&str, u16), BadNatsUrl> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(BadNatsUrl("a bracket is not closed"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(BadNatsUrl("what stands in brackets is no IPv6 address"));
            }
            (host, (!rest.is_empty()).then(|| rest.strip_prefix(':')))
        }
        None => {
            let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
            let is_name = |letter: char| letter.is_alphanumeric() || "-._".contains(letter);
            if host.is_empty() || !host.chars().all(is_name) {
                return Err(BadNatsUrl("the host is missing, or is no name"));
            }
            (host, port.map(Some))
        }
    };
    match port {
        None => Ok((host, PORT)),
        Some(port) => match port.and_then(|port| port.parse().ok()) {
            Some(0) | None => Err(BadNatsUrl("the port is no number from 1 to 65535")),
            Some(port) => Ok((host, port)),
        },
    }
}

impl Default for NatsUrl {
    fn default() -> Self {
        Self {
            servers: vec![NatsAddress { is_tls: false, host: "127.0.0.1".to_owned(), port: PORT }],
            auth: NatsAuth::None,
        }
    }
}

impl FromStr for NatsUrl {
    type Err = BadNatsUrl;

    fn from_str(text: &str) -> Result<Self, BadNatsUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.servers.iter().enumerate() {
            write!(f, "{}{server}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({self})")
    }
}

impl fmt::Display for BadNatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a NATS URL (nats://[user:password@]host[:port], or tls://; several with commas): {}", self.0)
    }
}

impl std::error::Error for BadNatsUrl {}
