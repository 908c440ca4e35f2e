//! The address of a server under test.

use std::net::{SocketAddr, ToSocketAddrs};

use super::secrets::without_secrets;
use crate::client::{TlsClient, TlsOptions, bare_host};

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port as in the URL, for the `Host` field.
    pub host: String,
    pub address: SocketAddr,
    /// TLS settings, if the URL asks for TLS.
    pub tls: Option<TlsClient>,
}

impl Target {
    /// Parses `http://host[:port][/]`, or the same with `ws://`, `https://` or `wss://`.
    pub(super) fn http(url: &str, options: &TlsOptions) -> Result<Self, String> {
        for (scheme, port) in [("https://", 443), ("wss://", 443), ("ws://", 80)] {
            if url.starts_with(scheme) {
                let mut target = Self::parse(url, scheme, port)?;
                if port == 443 {
                    let name = target.host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
                    let name = bare_host(name.map_or(target.host.as_str(), |(name, _)| name)).to_owned();
                    target.tls = Some(TlsClient::new(&name, options)?);
                }
                return Ok(target);
            }
        }
        Self::parse(url, "http://", 80)
    }

    /// Parses `SCHEMEhost[:port][/]`.
    pub(super) fn parse(url: &str, scheme: &str, default_port: u16) -> Result<Self, String> {
        let shown = without_secrets(url);
        let rest = url.strip_prefix(scheme).ok_or_else(|| format!("{shown}: expected {scheme}HOST:PORT"))?;
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty() || host.contains(['/', '@', '?']) {
            return Err(format!("{shown}: expected {scheme}HOST:PORT and nothing else"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let address = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
        let mut addresses = address.to_socket_addrs().map_err(|error| format!("{shown}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{shown}: no such host"))?;
        Ok(Self { host: host.to_owned(), address, tls: None })
    }
}
