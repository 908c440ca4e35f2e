//! Where a session's client stands in its topics, and what of that its frames contain.

use super::Session;
use crate::{
    event::{EventId, Position},
    frame::FormatCode,
    index::TopicIndex,
    protocol::{SocketIoClient, Sockets},
};

/// A cursor that a session writes with each event.
#[derive(Debug)]
pub struct SessionCursor<'a> {
    /// Which of the session's cursors it is.
    pub index: usize,
    /// The topic.
    pub topic: TopicIndex,
    /// Where in the log the session has begun to listen.
    pub began: Position,
    /// Up to which id the client has everything.
    pub id: &'a mut EventId,
}

impl Session {
    /// Goes through the cursors that the session writes with each event.
    #[inline]
    pub fn each_cursor(&mut self, mut act: impl FnMut(SessionCursor<'_>)) {
        match self {
            Self::Sse(stream) => {
                let cursors = stream.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
                cursors.enumerate().for_each(|(index, it)| {
                    act(SessionCursor { index, topic: it.topic, began: it.began, id: &mut it.id });
                });
            }
            Self::Engine(engine) => {
                let topics = engine.sockets.iter_mut().flat_map(Sockets::subscriptions);
                topics.enumerate().for_each(|(index, it)| {
                    act(SessionCursor { index, topic: it.topic_index, began: it.began_at, id: &mut it.passed });
                });
            }
            Self::Preface(_) | Self::Http(_) | Self::WebSocket(_) => {}
        }
    }

    /// The stream, which is over several topics, has these, in the order of its id.
    pub fn set_topics(&mut self, topics: impl Iterator<Item = TopicIndex>) {
        if let Self::Sse(stream) = self {
            let cursor = |topic| super::TopicCursor { topic, id: EventId::default(), began: 0 };
            stream.cursors = Some(Box::new(topics.map(cursor).collect()));
        }
    }

    /// A topic named by the request that opened the stream begins behind `id`. Other subscriptions are begun by their clients.
    pub fn start_after(&mut self, topic: TopicIndex, id: EventId) {
        if let Self::Sse(stream) = self {
            stream.pass(topic, id);
        }
    }

    /// The session listens to `topic` from the position `began` on.
    pub fn begin(&mut self, topic: TopicIndex, began: Position) {
        match self {
            Self::Sse(stream) => stream.begin(topic, began),
            Self::Engine(engine) => engine.sockets.iter_mut().for_each(|sockets| sockets.begin(topic, began)),
            Self::Preface(_) | Self::Http(_) | Self::WebSocket(_) => {}
        }
    }

    /// The client has everything of `topic` up to `id`.
    pub fn pass(&mut self, topic: TopicIndex, id: EventId) {
        match self {
            Self::Sse(stream) => stream.pass(topic, id),
            Self::Engine(engine) => engine.sockets.iter_mut().for_each(|sockets| sockets.pass(topic, id)),
            Self::Preface(_) | Self::Http(_) | Self::WebSocket(_) => {}
        }
    }

    /// Puts `subscriptions`, each to the topic that `topic_of` names, into the order in which the session's frames in `format` have
    /// their topics, and appends to `key` all that these frames depend on besides the cursors. False if they depend on more: a
    /// topic is waited for, or replayed.
    pub fn sort_for_group<T>(
        &self,
        format: FormatCode,
        subscriptions: &mut [T],
        topic_of: impl Fn(&T) -> TopicIndex,
        key: &mut Vec<u8>,
    ) -> bool {
        key.push(format.bits());
        if let Self::Sse(stream) = self {
            let Some(cursors) = stream.cursors.as_ref().filter(|_| !format.is_shared()) else { return false };
            if cursors.len() != subscriptions.len() {
                return false;
            }
            subscriptions.sort_unstable_by_key(|it| cursors.iter().position(|cursor| cursor.topic == topic_of(it)));
            subscriptions.iter().for_each(|it| key.extend(topic_of(it).to_le_bytes()));
            return cursors.iter().zip(subscriptions.iter()).all(|(cursor, it)| cursor.topic == topic_of(it));
        }
        subscriptions.sort_unstable_by_key(&topic_of);
        subscriptions.iter().for_each(|it| key.extend(topic_of(it).to_le_bytes()));
        match self {
            Self::Engine(engine) if !format.is_shared() => engine.sockets.as_ref().is_some_and(|sockets| {
                let is_listened_to = |topic| subscriptions.binary_search_by_key(&topic, &topic_of).is_ok();
                write_clients(sockets, is_listened_to, key)
            }),
            _ => true,
        }
    }
}

/// Appends the clients and their topics, in order. False if a client waits for a topic, or replays it.
fn write_clients(sockets: &Sockets, is_listened_to: impl Fn(TopicIndex) -> bool, key: &mut Vec<u8>) -> bool {
    for SocketIoClient { namespace, topics, .. } in sockets.clients() {
        for text_or_list in [namespace.len(), topics.len()] {
            key.extend((text_or_list as u32).to_le_bytes());
        }
        key.extend(namespace.as_bytes());
        for subscription in topics {
            key.extend(subscription.topic_index.to_le_bytes());
            if !is_listened_to(subscription.topic_index) {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Moment,
        frame::{Format, SseForm},
        protocol::{Dialect, SseStream, WebSocketSession},
    };

    fn stream(topics: &[usize]) -> Session {
        let form = SseForm { named: true, chunked: false, with_id: false };
        let mut session =
            Session::Sse(SseStream { form, cursors: None, tells_place: false, greeting: None, profile: None });
        session.set_topics(topics.iter().map(|index| TopicIndex::new(*index)));
        session
    }

    #[test]
    fn subscriptions_stand_in_the_order_of_the_frames() {
        let check = |session: Session, subscribed: &[usize], expected: Option<&[usize]>| {
            let mut subscriptions: Vec<TopicIndex> = subscribed.iter().map(|index| TopicIndex::new(*index)).collect();
            let format = FormatCode::from(session.format().expect("a stream"));
            let mut key = Vec::new();
            let is_grouped = session.sort_for_group(format, &mut subscriptions, |it| *it, &mut key);
            let found: Vec<usize> = subscriptions.into_iter().map(TopicIndex::get).collect();
            assert_eq!(is_grouped.then_some(&found[..]), expected, "{session:?}");
            assert_eq!(key[0], format.bits());
        };
        check(stream(&[3, 1, 2]), &[1, 2, 3], Some(&[3, 1, 2]));
        // It waits for one of its topics.
        check(stream(&[3, 1, 2]), &[1, 2], None);
        check(stream(&[3, 1]), &[1, 2], None);
        let fanfare = || Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1));
        check(fanfare(), &[5, 1, 3], Some(&[1, 3, 5]));
    }

    #[test]
    fn a_stream_over_several_topics_knows_where_it_stands_in_each() {
        let mut session = stream(&[4, 2]);
        let id = EventId { major: 1, minor: 9 };
        session.begin(TopicIndex::new(2), 7);
        session.pass(TopicIndex::new(2), id);
        let mut found = Vec::new();
        session.each_cursor(|it| found.push((it.index, it.topic.get(), it.began, *it.id)));
        assert_eq!(found, [(0, 4, 0, EventId::default()), (1, 2, 7, id)]);
        let mut requests = Session::new(Moment(0));
        requests.each_cursor(|it| panic!("{it:?}"));
        assert_eq!(requests.format().map(Format::index), None);
    }
}
