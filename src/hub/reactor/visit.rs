//! A visit: what lies between a listener's cursor and the head of its topic's log goes out.
//!
//! Listeners of one format that stand at the same place and follow one another in the lap are visited as a *row*: what they
//! are owed is looked up once, and each of them costs a look at its connection and a `send`.
//!
//! A connection that listens to several topics, or has frames of its own, is brought on in all of them by any of their laps
//! ([`Batches`](super::batch::Batches)).

use std::{io, sync::Arc};

use super::{
    connection::{BEHIND, BLOCKED, Connection, POLLED, Unfinished},
    engine::Engines,
    gaps::Stranded,
    gather::{Gather, Gathers},
    net::Net,
    slab::Slab,
    table::LocalTopic,
};
use crate::{
    clock::Moment,
    close::Close,
    log::{Listener, Ring},
    metrics::ReactorMetrics,
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
    /// Connections that are written to from all their topics, and the group of each: they are left to the caller.
    pub(super) several: &'r mut Vec<(u32, u32)>,
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
            if format.is_several() {
                self.several.extend(row.iter().map(|listener| (listener.slot, cursor as u32)));
            } else if cursor != ring.next() {
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
                None => Visit::Stranded,
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
pub(super) fn may_visit<S>(connection: &Connection<S>, slot: u32, engines: &mut Engines) -> bool {
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
        None => Visit::Stranded,
    }
}

/// One visit to a connection that was behind in a topic of which such readers get the newest event of each key only.
pub(super) fn visit_newest<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    listener_place: u32,
    place: u32,
    topic: &mut LocalTopic,
    gathers: &mut Gathers,
    metrics: &ReactorMetrics,
) -> Visit {
    let mut listener = *topic.lap.listener(listener_place);
    if listener.cursor < topic.ring.oldest() {
        return Visit::Stranded;
    }
    let gather = gathers.gather_newest(place, topic, listener.format, listener.cursor, metrics);
    let visit = if gather.frames.len() == 0 {
        listener.cursor = gather.reached;
        Visit::Stranded
    } else {
        write_gather(net, connection, &mut listener, &topic.ring, gather, metrics)
    };
    topic.lap.listener(listener_place).cursor = listener.cursor;
    visit
}

/// The frames that the listener is owed; `None` if the log has passed it, or what comes next has no form in its format.
#[inline]
fn shared_gather<'g>(
    gathers: &'g mut Gathers,
    place: u32,
    ring: &Ring,
    listener: &Listener,
    metrics: &ReactorMetrics,
) -> Option<&'g mut Gather> {
    if ring.oldest() <= listener.cursor {
        gathers.gather(place, ring, listener.format, listener.cursor, metrics)
    } else {
        None
    }
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
    let bytes = gather.frames.bytes();
    match net.write(&mut connection.stream, bytes) {
        Ok(written) if written == bytes.len() => {
            gather.frames.count_served();
            listener.cursor = gather.reached;
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
    let (whole, part) = gather.frames.split(written);
    // The latency of these few is left out: the peer, not the hub, decides when they count as written.
    metrics.on_delivered(connection.transport, whole as u64, (written - part) as u64);
    let (from, mut passed) = (listener.cursor, whole as u64);
    if 0 < whole {
        listener.cursor = gather.position(whole - 1) + 1;
    }
    if 0 < part
        && let Some(event) = ring.event(gather.position(whole))
    {
        let event = Arc::clone(event);
        let format = listener.format.format();
        connection.unfinished = Some(Unfinished { event, format, written: part as u32 });
        listener.cursor = gather.position(whole) + 1;
        passed += 1;
    }
    metrics.on_conflated(listener.cursor - from - passed);
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
