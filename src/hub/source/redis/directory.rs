//! Finds the Redis server: at the address of its URL, where the sentinels say that the master is at present, or where a node of a
//! cluster is.
//!
//! Shared by everything that connects to Redis. With a `redis+sentinel://` URL the address is asked for before *every*
//! connection. With any URL a connection counts only if the server at its end says that it is a master, or a replica where
//! [`DirectoryOptions::allow_replica`] says that one is meant: a sentinel may still name the old master during a failover, and a
//! name or a virtual address may lead to a replica after one.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{ConnectionInfo, ErrorKind, RedisError, io::tcp::TcpSettings};
use rustls::ClientConfig;

use super::{
    ClusterPlace, Login, RedisConnection, ServerAddress, TlsFiles, client_config, login,
    sentinel::{AskFailed, Sentinel},
    tls, url,
};
use crate::source::credentials::Logins;

/// What finding a server needs.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// The server's URL or the sentinels', with the login from the start.
    pub login: Login,
    /// The login in force, which may replace that one.
    pub logins: Logins<Login>,
    /// For `rediss://` and `rediss+sentinel://`.
    pub tls: TlsFiles,
    /// How long each sentinel may take to answer.
    pub sentinel_timeout: Duration,
    /// Whether a server that is a replica will do. It is read from, and never published to.
    pub allow_replica: bool,
}

/// The login at the sentinels, which have passwords of their own. `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SentinelLogin {
    /// Empty for the default user.
    pub username: String,
    /// Empty for none.
    pub password: String,
}

/// Finds the server. Shared freely between threads; each call may block as long as its timeouts say.
#[derive(Debug)]
pub struct Directory {
    /// How to connect; the address in it counts only without sentinels.
    server: ConnectionInfo,
    /// The login from the start.
    login: Login,
    logins: Logins<Login>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) allow_replica: bool,
    /// The first number of the oldest version that will do.
    pub(super) least_version: u64,
    service: String,
    /// Empty if the URL itself says where the server is.
    sentinels: Vec<Sentinel>,
    /// Set if the server is a master of a cluster.
    cluster: Option<ClusterPlace>,
    sentinel_timeout: Duration,
    /// Where the next search begins: a sentinel with outdated knowledge must not decide twice in a row.
    next: AtomicUsize,
}

impl Directory {
    /// Fails if `options` names files that cannot be used.
    pub fn new(options: &DirectoryOptions) -> io::Result<Self> {
        // First, because its complaints about the files are the better ones.
        let tls = options.login.url.is_tls().then(|| client_config(&options.tls)).transpose()?;
        let server = tls::equip(plain(options.login.url.connection_info()), &options.tls)?;
        let (service, addresses) = match options.login.url.sentinels() {
            Some(sentinels) => (sentinels.service.clone(), sentinels.addresses.as_slice()),
            None => (String::new(), &[][..]),
        };
        let sentinels = addresses.iter().map(|(host, port)| Sentinel::new(url::with_address(&server, host, *port)));
        Ok(Self {
            service,
            sentinels: sentinels.collect(),
            server,
            login: options.login.clone(),
            logins: options.logins.clone(),
            tls,
            allow_replica: options.allow_replica,
            least_version: 0,
            cluster: None,
            sentinel_timeout: options.sentinel_timeout,
            next: AtomicUsize::new(0),
        })
    }

    /// Refuses servers whose version begins with a smaller number than `least_version`.
    #[must_use]
    pub(super) fn with_least_version(self, least_version: u64) -> Self {
        Self { least_version, ..self }
    }

    /// The same login at a server of a cluster.
    pub(super) fn in_cluster(&self, place: ClusterPlace) -> Self {
        Self {
            server: self.server.clone(),
            login: self.login.clone(),
            logins: self.logins.clone(),
            tls: self.tls.clone(),
            allow_replica: self.allow_replica,
            least_version: self.least_version,
            service: String::new(),
            sentinels: Vec::new(),
            cluster: Some(place),
            sentinel_timeout: self.sentinel_timeout,
            next: AtomicUsize::new(0),
        }
    }

    /// Where the server is, with its login, ready for [`redis::Client::open`]. With sentinels, each is asked in turn
    /// until one knows; the text of an error names them all.
    pub fn current(&self) -> Result<ConnectionInfo, String> {
        self.current_within(Duration::MAX)
    }

    /// The same within `timeout`, whatever the sentinels' own timeouts are.
    pub fn current_within(&self, timeout: Duration) -> Result<ConnectionInfo, String> {
        let (started, login) = (Instant::now(), self.logins.current(&self.login));
        match self.current_as(&login, timeout) {
            Err(failure) if failure.is_refused => match self.logins.renew(&login) {
                Some(login) => self.current_as(&login, timeout.saturating_sub(started.elapsed())),
                None => Err(failure),
            },
            outcome => outcome,
        }
        .map_err(|failure| failure.text)
    }

    fn current_as(&self, login: &Login, timeout: Duration) -> Result<ConnectionInfo, AskFailed> {
        let server = plain(login.url.connection_info()).redis_settings().clone();
        let server = self.server.clone().set_redis_settings(server);
        if let Some(place) = &self.cluster {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let node = place.find(turn).map_err(|text| AskFailed { text, is_refused: false })?;
            return Ok(url::with_address(&server, &node.host, node.port));
        }
        if self.sentinels.is_empty() {
            return Ok(server);
        }
        let started = Instant::now();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let (mut failures, mut is_refused) = (Vec::new(), false);
        for index in 0..self.sentinels.len() {
            let sentinel = &self.sentinels[first.wrapping_add(index) % self.sentinels.len()];
            let Some(left) = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                failures.push("no time left to ask the others".to_owned());
                break;
            };
            match sentinel.ask_master(&self.service, &login.sentinel, left.min(self.sentinel_timeout)) {
                Ok((host, port)) => return Ok(url::with_address(&server, &host, port)),
                Err(failure) => {
                    is_refused |= failure.is_refused;
                    failures.push(failure.text);
                }
            }
        }
        let text = format!("no sentinel knows where the master of `{}` is: {}", self.service, failures.join("; "));
        Err(AskFailed { text, is_refused })
    }

    /// Where most of the sentinels, of all there are, believe the master to be. Asks every one of them.
    pub(super) fn agreed(&self) -> Option<ServerAddress> {
        let login = self.logins.current(&self.login);
        let ask = |sentinel: &Sentinel| sentinel.ask_master(&self.service, &login.sentinel, self.sentinel_timeout).ok();
        let answers: Vec<(String, u16)> = self.sentinels.iter().filter_map(ask).collect();
        let votes = |address: &&(String, u16)| answers.iter().filter(|other| *other == *address).count();
        let (host, port) = answers.iter().find(|address| self.sentinels.len() / 2 < votes(address))?;
        Some(ServerAddress::of(&url::with_address(&self.server, host, *port)))
    }

    /// Connects, logs in, makes itself known as `name`, and makes sure that the server is one to use; all of it within
    /// about `timeout`, which stays set on the connection. Where the login is refused, and its file has another one by now, tries
    /// that one.
    pub(super) fn connect(&self, name: &str, timeout: Duration) -> Result<RedisConnection, RedisError> {
        let started = Instant::now();
        let left = || timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        let info = self.current_within(timeout).map_err(|why| RedisError::from((ErrorKind::Io, "sentinels", why)))?;
        let (target, used) = (ServerAddress::of(&info), self.logins.current(&self.login));
        match RedisConnection::open(self, target.clone(), &used.url, name, left()) {
            Err(error) if login::is_refused(&error) => match self.logins.renew(&used) {
                Some(login) => RedisConnection::open(self, target, &login.url, name, left()),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    /// Whether sentinels, or a cluster, say where the server is, so that another one may soon be there.
    pub(super) fn may_move(&self) -> bool {
        !self.sentinels.is_empty() || self.cluster.is_some()
    }
}

/// Without what would cost a round trip at each connection; small commands do not wait for each other.
fn plain(info: &ConnectionInfo) -> ConnectionInfo {
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    info.clone().set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(settings)
}

impl fmt::Debug for SentinelLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelLogin").field("username", &self.username).finish_non_exhaustive()
    }
}
