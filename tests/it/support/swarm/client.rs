//! One subscriber: its connection, the ids from which it resumes, and its record.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use fanfare_core::{event::EventId, protocol::fanfare_v1::client::write_subscribe, topic::Topic};
use fanfare_tools::client::{begin_connect, is_connected, open_socket};
use mio::net::TcpStream;
use rand::RngExt;
use serde::Deserialize;

use super::{
    Dialect, Plan,
    payload::Payload,
    record::{Mark, Record},
    wire::{self, GapNotice, Wire, WireEvent},
};

/// Very small, so that the hub's writes soon block.
const NARROW_BYTES: usize = 4 * 1024;

/// A subscriber, connected or waiting to be.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) record: Record,
    link: Option<Link>,
    /// When it connects again, while it is not connected.
    pub(super) due: Instant,
    pub(super) is_stalled: bool,
    /// The source of its random delays.
    pub(super) was_stalled: bool,
    /// The last number seen, by the order of its topics.
    pub(super) last_numbers: Vec<u32>,
    resume: ResumeIds,
    was_open: bool,
    /// When to reconnect, as the hub said.
    retry_ms: Option<u64>,
}

/// The ids from which the next connection resumes.
#[derive(Debug, Default)]
struct ResumeIds {
    /// SSE: what goes into `Last-Event-ID`.
    stream_id: Option<String>,
    /// `fanfare.v1`: by the order of its topics.
    ids: Vec<Option<EventId>>,
    /// A raw WebSocket: the id in a 4408.
    raw_id: Option<String>,
}

#[derive(Debug)]
struct Link {
    socket: TcpStream,
    wire: Wire,
    is_asked: bool,
    is_granted: bool,
    /// Topics of `fanfare.v1` that were confirmed.
    confirmed: usize,
    is_over: bool,
}

/// The reason in a raw WebSocket's close frame.
#[derive(Debug, Deserialize)]
struct CloseReason {
    gap: Option<String>,
    from: Option<String>,
    to: Option<String>,
    reconnect_in_ms: Option<u64>,
}

/// An event, as reported to the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) sent_us: u64,
}

impl Client {
    pub(super) fn new(dialect: Dialect, topics: &[usize]) -> Self {
        Self {
            record: Record::new(dialect, topics),
            link: None,
            due: Instant::now(),
            is_stalled: false,
            was_stalled: false,
            last_numbers: vec![0; topics.len()],
            resume: ResumeIds { ids: vec![None; topics.len()], ..ResumeIds::default() },
            was_open: false,
            retry_ms: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Whether all its subscriptions are confirmed.
    pub(super) fn is_open(&self) -> bool {
        let needed = if self.record.dialect == Dialect::FanfareV1 { self.last_numbers.len() } else { 0 };
        self.link.as_ref().is_some_and(|link| link.is_granted && needed <= link.confirmed)
    }

    /// Begins to connect; returns the socket, to be registered.
    pub(super) fn connect(&mut self, target: SocketAddr, is_narrow: bool) -> io::Result<&mut TcpStream> {
        let socket = open_socket(target)?;
        if is_narrow {
            // Before connecting, because the handshake fixes the window scale.
            socket.set_recv_buffer_size(NARROW_BYTES)?;
        }
        let link = Link {
            socket: begin_connect(socket, target)?,
            wire: Wire::new(self.record.dialect),
            is_asked: false,
            is_granted: false,
            confirmed: 0,
            is_over: false,
        };
        Ok(&mut self.link.insert(link).socket)
    }

    /// The connection has ended, or could not be made. The client reconnects after a delay.
    pub(super) fn disconnect(&mut self, plan: &Plan) {
        if let Some(link) = self.link.take() {
            self.retry_ms = self.retry_ms.or_else(|| link.wire.retry_ms());
        }
        let wanted = self.retry_ms.map_or(plan.retry, Duration::from_millis).min(plan.retry_max);
        self.due = Instant::now() + wanted.mul_f64(rand::rng().random_range(1.0..1.5));
    }

    /// The socket is writable: sends the request, once.
    pub(super) fn ask(&mut self, plan: &Plan) -> io::Result<()> {
        let Some(link) = self.link.as_mut().filter(|link| !link.is_asked) else { return Ok(()) };
        if !is_connected(&link.socket)? {
            return Ok(());
        }
        link.is_asked = true;
        let topics: Vec<&str> =
            self.record.topics.iter().map(|(topic_index, _)| plan.topics[*topic_index].as_str()).collect();
        let last_id = match self.record.dialect {
            Dialect::Sse => self.resume.stream_id.as_deref(),
            Dialect::FanfareV1 => None,
            Dialect::Raw => self.resume.raw_id.as_deref(),
        };
        link.socket.write_all(&wire::request(self.record.dialect, &topics, last_id))
    }

    /// Reads all there is. An error, or the end, is an `Err`.
    pub(super) fn read(&mut self, plan: &Plan, buffer: &mut [u8], arrived: &mut impl FnMut(Arrival)) -> io::Result<()> {
        while !self.is_stalled {
            let Some(mut link) = self.link.take() else { return Ok(()) };
            let read = link.socket.read(buffer);
            if let Ok(count @ 1..) = read {
                let Link { wire, .. } = &mut link;
                let mut heard_open = Opened::default();
                wire.receive(&buffer[..count], |event| self.on_event(event, plan, &mut heard_open, arrived));
                heard_open.apply(&mut link);
            }
            let outcome = match read {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) if link.is_over => Err(ErrorKind::ConnectionAborted.into()),
                Ok(_) => self.answer(&mut link, plan),
                Err(error) => Err(error),
            };
            self.link = Some(link);
            match outcome {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Sends pongs, and the commands that follow an accepted upgrade. The socket always has room for a few bytes.
    fn answer(&self, link: &mut Link, plan: &Plan) -> io::Result<()> {
        if std::mem::take(&mut link.wire.wants_commands) {
            for ((topic_index, _), id) in self.record.topics.iter().zip(&self.resume.ids) {
                let topic = Topic::parse(&plan.topics[*topic_index]).expect("the plan names topics properly");
                let mut command = Vec::new();
                write_subscribe(&topic, *id, None, &mut command);
                link.wire.put_text(&command);
            }
        }
        let replies = std::mem::take(&mut link.wire.replies);
        if replies.is_empty() { Ok(()) } else { link.socket.write_all(&replies) }
    }

    fn on_event(&mut self, event: WireEvent<'_>, plan: &Plan, opened: &mut Opened, arrived: &mut impl FnMut(Arrival)) {
        match event {
            WireEvent::Open => {
                opened.is_granted = true;
                self.note_open();
            }
            WireEvent::Refused(status) => {
                opened.is_over = true;
                self.record.refusals.push(status.to_string());
            }
            WireEvent::Event { stream_id, id, payload } => self.take_event(stream_id, id, payload, arrived),
            WireEvent::Subscribed { topic, id } => {
                opened.confirmed += 1;
                self.take_place(plan, topic, id);
            }
            WireEvent::Gap { stream_id, notice } => self.take_gap(plan, stream_id, notice),
            WireEvent::Closing { code, reason } => {
                opened.is_over |= code.is_some();
                self.take_closing(code, reason);
            }
            WireEvent::End => opened.is_over = true,
            WireEvent::Broken(what) => {
                opened.is_over = true;
                self.record.faults.push(what);
            }
        }
    }

    /// Records a reconnection; a stream without an id to resume from starts afresh.
    fn note_open(&mut self) {
        self.retry_ms = None;
        let is_first = !std::mem::replace(&mut self.was_open, true);
        if is_first {
            return;
        }
        self.record.reconnects += 1;
        match self.record.dialect {
            Dialect::Sse if self.resume.stream_id.is_none() => self.record.note_fresh(),
            Dialect::Raw if self.resume.raw_id.take().is_none() => self.record.note_fresh(),
            Dialect::Sse | Dialect::Raw | Dialect::FanfareV1 => {}
        }
    }

    fn take_event(
        &mut self,
        stream_id: Option<&str>,
        id: Option<&str>,
        payload: &[u8],
        arrived: &mut impl FnMut(Arrival),
    ) {
        let Some(payload) = Payload::read(payload) else {
            let text = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
            return self.record.faults.push(format!("nobody published {text:?}"));
        };
        let index = self.record.topics.iter().position(|(topic_index, _)| *topic_index == payload.topic);
        let id = match (stream_id, index) {
            (Some(ids), Some(index)) => self.id_of(ids, index),
            _ => id.and_then(|id| id.parse().ok()),
        };
        if let Some(index) = index {
            self.last_numbers[index] = self.last_numbers[index].max(payload.number);
            self.resume.ids[index] = id;
        }
        if let Some(stream_id) = stream_id {
            self.resume.stream_id = Some(stream_id.to_owned());
        }
        self.record.note(payload.topic, Mark::Event { number: payload.number, id });
        arrived(Arrival { sent_us: payload.sent_us });
    }

    /// The id that an SSE stream has for its topic at `index`.
    fn id_of(&self, ids: &str, index: usize) -> Option<EventId> {
        let mut ids = ids.split(',');
        let id = if self.record.topics.len() == 1 { ids.next() } else { ids.nth(index) };
        id?.parse().ok()
    }

    fn take_place(&mut self, plan: &Plan, topic: &str, id: Option<&str>) {
        let Some(index) = self.index_of(plan, Some(topic)) else {
            return self.record.faults.push(format!("subscribed to {topic}, which was not asked for"));
        };
        // If the answer has no id, the last id seen is used.
        if self.resume.ids[index].is_none() {
            self.resume.ids[index] = id.and_then(|id| id.parse().ok());
        }
    }

    fn take_gap(&mut self, plan: &Plan, stream_id: Option<&str>, notice: GapNotice) {
        let Some(index) = self.index_of(plan, notice.topic.as_deref()) else {
            return self.record.faults.push(format!("a gap in a topic that was not asked for: {notice:?}"));
        };
        let GapNotice { from, to, reason, .. } = notice;
        let parse = |id: Option<String>| id.and_then(|id| id.parse().ok());
        let (from, to): (Option<EventId>, Option<EventId>) = (parse(from), parse(to));
        if let Some(ids) = stream_id {
            if to.is_some() && self.id_of(ids, index) != to {
                self.record.faults.push(format!("the id of a gap to {to:?} is {ids}"));
            }
            self.resume.stream_id = Some(ids.to_owned());
        }
        if to.is_some() {
            self.resume.ids[index] = to;
        }
        let topic_index = self.record.topics[index].0;
        self.record.note(topic_index, Mark::Gap { from, to, reason });
    }

    fn take_closing(&mut self, code: Option<u16>, reason: &str) {
        let closing: Option<CloseReason> = serde_json::from_str(reason).ok();
        let text = code.map_or_else(|| reason.to_owned(), |code| format!("{code} {reason}"));
        self.record.goodbyes.push(text);
        let Some(closing) = closing else { return };
        self.retry_ms = closing.reconnect_in_ms.or(self.retry_ms);
        if let (Dialect::Raw, Some(gap)) = (self.record.dialect, closing.gap) {
            self.resume.raw_id.clone_from(&closing.to);
            let parse = |id: Option<String>| id.and_then(|id| id.parse().ok());
            let mark = Mark::Gap { from: parse(closing.from), to: parse(closing.to), reason: gap };
            self.record.note(self.record.topics[0].0, mark);
        }
    }

    /// The index of `topic` among the client's topics; that of the only one if no topic is named.
    fn index_of(&self, plan: &Plan, topic: Option<&str>) -> Option<usize> {
        let topics = &self.record.topics;
        match topic {
            Some(topic) => topics.iter().position(|(topic_index, _)| plan.topics[*topic_index] == topic),
            None => (topics.len() == 1).then_some(0),
        }
    }
}

/// What a piece of input changed about the connection.
#[derive(Debug, Default)]
struct Opened {
    is_granted: bool,
    confirmed: usize,
    is_over: bool,
}

impl Opened {
    fn apply(self, link: &mut Link) {
        if self.is_granted {
            link.is_granted = true;
        }
        link.confirmed += self.confirmed;
        link.is_over |= self.is_over;
    }
}
