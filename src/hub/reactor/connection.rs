//! One connection: a socket, what it speaks, what it is owed, and what it listens to. Plain state, movable between
//! reactors.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    net::Net,
    placement::Share,
    state::{FROM_HISTORY, State},
};
use crate::{
    auth::Identity,
    clock::Moment,
    close::Close,
    endpoint::Overload,
    event::{Event, Position},
    frame::{Format, FormatCode},
    index::{SubscriberIndex, TopicIndex},
    metrics::{ReactorMetrics, Transport},
    outbox::Outbox,
    protocol::{Opening, OpeningContext, Session, encode_frame, http::ServerSession},
};

/// A connection of a reactor. What a visit touches comes first and together, on one cache line.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Connection<S> {
    pub(super) stream: S,
    /// When something was last written, to [`WRITTEN_GRAIN`]: recent traffic makes a heartbeat needless.
    pub(super) written: Moment,
    pub(super) state: State,
    /// Topics it waits for before it can listen to them.
    pub(super) pending: u16,
    pub(super) transport: Transport,
    pub(super) admin: bool,
    /// The limit that it is beyond, if it is: its first request is refused.
    pub(super) overload: Option<Overload>,
    pub(super) via: Via,
    pub(super) unfinished: Option<Unfinished>,
    pub(super) outbox: Outbox,
    /// What it speaks, or why it ended.
    pub(super) session: Result<Session, Close>,
    pub(super) subscriptions: SmallVec<[Subscription; 1]>,
    /// Whom it counts for: the peer, or the client that a trusted proxy names.
    pub(super) peer: Option<IpAddr>,
    /// What its outbox and its unfinished requests hold of the memory budget, in bytes. Here it fills a hole.
    pub(super) charged_bytes: u32,
    /// Whose stream it is, where that has to be said.
    pub(super) identity: Option<Arc<Identity>>,
}

/// How a request's connection came in, for those that decide what it may ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    /// By a listener for administration.
    pub(super) admin: bool,
    /// Beyond this limit.
    pub(super) overload: Option<Overload>,
}

impl Admission {
    /// By a listener for the public, and within all limits.
    pub(super) const ORDINARY: Self = Self { admin: false, overload: None };
}

/// Whether a trusted proxy made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// The peer is the client.
    Direct,
    /// Each request names its client.
    Proxy,
    /// The client was named by the proxy's PROXY header, once for all requests.
    ProxyOfOneClient,
}

/// One topic a connection listens to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) topic: TopicIndex,
    pub(super) subscriber: SubscriberIndex,
    /// The position of the next event to write, if the connection is written to from all its topics at once; otherwise its
    /// subscriber has the cursor.
    pub(super) cursor: Position,
}

/// A frame that went out in part. It holds the event, so that the log may pass it.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) event: Arc<Event>,
    pub(super) format: Format,
    /// How much of the frame is written, in bytes. No frame is so large that this is too small.
    pub(super) written: u32,
}

impl Unfinished {
    fn owed_bytes(&self) -> usize {
        self.event
            .frame(self.format, |event| encode_frame(event, self.format))
            .len()
            .saturating_sub(self.written as usize)
    }

    /// Writes on until all is written.
    pub(super) fn write_on<N: Net>(&mut self, net: &mut N, stream: &mut N::Stream) -> io::Result<()> {
        let frame = self.event.frame(self.format, |event| encode_frame(event, self.format));
        while (self.written as usize) < frame.len() {
            self.written += net.write(stream, &frame[self.written as usize..])? as u32;
        }
        Ok(())
    }
}

/// How much later than `written` says something may have been written.
const WRITTEN_GRAIN: Duration = Duration::from_millis(500);

impl<S> Connection<S> {
    /// Something is written. Most often that is nothing new: a store for each delivery would be a line of the cache to write
    /// back for each.
    #[inline]
    pub(super) fn note_written(&mut self, now: Moment) {
        if WRITTEN_GRAIN <= now.since(self.written) {
            self.written = now;
        }
    }

    /// What is yet to be handed to the kernel, apart from the logs.
    pub(super) fn owed_bytes(&self) -> usize {
        self.outbox.len() + self.unfinished.as_ref().map_or(0, Unfinished::owed_bytes)
    }

    /// The session goes on as what `next` makes of it, or ends.
    pub(super) fn advance(&mut self, next: impl FnOnce(Session, &mut Outbox) -> Result<Session, Close>) {
        let session = std::mem::replace(&mut self.session, Err(Close::Internal("a session was lost")));
        self.session = session.and_then(|session| next(session, &mut self.outbox));
    }

    /// Answers its request with the head of a stream, which it is from now on. Returns what its client has sent behind the request.
    pub(super) fn open(&mut self, opening: Opening, context: OpeningContext<'_>) -> Vec<u8> {
        let mut leftover = Vec::new();
        self.advance(|session, outbox| {
            let (next, rest) = session.open(opening, context, outbox);
            leftover = rest;
            Ok(next)
        });
        leftover
    }

    /// Gives its session away: it goes on elsewhere, and has ended here.
    pub(super) fn give_session(&mut self) -> Result<Session, Close> {
        std::mem::replace(&mut self.session, Err(Close::Done))
    }

    /// Its session, while that goes on, and where its words go.
    pub(super) fn speaks(&mut self) -> Option<(&mut Session, &mut Outbox)> {
        let session = self.session.as_mut().ok()?;
        Some((session, &mut self.outbox))
    }

    /// Puts its subscriptions into the order in which its group has them ([`Session::sort_for_group`]).
    pub(super) fn sort_for_group(&mut self, format: FormatCode, key: &mut Vec<u8>) -> bool {
        let (Ok(session), subscriptions) = (&self.session, &mut self.subscriptions) else { return false };
        session.sort_for_group(format, subscriptions, |it| it.topic, key)
    }

    /// Its requests, if it is one for requests.
    pub(super) fn requests_mut(&mut self) -> Option<&mut ServerSession> {
        self.session.as_mut().ok()?.requests_mut()
    }

    pub(super) fn admission(&self) -> Admission {
        Admission { admin: self.admin, overload: self.overload }
    }

    /// Whose descriptors it takes.
    pub(super) fn share(&self) -> Share {
        if self.overload == Some(Overload::Connections) { Share::Refused } else { Share::of_listener(self.admin) }
    }

    /// A connection accepted `now`.
    pub(super) fn new(stream: S, peer: Option<IpAddr>, admin: bool, session: Session, now: Moment) -> Self {
        Self {
            stream,
            state: State::default(),
            pending: 0,
            transport: Transport::default(),
            admin,
            overload: None,
            via: Via::Direct,
            written: now,
            unfinished: None,
            outbox: Outbox::new(),
            session: Ok(session),
            subscriptions: SmallVec::new(),
            peer,
            identity: None,
            charged_bytes: 0,
        }
    }
}

/// Writes the unfinished frame and the outbox. `goes_on`: the logs follow at once, so that an answer and what was missed
/// are one packet and not two.
pub(super) fn write_owed<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    goes_on: bool,
    metrics: &ReactorMetrics,
    now: Moment,
) -> io::Result<()> {
    if let Some(unfinished) = &mut connection.unfinished {
        unfinished.write_on(net, &mut connection.stream)?;
        metrics.on_delivered(connection.transport, 1, u64::from(unfinished.written));
        if !connection.state.has(FROM_HISTORY) {
            metrics.on_latency(connection.transport, now.since(unfinished.event.accepted), 1);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Stream;

    /// What an idle connection costs besides the kernel's part, all but its slot's generation, subscriber and timer.
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Connection<Stream>>() <= 192, "{} bytes", size_of::<Connection<Stream>>());
    }
}
