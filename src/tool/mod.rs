//! What the command line does besides serving.

pub mod publish;
pub mod subscribe;
