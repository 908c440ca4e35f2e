//! Groups: connections that listen to the same topics in the same form. Members with the same cursors are owed the
//! same bytes, ids included, so one [batch](super::merged_batch) serves them all.
//!
//! A connection is in a group, or *apart*, if it listens to several topics or has frames of its own. It keeps its cursors
//! together then, in its subscriptions, and its subscribers hold the group's number instead of a cursor. What a group stands
//! for is spelt out in its key; keys live as long as they have members, so all of them together are no larger than the
//! subscriptions there are.

use std::{collections::HashMap, sync::Arc};

use super::merged_batch::has_odd_cursor;
use crate::{
    frame::FormatCode,
    index::{GroupIndex, Slot, SubscriptionIndex},
    protocol::Session,
    reactor::{Reactor, connection::Connection, net::Net, state::REPLAYING, table::TopicTable},
};

/// The number of no group: what the connection is owed depends on more than where it stands in the topics it listens to,
/// for it waits for one of its topics, or replays it, or stands where it began by an id that the log does not know.
pub(super) const APART: GroupIndex = GroupIndex::NONE;

/// The groups of a reactor.
#[derive(Debug, Default)]
pub(super) struct Groups {
    numbers: HashMap<Arc<[u8]>, GroupIndex, foldhash::fast::RandomState>,
    groups: Vec<Group>,
    free: Vec<GroupIndex>,
    /// Kept to spare the allocation.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    key: Arc<[u8]>,
    members: usize,
}

impl Groups {
    /// One more member of the group that `key` stands for. The number, and whether it has been another group's before.
    fn join(&mut self, key: &[u8]) -> (GroupIndex, bool) {
        if let Some(number) = self.numbers.get(key) {
            self.groups[number.get()].members += 1;
            return (*number, false);
        }
        let group = Group { key: Arc::from(key), members: 1 };
        let key = Arc::clone(&group.key);
        let (number, is_reused) = match self.free.pop() {
            Some(number) => {
                self.groups[number.get()] = group;
                (number, true)
            }
            None => {
                self.groups.push(group);
                (GroupIndex::new(self.groups.len() - 1), false)
            }
        };
        self.numbers.insert(key, number);
        (number, is_reused)
    }

    /// One member less.
    fn leave(&mut self, number: GroupIndex) {
        let group = &mut self.groups[number.get()];
        group.members -= 1;
        if group.members == 0 {
            self.numbers.remove(&group.key);
            group.key = Arc::from([]);
            self.free.push(number);
        }
    }

    /// Members of all groups together.
    pub(super) fn members(&self) -> usize {
        self.groups.iter().map(|group| group.members).sum()
    }
}

impl<N: Net> Reactor<N> {
    /// The connection's topics, or the form of its events, have changed: finds its group anew.
    pub(in crate::reactor) fn regroup(&mut self, slot: Slot) {
        self.ungroup(slot);
        self.group(slot);
    }

    /// A connection that is apart has been written to: it may belong into a group now.
    pub(super) fn reunite(&mut self, slot: Slot) {
        if self.connections.at(slot).is_some_and(|connection| !connection.state.has(REPLAYING)) {
            self.regroup(slot);
        }
    }

    /// Takes the connection out of its group, if it is in one or apart: its subscribers have its cursors again.
    pub(in crate::reactor) fn ungroup(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let mut former = None;
        for subscription in &connection.subscriptions {
            let Some(topic) = self.topics.at(subscription.topic) else { continue };
            let subscriber = topic.subscribers.at(subscription.subscriber);
            if let Some(group) = subscriber.group() {
                former = Some(group);
                subscriber.leave(subscription.cursor);
            }
        }
        if let Some(group) = former.filter(|group| *group != APART) {
            self.fan_out.groups.leave(group);
        }
    }

    /// Puts the connection, which [`Reactor::ungroup`] has left, into the group where it belongs, or apart, if it belongs
    /// into one of them.
    pub(in crate::reactor) fn group(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(format) = connection.session.as_ref().ok().and_then(Session::format) else { return };
        let format = FormatCode::from(format);
        let is_several = 1 < connection.subscriptions.len() || !format.is_shared();
        let mut group = APART;
        if is_several {
            let mut key = std::mem::take(&mut self.fan_out.groups.key);
            key.clear();
            if connection.sort_for_group(format, &mut key) && !is_odd(connection, format, &self.topics) {
                let (joined, is_reused) = self.fan_out.groups.join(&key);
                if is_reused {
                    self.fan_out.frame_batches.batches.forget(joined);
                }
                group = joined;
            }
            self.fan_out.groups.key = key;
        }
        for (index, subscription) in connection.subscriptions.iter_mut().enumerate() {
            let Some(topic) = self.topics.at(subscription.topic) else { continue };
            let subscriber = topic.subscribers.at(subscription.subscriber);
            subscriber.subscription = SubscriptionIndex::new(index);
            subscriber.format = format;
            if is_several {
                subscription.cursor = subscriber.cursor;
                subscriber.join(group);
            }
        }
    }
}

/// Whether the connection's frames name a cursor by an id that the log does not know.
fn is_odd<S>(connection: &mut Connection<S>, format: FormatCode, topics: &TopicTable) -> bool {
    let Ok(session) = &mut connection.session else { return false };
    !format.is_shared() && has_odd_cursor(session, &connection.subscriptions, topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_number_while_it_has_members() {
        let mut groups = Groups::default();
        assert_eq!(groups.join(b"a"), (GroupIndex::new(0), false));
        assert_eq!(groups.join(b"b"), (GroupIndex::new(1), false));
        assert_eq!(groups.join(b"a"), (GroupIndex::new(0), false));
        groups.leave(GroupIndex::new(0));
        assert_eq!((groups.join(b"a"), groups.members()), ((GroupIndex::new(0), false), 3));
        groups.leave(GroupIndex::new(0));
        groups.leave(GroupIndex::new(0));
        assert_eq!(groups.numbers.len(), 1, "a key without members is forgotten");
        assert_eq!(groups.join(b"c"), (GroupIndex::new(0), true), "its number is another's now");
        assert_eq!(groups.join(b"a"), (GroupIndex::new(2), false));
    }
}
