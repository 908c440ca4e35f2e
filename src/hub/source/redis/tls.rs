//! TLS for the client library's connections to sentinels.

use std::io;

use redis::{ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};

pub(super) use crate::source::tls::{TlsFiles, client_config};

/// Puts into `info` what `files` hold, if it is the address of a TLS server.
pub(super) fn equip(info: ConnectionInfo, files: &TlsFiles) -> io::Result<ConnectionInfo> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // The client library takes the process's provider; if there is one already, it stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = redis::Client::build_with_tls(info, library_certificates(files)?).map_err(io::Error::other)?;
    Ok(client.get_connection_info().clone())
}

fn library_certificates(files: &TlsFiles) -> io::Result<TlsCertificates> {
    let client_tls = match (&files.certificate_file, &files.key_file) {
        (Some(certificate), Some(key)) => {
            Some(ClientTlsConfig { client_cert: std::fs::read(certificate)?, client_key: std::fs::read(key)? })
        }
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: files.ca_file.as_ref().map(std::fs::read).transpose()? })
}
