//! The registry: all sources that the configuration asks for, in the order in which they start and stop.

use std::{sync::Arc, time::Duration};

use super::{ENGINES, Lease, LogCatalog, Source, SourceSetup, SourcesConfig};
use crate::{
    bus::{Bus, EventSink, Generators, SourcePort},
    metrics::SourceHealth,
};

/// The sources of the hub. There may be any number of them.
#[derive(Debug)]
pub(crate) struct Sources(Vec<Box<dyn Source>>);

impl Sources {
    /// Opens every source that `config` asks for.
    pub(crate) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Self, String> {
        let mut sources = Vec::new();
        for open in ENGINES {
            sources.extend(open(config, setup)?);
        }
        Ok(Self(sources))
    }

    /// What the bus is built from.
    pub(crate) fn ports(&self) -> Vec<SourcePort> {
        self.0.iter().filter_map(|source| source.port()).collect()
    }

    /// What `/ready`, `/stats` and `/metrics` report.
    pub(crate) fn health(&self) -> Vec<Arc<dyn SourceHealth>> {
        self.0.iter().filter_map(|source| source.health()).collect()
    }

    /// Takes requests to generate events, if a source does that.
    pub(crate) fn generators(&self) -> Option<Box<dyn Generators>> {
        self.0.iter().find_map(|source| source.generators())
    }

    /// The source `name`: its sink, and its health. `None`: there is no such source, or it takes no publications.
    pub(crate) fn sink(&self, name: &str) -> Option<(Box<dyn EventSink>, Arc<dyn SourceHealth>)> {
        self.0.iter().find_map(|source| {
            let port = source.port().filter(|port| port.name.0 == name)?;
            Some((port.sink?, source.health()?))
        })
    }

    /// Answers questions about the logs of the source `name`. `None`: there is no such source, or its broker keeps none.
    pub(crate) fn log_catalog(&self, name: &str) -> Option<Result<Box<dyn LogCatalog>, String>> {
        let is_called = |source: &dyn Source| source.port().is_some_and(|port| port.name.0 == name);
        self.0.iter().find(|source| is_called(source.as_ref()))?.log_catalog()
    }

    /// Begins to ask for the lease called `name`, at the first source whose broker keeps leases. `None`: there is none.
    pub(crate) fn lease(&self, name: &str, lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        self.0.iter().find_map(|source| source.lease(name, lasts))
    }

    /// Lets one of the hubs on the broker generate events, where the broker keeps leases. Before [`Sources::start`].
    pub(crate) fn lease_generators(&mut self, lasts: Duration) -> Result<(), String> {
        let Some(lease) = self.lease("generators", lasts).transpose()? else { return Ok(()) };
        if let Some(source) = self.0.iter_mut().find(|source| source.generators().is_some()) {
            source.use_lease(lease);
        }
        Ok(())
    }

    /// Connects all of them to the bus.
    pub(crate) fn start(&mut self, bus: &Arc<Bus>) -> Result<(), String> {
        self.0.iter_mut().try_for_each(|source| source.start(Arc::clone(bus)))
    }

    /// Takes over the credentials in `config` where they differ from those in `former`.
    pub(crate) fn reload_credentials(&self, former: &SourcesConfig, config: &SourcesConfig) {
        self.0.iter().for_each(|source| source.reload_credentials(former, config));
    }

    /// Stops one after the other, generators first: what they still publish is to be taken.
    pub(crate) fn stop(self) {
        self.0.into_iter().for_each(|source| source.stop());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bus::{self, Class, LogKind, SourceName},
        clock::Clock,
        source::{LOG_WORDS, TopicClasses, generator::GeneratorConfig, nats::NatsConfig, redis, redis::RedisConfig},
        topic::{Pattern, Topic},
    };

    fn setup(default: Class) -> SourceSetup {
        let topic = Topic::parse("streams.a").expect("a good name");
        SourceSetup {
            clock: Clock::start(),
            classes: TopicClasses { default, listed: Vec::new() },
            always: Vec::new(),
            core: None,
            default: None,
            generated: vec![(topic, "a")],
        }
    }

    fn redis() -> Option<RedisConfig> {
        Some(RedisConfig { publish_timeout: Duration::from_millis(1), ..RedisConfig::default() })
    }

    fn names(sources: &Sources) -> Vec<SourceName> {
        sources.ports().iter().map(|port| port.name).collect()
    }

    #[test]
    fn what_the_configuration_asks_for_is_opened() {
        let check = |config: &SourcesConfig, class: Class, expected: &[&str], generates: bool| {
            let sources = Sources::open(config, &setup(class)).expect("usable settings");
            let found = names(&sources);
            assert_eq!(found.iter().map(|name| name.0).collect::<Vec<_>>(), expected);
            let health: Vec<String> = sources.health().iter().map(|source| source.name().to_owned()).collect();
            assert_eq!(health, expected, "each is reported by the name that classes know");
            assert_eq!(sources.generators().is_some(), generates);
            sources.stop();
        };
        let stream = || Class { source: Some(redis::STREAM_SOURCE), log: LogKind::Broker, ..Class::default() };
        check(&SourcesConfig::default(), Class::default(), &[], false);
        check(&SourcesConfig { redis: redis(), ..SourcesConfig::default() }, Class::default(), &["redis"], false);
        check(
            &SourcesConfig { redis: redis(), ..SourcesConfig::default() },
            stream(),
            &["redis", "redis_stream"],
            false,
        );
        let demo = Some(GeneratorConfig::default());
        check(&SourcesConfig { demo, ..SourcesConfig::default() }, Class::default(), &[], true);
    }

    #[test]
    fn every_word_for_a_log_names_a_source_that_there_is() {
        for (word, source, log) in LOG_WORDS {
            let class = Class { source, log, ..Class::default() };
            let listed = vec![(Pattern::parse("a.*").expect("a pattern"), class)];
            let mut setup = setup(Class::default());
            setup.classes.listed = listed;
            setup.default = Some("redis".to_owned());
            let nats = Some(NatsConfig { publish_timeout: Duration::from_millis(1), ..NatsConfig::default() });
            let config = SourcesConfig { redis: redis(), nats, ..SourcesConfig::default() };
            let sources = Sources::open(&config, &setup).expect("usable settings");
            let ports = sources.ports();
            let found = ports.iter().find(|port| source.map_or(port.is_default, |name| port.name == name));
            let found = found.unwrap_or_else(|| panic!("{word}: no such source"));
            let kept_word = found.log.as_ref().map(|log| log.word);
            assert_eq!(kept_word, (log == LogKind::Broker).then_some(word), "{word}: what the API calls it");
            assert_eq!(ports.iter().filter(|port| port.is_default).count(), 1, "one default at most");
            sources.stop();
        }
    }

    #[test]
    fn sources_start_on_a_bus() {
        let demo = Some(GeneratorConfig::default());
        let mut sources = Sources::open(&SourcesConfig { demo, ..SourcesConfig::default() }, &setup(Class::default()))
            .expect("usable settings");
        let bus = Arc::new(Bus::new(bus::Config::default(), Vec::new(), sources.ports()));
        sources.start(&bus).expect("threads");
        let listed = sources.generators().expect("there are generators").list();
        assert_eq!(listed.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), ["streams.a"]);
        assert_eq!(bus.received_total(), 1, "that the stream has started");
        sources.stop();
    }
}
