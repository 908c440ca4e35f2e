//! The registry: all sources that the configuration asks for, in the order in which they start and stop.

use std::sync::Arc;

use super::{Source, SourceSetup, SourcesConfig, generator, redis};
use crate::{
    bus::{Bus, Generators, SourcePort},
    metrics::SourceHealth,
};

/// Opens the sources of one engine; none if the configuration asks for none. Fails if the configuration names files that cannot be
/// used. The error names the engine.
type OpenEngine = fn(&SourcesConfig, &SourceSetup) -> Result<Vec<Box<dyn Source>>, String>;

/// One row for each engine.
const ENGINES: &[OpenEngine] = &[generator::open, redis::open];

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
