//! One reactor under a kernel that costs nothing: what it executes itself for each delivery, to be counted by callgrind
//! (`bench/instructions`).
//!
//! Everything is the hub's own, from the bus to the frames, but for the sockets: they take all that is written, or, with
//! `--choke`, only half of every frame at first, so that each delivery also takes the way of a full socket.

mod rig;
mod stub;

use std::io;

use clap::Parser;
use rig::{Form, Rig};

/// The options of the command line.
#[derive(Parser)]
struct Options {
    /// How many connections listen.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// How many events are published.
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// How many of them come at a time.
    #[arg(long, default_value_t = 1)]
    together: u32,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 200)]
    size: usize,
    #[command(flatten)]
    form: Form,
    /// Sockets take only half of a frame at first.
    #[arg(long)]
    choke: bool,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut rig = Rig::new(options.connections, options.form, options.choke)?;
    let opening_bytes = rig.written.bytes();
    rig.publish(options.events, options.together, options.size)?;
    let deliveries = options.events * options.connections;
    println!("deliveries {deliveries}, writes {}, bytes {}", rig.written.calls(), rig.written.bytes() - opening_bytes);
    Ok(())
}
