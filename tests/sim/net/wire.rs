//! One connection of the simulated network, as both ends see it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanfare::reactor::{Ready, Token};

use super::take_front;

/// One connection, seen from both ends.
#[derive(Debug)]
pub(crate) struct Wire {
    /// What the client has sent and the server has not read.
    pub(crate) to_server: VecDeque<u8>,
    /// What the server has written and the client has not read.
    pub(crate) to_client: VecDeque<u8>,
    /// How much of that there may be.
    window_bytes: usize,
    /// The client reads as fast as it can: the window is wide open.
    pub(crate) reads_fast: bool,
    /// The client sends no more.
    pub(crate) client_ended: bool,
    /// The client neither sends nor reads any more; what is written to it comes back as a reset.
    pub(crate) client_closed: bool,
    /// The connection was broken by the client.
    pub(crate) reset: bool,
    /// The server sends no more.
    pub(crate) server_ended: bool,
    /// The server has closed.
    pub(crate) server_gone: bool,
    /// A write has found too little room: what follows is written to a reader that is behind.
    pub(crate) was_short: bool,
    /// Everything the server has ever written.
    pub(crate) written_bytes: u64,
    /// The server had no descriptor for it, and has turned it away.
    pub(crate) shed: bool,
    pub(super) token: Option<Token>,
    /// The server has promised to write on at once; until then a kernel holds back what it has.
    pub(super) held_back: bool,
    /// A write found no room: the next room is an edge.
    pub(super) no_room: bool,
    /// There is room, but the edge that tells so is still under way.
    pub(super) late_edge: bool,
    pub(super) edges: Edges,
}

/// The window of a client that reads fast.
const FAST_WINDOW_BYTES: usize = 1 << 20;

/// What is to be told by the next poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) ending: bool,
}

/// A wire that both ends hold.
#[derive(Clone, Debug)]
pub(crate) struct SharedWire(Arc<Mutex<Wire>>);

impl SharedWire {
    pub(crate) fn new(window_bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Wire {
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            window_bytes,
            reads_fast: false,
            client_ended: false,
            client_closed: false,
            reset: false,
            server_ended: false,
            server_gone: false,
            was_short: false,
            written_bytes: 0,
            shed: false,
            token: None,
            held_back: false,
            no_room: false,
            late_edge: false,
            edges: Edges::default(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Whether the server has answered, other than by turning it away.
    pub(crate) fn has_written(&self) -> bool {
        0 < self.written_bytes && !self.shed
    }

    /// The client sends `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.to_server.extend(bytes);
        self.edges.readable = true;
    }

    /// The client sends no more, but still reads.
    pub(crate) fn half_close(&mut self) {
        self.client_ended = true;
        self.edges.readable = true;
        self.edges.ending = true;
    }

    /// The client closes its socket. What it has not read makes that a reset.
    pub(crate) fn close(&mut self) {
        self.half_close();
        self.client_closed = true;
        if !self.to_client.is_empty() {
            self.break_off();
        }
    }

    /// The client's machine breaks the connection.
    pub(crate) fn break_off(&mut self) {
        self.reset = true;
        self.to_server.clear();
        self.to_client.clear();
        self.edges = Edges { readable: true, writable: true, ending: true };
    }

    /// The client reads at most `most` bytes.
    pub(crate) fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.to_client.len());
        let bytes = take_front(&mut self.to_client, count);
        if 0 < count && self.no_room {
            self.no_room = false;
            self.edges.writable = true;
        }
        bytes
    }

    /// Whether the client will see no more bytes.
    pub(crate) fn is_read_out(&self) -> bool {
        self.to_client.is_empty() && (self.server_ended || self.server_gone)
    }

    pub(super) fn room(&self) -> usize {
        let window_bytes = if self.reads_fast { FAST_WINDOW_BYTES } else { self.window_bytes };
        window_bytes.saturating_sub(self.to_client.len())
    }

    pub(super) fn has_news(&self) -> bool {
        self.late_edge || self.edges != Edges::default()
    }

    /// What a poll says now. With `all`, the state as it is, as epoll reports it; else one edge by itself, as if the others
    /// came a moment later.
    pub(super) fn tell(&mut self, all: bool) -> Option<Ready> {
        let token = self.token?;
        let edges = self.edges;
        let (readable, writable, ending) = if all {
            self.edges = Edges::default();
            let ended = self.client_ended || self.reset;
            (!self.to_server.is_empty() || ended, 0 < self.room() || self.reset, ended)
        } else if edges.writable {
            self.edges.writable = false;
            (false, true, false)
        } else if edges.readable && !edges.ending {
            self.edges.readable = false;
            (true, false, false)
        } else {
            self.edges = Edges::default();
            (true, false, edges.ending)
        };
        Some(Ready::Connection { token, readable, writable, ending })
    }
}
