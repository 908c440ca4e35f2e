//! The configuration as its keys set it, before it is checked as a whole: see [`super::Config`].

use std::path::PathBuf;

use super::{
    topic_sources::TopicSource,
    topics::ClassMatch,
    types::{
        AdminConfig, DrainConfig, LimitsConfig, LogConfig, ProxyConfig, ReadyConfig, ServerConfig, SseConfig,
        WebSocketConfig,
    },
};
use crate::{
    audit::AuditConfig,
    auth::{ApiKey, AuthSettings, QuotaConfig},
    bridge::BridgeConfig,
    bus::Class,
    endpoint::{CompatApis, Cors, Esp},
    fleet::FleetConfig,
    protocol::EngineLimits,
    source::{
        generator::GeneratorConfig,
        nats::{JetStreamConfig, NatsConfig},
        redis::{RedisConfig, RedisStreamConfig},
    },
    store,
};

/// One field for each key; see `keys/`.
#[derive(Clone, Debug)]
pub(super) struct RawConfig {
    /// `reactors` 0 stands for the cores.
    pub(super) server: ServerConfig,
    pub(super) compat: CompatApis,
    pub(super) admin: AdminConfig,
    pub(super) demo: GeneratorConfig,
    pub(super) demo_enabled: bool,
    pub(super) limits: LimitsConfig,
    pub(super) default_class: Class,
    pub(super) default_source: TopicSource,
    pub(super) classes: Vec<RawClass>,
    /// All but `url`, `always` and `message_bytes_max`, which follow from other keys.
    pub(super) redis: RedisConfig,
    pub(super) redis_stream: RedisStreamConfig,
    /// Empty: no Redis, unless `redis_url_file` names one.
    pub(super) redis_url: String,
    pub(super) redis_url_file: Option<PathBuf>,
    pub(super) sentinel_password_file: Option<PathBuf>,
    /// All but `login`, `always` and `message_bytes_max`, which follow from other keys.
    pub(super) nats: NatsConfig,
    pub(super) jetstream: JetStreamConfig,
    /// Empty: no NATS, unless `nats_url_file` names some.
    pub(super) nats_url: String,
    pub(super) nats_url_file: Option<PathBuf>,
    pub(super) nats_auth: RawNatsAuth,
    pub(super) bridge: BridgeConfig,
    pub(super) auth: AuthSettings,
    pub(super) auth_files: AuthFiles,
    pub(super) api_keys: Vec<RawApiKey>,
    pub(super) quotas: QuotaConfig,
    /// All but `url`.
    pub(super) store: store::Config,
    /// Empty: no store, unless `store_url_file` names one.
    pub(super) store_url: String,
    pub(super) store_url_file: Option<PathBuf>,
    pub(super) ready: ReadyConfig,
    pub(super) proxy: ProxyConfig,
    pub(super) cors: Cors,
    pub(super) sse: SseConfig,
    pub(super) esp: Esp,
    pub(super) websocket: WebSocketConfig,
    pub(super) engine: EngineLimits,
    pub(super) log: LogConfig,
    pub(super) audit: AuditConfig,
    pub(super) drain: DrainConfig,
    pub(super) fleet: FleetConfig,
}

/// One `[[topics.class]]` table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawClass {
    pub(super) matching: ClassMatch,
    pub(super) class: Class,
    pub(super) source: TopicSource,
}

/// The login of the section `nats`, and where it is. One kind at most.
#[derive(Clone, Debug, Default)]
pub(super) struct RawNatsAuth {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) token: String,
    pub(super) token_file: Option<PathBuf>,
    pub(super) nkey_file: Option<PathBuf>,
    pub(super) credentials_file: Option<PathBuf>,
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
pub(super) struct RawApiKey {
    /// Its `secret` is empty if a file holds it.
    pub(super) key: ApiKey,
    pub(super) file: Option<PathBuf>,
    /// Empty: none.
    pub(super) role: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            server: ServerConfig { reactors: 0, ..ServerConfig::default() },
            compat: CompatApis::default(),
            admin: AdminConfig::default(),
            demo: GeneratorConfig::default(),
            demo_enabled: false,
            limits: LimitsConfig::default(),
            default_class: Class::default(),
            default_source: TopicSource::default(),
            classes: Vec::new(),
            redis: RedisConfig::default(),
            redis_stream: RedisStreamConfig::default(),
            redis_url: String::new(),
            redis_url_file: None,
            sentinel_password_file: None,
            nats: NatsConfig::default(),
            jetstream: JetStreamConfig::default(),
            nats_url: String::new(),
            nats_url_file: None,
            nats_auth: RawNatsAuth::default(),
            bridge: BridgeConfig::default(),
            auth: AuthSettings::default(),
            auth_files: AuthFiles::default(),
            api_keys: Vec::new(),
            quotas: QuotaConfig::default(),
            store: store::Config::default(),
            store_url: String::new(),
            store_url_file: None,
            ready: ReadyConfig::default(),
            proxy: ProxyConfig::default(),
            cors: Cors::default(),
            sse: SseConfig::default(),
            esp: Esp::default(),
            websocket: WebSocketConfig::default(),
            engine: EngineLimits::default(),
            log: LogConfig::default(),
            audit: AuditConfig::default(),
            drain: DrainConfig::default(),
            fleet: FleetConfig::default(),
        }
    }
}
