//! Reloading: the keys whose values changed, and which of the changes take effect while the hub runs.

use std::{
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash, Hasher},
    path::Path,
    sync::Arc,
};

use toml::Value;

use super::{
    files::Files,
    keys::{KEYS, Key},
    layers::LayeredConfig,
    print,
    raw::RawConfig,
    redact::redact,
    topics::Topics,
    types::{Config, LimitsConfig, LogConfig},
};
use crate::{
    audit::AuditTarget,
    bus::{LogKind, SourceName},
    topic::Pattern,
};

/// Keys that take effect together at a reload, and how. Both the report and the change follow from the same row.
struct ReloadRule {
    /// Paths of keys. One that ends in a dot is a section and stands for all its keys.
    keys: &'static [&'static str],
    /// Keys of these sections that need a restart, because threads and queues are created from them.
    waiting: &'static [&'static str],
    /// Whether the keys can take effect between these two configurations. Otherwise they need a restart.
    can: fn(&Config, &Config) -> bool,
    /// Copies the values of these keys, and nothing else, from the second configuration to the first.
    take: fn(&mut Config, &Config),
}

/// All keys that take effect at a reload. Every other key needs a restart.
const RELOADED: &[ReloadRule] = &[
    ReloadRule {
        keys: &["limits.", "quota"],
        waiting: &[
            "limits.event_bytes_max",
            "limits.objects_per_request_max",
            "limits.idempotency_window",
            "limits.inbox_events_max",
        ],
        can: always,
        take: |config, new| {
            let LimitsConfig { event_bytes_max, objects_per_request_max, idempotency_window, inbox_events_max, .. } =
                config.limits;
            config.limits = LimitsConfig {
                event_bytes_max,
                objects_per_request_max,
                idempotency_window,
                inbox_events_max,
                ..new.limits.clone()
            };
            config.quotas = new.quotas.clone();
        },
    },
    ReloadRule {
        keys: &["topics."],
        waiting: &["topics.source"],
        // Who keeps a topic's log, and where its events come from, cannot change while the hub runs.
        can: |config, new| {
            let is_in_memory = !keeps_streams(&config.topics) && !keeps_streams(&new.topics);
            is_in_memory && sources(&config.topics).eq(sources(&new.topics))
        },
        take: |config, new| config.topics = new.topics.clone(),
    },
    ReloadRule {
        keys: &[
            "auth.algorithms",
            "auth.secret",
            "auth.secret_file",
            "auth.public_key_file",
            "auth.private_key_file",
            "auth.jwks_file",
            "auth.rule",
            "auth.deny_file",
            "users.file",
            "api_keys",
        ],
        waiting: &[],
        can: always,
        take: |config, new| config.auth = Arc::new(new.auth.in_place_of(&config.auth)),
    },
    ReloadRule {
        keys: &[
            "redis.url",
            "redis.url_file",
            "redis.sentinel_username",
            "redis.sentinel_password",
            "redis.sentinel_password_file",
        ],
        waiting: &[],
        // The login may be another, and the server may not.
        can: |config, new| match (&config.sources.redis, &new.sources.redis) {
            (Some(redis), Some(new)) => redis.url.is_of_same_server(&new.url),
            (None, None) => true,
            _ => false,
        },
        take: |config, new| {
            if let (Some(redis), Some(new)) = (&mut config.sources.redis, &new.sources.redis) {
                redis.url = new.url.clone();
                redis.sentinel_login = new.sentinel_login.clone();
                redis.login_files = new.login_files.clone();
            }
        },
    },
    ReloadRule {
        keys: &[
            "nats.url",
            "nats.url_file",
            "nats.user",
            "nats.password",
            "nats.password_file",
            "nats.token",
            "nats.token_file",
            "nats.nkey_file",
            "nats.credentials_file",
        ],
        waiting: &[],
        // The same as of Redis.
        can: |config, new| match (&config.sources.nats, &new.sources.nats) {
            (Some(nats), Some(new)) => nats.login.url.is_of_same_servers(&new.login.url),
            (None, None) => true,
            _ => false,
        },
        take: |config, new| {
            if let (Some(nats), Some(new)) = (&mut config.sources.nats, &new.sources.nats) {
                nats.login = new.login.clone();
            }
        },
    },
    ReloadRule {
        keys: &["store.url", "store.url_file"],
        waiting: &[],
        // The same as of Redis.
        can: |config, new| match (&config.store, &new.store) {
            (Some(store), Some(new)) => store.login.url.is_of_same_database(&new.login.url),
            (None, None) => true,
            _ => false,
        },
        take: |config, new| {
            if let (Some(store), Some(new)) = (&mut config.store, &new.store) {
                store.login = new.login.clone();
            }
        },
    },
    ReloadRule {
        keys: &["ready.require", "ready.delay"],
        waiting: &[],
        can: always,
        take: |config, new| config.ready = new.ready.clone(),
    },
    ReloadRule {
        keys: &["proxy.trusted"],
        waiting: &[],
        can: always,
        take: |config, new| config.proxy.trusted = new.proxy.trusted.clone(),
    },
    ReloadRule { keys: &["cors."], waiting: &[], can: always, take: |config, new| config.cors = new.cors.clone() },
    ReloadRule {
        keys: &["log."],
        waiting: &["log.format"],
        can: always,
        take: |config, new| config.log = LogConfig { format: config.log.format, ..new.log.clone() },
    },
    ReloadRule {
        keys: &["audit."],
        waiting: &[],
        // The thread that writes it begins with the hub.
        can: |config, new| {
            let is_on = |config: &Config| config.audit.to != AuditTarget::Nowhere;
            is_on(config) == is_on(new)
        },
        take: |config, new| config.audit = new.audit.clone(),
    },
    ReloadRule { keys: &["drain."], waiting: &[], can: always, take: |config, new| config.drain = new.drain.clone() },
];

impl ReloadRule {
    fn has(&self, path: &str) -> bool {
        let is_listed = |listed: &&str| path == *listed || listed.ends_with('.') && path.starts_with(*listed);
        self.keys.iter().any(is_listed) && !self.waiting.contains(&path)
    }
}

fn always(_: &Config, _: &Config) -> bool {
    true
}

/// Every key's value as it was read.
#[derive(Clone, Default)]
pub struct ConfigSnapshot {
    list: Vec<KeySnapshot>,
    /// Whether there is a configuration file of 0 bytes.
    has_empty_file: bool,
}

#[derive(Clone)]
struct KeySnapshot {
    path: &'static str,
    /// The value with secrets masked. Empty for tables.
    shown: String,
    /// A hash of the value and of the content of the file that it names, so that secrets can be compared.
    fingerprint: u64,
}

/// The values may be secrets.
impl fmt::Debug for ConfigSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigSnapshot")
    }
}

/// A key whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub key: &'static str,
    /// The former and the new value with secrets masked. Empty for tables and for the content of files.
    pub shown: String,
    /// Whether the change takes effect now; otherwise it needs a restart.
    pub takes_effect: bool,
}

/// The configuration after a reload, and the changes.
#[derive(Debug)]
pub struct ConfigReload {
    /// The configuration in force. Changes that need a restart are not in it, and the next reload reports them again.
    pub config: Config,
    /// In the order of the keys.
    pub changes: Vec<KeyChange>,
}

impl ConfigSnapshot {
    pub(super) fn of(layered: &LayeredConfig, files: &Files) -> Self {
        let mut raw = layered.raw.clone();
        let list = KEYS.iter().map(|key| KeySnapshot::of(key, &mut raw, &layered.folder, files)).collect();
        Self { list, has_empty_file: layered.has_empty_file }
    }
}

impl KeySnapshot {
    fn of(key: &Key<RawConfig>, raw: &mut RawConfig, folder: &Path, files: &Files) -> Self {
        let mut hasher = DefaultHasher::new();
        let value = (key.field)(raw).write();
        let text = print::toml_value(&value);
        text.hash(&mut hasher);
        match key.path {
            "topics.class" => format!("{:?}", raw.classes).hash(&mut hasher),
            "quota" => format!("{:?}", raw.quotas.rules).hash(&mut hasher),
            "auth.rule" => format!("{:?}", raw.auth.rules).hash(&mut hasher),
            "api_keys" => {
                for key in &raw.api_keys {
                    (&key.key.secret, format!("{key:?}")).hash(&mut hasher);
                    key.file.iter().for_each(|file| files.peek(&folder.join(file)).hash(&mut hasher));
                }
            }
            _ => {}
        }
        if let Value::String(file) = &value
            && (key.path.ends_with("_file") || key.path == "users.file")
            && !file.is_empty()
        {
            // One that cannot be read is complained of where it is used.
            files.peek(&folder.join(file)).hash(&mut hasher);
        }
        let is_table = matches!(key.path, "topics.class" | "quota" | "api_keys" | "auth.rule");
        let shown = if is_table { String::new() } else { show(key.path, &text) };
        Self { path: key.path, shown, fingerprint: hasher.finish() }
    }
}

/// The value with secrets masked.
fn show(path: &str, text: &str) -> String {
    let line = redact(&format!("{path} = {text}"));
    line.split_once("= ").map_or_else(String::new, |(_, value)| value.to_owned())
}

impl Config {
    /// The configuration in force after `new` is loaded. Fails if nothing of `new` may take effect.
    pub fn reload(&self, new: &Self) -> Result<ConfigReload, &'static str> {
        if new.settings.has_empty_file && !self.settings.has_empty_file {
            return Err(
                "the configuration file is empty now, as if it were just being written: write it under another name, \
                        rename it, and send SIGHUP again",
            );
        }
        if new.auth.is_required() != self.auth.is_required() {
            return Err("auth.mode is another now: restart the hub to change it");
        }
        let taken: Vec<&ReloadRule> = RELOADED.iter().filter(|row| (row.can)(self, new)).collect();
        let (mut list, mut changes) = (Vec::new(), Vec::new());
        for (before, after) in self.settings.list.iter().zip(&new.settings.list) {
            let is_same = before.fingerprint == after.fingerprint;
            let takes_effect = taken.iter().any(|row| row.has(before.path));
            if !is_same {
                let is_shown = before.shown != after.shown;
                let shown = if is_shown { format!("{} -> {}", before.shown, after.shown) } else { String::new() };
                changes.push(KeyChange { key: before.path, shown, takes_effect });
            }
            list.push(if takes_effect { after.clone() } else { before.clone() });
        }
        let settings = ConfigSnapshot { list, has_empty_file: new.settings.has_empty_file };
        let mut config = Self { warnings: new.warnings.clone(), settings, ..self.clone() };
        taken.iter().for_each(|row| (row.take)(&mut config, new));
        Ok(ConfigReload { config, changes })
    }
}

/// The topics that come from another source than others, and from which.
fn sources(topics: &Topics) -> impl Iterator<Item = (Option<&Pattern>, Option<SourceName>)> {
    let listed = topics.classes.iter().map(|(pattern, class)| (Some(pattern), class.source));
    listed.filter(|(_, source)| source.is_some()).chain([(None, topics.source)])
}

/// Whether a broker keeps the logs of some topics.
fn keeps_streams(topics: &Topics) -> bool {
    let mut classes = topics.classes.iter().map(|(_, class)| class).chain([&topics.default]);
    classes.any(|class| class.log != LogKind::Memory)
}

#[cfg(test)]
mod tests;
