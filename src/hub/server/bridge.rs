//! What a bridge changes in how the hub is put together.

use std::sync::Arc;

use crate::{
    bridge::{BridgeConfig, BridgeEnds, BridgeHandle, BridgePlan},
    bus::Bus,
    clock::Clock,
    config::Config,
    source::{Sources, TopicClasses},
};

/// The classes of the bus: at a bridge, those of the topics that events come from.
pub(super) fn topic_classes(config: &Config) -> TopicClasses {
    let classes = written(config);
    if config.bridge.maps.is_empty() { classes } else { config.bridge.classes_from(&classes) }
}

/// The classes of the sources: at a bridge, those of both ends.
pub(super) fn source_classes(config: &Config) -> TopicClasses {
    let classes = written(config);
    if config.bridge.maps.is_empty() { classes } else { config.bridge.classes_of_sources(&classes) }
}

fn written(config: &Config) -> TopicClasses {
    TopicClasses { default: config.topics.default.clone(), listed: config.topics.classes.clone() }
}

/// Starts to carry events from one source to the other.
pub(super) fn start_bridge(
    plan: BridgePlan,
    config: &Config,
    sources: &Sources,
    bus: &Arc<Bus>,
    clock: Clock,
) -> Result<BridgeHandle, String> {
    let BridgeConfig { from, to, maps, lease: lasts, .. } = &config.bridge;
    let (sink, target) = sources.sink(to).ok_or_else(|| format!("bridge.to: there is no source `{to}`"))?;
    // Bridges that do the same ask for the same lease.
    let maps: Vec<String> = maps.iter().map(ToString::to_string).collect();
    let name = format!("bridge.{to} {}", maps.join(" "));
    let lease = if lasts.is_zero() { None } else { sources.lease(&name, *lasts).transpose()? };
    let (source_logs, target_logs) = (sources.log_catalog(from).transpose()?, sources.log_catalog(to).transpose()?);
    let ends = BridgeEnds { bus: Arc::clone(bus), sink, target, lease, source_logs, target_logs };
    plan.start(ends, clock).map_err(|error| format!("cannot start a thread: {error}"))
}
