//! Gaps: what a connection is told when events of a topic are missing for it, and what becomes of one that fell behind.

use super::{Reactor, connection::Subscription, fan_out, net::Net, state::REPLAYING, table::LocalTopic};
use crate::{
    bus::LogKind,
    close::Close,
    event::{EventId, Position},
    gap::{Gap, GapReason},
    index::{Slot, TopicIndex},
    log::Policy,
    protocol::{GapOutcome, Session},
};

/// A connection that could not be brought on in a topic: the log has passed its cursor, or holds a hole that its
/// transport has no form for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lagged {
    pub(super) slot: Slot,
    pub(super) topic: TopicIndex,
}

impl<N: Net> Reactor<N> {
    /// Tells a stranded connection why, as its topic's class has it: it ends, or goes on behind the gap.
    pub(super) fn on_lagged(&mut self, lagged: Lagged) {
        let Lagged { slot, topic: topic_index } = lagged;
        let Some(subscription) = self.subscription(slot, topic_index) else { return };
        let says_from_where = self.session_is(slot, Session::says_from_where);
        let Some(topic) = self.topics.at(topic_index) else { return };
        let (cursor, oldest) = (topic.cursor(&subscription), topic.ring.oldest());
        let policy = topic.state.class.policy;
        if cursor < oldest
            && let Some(change) = topic.ring.change_ahead(cursor)
        {
            // Not too slow: what it lacks went with a broker's stream that was replaced, and with that ends for everybody.
            let gap = Gap { from: topic.ring.id_before(cursor), ..change };
            self.set_cursor(slot, topic_index, oldest + 1);
            self.tell_gap(slot, topic_index, gap);
        } else if cursor < oldest {
            let (from, to) = (topic.ring.id_before(cursor), topic.ring.id_before(oldest));
            let gap = Gap { from, to, reason: GapReason::Overflow };
            self.metrics.on_overflows(1);
            // A client that would come back without saying from where is told here.
            if policy == Policy::Close && says_from_where {
                return self.end_behind(slot, topic_index, gap);
            }
            self.set_cursor(slot, topic_index, oldest);
            self.tell_gap(slot, topic_index, gap);
        } else if let Some(gap) = topic.ring.event(cursor).and_then(|event| event.gap)
            // Others may have been found stranded twice, and told of the gap before this hole already.
            && self.session_is(slot, Session::ends_for_gaps)
        {
            self.end_for_gap(slot, gap);
        }
    }

    /// Tells a connection of a gap in the topic. Where the protocol has no form for it, the connection ends.
    pub(super) fn tell_gap(&mut self, slot: Slot, topic_index: TopicIndex, gap: Gap) {
        self.refresh_cursors(slot);
        let Some(topic) = self.topics.at(topic_index) else { return };
        let name = &topic.state.topic;
        let Some(connection) = self.connections.at(slot) else { return };
        let Some((session, outbox)) = connection.speaks() else { return };
        match session.write_gap(topic_index, name, gap, outbox) {
            GapOutcome::Written => {}
            GapOutcome::NoForm => return self.end_behind(slot, topic_index, gap),
            GapOutcome::NoClient => return,
        }
        self.metrics.on_gap(gap.reason);
        self.mark_dirty(slot);
    }

    /// Ends a connection because of a gap. A WebSocket's close frame says which, and when to come back.
    pub(super) fn end_for_gap(&mut self, slot: Slot, gap: Gap) {
        self.metrics.on_gap(gap.reason);
        let retry_ms = self.retry_ms();
        self.end_saying(slot, Close::Gap(gap.reason), &close_reason(gap, retry_ms));
    }

    /// Ends a connection that the log has passed. A client that learns of gaps from the close frame comes back with the id that the
    /// frame names, a while later. Were that the oldest retained, the log would have passed it again by then, and so on without end:
    /// it is the newest. Of a broker's stream that replaced another one it is the beginning, as for everybody: what the log has
    /// passed by then is replayed, and what the broker has trimmed is another gap.
    fn end_behind(&mut self, slot: Slot, topic_index: TopicIndex, gap: Gap) {
        let comes_back_here = self.session_is(slot, Session::ends_for_gaps);
        let may_leap =
            |topic: &&mut LocalTopic| gap.reason != GapReason::Epoch || topic.state.class.log == LogKind::Memory;
        let newest = self.topics.at(topic_index).filter(may_leap).map(|topic| topic.ring.newest_id());
        let to = newest.filter(|newest| comes_back_here && gap.to < *newest).unwrap_or(gap.to);
        self.end_for_gap(slot, Gap { to, ..gap });
    }

    /// Whether `is` is true of the connection's session, if that has not ended.
    pub(super) fn session_is(&self, slot: Slot, is: impl FnOnce(&Session) -> bool) -> bool {
        self.connections.peek(slot).is_some_and(|connection| connection.session.as_ref().is_ok_and(is))
    }

    /// Brings up to date what the connection's session says of where the client stands in each of its topics.
    pub(super) fn refresh_cursors(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Ok(session) = &mut connection.session else { return };
        fan_out::refresh_cursors(session, &connection.subscriptions, &self.topics);
    }

    /// The subscription of a connection to the topic, if it listens to it.
    pub(super) fn subscription(&mut self, slot: Slot, topic_index: TopicIndex) -> Option<Subscription> {
        self.connections.at(slot)?.subscriptions.iter().find(|subscription| subscription.topic == topic_index).copied()
    }

    /// Moves the connection in the topic.
    fn set_cursor(&mut self, slot: Slot, topic_index: TopicIndex, cursor: Position) {
        let (Some(connection), Some(topic)) = (self.connections.at(slot), self.topics.at(topic_index)) else { return };
        let found = connection.subscriptions.iter_mut().find(|subscription| subscription.topic == topic_index);
        found.into_iter().for_each(|subscription| topic.set_cursor(subscription, cursor));
    }

    /// A blocked connection whose topic's policy is to close, and that the log has passed, is not waited for. One that only a
    /// change of epoch has passed is told of that when it can be written to.
    pub(super) fn is_given_up(&mut self, slot: Slot) -> Option<Lagged> {
        let connection = self.connections.at(slot)?;
        if connection.state.has(REPLAYING) || !connection.session.as_ref().is_ok_and(Session::says_from_where) {
            return None;
        }
        let fallen = connection.subscriptions.iter().find(|subscription| {
            let Some(topic) = self.topics.get(subscription.topic) else { return false };
            let (cursor, ring) = (topic.cursor(subscription), &topic.ring);
            let is_passed = cursor < ring.oldest() && ring.change_ahead(cursor).is_none();
            topic.state.class.policy == Policy::Close && is_passed
        });
        fallen.map(|subscription| Lagged { slot, topic: subscription.topic })
    }
}

/// A close frame's reason, at most 123 bytes (RFC 6455 section 5.5): without fingerprints, or without the ids, if these are too
/// long. An id without its fingerprint is good for coming back to this hub, and that of `from` is not needed to come back at all.
fn close_reason(gap: Gap, retry_ms: u64) -> String {
    let Gap { from, to, reason } = gap;
    let without = |id: EventId| id.with_fingerprint(None);
    let forms = [(from, to), (without(from), to), (without(from), without(to))]
        .map(|(from, to)| format!(r#"{{"gap":"{reason}","from":"{from}","to":"{to}","reconnect_in_ms":{retry_ms}}}"#));
    let fitting = forms.into_iter().find(|form| form.len() <= CLOSE_REASON_BYTES_MAX);
    fitting.unwrap_or_else(|| format!(r#"{{"gap":"{reason}","reconnect_in_ms":{retry_ms}}}"#))
}

const CLOSE_REASON_BYTES_MAX: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{
        state::BLOCKED,
        tests::{KEPT, TestReactor},
    };

    #[test]
    fn reasons_fit_a_close_frame() {
        let check = |id: EventId, expected: &str| {
            let reason = close_reason(Gap { from: id, to: id, reason: GapReason::SourceLost }, 2345);
            assert_eq!(reason, expected);
            assert!(reason.len() <= CLOSE_REASON_BYTES_MAX);
        };
        let id = EventId::new(7_710_467_327_018_517_069, 9_999_999_999);
        let named = "7710467327018517069-9999999999";
        check(id, &format!(r#"{{"gap":"source_lost","from":"{named}","to":"{named}","reconnect_in_ms":2345}}"#));
        check(EventId::new(u64::MAX, u64::MAX), r#"{"gap":"source_lost","reconnect_in_ms":2345}"#);
        let marked = |text: &str| text.parse::<EventId>().expect("an id");
        check(
            marked("7710467327018517069-9999999999~fedcba9876543210"),
            &format!(r#"{{"gap":"source_lost","from":"{named}","to":"{named}","reconnect_in_ms":2345}}"#),
        );
        let (named, shorter) = ("7710467327018517069-12~fedcba9876543210", "7710467327018517069-12");
        check(
            marked(named),
            &format!(r#"{{"gap":"source_lost","from":"{shorter}","to":"{named}","reconnect_in_ms":2345}}"#),
        );
        check(marked("1-2~f"), r#"{"gap":"source_lost","from":"1-2~f","to":"1-2~f","reconnect_in_ms":2345}"#);
    }

    /// A reader is blocked when so many events come: whether it is given up then.
    #[test]
    fn a_blocked_reader_that_the_log_has_passed_is_given_up() {
        let check = |topic: &str, events: usize, is_replaying: bool, expected: bool| {
            let mut test = TestReactor::new();
            let (slot, peer) = test.open_sse(&[topic]);
            peer.make_room(0);
            for _ in 0..events {
                test.publish(topic, "1");
                test.work();
            }
            assert_eq!(test.connection(slot).state.has(BLOCKED), 0 < events);
            if is_replaying {
                test.connection(slot).state.set(REPLAYING);
            }
            let expected = expected.then(|| (slot, test.topic_index(topic)));
            let found = test.reactor.is_given_up(slot).map(|lagged| (lagged.slot, lagged.topic));
            assert_eq!(found, expected, "{topic}, {events} events, replaying: {is_replaying}");
        };
        check("close.a", KEPT, false, false);
        check("close.a", KEPT + 1, false, true);
        check("close.a", KEPT + 1, true, false);
        check("skip.a", KEPT + 1, false, false);
        check("latest.a", KEPT + 1, false, false);
    }

    /// A client that would come back without saying from where, as one of Socket.IO, is told of the gap instead.
    #[test]
    fn only_a_reader_that_says_from_where_is_given_up() {
        let mut test = TestReactor::new();
        let (slot, peer) = test.open_socket_io("close.a");
        peer.make_room(0);
        for _ in 0..=KEPT {
            test.publish("close.a", "1");
            test.work();
        }
        assert!(test.connection(slot).state.has(BLOCKED));
        assert!(!test.reactor.session_is(slot, Session::says_from_where));
        assert!(test.reactor.is_given_up(slot).is_none());
    }

    /// Where a WebSocket's close frame says that its client is to go on, in a log whose newest id is 1000-3.
    #[test]
    fn whoever_ends_behind_is_sent_to_the_newest() {
        let id = |minor: u64| EventId::new(1000, minor);
        let check = |topic: &str, protocol: Option<&str>, to: u64, reason: GapReason, expected: u64| {
            let mut test = TestReactor::new();
            let (slot, peer) = test.open_websocket(topic, protocol);
            for minor in 1..=3 {
                if topic.starts_with("broker") {
                    test.append(topic, id(minor), "1");
                } else {
                    test.publish(topic, "1");
                }
            }
            test.work();
            assert_eq!(test.topic(topic).ring.newest_id(), id(3));
            peer.take();
            let topic_index = test.topic_index(topic);
            test.reactor.end_behind(slot, topic_index, Gap { from: id(0), to: id(to), reason });
            test.work();
            let text = peer.take();
            let expected = format!("\"to\":\"{}\"", id(expected));
            assert!(text.contains(&expected), "{topic} {protocol:?} {to} {reason}: {text}");
        };
        // A client that learns of gaps from the close frame alone.
        check("close.a", None, 1, GapReason::Overflow, 3);
        check("close.a", None, 1, GapReason::Epoch, 3);
        check("close.a", None, 5, GapReason::Overflow, 5);
        check("broker.a", None, 1, GapReason::Overflow, 3);
        check("broker.a", None, 1, GapReason::Epoch, 1);
        // Another one has other ways to learn of them.
        check("close.a", Some("fanfare.v1"), 1, GapReason::Overflow, 1);
    }
}
