//! A network without a kernel.

use std::{
    io::{self, ErrorKind},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fanfare::reactor::{Net, Ready, Token};
use fanfare_core::{clock::Moment, index::Slot};

/// What all sockets were given.
#[derive(Debug, Default)]
pub(crate) struct Written {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Written {
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.calls.store(self.calls() + 1, Ordering::Relaxed);
        self.bytes.store(self.bytes() + bytes as u64, Ordering::Relaxed);
    }
}

/// What a peer says, each piece a turn after the one before.
pub(crate) type Script = Arc<[Vec<u8>]>;

/// A listener at which `waiting` peers wait, each with the same script.
#[derive(Debug)]
pub(crate) struct StubNet {
    waiting: u32,
    script: Script,
    chokes: bool,
    /// Told by the next poll.
    ready: Vec<Ready>,
    written: Arc<Written>,
}

/// A peer.
#[derive(Debug)]
pub(crate) struct StubStream {
    token: Token,
    script: Script,
    /// How many pieces of it are said.
    said: usize,
    room: Room,
}

/// What a choking socket takes of what is offered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Half,
    All,
}

impl StubNet {
    pub(crate) fn new(waiting: u32, script: Script, chokes: bool, written: Arc<Written>) -> Self {
        Self { waiting, script, chokes, ready: vec![Ready::Listener(0)], written }
    }

    fn take(&mut self, stream: &mut StubStream, offered_bytes: usize) -> io::Result<usize> {
        let taken_bytes = match stream.room {
            Room::All if !self.chokes => offered_bytes,
            Room::All => {
                stream.room = Room::Half;
                offered_bytes
            }
            Room::Half => {
                // The edge for the rest: a socket would tell it once its peer has read.
                stream.room = Room::All;
                let token = stream.token;
                self.ready.push(Ready::Connection { token, readable: false, writable: true, ending: false });
                offered_bytes / 2
            }
        };
        self.written.add(taken_bytes);
        Ok(taken_bytes)
    }
}

impl Net for StubNet {
    type Stream = StubStream;

    /// A clock that stands still: slices end by their count of visits, so that every run executes the same.
    fn now(&self) -> Moment {
        Moment(1_000_000_000)
    }

    fn date(&mut self) -> &str {
        "Sat, 21 Nov 2026 00:00:00 GMT"
    }

    fn poll(&mut self, _timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.append(&mut self.ready);
        Ok(())
    }

    fn listener_count(&self) -> usize {
        1
    }

    fn accept(&mut self, _listener: usize) -> io::Result<(StubStream, Option<IpAddr>)> {
        self.waiting = self.waiting.checked_sub(1).ok_or(ErrorKind::WouldBlock)?;
        let token = Token { slot: Slot::NONE, generation: 0 };
        Ok((StubStream { token, script: Arc::clone(&self.script), said: 0, room: Room::All }, None))
    }

    fn shed(&mut self, _listener: usize, _refusal: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn stop_listening(&mut self, _: usize) {}

    fn register(&mut self, stream: &mut StubStream, token: Token) -> io::Result<()> {
        stream.token = token;
        self.ready.push(Ready::Connection { token, readable: true, writable: true, ending: false });
        Ok(())
    }

    fn rename(&mut self, stream: &mut StubStream, token: Token) -> io::Result<()> {
        stream.token = token;
        Ok(())
    }

    fn release(&mut self, _stream: &mut StubStream) -> io::Result<()> {
        Ok(())
    }

    fn nowhere(&mut self) -> StubStream {
        let token = Token { slot: Slot::NONE, generation: 0 };
        StubStream { token, script: Arc::new([]), said: 0, room: Room::All }
    }

    fn read(&mut self, stream: &mut StubStream, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = stream.script.get(stream.said) else { return Err(ErrorKind::WouldBlock.into()) };
        stream.said += 1;
        if stream.said < stream.script.len() {
            let token = stream.token;
            self.ready.push(Ready::Connection { token, readable: true, writable: false, ending: false });
        }
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }

    fn write(&mut self, stream: &mut StubStream, bytes: &[u8]) -> io::Result<usize> {
        self.take(stream, bytes.len())
    }

    fn end(&mut self, _stream: &mut StubStream) {}
}
