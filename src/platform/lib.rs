//! The machine's side: system calls that no safe crate offers, output that may be closed or full, and the exposition of metrics.

pub mod exposition;
pub mod os;
pub mod stdio;
