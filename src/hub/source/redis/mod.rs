//! Redis: what its sources share.

mod config;
mod connection;
mod directory;
mod error_codes;
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

pub use config::RedisConfig;
pub(super) use connection::{RedisConnection, SendFailed, is_lasting, is_read_only};
pub use directory::{Directory, DirectoryOptions, SentinelLogin};
pub use login::{Login, LoginFiles};
use pubsub::PubSubSource;
pub(super) use role::{Role, Unfit};
pub(super) use sentinel_watch::{MasterLease, SentinelView, SentinelWatch};
use server_view::ServerView;
pub use stream::RedisStreamConfig;
use stream::StreamSource;
pub(super) use stream::{STREAM_LOG, STREAM_SOURCE};
pub use tls::TlsFiles;
pub(super) use tls::client_config;
pub(super) use url::ServerAddress;
pub use url::{BadRedisUrl, RedisUrl};
use writer::{PublishCommand, PublishEncoder, Script, digest, memory_key, start_writer_with};
pub use writer::{Publisher, WriterHandle};

#[cfg(test)]
pub(super) mod tests;

use super::{Source, SourceSetup, SourcesConfig};

/// Opens the sources that one Redis server is: Pub/Sub, and Streams if a class of topics is kept there.
pub(super) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Vec<Box<dyn Source>>, String> {
    let Some(redis) = &config.redis else { return Ok(Vec::new()) };
    let explain = |error: std::io::Error| format!("redis: {error}");
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(PubSubSource::open(redis, setup).map_err(explain)?)];
    if setup.classes.name_source(STREAM_SOURCE) {
        sources.push(Box::new(StreamSource::open(redis, &config.redis_stream, setup).map_err(explain)?));
    }
    Ok(sources)
}
