//! A hub as the tools reach it: its URL, the credentials and headers of each request, and the connection.

use std::{fmt, io, os::unix::net::UnixStream};

use socket2::Socket;

use super::{
    credential::{Credential, Secret},
    socket::{CONNECT_TIMEOUT, connect_first},
    tls::{self, MaybeTlsStream, TlsClient},
    url::HubUrl,
};

/// A hub, and what each request to it needs to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubAccess {
    url: HubUrl,
    credential: Option<Credential>,
    /// The credential's field, if there is one, comes first.
    headers: Vec<(String, Secret)>,
    tls: Option<TlsClient>,
}

impl fmt::Display for HubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl HubAccess {
    /// The hub at `url`; each request carries the field of the credential, then `headers`.
    pub(super) fn new(
        url: HubUrl,
        credential: Option<Credential>,
        headers: impl Iterator<Item = (String, Secret)>,
        tls: Option<TlsClient>,
    ) -> Self {
        let headers = credential.iter().map(Credential::header).chain(headers).collect();
        Self { url, credential, headers, tls }
    }

    pub(crate) fn url(&self) -> &HubUrl {
        &self.url
    }

    /// Reads the token again if it comes from a file. Call it before each new connection, since tokens are rotated, and when the
    /// hub no longer accepts the token. Returns whether the token changed. The error says what is wrong with the file; the old
    /// token then stays.
    pub(crate) fn renew(&mut self) -> Result<bool, String> {
        let Some(credential) = &mut self.credential else { return Ok(false) };
        let renewed = credential.renew()?;
        let is_another = renewed != *credential;
        self.headers[0] = renewed.header();
        *credential = renewed;
        Ok(is_another)
    }

    /// The header fields of each request.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// TLS settings, if the hub's URL asks for TLS.
    pub(crate) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    /// Connects a blocking socket, with TLS if the URL asks for it. The error names the hub, the reason and what to check.
    pub(crate) fn connect(&self) -> Result<MaybeTlsStream<Socket>, String> {
        let connect = || -> io::Result<MaybeTlsStream<Socket>> {
            let socket = match self.url.unix_path() {
                Some(path) => UnixStream::connect(path)?.into(),
                None => connect_first(self.url.socket_addresses()?)?,
            };
            socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
            let mut stream = MaybeTlsStream::new(socket, self.tls())?;
            stream.shake_hands()?;
            Ok(stream)
        };
        connect().map_err(|error| {
            let advice = match tls::advice(&error) {
                "" if tls::is_untrusted(&error) => "",
                "" => ". Is the hub running there?",
                advice => advice,
            };
            format!("cannot reach {self}: {error}{advice}")
        })
    }
}
