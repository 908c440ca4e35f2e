//! What the command line does besides serving: clients of a hub that publish, listen and measure.

mod access;
pub mod bench;
mod client;
mod client_pool;
pub mod load;
mod marks;
pub mod produce;
pub mod publish;
mod replies;
pub mod report;
mod sequences;
mod signals;
pub mod subscribe;
mod target;
mod tls;

pub(crate) use fanfare_core::{clock, close, outbox, protocol, topic};
pub(crate) use fanfare_platform::{exposition, os, stdio};
