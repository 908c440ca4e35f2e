//! NATS. One source so far, core NATS ([`pubsub`]): the default source, at most once. What a stream of JetStream would need as well
//! is here: the configuration, the login, and how topics and subjects, events and messages correspond.

mod config;
mod connector;
mod fault;
mod headers;
mod link;
mod login;
mod message;
mod publication_queue;
mod pubsub;
mod signing;
mod subject;
mod thread_waker;
mod url;
mod violation;

pub(crate) use config::NatsConfig;
use connector::Connector;
use fault::Fault;
use link::Link;
pub(crate) use login::{NatsAuth, NatsLogin, NatsLoginFiles};
use pubsub::PubSubSource;
pub(crate) use subject::check_pattern;
use subject::{SubjectFilter, topic_of};
use thread_waker::ThreadWaker;
pub(crate) use url::NatsUrl;
use violation::Violation;

use super::{Source, SourceSetup, SourcesConfig};

/// Opens the source that a NATS server is. Fails if the configuration names files that cannot be used.
pub(super) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Vec<Box<dyn Source>>, String> {
    let Some(nats) = &config.nats else { return Ok(Vec::new()) };
    let source = PubSubSource::open(nats, setup).map_err(|error| format!("nats: {error}"))?;
    Ok(vec![Box::new(source)])
}

#[cfg(test)]
mod tests;
