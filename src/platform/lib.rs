//! Where the programs meet the machine: system calls that no safe crate offers, output that may be closed, and figures for a scraper.

pub mod exposition;
pub mod os;
pub mod stdio;
