//! Which classes the topics of a bridge have: those at the end that events come from, for the bus, and those of both ends, for the
//! sources.

use super::BridgeConfig;
use crate::{
    bus::{Class, LogKind, SourceName},
    source::{LOG_WORDS, TopicClasses},
    topic::Pattern,
};

/// A class for the topics under a pattern.
type Listed = (Pattern, Class);

impl BridgeConfig {
    /// The engine, `redis` or `nats`, of the source `name`.
    pub(crate) fn engine_of(name: &str) -> &str {
        match name {
            "redis_stream" => "redis",
            "jetstream" => "nats",
            other => other,
        }
    }

    /// Whether events come from logs that a broker keeps.
    pub(crate) fn is_from_log(&self) -> bool {
        log_source(&self.from).is_some()
    }

    /// Whether they go into logs that a broker keeps.
    pub(crate) fn is_to_log(&self) -> bool {
        log_source(&self.to).is_some()
    }

    /// The classes of the topics that events come from: those of `classes` that are kept at that end, and one for each map that
    /// they leave uncovered.
    pub(crate) fn classes_from(&self, classes: &TopicClasses) -> TopicClasses {
        let maps = self.maps.iter().map(|map| map.from().clone());
        let mut listed = classes_at(&self.from, maps, classes);
        for (_, class) in listed.iter_mut().filter(|(_, class)| class.log == LogKind::Broker) {
            // A class without a history has nothing to begin with, whatever its log has.
            if class.retention.history.is_none() {
                class.retention.history = Class::default().retention.history;
            }
        }
        TopicClasses { default: plain(&classes.default), listed }
    }

    /// The same of both ends. Where both have a topic, that of the end which events come from is first.
    pub(crate) fn classes_of_sources(&self, classes: &TopicClasses) -> TopicClasses {
        let mut all = self.classes_from(classes);
        let maps = self.maps.iter().map(|map| map.to().clone());
        all.listed.extend(classes_at(&self.to, maps, classes));
        all
    }
}

/// The source called `name`, if its broker keeps logs.
fn log_source(name: &str) -> Option<SourceName> {
    LOG_WORDS.into_iter().find_map(|(_, source, _)| source.filter(|source| source.0 == name))
}

/// The class with its log in memory, fed by the default source.
fn plain(class: &Class) -> Class {
    Class { source: None, log: LogKind::Memory, ..class.clone() }
}

/// The classes at the end `name`, for the topics of `maps`.
fn classes_at(name: &str, maps: impl Iterator<Item = Pattern>, classes: &TopicClasses) -> Vec<Listed> {
    let Some(source) = log_source(name) else {
        let is_plain = |class: &Class| class.log == LogKind::Memory && class.source.is_none_or(|of| of.0 == name);
        let listed = classes.listed.iter().filter(|(_, class)| is_plain(class));
        return listed.map(|(pattern, class)| (pattern.clone(), plain(class))).collect();
    };
    let mut listed: Vec<Listed> =
        classes.listed.iter().filter(|(_, class)| class.source == Some(source)).cloned().collect();
    for map in maps {
        if !listed.iter().any(|(pattern, _)| covers(pattern, &map)) {
            listed.push((map, Class { source: Some(source), log: LogKind::Broker, ..classes.default.clone() }));
        }
    }
    listed
}

/// Whether all topics under `narrow` are under `wide`.
fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    let mut narrow = narrow.as_str().split('.');
    for segment in wide.as_str().split('.') {
        match (segment, narrow.next()) {
            (_, None) => return false,
            ("**", Some(_)) => return true,
            ("*", Some(other)) if other != "**" => {}
            (segment, Some(other)) if segment == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_pattern_covers_another_or_not() {
        let check = |wide: &str, narrow: &str, expected: bool| {
            assert_eq!(covers(&pattern(wide), &pattern(narrow)), expected, "{wide} {narrow}");
        };
        check("a.*", "a.*", true);
        check("a.**", "a.*", true);
        check("a.**", "a.b.c", true);
        check("**", "a.*", true);
        check("a.*", "a.**", false);
        check("a.**", "a", false);
        check("a.*", "a", false);
        check("a", "a.b", false);
        check("b.*", "a.*", false);
    }

    #[test]
    fn each_end_has_classes_of_its_own() {
        let class = |word: &str, count: usize| {
            let (_, source, log) = LOG_WORDS.into_iter().find(|(known, ..)| *known == word).expect("a word for a log");
            let mut class = Class { source, log, ..Class::default() };
            class.retention.history.count = count;
            class
        };
        let listed = vec![
            (pattern("orders.**"), class("jetstream", 7)),
            (pattern("orders.*"), class("redis-stream", 8)),
            (pattern("x"), class("memory", 9)),
            (pattern("none"), class("redis-stream", 0)),
        ];
        let classes = TopicClasses { default: class("redis-stream", 5), listed };
        let check = |from: &str, to: &str, map: &str, expected_from: &[&str], expected: &[&str]| {
            let maps = vec![map.parse().expect("a map")];
            let config = BridgeConfig { from: from.into(), to: to.into(), maps, ..BridgeConfig::default() };
            let shown = |classes: TopicClasses| {
                assert_eq!((classes.default.source, classes.default.log), (None, LogKind::Memory));
                let show = |(pattern, class): &Listed| {
                    let source = class.source.map_or("-", |source| source.0);
                    format!("{} {source} {}", pattern.as_str(), class.retention.history.count)
                };
                classes.listed.iter().map(show).collect::<Vec<_>>()
            };
            assert_eq!(shown(config.classes_from(&classes)), expected_from, "{from}");
            assert_eq!(shown(config.classes_of_sources(&classes)), expected, "{from} {to}");
        };
        check(
            "redis_stream",
            "jetstream",
            "orders.*",
            &["orders.* redis_stream 8", "none redis_stream 100"],
            &["orders.* redis_stream 8", "none redis_stream 100", "orders.** jetstream 7"],
        );
        check(
            "jetstream",
            "redis_stream",
            "orders.**",
            &["orders.** jetstream 7"],
            &["orders.** jetstream 7", "orders.* redis_stream 8", "none redis_stream 0", "orders.** redis_stream 5"],
        );
        check("redis", "jetstream", "a.*=>b.*", &["x - 9"], &["x - 9", "orders.** jetstream 7", "b.* jetstream 5"]);
        check("redis", "nats", "a.*", &["x - 9"], &["x - 9", "x - 9"]);
    }
}
