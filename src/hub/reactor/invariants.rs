//! What always holds between two turns. Checked by the simulation after each of them; production never pays for it.

use super::{
    Reactor,
    net::Net,
    state::{AWAITS_READER, BEHIND, BLOCKED, CHECKING, DIRTY, FROM_HISTORY, HELD, Life, REPLAYING},
    table::LocalTopic,
};
use crate::index::{GroupIndex, Slot};

impl<N: Net> Reactor<N> {
    /// Panics if the reactor contradicts itself. For tests, between turns.
    pub fn check_invariants(&mut self) {
        let is_settled = self.turn.is_flushed() && self.outcomes.is_settled() && self.endings.is_freed();
        assert!(is_settled && self.intake.is_empty(), "left over from the turn");
        let used = self.connections.used();
        used.iter().for_each(|slot| self.check_connection(*slot));
        let blocked = used.iter().filter(|slot| self.is_blocked(**slot)).count();
        assert_eq!(self.outcomes.blocked(), blocked, "connections counted as blocked");
        self.check_topics();
        self.check_groups(&used);
    }

    /// Each group has the members that it counts, and each of them is sure of the same group in all its topics.
    fn check_groups(&mut self, used: &[Slot]) {
        let mut members = 0;
        for slot in used {
            let Some(connection) = self.connections.at(*slot) else { continue };
            let mut numbers = connection.subscriptions.iter().filter_map(|subscription| {
                self.topics.get(subscription.topic)?.subscribers.all()[subscription.subscriber.get()].group()
            });
            let Some(number) = numbers.next() else { continue };
            assert!(numbers.all(|other| other == number), "{slot}: of two groups");
            members += usize::from(number != GroupIndex::NONE);
        }
        assert_eq!(self.fan_out.grouped(), members, "members of groups");
    }

    fn is_blocked(&mut self, slot: Slot) -> bool {
        self.connections.at(slot).is_some_and(|connection| connection.state.has(BLOCKED))
    }

    fn check_connection(&mut self, slot: Slot) {
        let token = self.connections.token(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        let state = connection.state;
        assert_eq!(state.has(CHECKING), self.checks.has(token), "{slot}: a message that is being checked");
        assert!(!state.has(DIRTY) && state.life() != Life::ToFree, "{slot} was not flushed or not freed");
        assert_eq!(connection.session.is_err(), !state.is_open(), "{slot}: closing, and why");
        assert!(connection.unfinished.is_none() || state.has(BLOCKED), "{slot}: a frame that nothing will finish");
        let unsent = !connection.outbox.is_empty();
        assert!(!unsent || state.has(BLOCKED | HELD), "{slot}: bytes that nothing will send");
        let is_long = self.config.outbox_bytes_max < connection.outbox.len();
        assert!(!state.has(AWAITS_READER) || is_long, "{slot}: waits for a peer that has read enough");
        assert!(!(unsent && state.life() == Life::Lingering), "{slot}: bytes after the end");
        assert!(connection.subscriptions.is_empty() || state.is_open(), "{slot}: closing, and listens");
        for (index, subscription) in connection.subscriptions.iter().enumerate() {
            let topic = self.topics.at(subscription.topic).expect("a subscription has a topic");
            let has_round =
                topic.news || topic.subscribers.is_pending() || self.fan_out.is_cooling_down(subscription.topic);
            let is_visited = topic.queued && has_round || self.outcomes.goes_on(slot);
            let (next, queued) = (topic.ring.next(), topic.queued);
            let cursor = topic.cursor(subscription);
            let subscriber = topic.subscribers.at(subscription.subscriber);
            assert_eq!(
                (subscriber.slot, subscriber.subscription.get()),
                (slot, index),
                "{slot}: another's topic_index"
            );
            let is_several = 1 < connection.subscriptions.len() || !subscriber.format.is_shared();
            assert_eq!(
                subscriber.format.is_several(),
                is_several,
                "{slot}: whether it is written to from all its topics"
            );
            let is_served = cursor == next || state.has(BLOCKED | HELD) || is_visited;
            assert!(is_served, "{slot}: news that nothing will bring (queued: {queued})");
        }
        let waits = |topic: &LocalTopic| topic.waiting.iter().filter(|waiter| waiter.token == token).count();
        let waiting: usize = self.topics.all().map(|(_, topic)| waits(topic)).sum();
        if let Some(connection) = self.connections.at(slot)
            && state.is_open()
        {
            assert_eq!(usize::from(connection.pending), waiting, "{slot}: topics it waits for");
        }
        assert!(0 < waiting || !state.has(HELD), "{slot}: held back, and waits for nothing");
        let goes_on = state.has(BLOCKED | HELD) || self.outcomes.goes_on(slot);
        assert!(goes_on || !state.has(BEHIND), "{slot}: behind, and nothing brings it on");
        let is_new = state.has(FROM_HISTORY) && state.has_socket();
        assert!(goes_on || !is_new, "{slot}: on its way from an old id, and nothing brings it on");
        assert_eq!(0 < self.replay_count(slot), state.has(REPLAYING), "{slot}: replays");
    }

    fn check_topics(&self) {
        let mut subscribers = 0;
        for (topic_index, topic) in self.topics.all() {
            let waits = self.fan_out.waits(topic_index);
            assert_eq!(waits, usize::from(topic.queued), "topic {topic_index} in the run queues");
            assert!(
                topic.queued || !topic.subscribers.is_pending(),
                "topic {topic_index} owes visits and is not queued"
            );
            subscribers += topic.subscribers.len();
        }
        let subscriptions: usize = self.connections.all().map(|connection| connection.subscriptions.len()).sum();
        assert_eq!(subscribers, subscriptions, "subscribers, and who they are");
    }
}
