//! TLS on the reader's non-blocking socket, and the trust both threads share.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::Config;

/// Reads the files that `config` names, or the system's authorities where it names none. Done once: a file that cannot
/// be read stops the start rather than each connection.
pub(super) fn client_config(config: &Config) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted_roots(config.ca_file.as_deref())?);
    let client = match (&config.certificate_file, &config.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(io::Error::other)?
        }
        _ => return Err(io::Error::other("certificate_file and key_file belong together: one is missing")),
    };
    Ok(Arc::new(client))
}

fn trusted_roots(ca_file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(ca_file) = ca_file {
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(|error| unusable(ca_file, &error))?;
        }
    } else {
        // Some systems carry authorities that no longer parse; they are no reason to trust none.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(io::Error::other("no certificate authority to trust: name one in ca_file"));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// A TLS connection over a socket that may still be connecting.
#[derive(Debug)]
pub(super) struct TlsStream {
    socket: TcpStream,
    tls: ClientConnection,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, host: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Self { socket, tls: ClientConnection::new(config, name).map_err(io::Error::other)? })
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads what was decrypted, taking in records until there is some. `Ok(0)` is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            if self.tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = self.tls.process_new_packets().map_err(io::Error::other);
            // Handshake messages, and on an error the alert that tells the server why.
            let flushed = self.flush();
            processed?;
            flushed?;
        }
    }

    /// Encrypts as much of `bytes` as there is room for, and sends what it can.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.tls.writer().write(bytes)?;
        self.flush()?;
        if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Sends what is encrypted; what the socket does not take waits for the next call.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
