#![doc = include_str!("ARCHITECTURE.md")]

// In the order in which an event travels.
pub mod bucket;
pub mod budget;
pub mod clock;
pub mod close;
pub mod event;
pub mod exposition;
pub mod frame;
pub mod gap;
pub mod json;
pub mod label;
pub mod network;
pub mod outbox;
pub mod reload;
pub mod share;
pub mod stdio;
pub mod topic;
pub mod version;

pub mod broadcaster;
pub mod source;

pub mod bus;
pub mod log;

pub mod auth;
pub mod protocol;

pub mod store;

pub mod endpoint;

pub mod reactor;

pub mod config;
pub mod metrics;
pub mod os;
pub mod server;
pub mod tool;

pub use broadcaster::Broadcaster;
