//! A client of an event stream.

use std::{collections::VecDeque, time::Instant};

use fanfare_core::protocol::{
    http::{Method, ResponsePart, ResponseReader, write_request},
    sse::Decoder,
};
use socket2::Socket;

use super::{TIMEOUT, http::read_some, hub::Hub};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: String,
    /// Empty for an unnamed event.
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// A stream, open from the first byte on.
#[derive(Debug)]
pub(crate) struct SseClient {
    socket: Socket,
    reader: ResponseReader,
    decoder: Decoder,
    events: VecDeque<Received>,
    ended: bool,
}

impl SseClient {
    /// Opens `target`, such as `/sse?topic=a`, and waits until the stream is open.
    #[track_caller]
    pub(crate) fn open(hub: &Hub, target: &str) -> Self {
        Self::open_on(hub.connect(), target, &[])
    }

    /// The same, with further headers.
    #[track_caller]
    pub(crate) fn open_with(hub: &Hub, target: &str, headers: &[(&str, &str)]) -> Self {
        Self::open_on(hub.connect(), target, headers)
    }

    /// The same on a connection of the caller's.
    #[track_caller]
    pub(crate) fn open_on(socket: Socket, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut bytes = Vec::new();
        write_request(Method::Get, "hub", target, headers, b"", &mut bytes);
        send_all(&socket, &bytes);
        let (reader, decoder) = (ResponseReader::new(), Decoder::new());
        let mut client = Self { socket, reader, decoder, events: VecDeque::new(), ended: false };
        client.wait_for_comments(1);
        client
    }

    /// The same stream after its first event, the greeting of some APIs.
    #[track_caller]
    pub(crate) fn behind_greeting(mut self) -> Self {
        self.next();
        self
    }

    /// The next event.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Received {
        self.next_or_end().expect("the stream should go on")
    }

    /// The next event, unless the stream ends before one comes.
    #[track_caller]
    pub(crate) fn next_or_end(&mut self) -> Option<Received> {
        // A timeout of each read would not end this loop: heartbeats are read as well.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.events.pop_front() {
                Some(event) => return Some(event),
                None if self.ended => return None,
                None => {}
            }
            assert!(Instant::now() < deadline, "waited in vain for an event");
            self.read();
        }
    }

    /// The payload of the next event.
    #[track_caller]
    pub(crate) fn next_data(&mut self) -> String {
        self.next().data
    }

    /// Waits until `count` comments have come.
    #[track_caller]
    pub(crate) fn wait_for_comments(&mut self, count: u64) {
        while self.decoder.comments() < count {
            assert!(!self.ended, "the stream should go on");
            self.read();
        }
    }

    /// How many comments came so far.
    pub(crate) fn comments(&self) -> u64 {
        self.decoder.comments()
    }

    /// Reads to the end of the stream, which must be a proper end. Returns the events that were left.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<Received> {
        while !self.ended {
            self.read();
        }
        self.events.drain(..).collect()
    }

    /// The reconnection time that the hub has sent.
    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.decoder.retry_ms()
    }

    #[track_caller]
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let count = read_some(&self.socket, &mut buffer).expect("the stream should go on or end");
        let Self { reader, decoder, events, ended, .. } = self;
        let mut take_part = |part: ResponsePart<'_>| match part {
            ResponsePart::Head(head) => {
                assert_eq!(head.status, 200);
                assert!(head.is_event_stream());
            }
            ResponsePart::Body(bytes) => decode(decoder, bytes, events),
            ResponsePart::End => *ended = true,
        };
        let taken = match count {
            0 => reader.finish(&mut take_part),
            _ => reader.receive(&buffer[..count], &mut take_part),
        };
        taken.unwrap_or_else(|close| panic!("the stream broke: {close}"));
        assert!(0 < count || self.ended, "the stream was cut off");
    }
}

fn decode(decoder: &mut Decoder, bytes: &[u8], events: &mut VecDeque<Received>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the hub sends UTF-8");
    let decoded = decoder.receive(bytes, |message| {
        events.push_back(Received { id: text(message.id), kind: text(message.event), data: text(message.data) });
    });
    decoded.expect("the hub's events are no larger than a decoder takes");
}

/// Sends all of `bytes`.
pub(crate) fn send_all(mut socket: &Socket, bytes: &[u8]) {
    use std::io::Write;
    socket.write_all(bytes).expect("the hub should read");
}
