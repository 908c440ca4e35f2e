//! The requirements of the standards, row by row, against the conformance server over TCP: RFC 6455 for WebSocket, RFC 9110
//! and RFC 9112 for HTTP. Each row names the section it comes from, and is sent twice: whole, and one byte at a time.
//!
//! What is sent and what comes back is written and read by hand here, so that no codec is checked by itself.

mod application;
mod client;
mod http;
mod websocket;

use std::sync::LazyLock;

use application::Server;

/// One server for all tests of this process.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let any_port = "127.0.0.1:0".parse().expect("it is an address");
    Server::start(any_port).expect("a port should be free")
});
