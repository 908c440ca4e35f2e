#![doc = include_str!("../ARCHITECTURE.md")]

pub(crate) use fanfare_core::{
    bucket, budget, clock, close, duration, event, fingerprint, frame, gap, index, json, label, log, network, outbox,
    protocol, reload, share, topic, transport, version,
};
pub(crate) use fanfare_platform::{exposition, os, stdio};

// The modules, in the order in which an event passes through them.

mod source;

pub mod bus;

pub mod auth;

pub mod audit;

mod bridge;

mod fleet;

mod store;

pub mod jwks;

pub mod endpoint;

pub mod reactor;

pub mod config;
pub mod metrics;
pub mod server;

#[cfg(test)]
mod tests;
