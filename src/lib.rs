#![doc = include_str!("ARCHITECTURE.md")]

pub use fanfare_core::{
    bucket, budget, clock, close, event, frame, gap, json, label, log, network, outbox, protocol, reload, share,
    topic, version,
};

// In the order in which an event travels.
pub mod stdio;

pub mod exposition;

pub mod broadcaster;
pub mod source;

pub mod bus;

pub mod auth;

pub mod store;

pub mod endpoint;

pub mod reactor;

pub mod config;
pub mod metrics;
pub mod os;
pub mod server;
pub mod tool;

pub use broadcaster::Broadcaster;
