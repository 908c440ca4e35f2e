//! What the command line does besides serving.

pub mod bench;
mod client;
mod crowd;
pub mod load;
pub mod produce;
pub mod publish;
pub mod report;
pub mod subscribe;
pub mod token;
