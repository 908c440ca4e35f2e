//! What the command line does besides serving.

mod access;
pub mod bench;
mod client;
mod crowd;
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
pub mod token;
