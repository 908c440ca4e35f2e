//! The configuration as written: what the keys set, before it is checked as a whole and becomes what is meant.

use std::path::PathBuf;

use super::{
    meant::{Admin, Drain, LimitsConfig, Log, Proxy, Ready, Server, Sse, WebSocket},
    topics::ClassMatch,
};
use crate::{
    auth::{ApiKey, QuotaConfig, Settings},
    bus::Class,
    endpoint::{CompatApis, Cors, Esp},
    protocol::EngineLimits,
    source::{
        generator,
        redis::{RedisConfig, RedisStreamConfig},
    },
    store,
};

/// One field for each key; see `keys.rs`.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// `reactors` 0 stands for the cores.
    pub(super) server: Server,
    pub(super) compat: CompatApis,
    pub(super) admin: Admin,
    pub(super) demo: generator::Config,
    pub(super) demo_enabled: bool,
    pub(super) limits: LimitsConfig,
    pub(super) default_class: Class,
    pub(super) classes: Vec<WrittenClass>,
    /// All but `url`, `always` and `message_bytes_max`, which follow from other keys.
    pub(super) redis: RedisConfig,
    pub(super) redis_stream: RedisStreamConfig,
    /// Empty: no Redis, unless `redis_url_file` names one.
    pub(super) redis_url: String,
    pub(super) redis_url_file: Option<PathBuf>,
    pub(super) sentinel_password_file: Option<PathBuf>,
    pub(super) auth: Settings,
    pub(super) auth_files: AuthFiles,
    pub(super) api_keys: Vec<WrittenApiKey>,
    pub(super) quotas: QuotaConfig,
    /// All but `url`.
    pub(super) store: store::Config,
    /// Empty: no store, unless `store_url_file` names one.
    pub(super) store_url: String,
    pub(super) store_url_file: Option<PathBuf>,
    pub(super) ready: Ready,
    pub(super) proxy: Proxy,
    pub(super) cors: Cors,
    pub(super) sse: Sse,
    pub(super) esp: Esp,
    pub(super) websocket: WebSocket,
    pub(super) engine: EngineLimits,
    pub(super) log: Log,
    pub(super) drain: Drain,
}

/// One `[[topics.class]]` table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WrittenClass {
    pub(super) matching: ClassMatch,
    pub(super) class: Class,
}

/// Secrets of the section `auth`, and where the others are.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthFiles {
    pub(super) secret: String,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) public_key_file: Option<PathBuf>,
    pub(super) private_key_file: Option<PathBuf>,
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) users_file: Option<PathBuf>,
    pub(super) deny_file: Option<PathBuf>,
}

/// One `[[api_keys]]` table.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenApiKey {
    /// Its `secret` is empty if a file holds it.
    pub(super) key: ApiKey,
    pub(super) file: Option<PathBuf>,
    /// Empty: none.
    pub(super) role: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            server: Server { reactors: 0, ..Server::default() },
            compat: CompatApis::default(),
            admin: Admin::default(),
            demo: generator::Config::default(),
            demo_enabled: false,
            limits: LimitsConfig::default(),
            default_class: Class::default(),
            classes: Vec::new(),
            redis: RedisConfig::default(),
            redis_stream: RedisStreamConfig::default(),
            redis_url: String::new(),
            redis_url_file: None,
            sentinel_password_file: None,
            auth: Settings::default(),
            auth_files: AuthFiles::default(),
            api_keys: Vec::new(),
            quotas: QuotaConfig::default(),
            store: store::Config::default(),
            store_url: String::new(),
            store_url_file: None,
            ready: Ready::default(),
            proxy: Proxy::default(),
            cors: Cors::default(),
            sse: Sse::default(),
            esp: Esp::default(),
            websocket: WebSocket::default(),
            engine: EngineLimits::default(),
            log: Log::default(),
            drain: Drain::default(),
        }
    }
}
