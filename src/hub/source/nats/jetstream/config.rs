//! The configuration of JetStream, and the streams that follow from the classes of topics.

use std::time::Duration;

use serde_json::{Value, json};

use super::{JETSTREAM_SOURCE, api::nanos};
use crate::{
    bus::Class,
    protocol::nats::SubjectPattern,
    source::{
        TopicClasses,
        nats::{NatsConfig, subject::overlap},
    },
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
    /// Topics of a stream of which the hub remembers when something came last.
    pub quiet_topics: usize,
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
            quiet_topics: 16_384,
        }
    }
}

/// Says which key is wrong, and why, if JetStream could not keep the classes that are to be kept there.
pub(crate) fn check_streams(
    classes: &TopicClasses,
    config: &JetStreamConfig,
    nats: &NatsConfig,
) -> Result<(), (&'static str, String)> {
    StreamSpec::of_classes(classes, config, nats).map(drop)
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

/// What servers, and clients that await answers, use for themselves. A stream of them would keep, and acknowledge, every message.
const RESERVED: [&str; 3] = ["$JS.>", "$SYS.>", "_INBOX.>"];

/// The bounds of the time for which the hub asks the broker to keep events.
const KEPT_MIN: Duration = Duration::from_secs(1);
/// 100 years: the API counts nanoseconds.
const KEPT_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The bounds of the time in which the server recognizes a publication that comes twice.
const DUPLICATES_MIN: Duration = Duration::from_millis(100);

impl StreamSpec {
    /// The streams of all classes that are kept by JetStream, in the order of the classes. Fails with the key to blame, and why, if a
    /// class cannot have a stream.
    pub(super) fn of_classes(
        classes: &TopicClasses,
        config: &JetStreamConfig,
        nats: &NatsConfig,
    ) -> Result<Vec<Self>, (&'static str, String)> {
        let is_kept = |class: &Class| class.source == Some(JETSTREAM_SOURCE);
        if is_kept(&classes.default) {
            let why = "JetStream keeps no topics of every name (its own subjects are among them): give it a class with a \
                       pattern ([[topics.class]])";
            return Err(("topics.log", why.to_owned()));
        }
        let prefix = &config.stream_prefix;
        if prefix.contains(|letter: char| !letter.is_ascii_graphic() || "./\\*>".contains(letter)) {
            let why = format!("`{prefix}` cannot begin a stream's name: no blanks, and none of . * > / \\");
            return Err(("nats.stream_prefix", why));
        }
        let mut specs: Vec<Self> = Vec::new();
        for (pattern, class) in classes.listed.iter().filter(|(_, class)| is_kept(class)) {
            let spec = Self::new(pattern, class, config, nats).map_err(|why| ("topics.class", why))?;
            if let Some(why) = specs.iter().find_map(|other| other.collision(&spec)) {
                return Err(("topics.class", why));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    /// Why a server cannot have both streams.
    fn collision(&self, other: &Self) -> Option<String> {
        let (one, two) = (self.pattern.as_str(), other.pattern.as_str());
        if overlap(&self.subject, &other.subject) {
            return Some(format!(
                "the classes `{one}` and `{two}`, both kept by JetStream, have topics in common, and a topic can be in one stream only: \
                 make one class of them, or patterns that share no topic"
            ));
        }
        let is_same = self.name == other.name;
        is_same.then(|| format!("the classes `{one}` and `{two}` would share the stream `{}`: rename one", self.name))
    }

    fn new(pattern: &Pattern, class: &Class, config: &JetStreamConfig, nats: &NatsConfig) -> Result<Self, String> {
        let subject = subject(pattern);
        SubjectPattern::parse(&subject).map_err(|bad| format!("the class `{}`: {bad}", pattern.as_str()))?;
        let inbox = format!("{}.>", nats.inbox_prefix);
        let reserved = RESERVED.into_iter().chain([inbox.as_str()]).find(|reserved| overlap(reserved, &subject));
        if let Some(reserved) = reserved {
            return Err(format!(
                "the class `{}` cannot be kept by JetStream: NATS' own subjects `{reserved}` fall under it. Begin it with a name",
                pattern.as_str()
            ));
        }
        let name = format!("{}{}", config.stream_prefix, name(pattern));
        // As a hub's own log, the stream keeps for hubs and clients that are behind what the class's lag covers.
        let (history, lag) = (class.retention.history, class.retention.lag);
        let limit = |number: usize| i64::try_from(number).ok().filter(|number| *number != 0).unwrap_or(-1);
        let age = nanos(history.age.clamp(KEPT_MIN, KEPT_MAX));
        let window = nanos(nats.idempotency_window).min(age).max(nanos(DUPLICATES_MIN));
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

    fn specs(listed: &[(&str, Class)]) -> Result<Vec<StreamSpec>, (&'static str, String)> {
        specs_beside("_INBOX", listed)
    }

    fn specs_beside(inbox: &str, listed: &[(&str, Class)]) -> Result<Vec<StreamSpec>, (&'static str, String)> {
        let listed =
            listed.iter().map(|(text, class)| (Pattern::parse(text).expect("a pattern"), class.clone())).collect();
        let classes = TopicClasses { default: Class::default(), listed };
        let nats = NatsConfig { inbox_prefix: inbox.to_owned(), ..NatsConfig::default() };
        StreamSpec::of_classes(&classes, &JetStreamConfig::default(), &nats)
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
        let check = |listed: &[&str], text: &str| {
            let listed: Vec<_> = listed.iter().map(|pattern| (*pattern, class())).collect();
            let (key, why) = specs(&listed).expect_err("it cannot be");
            assert!(key == "topics.class" && why.contains(text), "{key}: {why}");
        };
        check(&["**"], "the class `**` cannot be kept by JetStream: NATS' own subjects `$JS.>`");
        check(&["*.*"], "`$JS.>`");
        check(&["*.x"], "`$JS.>`");
        check(&["_INBOX.**"], "`_INBOX.>`");
        check(&["_INBOX.a"], "`_INBOX.>`");
        check(&["a.b", "a-b"], "share the stream `fanfare-a-b`");
        check(&["a.*", "b", "a.b"], "`a.*` and `a.b`, both kept by JetStream, have topics in common");
        check(&["a.**", "a.**"], "have topics in common");
        let own = specs_beside("hubs.own", &[("hubs.**", class())]).expect_err("it cannot be").1;
        assert!(own.contains("`hubs.own.>`"), "{own}");
        assert!(specs(&[("hubs.**", class()), ("a.*", class()), ("a", class()), ("a.b", Class::default())]).is_ok());
        let wrong = |default: Class, prefix: &str| {
            let classes = TopicClasses { default, listed: Vec::new() };
            let config = JetStreamConfig { stream_prefix: prefix.to_owned(), ..JetStreamConfig::default() };
            check_streams(&classes, &config, &NatsConfig::default()).expect_err("it cannot be").0
        };
        assert_eq!(wrong(class(), "fanfare-"), "topics.log");
        assert_eq!(wrong(Class::default(), "a.b"), "nats.stream_prefix");
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
