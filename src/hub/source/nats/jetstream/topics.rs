//! Which topics are read, of all streams. No I/O.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{clock::Moment, topic::Topic};

/// The topics that somebody listens to, or did until lately.
#[derive(Debug)]
pub(super) struct FollowedTopics {
    topics: HashMap<Topic, FollowedTopic, foldhash::fast::RandomState>,
    /// Those that leave, the next one first.
    leaving: BTreeSet<(Moment, Topic)>,
    /// Those that are to be loaded, by stream, the next one first.
    waiting: BTreeSet<(usize, Moment, Topic)>,
    linger: Duration,
}

#[derive(Debug)]
struct FollowedTopic {
    /// The index of its stream.
    stream: usize,
    stage: Stage,
    /// When it is no longer read, if nobody comes back.
    leaves: Option<Moment>,
}

/// How far a topic has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// To be loaded, from the moment `due` on. There may be readers of its log if it was loaded before.
    New { due: Moment, again: bool },
    /// Its log is loaded, and what the stream's consumer delivers is added to it.
    Live,
}

impl FollowedTopics {
    pub(super) fn new(linger: Duration) -> Self {
        Self { topics: HashMap::default(), leaving: BTreeSet::new(), waiting: BTreeSet::new(), linger }
    }

    /// Somebody listens to `topic`, which `stream` keeps. `again`: its log may be one that was loaded before.
    pub(super) fn want(&mut self, topic: &Topic, stream: usize, again: bool) {
        let stage = Stage::New { due: Moment(0), again };
        match self.topics.get_mut(topic) {
            Some(followed) => {
                if let Some(due) = followed.leaves.take() {
                    self.leaving.remove(&(due, topic.clone()));
                }
            }
            None => {
                self.topics.insert(topic.clone(), FollowedTopic { stream, stage: Stage::Live, leaves: None });
                self.set_stage(topic, stage);
            }
        }
    }

    /// Nobody listens to it any more.
    pub(super) fn unwant(&mut self, topic: &Topic, now: Moment) {
        if let Some(followed) = self.topics.get_mut(topic)
            && followed.leaves.is_none()
        {
            followed.leaves = Some(now + self.linger);
            self.leaving.insert((now + self.linger, topic.clone()));
        }
    }

    /// Takes out those that nobody came back to in time, each with how far it had got.
    pub(super) fn take_expired(&mut self, now: Moment) -> Vec<(Topic, Stage)> {
        let mut expired = Vec::new();
        while let Some((due, topic)) = self.leaving.pop_first() {
            if now < due {
                self.leaving.insert((due, topic));
                break;
            }
            if let Some(followed) = self.topics.remove(&topic) {
                if let Stage::New { due, .. } = followed.stage {
                    self.waiting.remove(&(followed.stream, due, topic.clone()));
                }
                expired.push((topic, followed.stage));
            }
        }
        expired
    }

    /// When the next one expires.
    pub(super) fn expiry(&self) -> Option<Moment> {
        self.leaving.first().map(|(due, _)| *due)
    }

    /// When the next topic of `stream` is to be loaded.
    pub(super) fn load_due(&self, stream: usize) -> Option<Moment> {
        self.waiting_of(stream).next().map(|(_, due, _)| *due)
    }

    /// At most `count` topics of `stream` that are to be loaded now.
    pub(super) fn to_load(&self, stream: usize, count: usize, now: Moment) -> Vec<Topic> {
        let due = self.waiting_of(stream).take_while(|(_, due, _)| *due <= now);
        due.take(count).map(|(.., topic)| topic.clone()).collect()
    }

    fn waiting_of(&self, stream: usize) -> impl Iterator<Item = &(usize, Moment, Topic)> {
        // A topic is never the least value of its type that a range could begin with, so the order of the first two decides.
        self.waiting.iter().skip_while(move |(of, ..)| *of < stream).take_while(move |(of, ..)| *of == stream)
    }

    pub(super) fn stage(&self, topic: &Topic) -> Option<Stage> {
        self.topics.get(topic).map(|followed| followed.stage)
    }

    pub(super) fn set_stage(&mut self, topic: &Topic, stage: Stage) {
        let Some(followed) = self.topics.get_mut(topic) else { return };
        if let Stage::New { due, .. } = std::mem::replace(&mut followed.stage, stage) {
            self.waiting.remove(&(followed.stream, due, topic.clone()));
        }
        if let Stage::New { due, .. } = stage {
            self.waiting.insert((followed.stream, due, topic.clone()));
        }
    }

    /// Lets all topics of `stream` be loaded, from `due` on, those that are live too.
    pub(super) fn load_again(&mut self, stream: usize, due: Moment) {
        let of_stream = self.topics.iter().filter(|(_, followed)| followed.stream == stream);
        let stages = of_stream.map(|(topic, followed)| {
            let again = !matches!(followed.stage, Stage::New { again: false, .. });
            (topic.clone(), Stage::New { due, again })
        });
        for (topic, stage) in stages.collect::<Vec<_>>() {
            self.set_stage(&topic, stage);
        }
    }

    /// Puts off what waits to be loaded from `stream`.
    pub(super) fn put_off(&mut self, stream: usize, until: Moment) {
        let early = self.waiting_of(stream).take_while(|(_, due, _)| *due < until);
        for topic in early.map(|(.., topic)| topic.clone()).collect::<Vec<_>>() {
            if let Some(Stage::New { again, .. }) = self.stage(&topic) {
                self.set_stage(&topic, Stage::New { due: until, again });
            }
        }
    }

    /// The topics of `stream`; only those that are live, if so asked.
    pub(super) fn of_stream(&self, stream: usize, live: bool) -> impl Iterator<Item = &Topic> {
        let is_wanted =
            move |followed: &FollowedTopic| followed.stream == stream && (!live || followed.stage == Stage::Live);
        self.topics.iter().filter(move |(_, followed)| is_wanted(followed)).map(|(topic, _)| topic)
    }

    /// How many there are, and how many of them are live.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.topics.len(), self.topics.len() - self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_come_and_go() {
        let topic = |name: &str| Topic::parse(name).expect("a good name");
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let mut topics = FollowedTopics::new(Duration::from_secs(10));
        let (one, two) = (topic("one"), topic("two"));
        topics.want(&one, 0, false);
        topics.want(&two, 1, true);
        assert_eq!((topics.to_load(0, 9, at(0)), topics.to_load(2, 9, at(0))), (vec![one.clone()], vec![]));
        topics.set_stage(&one, Stage::Live);
        assert_eq!((topics.counts(), topics.to_load(0, 9, at(0))), ((2, 1), vec![]));
        topics.put_off(1, at(5));
        assert_eq!((topics.load_due(1), topics.load_due(0), topics.to_load(1, 9, at(4))), (Some(at(5)), None, vec![]));
        assert_eq!(topics.stage(&two), Some(Stage::New { due: at(5), again: true }));
        topics.load_again(0, at(7));
        assert_eq!(topics.stage(&one), Some(Stage::New { due: at(7), again: true }));
        topics.unwant(&one, at(20));
        assert_eq!((topics.expiry(), topics.take_expired(at(29))), (Some(at(30)), vec![]));
        topics.want(&one, 0, false);
        assert_eq!((topics.expiry(), topics.take_expired(at(99))), (None, vec![]), "back in time");
        topics.unwant(&one, at(40));
        let again = Stage::New { due: at(7), again: true };
        assert_eq!((topics.take_expired(at(50)), topics.stage(&one)), (vec![(one, again)], None));
        assert_eq!((topics.counts(), topics.load_due(0)), ((1, 0), None));
        assert_eq!((topics.of_stream(1, false).count(), topics.of_stream(1, true).count()), (1, 0));
    }
}
