//! The common core: the vocabulary (events, ids, topics, gaps, frames), the log of a topic, and the protocols. Pure: bytes,
//! events and the time go in; bytes, requests and deadlines come out.

pub mod bucket;
pub mod budget;
pub mod clock;
pub mod close;
pub mod duration;
pub mod event;
pub mod fingerprint;
pub mod frame;
pub mod gap;
pub mod index;
pub mod json;
pub mod label;
pub mod log;
pub mod network;
pub mod outbox;
pub mod protocol;
pub mod reload;
pub mod share;
pub mod topic;
pub mod transport;
pub mod version;
