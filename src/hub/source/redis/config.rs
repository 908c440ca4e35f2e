//! The configuration of Redis, for Pub/Sub and Streams.

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use super::{Directory, DirectoryOptions, Login, LoginFiles, RedisUrl, SentinelLogin, TlsFiles};
use crate::{
    source::credentials::{Credentials, Logins},
    topic::Topic,
};

/// Which kind of Redis' Pub/Sub a cluster is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterPubSub {
    /// `SPUBLISH` and `SSUBSCRIBE`: a message stays within the shard that has its channel's slot. Redis 7.0 or later.
    Sharded,
    /// `PUBLISH` and `SUBSCRIBE`: each node passes each message on to all others. Any version; patterns.
    Classic,
}

/// How the hub uses Redis. Every value is valid, but `ping_interval` and the timeouts should not be zero.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The server's address and the login, or the sentinels' addresses.
    pub url: RedisUrl,
    /// For `rediss://`: PEM file of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// For `rediss://`: PEM file of the hub's own certificate chain, where the server asks for one.
    pub certificate_file: Option<PathBuf>,
    /// For `rediss://`: PEM file of the key to `certificate_file`.
    pub key_file: Option<PathBuf>,
    /// The login at the sentinels of a `redis+sentinel://` URL.
    pub sentinel_login: SentinelLogin,
    /// The files that `url` and the password in `sentinel_login` were read from, if they were.
    pub login_files: LoginFiles,
    /// The login in force, once it is another than `url` and `sentinel_login` say. Shared by the clones of this.
    pub logins: Logins<Login>,
    /// How long each sentinel, or each node that is asked for the slots of a cluster, may take to answer.
    pub sentinel_timeout: Duration,
    /// Which kind of Pub/Sub a cluster is used for.
    pub cluster_pubsub: ClusterPubSub,
    /// How often a cluster is asked for its slots while something is not where it should be.
    pub cluster_refresh: Duration,
    /// Whether a server that is a replica will do: it is read from, and publications are refused.
    pub allow_replica: bool,
    /// Channel patterns (Redis's globs) subscribed to from the start, even while nobody listens. Where several cover a channel,
    /// its messages come in through the first.
    pub subscribe: Vec<String>,
    /// Topics subscribed to from the start, even while nobody listens.
    pub always: Vec<Topic>,
    /// Whether to subscribe to a topic while somebody listens to it. Without, only `subscribe` and `always` count.
    pub interest: bool,
    /// How long a topic stays subscribed after its last listener left.
    pub linger: Duration,
    /// How long one attempt to connect and log in may take.
    pub connect_timeout: Duration,
    /// The wait after a first failure.
    pub backoff_min: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// How often each thread asks the server for a sign of life.
    pub ping_interval: Duration,
    /// How long the server may be silent after that before the connection is given up.
    pub ping_timeout: Duration,
    /// How often the hubs on a server publish a mark while events come, from which all of them count ([`crate::fingerprint`]).
    /// Zero: events have no fingerprints.
    pub mark_interval: Duration,
    /// How long ago the last proof of delivery may be while the source counts as ready.
    pub proof_age_max: Duration,
    /// The reader's buffer: the most that is read before it is handed on. It grows while a larger message arrives.
    pub read_buffer_bytes: usize,
    /// Publications waiting for the writer.
    pub publish_queue_max: usize,
    /// What those may weigh together, in bytes.
    pub publish_queue_bytes_max: usize,
    /// How long a publication may wait for its answer.
    pub publish_timeout: Duration,
    /// The largest payload.
    pub message_bytes_max: usize,
    /// How long the key of an idempotent publication is remembered.
    pub idempotency_window: Duration,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: RedisUrl::default(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            sentinel_login: SentinelLogin::default(),
            login_files: LoginFiles::default(),
            logins: Logins::default(),
            sentinel_timeout: Duration::from_secs(1),
            cluster_pubsub: ClusterPubSub::Sharded,
            cluster_refresh: Duration::from_millis(500),
            allow_replica: false,
            subscribe: Vec::new(),
            always: Vec::new(),
            interest: true,
            linger: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            mark_interval: Duration::from_secs(1),
            proof_age_max: Duration::from_secs(10),
            read_buffer_bytes: 256 * 1024,
            publish_queue_max: 65_536,
            publish_queue_bytes_max: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(5),
            message_bytes_max: 1024 * 1024,
            idempotency_window: Duration::from_secs(300),
        }
    }
}

impl RedisConfig {
    /// What finds the server. Fails if the configuration names files that cannot be used.
    pub fn directory(&self) -> io::Result<Directory> {
        Directory::new(&DirectoryOptions {
            login: self.login(),
            logins: self.logins.clone(),
            tls: self.tls_files(),
            allow_replica: self.allow_replica,
            sentinel_timeout: self.sentinel_timeout,
        })
    }

    /// The login as configured, and the files that it is in.
    pub(super) fn login(&self) -> Login {
        let (url, sentinel, files) = (self.url.clone(), self.sentinel_login.clone(), self.login_files.clone());
        Login { url, sentinel, files }
    }

    /// Puts the login configured here into force, if it is another than that of `former`. Otherwise the one in force stays, which
    /// may be newer: a refused one is read anew from its file.
    pub fn replace_login(&self, former: &Self) {
        let (login, former) = (self.login(), former.login());
        if !login.is_same(&former) || login.files != former.files {
            self.logins.replace(login);
        }
    }

    /// Takes over the login in force.
    pub(super) fn take_login(&mut self) {
        self.set_login(&self.logins.current(&self.login()));
    }

    /// The server has refused the login: looks for another one in its files. True if there is.
    pub(super) fn renew_login(&mut self) -> bool {
        let renewed = self.logins.renew(&self.login());
        renewed.iter().for_each(|login| self.set_login(login));
        renewed.is_some()
    }

    fn set_login(&mut self, login: &Login) {
        let Login { url, sentinel, files } = login.clone();
        (self.url, self.sentinel_login, self.login_files) = (url, sentinel, files);
    }

    pub(super) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

impl ClusterPubSub {
    const ALL: [Self; 2] = [Self::Sharded, Self::Classic];

    fn name(self) -> &'static str {
        match self {
            Self::Sharded => "sharded",
            Self::Classic => "classic",
        }
    }
}

impl FromStr for ClusterPubSub {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("`{text}` is no kind of Pub/Sub: use `sharded` or `classic`"))
    }
}

impl fmt::Display for ClusterPubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
