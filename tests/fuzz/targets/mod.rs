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
    /// What it may allocate.
    pub(crate) allocates: Allocates,
}

/// A bound on what a check allocates, in bytes, all its allocations added up: `per_byte` times its input, and `fixed`. A length that
/// an input only claims, or work that is done anew for each part of it, allocates more.
#[derive(Clone, Copy)]
pub(crate) struct Allocates {
    pub(crate) per_byte: u64,
    pub(crate) fixed: u64,
}

impl Target {
    /// Tries `input`; panics if something does not hold, or if it allocates more than it may.
    pub(crate) fn run(&self, input: &[u8]) {
        let allocated = allocation_counter::measure(|| (self.check)(input)).bytes_total;
        let Allocates { per_byte, fixed } = self.allocates;
        let most = per_byte * input.len() as u64 + fixed;
        if std::env::var_os("FANFARE_FUZZ_ALLOCATIONS").is_some() {
            eprintln!("{} bytes of {} allocate {allocated}", input.len(), self.name);
        }
        assert!(allocated <= most, "{} bytes allocate {allocated}, and may {most}", input.len());
    }
}

/// All of them. Each bound is about twice what 12,000 mutations of each have taken.
pub(crate) static TARGETS: &[Target] = &[
    // Served three times, whole and in pieces, and each request is written and read once more; a field of a few
    // bytes is a pair of strings.
    Target {
        name: "http_head",
        check: http_head::check,
        tokens: http_head::TOKENS,
        allocates: Allocates { per_byte: 110, fixed: 32 * 1024 },
    },
    // Decoded by four readers, and once more when it is encoded anew, into buffers that double.
    Target {
        name: "chunked_body",
        check: chunked_body::check,
        tokens: chunked_body::TOKENS,
        allocates: Allocates { per_byte: 20, fixed: 8 * 1024 },
    },
    // Read three times, and each message is written and read again in both directions. A frame without a payload has two bytes at
    // the least, and its message is kept as one of four words.
    Target {
        name: "websocket_server",
        check: websocket_server::check,
        tokens: websocket_server::TOKENS,
        allocates: Allocates { per_byte: 220, fixed: 8 * 1024 },
    },
    // The same for the other half.
    Target {
        name: "websocket_client",
        check: websocket_client::check,
        tokens: websocket_client::TOKENS,
        allocates: Allocates { per_byte: 120, fixed: 8 * 1024 },
    },
    // Each packet is owned, framed, and owned again out of the polls.
    Target {
        name: "engine_io",
        check: engine_io::check,
        tokens: engine_io::TOKENS,
        allocates: Allocates { per_byte: 20, fixed: 8 * 1024 },
    },
    // Each argument of a few bytes becomes a text of its own, as a packet, as an event in three forms, and as it is
    // read back; an escape takes six bytes for one.
    Target {
        name: "socket_io",
        check: socket_io::check,
        tokens: socket_io::TOKENS,
        allocates: Allocates { per_byte: 300, fixed: 16 * 1024 },
    },
    // A hub for each of the ways to tell it: thirteen at most, each with its table of topics. A byte that is
    // percent-encoded takes three, in a head that is kept twice.
    Target {
        name: "last_event_id",
        check: last_event_id::check,
        tokens: last_event_id::TOKENS,
        allocates: Allocates { per_byte: 160, fixed: 2 << 20 },
    },
    // A reply that grows is read a hundred times over.
    Target {
        name: "resp",
        check: resp::check,
        tokens: resp::TOKENS,
        allocates: Allocates { per_byte: 4000, fixed: 16 * 1024 },
    },
    // Parsed in place; what is allocated is what is written anew, and what is shown of it, line ends as two letters each.
    Target {
        name: "nats",
        check: nats::check,
        tokens: nats::TOKENS,
        allocates: Allocates { per_byte: 20, fixed: 8 * 1024 },
    },
    // A hub for each of the forms, three at most; a batch is read a second time by way of a map for each entry.
    Target {
        name: "publish_body",
        check: publish_body::check,
        tokens: publish_body::TOKENS,
        allocates: Allocates { per_byte: 160, fixed: 2 << 20 },
    },
    // Two bytes are an operation: an event, on a bus, two reactors and a model, and a look at all of their logs.
    Target {
        name: "operations",
        check: operations::check,
        tokens: operations::TOKENS,
        allocates: Allocates { per_byte: 2000, fixed: 256 * 1024 },
    },
];

/// The target called `name`.
pub(crate) fn find(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target called {name}"))
}
