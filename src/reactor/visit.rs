//! A visit: what lies between a listener's cursor and the head of its topic's log goes out.
//!
//! Listeners of one format that stand at the same place and follow one another in the lap are visited as a *row*: what they
//! are owed is looked up once, and each of them costs a look at its connection and a `send`.

use std::{io, sync::Arc};

use super::{
    connection::{BEHIND, BLOCKED, Connection, POLLED, Unfinished, write_owed},
    engine::Engines,
    gaps::Stranded,
    gather::{BYTES_PER_VISIT, FRAMES_PER_VISIT, Gather, Gathers},
    net::Net,
    replay::write_logged,
    slab::Slab,
};
use crate::{
    clock::Moment,
    close::Close,
    event::Position,
    log::{Listener, Ring},
    metrics::{ReactorMetrics, Transport},
    protocol::{Session, encode_frame, sse},
};

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

/// What a lap's visits need of their reactor.
pub(super) struct Visitor<'r, N: Net> {
    pub(super) net: &'r mut N,
    pub(super) connections: &'r mut Slab<Connection<N::Stream>>,
    pub(super) engines: &'r mut Engines,
    pub(super) gathers: &'r mut Gathers,
    pub(super) metrics: &'r ReactorMetrics,
    pub(super) aside: Aside<'r>,
    /// The topic's place in the reactor's table.
    pub(super) place: u32,
    pub(super) now: Moment,
}

impl<N: Net> Visitor<'_, N> {
    /// Visits those of the topic's `listeners` that are behind; returns how many were written to.
    pub(super) fn visit_all(&mut self, ring: &Ring, mut listeners: &mut [Listener]) -> usize {
        let mut visits = 0;
        while let Some(&Listener { format, cursor, .. }) = listeners.first() {
            let is_alike = |listener: &&Listener| listener.cursor == cursor && listener.format == format;
            let count = listeners.iter().take_while(is_alike).count();
            let (row, others) = listeners.split_at_mut(count);
            listeners = others;
            if cursor != ring.next() {
                visits += self.visit_row(ring, row);
            }
        }
        visits
    }

    /// Visits listeners of one format at one place.
    #[inline]
    fn visit_row(&mut self, ring: &Ring, row: &mut [Listener]) -> usize {
        // Readers that are blocked stand at old places, each at its own: what they are owed is not put together in vain.
        let is_first = |listener: &Listener| {
            self.connections.at(listener.slot).is_some_and(|it| may_visit(it, listener.slot, self.engines))
        };
        let Some(first) = row.iter().position(is_first) else { return 0 };
        let mut gather = shared_gather(self.gathers, self.place, ring, &row[first], self.metrics);
        let mut visits = 0;
        for listener in &mut row[first..] {
            let slot = listener.slot;
            let Some(connection) = self.connections.at(slot) else { continue };
            if !may_visit(connection, slot, self.engines) {
                continue;
            }
            visits += 1;
            connection.note_written(self.now);
            let outcome = match &mut gather {
                Some(gather) => write_gather(self.net, connection, listener, ring, gather, self.metrics),
                None => visit_apart(self.net, connection, listener, self.place, ring, self.metrics, self.now),
            };
            if outcome != Visit::AtHead {
                set_aside(outcome, slot, self.place, connection, &mut self.aside);
            }
        }
        visits
    }
}

/// Whether a lap may write to the connection at `slot`. If it cannot because requests carry it, the one that waits is noted.
#[inline]
fn may_visit<S>(connection: &Connection<S>, slot: u32, engines: &mut Engines) -> bool {
    let is_clear = connection.state.is_clear();
    if !is_clear && connection.state.has(POLLED) {
        engines.note_polled(slot);
    }
    is_clear
}

/// One visit outside of a lap.
pub(super) fn visit<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    gathers: &mut Gathers,
    metrics: &ReactorMetrics,
) -> Visit {
    match shared_gather(gathers, place, ring, listener, metrics) {
        Some(gather) => write_gather(net, connection, listener, ring, gather, metrics),
        None => visit_apart(net, connection, listener, place, ring, metrics, gathers.now()),
    }
}

/// The frames that the listener is owed, if others that stand where it stands are owed the same.
#[inline]
fn shared_gather<'g>(
    gathers: &'g mut Gathers,
    place: u32,
    ring: &Ring,
    listener: &Listener,
    metrics: &ReactorMetrics,
) -> Option<&'g mut Gather> {
    let is_shared = listener.format.is_shared() && ring.oldest() <= listener.cursor;
    if is_shared { gathers.gather(place, ring, listener.format, listener.cursor, metrics) } else { None }
}

/// Writes the frames that the listener is owed.
#[inline]
fn write_gather<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    ring: &Ring,
    gather: &mut Gather,
    metrics: &ReactorMetrics,
) -> Visit {
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

/// A listener that shares no frames: the log has passed it, or what comes next has no form in its format, or its frames
/// are its own in part.
#[inline(never)]
fn visit_apart<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener: &mut Listener,
    place: u32,
    ring: &Ring,
    metrics: &ReactorMetrics,
    now: Moment,
) -> Visit {
    if listener.cursor < ring.oldest() || listener.format.is_shared() {
        return Visit::Stranded;
    }
    match &connection.session {
        Ok(Session::Sse(_)) => visit_with_ids(net, connection, listener, place, ring, metrics, now),
        _ => visit_session(net, connection, listener, place, ring, metrics, now),
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
    for event in ring.events_from(listener.cursor).take(FRAMES_PER_VISIT) {
        write_logged(connection, place, event, metrics);
        metrics.on_latency(Transport::SocketIo, now.since(event.accepted), 1);
        listener.cursor += 1;
        if BYTES_PER_VISIT < connection.outbox.len() {
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
    for event in ring.events_from(listener.cursor).take(FRAMES_PER_VISIT) {
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

/// Sends what conflation has put into the outbox, and says how the visit ended with that.
pub(super) fn send_owed<N: Net>(
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

/// Where connections go that a visit did not bring to the head: how many are blocked, who writes again next turn, who is
/// to be ended, and who is stranded.
pub(super) type Aside<'r> = (&'r mut usize, &'r mut Vec<u32>, &'r mut Vec<(u32, Close)>, &'r mut Vec<Stranded>);

/// After a visit that left the cursor behind the head: puts the connection where it goes on, or ends.
#[inline(always)]
pub(super) fn set_aside<S>(
    outcome: Visit,
    slot: u32,
    topic: u32,
    connection: &mut Connection<S>,
    (blocked, write_again, to_end, stranded): &mut Aside<'_>,
) {
    match outcome {
        Visit::AtHead => {}
        // Several topics with a backlog are one reason to go on, not several.
        Visit::More if write_again.last() == Some(&slot) => {}
        Visit::More => write_again.push(slot),
        Visit::Blocked => {
            connection.state.set(BLOCKED | BEHIND);
            **blocked += 1;
        }
        Visit::Stranded => stranded.push(Stranded { slot, topic }),
        Visit::Broken => to_end.push((slot, Close::PeerGone)),
    }
}
