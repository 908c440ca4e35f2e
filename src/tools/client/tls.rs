//! TLS for the tools: which servers to trust, and a stream that may be encrypted, over blocking and non-blocking sockets.

use std::{
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

/// Flags that say how the certificate of an `https`, `wss` or `rediss` server is verified.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// Trust the certificate authorities in FILE (PEM) instead of the system's, for https, wss and rediss
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Do not verify the server's certificate: anyone on the network path can then read and change all data, tokens included
    #[arg(long, conflicts_with = "ca")]
    insecure_tls: bool,
}

/// TLS settings for one server. Two are equal if they share their configuration and name the same server.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for TlsClient {}

impl TlsClient {
    /// For an HTTP server at `host`: a name, or an IP address without brackets. Reads the files that `options` name. The error
    /// names the file.
    pub(crate) fn new(host: &str, options: &TlsOptions) -> Result<Self, String> {
        Self::speaking(&[b"http/1.1"], host, options)
    }

    /// For a server of another protocol, such as Redis: without ALPN.
    pub(crate) fn without_http(host: &str, options: &TlsOptions) -> Result<Self, String> {
        Self::speaking(&[], host, options)
    }

    fn speaking(protocols: &[&[u8]], host: &str, options: &TlsOptions) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("`{host}` is neither a DNS name nor an IP address, as TLS needs"))?;
        Ok(Self { config: client_config(protocols, options)?, name })
    }
}

fn client_config(protocols: &[&[u8]], options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match options.insecure_tls {
        true => Arc::new(Unchecked(Arc::clone(&provider))),
        false => Arc::new(Checked::new(options.ca.as_deref(), &provider)?),
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be used: {error}"))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    // Many streams of a tool stand for as many users, each of whom makes a whole handshake.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Checks certificates by the system's authorities or those of a file. A certificate that is in the file itself is trusted
/// for its own names, even if it says that it is an authority: so does what `openssl req -x509` makes.
#[derive(Debug)]
struct Checked {
    authorities: Arc<WebPkiServerVerifier>,
    /// The certificates of the file.
    named: Vec<CertificateDer<'static>>,
}

impl Checked {
    fn new(file: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let (mut roots, mut named) = (RootCertStore::empty(), Vec::new());
        match file {
            // Some systems carry authorities that no longer parse.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(file) => {
                named = read_certificates(file)?;
                for certificate in &named {
                    let added = roots.add(certificate.clone());
                    added.map_err(|error| format!("--ca {}: {error}", file.display()))?;
                }
            }
        }
        if roots.is_empty() {
            let place = file.map_or_else(|| "the system".to_owned(), |file| format!("--ca {}", file.display()));
            return Err(format!(
                "{place} has no certificate authority to trust: name a PEM file that has with --ca FILE"
            ));
        }
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        Ok(Self { authorities: built.map_err(|error| format!("TLS cannot be used: {error}"))?, named })
    }
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| format!("--ca {}: {error}", file.display()))
}

impl ServerCertVerifier for Checked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // Not a matter of dates or names: those have errors of their own.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.named.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes any certificate, as `--insecure-tls` asks.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether trying again cannot help: the server's certificate is not trusted.
pub(crate) fn is_untrusted(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(Error::InvalidCertificate(_)))
}

/// What a user can do about `error`, as the end of a sentence about it; empty if it is not one of TLS.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match tls_error(error) {
        // The last, too, is one that nobody vouches for: an authority's, which signed itself. A bad signature is what an authority
        // has not signed that bears the name of one that is trusted.
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
        )) => ". Name the authority that signed its certificate with --ca FILE",
        Some(Error::InvalidMessage(_)) => ". Does the server speak TLS at this port?",
        _ => "",
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// A socket with or without TLS. A write takes what there is room for; encrypted bytes that the socket does not take at once
/// are sent by the next read, write or [flush](Write::flush). Flush a non-blocking socket when it becomes writable.
#[derive(Debug)]
pub(crate) enum MaybeTlsStream<S: Write> {
    Plain(S),
    /// Boxed: there are many streams, and most are plain.
    Tls(Box<TlsStream<S>>),
}

/// A socket with TLS, whose handshake may be under way. When dropped, it tells the peer that nothing follows.
#[derive(Debug)]
pub(crate) struct TlsStream<S: Write> {
    socket: S,
    tls: ClientConnection,
}

impl<S: Write> MaybeTlsStream<S> {
    /// Uses TLS on `socket` if `tls` is given. Nothing is sent before the first write or read.
    pub(crate) fn new(socket: S, tls: Option<&TlsClient>) -> io::Result<Self> {
        let Some(TlsClient { config, name }) = tls else { return Ok(Self::Plain(socket)) };
        let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(TlsStream { socket, tls })))
    }

    pub(crate) fn socket(&self) -> &S {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.socket,
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.socket,
        }
    }

    /// Whether TLS is used: a short read then does not mean that the socket is empty.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether encrypted bytes wait for the socket to become writable.
    pub(crate) fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.tls.wants_write())
    }
}

impl<S: Read + Write> MaybeTlsStream<S> {
    /// Whether the peer has sent bytes, of which one is lost then, or closed. Only for a non-blocking socket.
    pub(crate) fn has_input(&mut self) -> io::Result<bool> {
        match self.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            read => read.map(|_| true),
        }
    }

    /// Completes the handshake. Only for a blocking socket.
    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        let Self::Tls(stream) = self else { return Ok(()) };
        while stream.tls.is_handshaking() {
            stream.flush()?;
            if stream.take_in()? == 0 {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the server closed the connection in the handshake",
                ));
            }
        }
        stream.flush()
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// Reads records from the socket, and answers what wants an answer; 0 is the end.
    fn take_in(&mut self) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut self.socket)?;
        let processed = self.tls.process_new_packets().map_err(io::Error::other);
        // On an error, the alert that says why.
        let flushed = self.flush();
        processed?;
        flushed?;
        Ok(count)
    }
}

impl<S: Write> TlsStream<S> {
    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// RFC 9112 section 9.8: without this alert a server cannot tell the end from a connection that was cut.
impl<S: Write> Drop for TlsStream<S> {
    fn drop(&mut self) {
        self.tls.send_close_notify();
        // If the connection is lost, or takes nothing, nobody can be told.
        let _ = self.flush();
    }
}

impl<S: Read + Write> Read for MaybeTlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match self {
            Self::Plain(socket) => return socket.read(buffer),
            Self::Tls(stream) => stream,
        };
        loop {
            match stream.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Many servers close without a word of TLS; what is whole is known by HTTP and WebSocket.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if stream.take_in()? == 0 {
                return Ok(0);
            }
        }
    }
}

impl<S: Read + Write> Write for MaybeTlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stream = match self {
            Self::Plain(socket) => return socket.write(bytes),
            Self::Tls(stream) => stream,
        };
        let count = stream.tls.writer().write(bytes)?;
        stream.flush()?;
        if count == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// Takes all that is written.
    struct Recorder(Rc<RefCell<Vec<u8>>>);

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_of_a_stream_is_announced() {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let client = TlsClient::new("hub", &TlsOptions { insecure_tls: true, ..TlsOptions::default() });
        let client = client.expect("a good name");
        drop(MaybeTlsStream::new(Recorder(Rc::clone(&sent)), Some(&client)).expect("a client"));
        // An alert (21) of two bytes: a warning (1), close_notify (0).
        let sent = sent.borrow();
        assert!(matches!(sent.as_slice(), [.., 21, 3, _, 0, 2, 1, 0]), "{:?}", &sent[sent.len().saturating_sub(7)..]);
    }
}
