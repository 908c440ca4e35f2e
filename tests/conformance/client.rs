//! Bytes to the server, and bytes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{SERVER, application::Server};

/// How long an answer may take. Far beyond what it takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the bytes of a row are cut into writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// All in one.
    Whole,
    /// One byte each; of long input the first and the last [`SINGLE_BYTES`] only.
    Single,
}

/// Every way in which a row is sent.
pub(crate) const PACES: [Pace; 2] = [Pace::Whole, Pace::Single];

/// Those for a row of `length` bytes. Megabytes take long, and the shorter rows have shown by then what cuts do.
pub(crate) fn paces_for(length: usize) -> &'static [Pace] {
    if length < 1 << 20 { &PACES } else { &PACES[..1] }
}

/// More single writes than these take long and tell nothing new: headers, trailers and cuts are near the ends.
const SINGLE_BYTES: usize = 300;

pub(crate) fn connect() -> TcpStream {
    connect_to(&SERVER)
}

pub(crate) fn connect_to(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("the server should accept");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    stream
}

/// Sends `bytes`, as far as the server takes them: one that refuses early may close before it has read all.
pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8], pace: Pace) {
    let (head, rest) = bytes.split_at(bytes.len().min(SINGLE_BYTES));
    let (middle, tail) = rest.split_at(rest.len().saturating_sub(SINGLE_BYTES));
    let pieces: Vec<&[u8]> = match pace {
        Pace::Whole => vec![bytes],
        Pace::Single => head.chunks(1).chain([middle]).chain(tail.chunks(1)).collect(),
    };
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
}

/// All that comes until the server closes; it must.
#[track_caller]
pub(crate) fn read_to_end(stream: &mut TcpStream, what: &str) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return bytes,
            // A server that pings now and then has not closed either.
            Ok(count) if Instant::now() < deadline => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return bytes,
            outcome => {
                panic!("the server should close ({outcome:?}): {what}; it sent {:02x?}", &bytes[..bytes.len().min(60)])
            }
        }
    }
}

/// What comes up to and including `end`.
#[track_caller]
pub(crate) fn read_through(stream: &mut TcpStream, end: &[u8], what: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        read.unwrap_or_else(|error| panic!("{error}: {what}; so far {:?}", String::from_utf8_lossy(&bytes)));
        bytes.push(byte[0]);
    }
    bytes
}
