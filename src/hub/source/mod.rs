//! Events come in: one folder per source.
pub mod credentials;
pub mod generator;
pub mod redis_address;
pub mod redis_pubsub;
pub mod redis_stream;
