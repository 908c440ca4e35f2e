//! The fan-out: how events come from the logs to the connections that listen.
//!
//! A topic with news gets a round ([`rounds`]), which a lap carries out a slice at a time ([`deliver`]). A visit writes what lies
//! between a cursor and the head ([`visit`]): a batch of frames that subscribers with the same cursor share ([`frame_batch`]), or, for a
//! connection that listens to several topics, one over all of them ([`merged_batch`]) that its [`group`] shares.

mod deliver;
mod frame_batch;
mod group;
mod merged_batch;
mod rounds;
mod run_queue;
mod visit;

use std::time::Duration;

use frame_batch::FrameBatchCache;
use group::Groups;
pub(in crate::reactor) use merged_batch::refresh_cursors;
use rounds::Rounds;
pub(in crate::reactor) use visit::VisitOutcomes;

use crate::{
    clock::Moment,
    index::{GroupIndex, Slot, TopicIndex},
};

/// The topics with news, the frames that their subscribers are owed, and the connections that share them.
#[derive(Debug, Default)]
pub(in crate::reactor) struct FanOut {
    rounds: Rounds,
    frame_batches: FrameBatchCache,
    groups: Groups,
    /// Connections that a lap has come to and that are written to from all their topics. Kept to spare the allocation.
    several: Vec<(Slot, GroupIndex)>,
}

impl FanOut {
    /// How long until a lap goes on.
    pub(in crate::reactor) fn next_wait(&self, now: Moment) -> Option<Duration> {
        self.rounds.next_wait(now)
    }

    /// A topic was added to the table: its index may have been another's.
    pub(in crate::reactor) fn on_topic_added(&mut self) {
        self.frame_batches.forget();
    }

    /// The topic was taken out of the table.
    pub(in crate::reactor) fn on_topic_removed(&mut self, topic_index: TopicIndex) {
        self.rounds.remove(topic_index);
        self.frame_batches.forget();
    }

    pub(in crate::reactor) fn is_cooling_down(&self, topic_index: TopicIndex) -> bool {
        self.rounds.is_cooling_down(topic_index)
    }

    /// In how many lists the topic waits for its lap. Goes through all of them: for tests.
    pub(in crate::reactor) fn waits(&self, topic_index: TopicIndex) -> usize {
        self.rounds.count(topic_index)
    }

    /// How many connections are in groups. Goes through all of them: for tests.
    pub(in crate::reactor) fn grouped(&self) -> usize {
        self.groups.members()
    }
}

#[cfg(test)]
mod tests;
