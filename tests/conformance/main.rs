//! The requirements of the standards, row by row, against the conformance server over TCP: RFC 6455 for WebSocket, RFC 9110
//! and RFC 9112 for HTTP, Engine.IO 4 and Socket.IO 5. Each row names the section it comes from, and is sent twice: whole, and one byte at a time.
//!
//! What is sent and what comes back is written and read by hand here, so that no codec is checked by itself.

mod application;
mod client;
mod engine_io;
mod http;
mod requirements;
mod socket_io;
mod websocket;

use std::{sync::LazyLock, time::Duration};

use application::{Server, suite_limits};
use fanfare_core::protocol::EngineLimits;

/// One server for all tests of this process. Its sessions are in no hurry, so that a slow machine breaks no row.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    start(EngineLimits {
        ping_interval: Duration::from_secs(25),
        connect_timeout: Duration::from_secs(45),
        ..suite_limits()
    })
});

/// One whose clients have to be quick: for the rows about time.
static QUICK: LazyLock<Server> =
    LazyLock::new(|| start(EngineLimits { ping_timeout: Duration::from_millis(1500), ..suite_limits() }));

fn start(engine: EngineLimits) -> Server {
    let any_port = "127.0.0.1:0".parse().expect("it is an address");
    Server::start(any_port, engine).expect("a port should be free")
}
