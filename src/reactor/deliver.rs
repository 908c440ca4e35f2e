//! The hot path: laps bring the listeners of a topic to its head, a slice at a time.

use std::{io, sync::Arc, time::Duration};

use super::{
    Reactor,
    conflate::conflate,
    connection::{
        ABSENT, BEHIND, BLOCKED, Connection, DOOMED, HELD, LINGERING, POLLED, REPLAYING, Subscription, Unfinished,
    },
    gaps::Stranded,
    gather::{Gather, Gathers},
    net::Net,
    replay::write_logged,
    slab::Slab,
    table::TopicTable,
};
use crate::{
    clock::Moment,
    close::Close,
    event::Position,
    frame::Format,
    log::{Listener, Ring},
    metrics::{ReactorMetrics, Transport},
    protocol::{Session, encode_frame, sse},
};

/// A slice ends after so many visits …
const VISITS_PER_SLICE: usize = 256;
/// … or after so long, looked at every few visits.
const SLICE_TIME: Duration = Duration::from_micros(500);
const VISITS_PER_CLOCK: usize = 16;

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// The cursor is at the head.
    AtHead,
    /// There is more than one visit may write.
    More,
    /// The peer's window is full.
    Blocked,
    /// The log has passed the cursor, or the transport has no form for the hole in the log that comes next.
    Stranded,
    /// The connection is broken.
    Broken,
}

impl<N: Net> Reactor<N> {
    /// One slice for topics with fresh news, then one for a topic whose lap is under way: so neither waits for more than
    /// one slice of the other, however many listeners it has.
    pub(super) fn run_laps(&mut self) {
        self.end_rests();
        let deadline = self.now + SLICE_TIME;
        let mut budget = VISITS_PER_SLICE;
        while 0 < budget && self.now < deadline {
            let Some(place) = self.fresh.pop() else { break };
            budget -= self.run_slice(place, budget, deadline).min(budget);
        }
        if let Some(place) = self.ongoing.pop() {
            self.run_slice(place, VISITS_PER_SLICE, self.now + SLICE_TIME);
        }
    }

    /// Visits listeners of the topic at `place`; returns how many were written to.
    fn run_slice(&mut self, place: u32, budget: usize, deadline: Moment) -> usize {
        let Some(topic) = self.topics.at(place) else { return 0 };
        let began = self.now;
        let mut visits = 0;
        let mut steps = VISITS_PER_CLOCK;
        while visits < budget {
            // Before the next listener is taken from the lap: one that is taken must be visited.
            if steps == VISITS_PER_CLOCK {
                steps = 0;
                fetch_ahead(&mut self.connections, topic.lap.upcoming(VISITS_PER_CLOCK));
                self.now = self.net.now();
                self.gathers.settle(&self.metrics, self.now);
                if deadline <= self.now && 0 < visits {
                    break;
                }
            }
            steps += 1;
            let Some(listener_place) = topic.lap.advance() else { break };
            let head = topic.ring.next();
            let listener = topic.lap.listener(listener_place);
            if listener.cursor == head {
                continue;
            }
            let slot = listener.slot;
            let Some(connection) = self.connections.at(slot) else { continue };
            if !connection.state.is_clear() {
                if connection.state.has(POLLED) {
                    self.engines.note_polled(slot);
                }
                continue;
            }
            visits += 1;
            connection.written = self.now;
            let ring = &topic.ring;
            let outcome = visit(&mut self.net, connection, listener, place, ring, &mut self.gathers, &self.metrics);
            if outcome != Visit::AtHead {
                let aside = (&mut self.blocked, &mut self.write_again, &mut self.to_end, &mut self.stranded);
                set_aside(outcome, slot, place, connection, aside);
            }
        }
        self.now = self.net.now();
        self.gathers.settle(&self.metrics, self.now);
        self.end_slice(place, began);
        visits
    }

    /// Writes what the connection is owed, in order: the unfinished frame, the outbox, the logs.
    pub(super) fn flush(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        if connection.state.has(BLOCKED | HELD | LINGERING | DOOMED) {
            return;
        }
        if connection.state.has(ABSENT) {
            self.serve_poll(slot);
            return self.finish_closing(slot);
        }
        let goes_on = !connection.outbox.is_empty() && has_news(connection, &mut self.topics);
        match write_owed(&mut self.net, connection, goes_on, &self.metrics, self.now) {
            Ok(()) => {
                if connection.state.has(REPLAYING) {
                    self.continue_replays(slot);
                }
                self.catch_up(slot);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.state.set(BLOCKED | BEHIND);
                self.blocked += 1;
            }
            Err(_) => self.to_end.push((slot, Close::PeerGone)),
        }
        self.finish_closing(slot);
        self.settle_flushed(slot);
    }

    /// Visits each subscription of a connection that owes nothing else.
    fn catch_up(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let mut at_head = true;
        for index in 0..connection.subscriptions.len() {
            if !connection.state.may_catch_up() {
                at_head = false;
                break;
            }
            let subscription = connection.subscriptions[index];
            let Some(topic) = self.topics.at(subscription.topic) else { continue };
            let conflates = topic.conflates();
            let listener = topic.lap.listener(subscription.place);
            if listener.cursor == topic.ring.next() {
                continue;
            }
            connection.written = self.now;
            let place = subscription.topic;
            let outcome = if conflates && connection.state.has(BEHIND) {
                let outcome = conflate(connection, topic, place, subscription.place, &self.metrics);
                send_owed(&mut self.net, connection, outcome, &self.metrics, self.now)
            } else {
                let (net, ring) = (&mut self.net, &topic.ring);
                let outcome = visit(net, connection, listener, place, ring, &mut self.gathers, &self.metrics);
                self.gathers.settle(&self.metrics, self.now);
                outcome
            };
            if outcome != Visit::AtHead {
                at_head = false;
                let aside = (&mut self.blocked, &mut self.write_again, &mut self.to_end, &mut self.stranded);
                set_aside(outcome, slot, place, connection, aside);
            }
        }
        if at_head {
            connection.state.clear(BEHIND);
        }
    }
}

/// Sends what conflation has put into the outbox, and says how the visit ended with that.
fn send_owed<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    conflated: Visit,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Visit {
    match write_owed(net, connection, false, metrics, now) {
        Ok(()) => conflated,
        // One that is stranded as well will be found so when the peer has read.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Visit::Blocked,
        Err(_) => Visit::Broken,
    }
}

/// Loads into the cache what the next visits read of their connections. Between two visits the kernel has used the cache
/// for the socket, so each connection is a miss; asked for one by one, each is waited for, but together they overlap.
fn fetch_ahead<S>(connections: &mut Slab<Connection<S>>, upcoming: &[Listener]) {
    for listener in upcoming {
        std::hint::black_box(connections.at(listener.slot).map(|connection| connection.state));
    }
}

/// Where connections go that a visit did not bring to the head: how many are blocked, who writes again next turn, who is
/// to be ended, and who is stranded.
type Aside<'r> = (&'r mut usize, &'r mut Vec<u32>, &'r mut Vec<(u32, Close)>, &'r mut Vec<Stranded>);

/// After a visit that left the cursor behind the head: puts the connection where it goes on, or ends.
#[inline(always)]
fn set_aside<S>(
    outcome: Visit,
    slot: u32,
    topic: u32,
    connection: &mut Connection<S>,
    (blocked, write_again, to_end, stranded): Aside<'_>,
) {
    match outcome {
        Visit::AtHead => {}
        // Several topics with a backlog are one reason to go on, not several.
        Visit::More if write_again.last() == Some(&slot) => {}
        Visit::More => write_again.push(slot),
        Visit::Blocked => {
            connection.state.set(BLOCKED | BEHIND);
            *blocked += 1;
        }
        Visit::Stranded => stranded.push(Stranded { slot, topic }),
        Visit::Broken => to_end.push((slot, Close::PeerGone)),
    }
}

/// Whether [`Reactor::catch_up`] is sure to write to the connection, once it owes nothing else. A raw WebSocket is left out:
/// a gap has no frame there.
fn has_news<S>(connection: &Connection<S>, topics: &mut TopicTable) -> bool {
    let is_behind = |subscription: &Subscription| {
        let Some(topic) = topics.at(subscription.topic) else { return false };
        let Listener { format, cursor, .. } = *topic.lap.listener(subscription.place);
        format.format() != Format::WebSocketRaw && (topic.ring.oldest()..topic.ring.next()).contains(&cursor)
    };
    let in_order = connection.state.may_catch_up() && !connection.state.has(REPLAYING | BEHIND);
    in_order && connection.subscriptions.iter().any(is_behind)
}

/// Writes the unfinished frame and the outbox. `goes_on`: the logs follow at once, so that an answer and what was missed
/// are one packet and not two.
fn write_owed<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    goes_on: bool,
    metrics: &ReactorMetrics,
    now: Moment,
) -> io::Result<()> {
    if let Some(unfinished) = &mut connection.unfinished {
        unfinished.write_on(net, &mut connection.stream)?;
        metrics.on_delivered(connection.transport, 1, u64::from(unfinished.written));
        metrics.on_latency(connection.transport, now.since(unfinished.event.accepted), 1);
        connection.unfinished = None;
        connection.written = now;
    }
    while !connection.outbox.is_empty() {
        let (stream, bytes) = (&mut connection.stream, connection.outbox.pending());
        let count = if goes_on { net.write_ahead(stream, bytes)? } else { net.write(stream, bytes)? };
        connection.outbox.advance(count);
        connection.written = now;
    }
    Ok(())
}

/// Writes what lies between the listener's cursor and the head, as far as one visit goes.
#[inline]
fn visit<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    gathers: &mut Gathers,
    metrics: &ReactorMetrics,
) -> Visit {
    if listener.cursor < ring.oldest() {
        return Visit::Stranded;
    }
    if !listener.format.is_shared() {
        return visit_own(net, connection, listener, place, ring, metrics, gathers.now());
    }
    let Some(gather) = gathers.gather(place, ring, listener.format, listener.cursor, metrics) else {
        return Visit::Stranded;
    };
    let bytes = gather.bytes();
    match net.write(&mut connection.stream, bytes) {
        Ok(written) if written == bytes.len() => {
            gather.count_served();
            listener.cursor += gather.frames() as Position;
            if listener.cursor == ring.next() { Visit::AtHead } else { Visit::More }
        }
        Ok(written) => {
            cut_short(connection, listener, ring, gather, metrics, written);
            Visit::Blocked
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Visit::Blocked,
        Err(_) => Visit::Broken,
    }
}

/// After a short write: the cursor passes the frames that went out and the one that went out in part, which the
/// connection finishes by itself.
#[cold]
fn cut_short<S>(
    connection: &mut Connection<S>,
    listener: &mut Listener,
    ring: &Ring,
    gather: &Gather,
    metrics: &ReactorMetrics,
    written: usize,
) {
    let (whole, part) = gather.split(written);
    // The latency of these few is left out: the peer, not the hub, decides when they count as written.
    metrics.on_delivered(connection.transport, whole as u64, (written - part) as u64);
    listener.cursor += whole as Position;
    if 0 < part
        && let Some(event) = ring.event(listener.cursor)
    {
        let event = Arc::clone(event);
        let format = listener.format.format();
        connection.unfinished = Some(Unfinished { event, format, written: part as u32 });
        listener.cursor += 1;
    }
}

/// A reader whose frames are its own in part.
#[inline(never)]
fn visit_own<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Visit {
    match &connection.session {
        Ok(Session::Sse(_)) => visit_with_ids(net, connection, listener, place, ring, metrics, now),
        _ => visit_session(net, connection, listener, place, ring, metrics, now),
    }
}

/// A session of Socket.IO in other namespaces than `/`, or with places in several topics.
fn visit_session<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Visit {
    for event in ring.events_from(listener.cursor).take(super::gather::FRAMES_PER_VISIT) {
        write_logged(connection, place, event, metrics);
        metrics.on_latency(Transport::SocketIo, now.since(event.accepted), 1);
        listener.cursor += 1;
        if super::gather::BYTES_PER_VISIT < connection.outbox.len() {
            break;
        }
    }
    let visit = if listener.cursor == ring.next() { Visit::AtHead } else { Visit::More };
    send_owed(net, connection, visit, metrics, now)
}

/// A stream over several topics: each event has an id of the stream's own ahead of the shared frame.
fn visit_with_ids<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Visit {
    let Ok(Session::Sse(stream)) = &mut connection.session else { return Visit::Broken };
    let form = stream.form;
    for event in ring.events_from(listener.cursor).take(super::gather::FRAMES_PER_VISIT) {
        stream.pass(place, event.id);
        let Some(ids) = stream.ids() else { return Visit::Broken };
        let mut lead = Vec::new();
        sse::write_cursor_id(ids, form.chunked, &mut lead);
        let format = listener.format.format();
        let frame = event.frame(format, |event| encode_frame(event, format));
        let lead_bytes = lead.len();
        let owed = lead_bytes + frame.len();
        let parts = [io::IoSlice::new(&lead), io::IoSlice::new(&frame)];
        let written = match net.write_vectored(&mut connection.stream, &parts) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Visit::Broken,
        };
        listener.cursor += 1;
        if written < owed {
            // What is left of the private bytes goes first, and so the frame goes with them.
            if written < lead_bytes {
                connection.outbox.put(&lead[written..]);
                connection.outbox.put(&frame);
                metrics.on_delivered(Transport::Sse, 1, owed as u64);
            } else {
                let (event, written) = (Arc::clone(event), (written - lead_bytes) as u32);
                connection.unfinished = Some(Unfinished { event, format, written });
            }
            return Visit::Blocked;
        }
        metrics.on_delivered(Transport::Sse, 1, owed as u64);
        metrics.on_latency(Transport::Sse, now.since(event.accepted), 1);
    }
    if listener.cursor == ring.next() { Visit::AtHead } else { Visit::More }
}
