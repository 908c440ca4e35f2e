//! The configuration of NATS.

use std::{path::PathBuf, time::Duration};

use super::{NatsLogin, SubjectFilter};
use crate::{
    source::{
        credentials::{Credentials, Logins},
        subscriptions::SubscriptionSettings,
        tls::TlsFiles,
    },
    topic::Topic,
};

/// The most subscriptions that are confirmed together.
const BATCH_MAX: usize = 1024;

/// How the hub uses NATS. Every value is valid, but `ping_interval` and the timeouts should not be zero.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// The servers, and the login as it was configured.
    pub login: NatsLogin,
    /// The login in force, once it is another than `login`. Shared by the clones of this.
    pub logins: Logins<NatsLogin>,
    /// PEM file of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the hub's own certificate chain, where the server asks for one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of the key to `certificate_file`.
    pub key_file: Option<PathBuf>,
    /// Subjects, perhaps with wildcards, subscribed to from the start, even while nobody listens. Where several cover a subject, its
    /// messages come in through the first.
    pub subscribe: Vec<String>,
    /// Topics subscribed to from the start, even while nobody listens.
    pub always: Vec<Topic>,
    /// Whether to subscribe to a topic while somebody listens to it. Without, only `subscribe` and `always` count.
    pub interest: bool,
    /// How long a topic stays subscribed after its last listener left.
    pub linger: Duration,
    /// What the subjects of the hub's probes begin with.
    pub inbox_prefix: String,
    /// How long connecting and logging in at one server may take.
    pub connect_timeout: Duration,
    /// The wait after a first failure.
    pub backoff_min: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// How often the server is asked for a proof of delivery.
    pub ping_interval: Duration,
    /// How long the server may be silent after that before the connection is given up.
    pub ping_timeout: Duration,
    /// How long ago the last proof of delivery may be while the source counts as ready.
    pub proof_age_max: Duration,
    /// The size of the buffer that the connection is read into; it grows for a larger message.
    pub read_buffer_bytes: usize,
    /// Bytes of what consumers of JetStream deliver that may wait while the hub awaits something else on the same connection.
    pub backlog_bytes_max: usize,
    /// The most bytes in the headers of a message.
    pub header_bytes_max: usize,
    /// Publications waiting for the server.
    pub publish_queue_max: usize,
    /// What those may weigh together, in bytes.
    pub publish_queue_bytes_max: usize,
    /// How long a publication may wait for its confirmation.
    pub publish_timeout: Duration,
    /// The largest payload.
    pub message_bytes_max: usize,
    /// How long an idempotency key is remembered, where the server does that (JetStream).
    pub idempotency_window: Duration,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            login: NatsLogin::default(),
            logins: Logins::default(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            subscribe: Vec::new(),
            always: Vec::new(),
            interest: true,
            linger: Duration::from_secs(30),
            inbox_prefix: "_INBOX".to_owned(),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            proof_age_max: Duration::from_secs(10),
            read_buffer_bytes: 256 * 1024,
            backlog_bytes_max: 64 * 1024 * 1024,
            header_bytes_max: 64 * 1024,
            publish_queue_max: 65_536,
            publish_queue_bytes_max: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(5),
            message_bytes_max: 1024 * 1024,
            idempotency_window: Duration::from_secs(300),
        }
    }
}

impl NatsConfig {
    /// Puts the login configured here into force, if it is another than that of `former`. Otherwise the one in force stays, which
    /// may be newer: a refused one is read anew from its file.
    pub(super) fn replace_login(&self, former: &Self) {
        if !self.login.is_same(&former.login) || self.login.files != former.login.files {
            self.logins.replace(self.login.clone());
        }
    }

    pub(super) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }
}

impl From<&NatsConfig> for SubscriptionSettings<SubjectFilter> {
    fn from(config: &NatsConfig) -> Self {
        Self {
            interest: config.interest,
            linger: config.linger,
            always: config.always.clone(),
            // The configuration has been checked: none is left out.
            patterns: config.subscribe.iter().filter_map(|text| SubjectFilter::parse(text).ok()).collect(),
            batch_max: BATCH_MAX,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
        }
    }
}
