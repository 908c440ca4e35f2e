//! What an input costs: four times as much of it takes about four times the work and the memory, whatever its shape. One row for
//! each parser, encoder and door, with the shapes that are dearest to read.
//!
//! Memory is counted, exactly. Work is the processor time of this thread, as the kernel accounts for it, which a busy machine
//! does not change much; the least of several runs counts, and only growth is judged: a cost that grows with the square of its
//! input grows sixteen times.

mod access;
#[path = "../fuzz/targets/hub.rs"]
#[expect(dead_code, reason = "the fuzz targets need more of it")]
mod hub;
mod measure;
mod requests;
mod shapes;
mod sockets;
mod sources;

use measure::check;
