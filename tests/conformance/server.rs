//! The conformance server by itself, to point public suites at: `cargo run --example conformance -- --help`.

mod application;

use std::{io, net::SocketAddr, thread};

use application::{Server, suite_limits};
use clap::Parser;

/// Fanfare's own reactor and protocols, answering what conformance suites ask: `/echo` sends every WebSocket message back,
/// `/` answers GET and echoes what is POSTed, `/headers` shows the request's header fields. Limits are raised to
/// messages and bodies of 16 MiB and 65,536 fragments. `/engine.io/` sends every Engine.IO message back, `/socket.io/` has the
/// application that the suite of Socket.IO asks for. Runs until it is ended by a signal.
#[derive(Parser)]
#[command(name = "conformance")]
struct Options {
    /// Where to serve; port 0 lets the system choose.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
}

fn main() -> io::Result<()> {
    let server = Server::start(Options::parse().listen, suite_limits())?;
    println!("The conformance server serves http://{}", server.address());
    loop {
        thread::park();
    }
}
