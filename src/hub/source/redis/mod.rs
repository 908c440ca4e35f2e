//! Redis: its connections, which Pub/Sub and Streams share.

mod connection;
mod directory;
mod login;
pub mod pubsub;
mod role;
mod sentinel;
pub mod stream;
mod tls;
mod url;
mod watch;

pub(super) use connection::{Connection, SendFailed, is_lasting, is_read_only};
pub use directory::{Directory, Options, SentinelLogin};
pub(super) use login::is_refusal;
pub use login::{Login, LoginFiles};
pub(super) use role::{Role, Unfit};
pub use tls::TlsFiles;
pub(super) use tls::client_config;
pub(super) use url::Target;
pub use url::{BadRedisUrl, RedisUrl};
pub(super) use watch::{Allegiance, Consensus, Watch};

#[cfg(test)]
pub(super) mod tests;
