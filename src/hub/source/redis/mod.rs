//! Redis: what its sources share.

mod config;
mod connection;
mod directory;
mod error_codes;
mod login;
pub mod pubsub;
mod role;
mod sentinel;
mod sentinel_watch;
pub mod stream;
mod tls;
mod url;
mod writer;

pub use config::RedisConfig;
pub(super) use connection::{Connection, SendFailed, is_lasting, is_read_only};
pub use directory::{Directory, Options, SentinelLogin};
pub use login::{Login, LoginFiles};
pub(super) use role::{Role, Unfit};
pub(super) use sentinel_watch::{Allegiance, Consensus, Watch};
pub use stream::RedisStreamConfig;
pub use tls::TlsFiles;
pub(super) use tls::client_config;
pub(super) use url::Target;
pub use url::{BadRedisUrl, RedisUrl};
use writer::{Form, Request, Script, digest, memory_key, start_writer_of};
pub use writer::{Publisher, WriterHandle};

#[cfg(test)]
pub(super) mod tests;
