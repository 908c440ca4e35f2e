//! The configuration of JetStream, and the streams that follow from the classes of topics.

use std::time::Duration;

use serde_json::{Value, json};

use super::{JETSTREAM_SOURCE, api::nanos};
use crate::{
    bus::Class,
    protocol::nats::SubjectPattern,
    source::TopicClasses,
    topic::{Pattern, Topic},
};

/// How the hub uses JetStream, besides what it does with NATS in general.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamConfig {
    /// What stands before the class in the name of a stream.
    pub stream_prefix: String,
    /// How many servers keep a stream that the hub makes.
    pub replicas: usize,
    /// Whether a stream that the hub makes is kept in memory, and not in files.
    pub in_memory: bool,
    /// The size of a stream that the hub makes, in bytes; 0: no bound of its own.
    pub stream_bytes_max: usize,
    /// JetStream's domain; empty: that of the server.
    pub domain: String,
    /// Requests for older events that may wait for the archive's thread.
    pub archive_queue_max: usize,
    /// The size of the archive's cache of older events, in bytes.
    pub archive_cache_bytes: usize,
}

impl Default for JetStreamConfig {
    fn default() -> Self {
        Self {
            stream_prefix: "fanfare-".to_owned(),
            replicas: 1,
            in_memory: false,
            stream_bytes_max: 0,
            domain: String::new(),
            archive_queue_max: 16_384,
            archive_cache_bytes: 16 << 20,
        }
    }
}

/// The stream that keeps a class of topics.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StreamSpec {
    pub(super) name: String,
    /// The subject, perhaps with wildcards, of the class's topics.
    pub(super) subject: String,
    pattern: Pattern,
    /// What the hub asks for if there is no such stream.
    config: Value,
}

/// The bounds of the time for which the hub asks the broker to keep events.
const KEPT_MIN: Duration = Duration::from_secs(1);
/// 100 years: the API counts nanoseconds.
const KEPT_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The bounds of the time in which the server recognizes a publication that comes twice.
const DUPLICATES_MIN: Duration = Duration::from_millis(100);

impl StreamSpec {
    /// The streams of all classes that are kept by JetStream, in the order of the classes. Fails if a class cannot have a stream.
    pub(super) fn of_classes(
        classes: &TopicClasses,
        config: &JetStreamConfig,
        idempotency_window: Duration,
    ) -> Result<Vec<Self>, String> {
        let is_kept = |class: &Class| class.source == Some(JETSTREAM_SOURCE);
        if is_kept(&classes.default) {
            return Err(
                "topics.log: JetStream keeps no topics of every name (its own subjects are among them): give it a \
                        class with a pattern ([[topics.class]])"
                    .to_owned(),
            );
        }
        let mut specs: Vec<Self> = Vec::new();
        let prefix = &config.stream_prefix;
        if prefix.contains(|letter: char| !letter.is_ascii_graphic() || "./\\*>".contains(letter)) {
            return Err(format!(
                "nats.stream_prefix: `{prefix}` cannot begin a stream's name: no blanks, and none of . * > / \\"
            ));
        }
        for (pattern, class) in classes.listed.iter().filter(|(_, class)| is_kept(class)) {
            let spec = Self::new(pattern, class, config, idempotency_window)?;
            if let Some(other) = specs.iter().find(|other| other.name == spec.name) {
                return Err(format!(
                    "the classes `{}` and `{}` would share the stream `{}`: rename one",
                    other.pattern.as_str(),
                    pattern.as_str(),
                    spec.name
                ));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    fn new(
        pattern: &Pattern,
        class: &Class,
        config: &JetStreamConfig,
        idempotency_window: Duration,
    ) -> Result<Self, String> {
        let subject = subject(pattern);
        if subject == ">" {
            return Err("a class `**` cannot be kept by JetStream, whose own subjects it covers: begin it with a name"
                .to_owned());
        }
        SubjectPattern::parse(&subject).map_err(|bad| format!("the class `{}`: {bad}", pattern.as_str()))?;
        let name = format!("{}{}", config.stream_prefix, name(pattern));
        // As a hub's own log, the stream keeps for hubs and clients that are behind what the class's lag covers.
        let (history, lag) = (class.retention.history, class.retention.lag);
        let limit = |number: usize| i64::try_from(number).ok().filter(|number| *number != 0).unwrap_or(-1);
        let age = nanos(history.age.clamp(KEPT_MIN, KEPT_MAX));
        let window = nanos(idempotency_window).min(age).max(nanos(DUPLICATES_MIN));
        let made = json!({
            "name": name,
            "subjects": [subject],
            "retention": "limits",
            "discard": "old",
            "storage": if config.in_memory { "memory" } else { "file" },
            "num_replicas": config.replicas,
            "max_age": age,
            "max_msgs_per_subject": limit(if history.is_none() { 0 } else { history.count.max(lag.count) }),
            "max_bytes": limit(config.stream_bytes_max),
            "max_msgs": -1,
            "max_consumers": -1,
            "max_msg_size": -1,
            "duplicate_window": window,
            "allow_direct": true,
        });
        Ok(Self { name, subject, pattern: pattern.clone(), config: made })
    }

    pub(super) fn keeps(&self, topic: &Topic) -> bool {
        self.pattern.matches(topic)
    }

    /// What the hub asks for if there is no such stream, with this description.
    pub(super) fn config(&self, description: &str) -> String {
        let mut config = self.config.clone();
        config["description"] = description.into();
        config.to_string()
    }

    /// What `config`, of a stream that there is, has otherwise than the class asks for.
    pub(super) fn differences(&self, config: &Value) -> Vec<String> {
        let named = ["max_age", "max_msgs_per_subject", "max_bytes", "num_replicas", "storage", "duplicate_window"];
        let differing = named.into_iter().filter(|key| self.config[*key] != config[*key]);
        differing.map(|key| format!("{key} {} instead of {}", config[key], self.config[key])).collect()
    }
}

/// The pattern as NATS has them: its `>` is `**`.
pub(super) fn subject(pattern: &Pattern) -> String {
    match pattern.as_str().strip_suffix("**") {
        Some(before) => format!("{before}>"),
        None => pattern.as_str().to_owned(),
    }
}

/// The pattern in the letters that a stream's name may have.
fn name(pattern: &Pattern) -> String {
    pattern.as_str().replace("**", "ALL").replace('*', "ANY").replace('.', "-").replace(['/', ':'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::LogKind, log::Retention};

    fn class() -> Class {
        Class { source: Some(JETSTREAM_SOURCE), log: LogKind::Broker, ..Class::default() }
    }

    fn specs(listed: &[(&str, Class)]) -> Result<Vec<StreamSpec>, String> {
        let listed =
            listed.iter().map(|(text, class)| (Pattern::parse(text).expect("a pattern"), class.clone())).collect();
        let classes = TopicClasses { default: Class::default(), listed };
        StreamSpec::of_classes(&classes, &JetStreamConfig::default(), Duration::from_secs(300))
    }

    #[test]
    fn a_class_is_a_stream() {
        let check = |pattern: &str, name: &str, subject: &str| {
            let found = specs(&[(pattern, class()), ("other", Class::default())]).expect("usable classes");
            let found: Vec<_> = found.iter().map(|spec| (spec.name.as_str(), spec.subject.as_str())).collect();
            assert_eq!(found, [(name, subject)], "{pattern}");
        };
        check("orders.**", "fanfare-orders-ALL", "orders.>");
        check("orders.*", "fanfare-orders-ANY", "orders.*");
        check("orders", "fanfare-orders", "orders");
        check("a.*.c", "fanfare-a-ANY-c", "a.*.c");
        check("a/b:c.*", "fanfare-a_b_c-ANY", "a/b:c.*");
        check("*", "fanfare-ANY", "*");
    }

    #[test]
    fn what_cannot_have_a_stream_is_refused() {
        for (listed, text) in [
            (vec![("**", class())], "`**`"),
            (vec![("a.b", class()), ("a-b", class())], "share the stream `fanfare-a-b`"),
        ] {
            let refused = specs(&listed).expect_err("it cannot be");
            assert!(refused.contains(text), "{refused}");
        }
        let classes = TopicClasses { default: class(), listed: Vec::new() };
        assert!(StreamSpec::of_classes(&classes, &JetStreamConfig::default(), Duration::ZERO).is_err());
    }

    #[test]
    fn the_history_bounds_the_stream() {
        let mut class = class();
        let mut retention = Retention::default();
        (retention.history.count, retention.history.age) = (70_000, Duration::from_secs(60));
        class.retention = retention;
        let config: Value =
            serde_json::from_str(&specs(&[("a", class.clone())]).expect("usable")[0].config("d")).expect("JSON");
        assert_eq!(config["max_msgs_per_subject"], 70_000);
        assert_eq!(config["max_age"], 60_000_000_000_u64);
        assert_eq!(config["duplicate_window"], 60_000_000_000_u64, "no longer than the messages");
        assert_eq!(config["description"], "d");
        class.retention.history.count = 1;
        let config: Value =
            serde_json::from_str(&specs(&[("a", class.clone())]).expect("usable")[0].config("")).expect("JSON");
        assert_eq!(config["max_msgs_per_subject"], 16_384, "what a client may lag behind");
        (class.retention.history.count, class.retention.history.age) = (0, Duration::MAX);
        let spec = &specs(&[("a", class)]).expect("usable")[0];
        let config: Value = serde_json::from_str(&spec.config("")).expect("JSON");
        assert_eq!(config["max_msgs_per_subject"], -1);
        assert_eq!(config["max_age"], 3_153_600_000_000_000_000_u64);
        let mut other = config.clone();
        other["max_age"] = 1.into();
        assert_eq!(spec.differences(&config), Vec::<String>::new());
        assert_eq!(spec.differences(&other), ["max_age 1 instead of 3153600000000000000"]);
    }
}
