//! A blocking connection to the database. Each call has a time limit.

use std::{io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::{Client, Config as ClientOptions, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Config, StoreLogin, fault::Fault};
use crate::source::credentials::Logins;

/// Opens connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    login: StoreLogin,
    logins: Logins<StoreLogin>,
    tls: Option<Arc<ClientConfig>>,
    connect_timeout: Duration,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The connection's own task runs only during calls, which is when there is work for it.
    runtime: Runtime,
    client: Client,
}

impl Connector {
    /// Reads the files that `config` names. A file that cannot be read is an error at the start.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let tls = config.login.url.is_tls().then(|| tls_config(config.ca_file.as_deref())).transpose()?;
        let (login, logins) = (config.login.clone(), config.logins.clone());
        Ok(Self { login, logins, tls: tls.map(Arc::new), connect_timeout: config.connect_timeout })
    }

    /// Connects and logs in. If the login is refused and its file has another one by now, tries that one.
    pub(super) fn open(&self) -> Result<Link, Fault> {
        let used = self.logins.current(&self.login);
        match self.open_as(&used) {
            Err(fault) if fault.is_login_refused() => match self.logins.renew(&used) {
                Some(login) => self.open_as(&login),
                None => Err(fault),
            },
            outcome => outcome,
        }
    }

    fn open_as(&self, login: &StoreLogin) -> Result<Link, Fault> {
        let mut options = login.url.client_config();
        options.connect_timeout(self.connect_timeout);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Fault::Machine)?;
        let opening = timeout_or_fault(self.connect_timeout, self.connect(&options));
        let client = runtime.block_on(opening)?;
        Ok(Link { runtime, client })
    }

    async fn connect(&self, options: &ClientOptions) -> Result<Client, Fault> {
        // In each case the connection is a task that ends with its client, or with an error that the client then reports.
        match &self.tls {
            None => {
                let (client, connection) = options.connect(NoTls).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(client)
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new(ClientConfig::clone(tls));
                let (client, connection) = options.connect(tls).await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(client)
            }
        }
    }
}

impl Link {
    /// Does `work` within `limit`. After a fault other than a refusal the link must not be used again.
    pub(super) fn run<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Self { runtime, client } = self;
        runtime.block_on(async { timeout_or_fault(limit, work(client)).await })
    }
}

async fn timeout_or_fault<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Silent(limit)))
}

fn tls_config(ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            let unusable = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
                roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
            }
        }
    }
    if roots.is_empty() {
        return Err(io::Error::other("no certificate authority to trust: name one in store.ca_file"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth())
}
