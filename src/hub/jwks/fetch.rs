//! One fetch of a key set, by HTTPS, bounded in time and size whatever the server does.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use ureq::{
    Agent,
    http::{HeaderMap, header::CACHE_CONTROL},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use crate::{
    auth::{KeySetSettings, check_url},
    source::trusted_certificates,
};

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where an issuer's metadata are (OpenID Connect Discovery 1.0, section 4).
const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// Fetches one key set. Proxies are those of the environment (HTTPS_PROXY, NO_PROXY).
#[derive(Debug)]
pub struct KeySetClient {
    agent: Agent,
    settings: KeySetSettings,
    issuer: String,
}

/// A key set as a server has sent it. It is not parsed yet.
#[derive(Debug)]
pub struct FetchedSet {
    /// The set, in JSON.
    pub text: String,
    /// How long it may be used, if the server says so (RFC 9111 section 5.2.2.1).
    pub max_age: Option<Duration>,
}

/// What the metadata of an issuer say, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl KeySetClient {
    /// A client for the set of `issuer` that `settings` describe. Fails where the file of authorities cannot be read.
    pub fn new(settings: &KeySetSettings, issuer: &str) -> io::Result<Self> {
        let authorities = trusted_certificates(settings.ca_file.as_deref())?;
        let authorities: Vec<_> = authorities.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&authorities))
            .build();
        // A redirect could lead to plain HTTP, or around in circles: its answer is shown as what it is.
        let config = Agent::config_builder()
            .tls_config(tls)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections(0)
            .user_agent("fanfare");
        Ok(Self { agent: config.build().new_agent(), settings: settings.clone(), issuer: issuer.to_owned() })
    }

    /// Fetches the set. Blocks for `auth.jwks_timeout` at most, and takes `auth.jwks_bytes_max` at most. The error says what was
    /// wrong, and quotes nothing of what the server sent but addresses.
    pub fn fetch(&self) -> Result<FetchedSet, String> {
        let deadline = Instant::now() + self.settings.timeout;
        let url = if self.settings.discovery { self.discover(deadline)? } else { self.settings.url.clone() };
        self.get(&url, deadline)
    }

    /// The address of the set, by the issuer's metadata.
    fn discover(&self, deadline: Instant) -> Result<String, String> {
        let url = format!("{}{METADATA_PATH}", self.issuer.trim_end_matches('/'));
        let FetchedSet { text, .. } = self.get(&url, deadline)?;
        let metadata: Metadata = serde_json::from_str(&text)
            .map_err(|_| format!("{url} is no JSON object with the texts `issuer` and `jwks_uri`"))?;
        // Section 4.3: or else another issuer's keys were taken for this one's.
        if metadata.issuer != self.issuer {
            return Err(format!("{url} names another issuer than auth.issuer"));
        }
        check_url(&metadata.jwks_uri).map_err(|wrong| format!("{url}: jwks_uri: {wrong}"))?;
        Ok(metadata.jwks_uri)
    }

    fn get(&self, url: &str, deadline: Instant) -> Result<FetchedSet, String> {
        let of_url = |error: ureq::Error| match error {
            ureq::Error::Timeout(_) => format!("{url}: no whole answer within {:?}", self.settings.timeout),
            ureq::Error::BodyExceedsLimit(bytes) => format!("{url}: more than {bytes} bytes (auth.jwks_bytes_max)"),
            error => format!("{url}: {error}"),
        };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let request = self.agent.get(url).header("Accept", "application/json");
        let config = request.config().timeout_global(Some(left));
        // Plain HTTP is for this machine alone: a proxy of the environment would see what is asked, and could answer.
        let config = if url.starts_with("http://") { config.proxy(None) } else { config };
        let mut response = config.build().call().map_err(of_url)?;
        let status = response.status().as_u16();
        if status != 200 {
            let hint = if response.status().is_redirection() { ": redirects are not followed" } else { "" };
            return Err(format!("{url}: status {status}{hint}"));
        }
        let max_age = max_age(response.headers());
        let body = response.body_mut().with_config().limit(self.settings.bytes_max as u64);
        Ok(FetchedSet { text: body.read_to_string().map_err(of_url)?, max_age })
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok()).flatten()
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    #[test]
    fn how_long_a_set_is_good() {
        let check = |values: &[&'static str], expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{values:?}");
        };
        check(&[], None);
        check(&["no-store"], None);
        check(&["max-age=60"], Some(60));
        check(&["public, Max-Age=\"60\", must-revalidate"], Some(60));
        check(&["public", "max-age=0"], Some(0));
        check(&["max-age=soon"], None);
        check(&["s-maxage=5"], None);
        check(&["max-age=99999999999999999999"], None);
    }
}
