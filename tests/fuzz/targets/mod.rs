//! What is tried with hostile bytes, and what must hold for all of them. Beyond "no panic": bytes fed at once and in pieces
//! mean the same, nothing is kept beyond its limit, what is accepted means the same when it is encoded anew, and what is
//! refused leaves no trace.
//!
//! Each target is a function of the input. The first two bytes of an input are its *knobs*: they choose the limits and
//! where the rest is cut.

mod chunked_body;
mod engine_io;
mod http_head;
mod hub;
mod input;
mod last_event_id;
mod nats;
mod operations;
mod publish_body;
mod resp;
mod socket_io;
mod websocket_client;
mod websocket_server;

/// One thing to try.
pub(crate) struct Target {
    /// Its name: of its seeds' folder, its test, and its binary for libFuzzer.
    pub(crate) name: &'static str,
    /// Panics if something does not hold.
    pub(crate) check: fn(&[u8]),
    /// What its language is made of. libFuzzer finds these by itself.
    pub(crate) tokens: &'static [&'static str],
}

/// All of them.
pub(crate) static TARGETS: &[Target] = &[
    Target { name: "http_head", check: http_head::check, tokens: http_head::TOKENS },
    Target { name: "chunked_body", check: chunked_body::check, tokens: chunked_body::TOKENS },
    Target { name: "websocket_server", check: websocket_server::check, tokens: websocket_server::TOKENS },
    Target { name: "websocket_client", check: websocket_client::check, tokens: websocket_client::TOKENS },
    Target { name: "engine_io", check: engine_io::check, tokens: engine_io::TOKENS },
    Target { name: "socket_io", check: socket_io::check, tokens: socket_io::TOKENS },
    Target { name: "last_event_id", check: last_event_id::check, tokens: last_event_id::TOKENS },
    Target { name: "resp", check: resp::check, tokens: resp::TOKENS },
    Target { name: "nats", check: nats::check, tokens: nats::TOKENS },
    Target { name: "publish_body", check: publish_body::check, tokens: publish_body::TOKENS },
    Target { name: "operations", check: operations::check, tokens: operations::TOKENS },
];

/// The target called `name`.
pub(crate) fn find(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target called {name}"))
}
