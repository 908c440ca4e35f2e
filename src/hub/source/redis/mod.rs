//! Redis. Two sources on one server: Pub/Sub ([`pubsub`]), the default source, and Streams ([`stream`]), whose logs the server keeps.
//! Both are on one server, or on a cluster of servers ([`cluster`]).
//!
//! What both need is here: the configuration, finding the server ([`Directory`]: URL, sentinels, logins, TLS), the blocking
//! connection, the thread that publishes ([`writer`]), and what the server's error codes mean.

mod cluster;
mod config;
mod connection;
mod directory;
mod error_codes;
mod lease;
mod login;
mod pubsub;
mod role;
mod sentinel;
mod sentinel_watch;
mod server_view;
mod stream;
mod tls;
mod url;
mod writer;

use cluster::{
    ClusterNodes, ClusterPlace, ClusterSource, ClusterStatus, ClusterView, Flight, Router, SlotMap, slot_of_key,
};
pub(crate) use config::{ClusterPubSub, RedisConfig};
use connection::{RedisConnection, SendFailed, is_lasting, is_read_only};
pub(crate) use directory::SentinelLogin;
use directory::{Directory, DirectoryOptions};
use lease::RedisLease;
use login::Login;
pub(crate) use login::LoginFiles;
pub(super) use pubsub::PUBSUB_SOURCE;
use pubsub::PubSubSource;
use role::{Role, Unfit};
use sentinel_watch::{MasterLease, SentinelView, SentinelWatch};
use server_view::ServerView;
pub(crate) use stream::RedisStreamConfig;
use stream::{ClusterStreamSource, StreamSource};
pub(super) use stream::{STREAM_LOG, STREAM_SOURCE};
use tls::{TlsFiles, client_config};
pub(crate) use url::RedisUrl;
use url::{NodeAddress, ServerAddress};
use writer::{
    PublicationIntake, PublishCommand, PublishEncoder, QueuedPublication, Script, WriterHandle, WriterThread, digest,
    memory_key, start_writer_with,
};

use super::{Source, SourceSetup, SourcesConfig};

/// Opens the sources that one Redis server is, or a cluster: Pub/Sub, and Streams if a class of topics is kept there.
pub(super) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Vec<Box<dyn Source>>, String> {
    let Some(redis) = &config.redis else { return Ok(Vec::new()) };
    let explain = |error: std::io::Error| format!("redis: {error}");
    if redis.url.names_cluster() {
        let mut sources: Vec<Box<dyn Source>> = vec![Box::new(ClusterSource::open(redis, setup).map_err(explain)?)];
        if setup.classes.name_source(STREAM_SOURCE) {
            let streams = ClusterStreamSource::open(redis, &config.redis_stream, setup).map_err(explain)?;
            sources.push(Box::new(streams));
        }
        return Ok(sources);
    }
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(PubSubSource::open(redis, setup).map_err(explain)?)];
    if setup.classes.name_source(STREAM_SOURCE) {
        sources.push(Box::new(StreamSource::open(redis, &config.redis_stream, setup).map_err(explain)?));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests;
