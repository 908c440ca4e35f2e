//! TLS: certificates and authorities for the connections of all sources.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The files of a TLS connection. All in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The hub's own certificate chain, where the server asks for one.
    pub certificate_file: Option<PathBuf>,
    /// The key to `certificate_file`.
    pub key_file: Option<PathBuf>,
}

/// Reads the files that `files` names, or the system's authorities where it names none. Done once: a file that cannot
/// be read stops the start rather than each connection.
pub(in crate::source) fn client_config(files: &TlsFiles) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(trusted_roots(files.ca_file.as_deref())?);
    let client = match (&files.certificate_file, &files.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder.with_client_auth_cert(certificates(certificate)?, key).map_err(io::Error::other)?
        }
        _ => return Err(io::Error::other("certificate_file and key_file belong together: one is missing")),
    };
    Ok(Arc::new(client))
}

/// The certificates of the authorities in `ca_file`, in place of the system's.
pub(crate) fn trusted_certificates(ca_file: Option<&Path>) -> io::Result<Vec<CertificateDer<'static>>> {
    ca_file.map_or_else(|| Ok(rustls_native_certs::load_native_certs().certs), certificates)
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
