//! NATS. Two sources on one server: core NATS ([`pubsub`]), the default source, at most once, and JetStream ([`jetstream`]), whose
//! streams keep the logs. What both need is here: the configuration, the connection, the login, and how topics and subjects, events
//! and messages correspond.

mod config;
mod connections;
mod connector;
mod fault;
mod headers;
mod jetstream;
mod lease;
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
use connections::{Connections, unless_before};
use connector::Connector;
use fault::Fault;
use jetstream::JetStreamSource;
pub(super) use jetstream::{JETSTREAM_LOG, JETSTREAM_SOURCE};
pub(crate) use jetstream::{JetStreamConfig, check_streams};
use lease::NatsLease;
use link::Link;
pub(crate) use login::{NatsAuth, NatsLogin, NatsLoginFiles};
pub(super) use pubsub::PUBSUB_SOURCE;
use pubsub::PubSubSource;
pub(crate) use subject::check_pattern;
use subject::{SubjectFilter, topic_of};
use thread_waker::ThreadWaker;
pub(crate) use url::NatsUrl;
use violation::Violation;

use super::{Source, SourceSetup, SourcesConfig};

/// Opens the sources that a NATS server is: core NATS, and JetStream if a class of topics is kept there. Fails if the configuration names files that cannot be used.
pub(super) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Vec<Box<dyn Source>>, String> {
    let Some(nats) = &config.nats else { return Ok(Vec::new()) };
    let source = PubSubSource::open(nats, setup).map_err(|error| format!("nats: {error}"))?;
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(source)];
    if setup.classes.name_source(JETSTREAM_SOURCE) {
        sources.push(Box::new(JetStreamSource::open(nats, &config.jetstream, setup)?));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests;
