//! The commands beside `serve`: clients of a hub that publish, subscribe and measure.

pub mod bench;
pub mod client;
mod duration;
pub mod health;
pub mod load;
mod marks;
mod pod;
pub mod produce;
pub mod publish;
pub mod report;
mod sequences;
mod signals;
pub mod subscribe;

pub(crate) use fanfare_core::{clock, close, outbox, protocol, topic};
pub(crate) use fanfare_platform::{exposition, os, stdio};
