//! What the command line does besides serving.

mod client;
pub mod publish;
pub mod subscribe;
