//! The topics of a load: one, or many that are alike.

use std::{fmt, sync::Arc};

use crate::topic::Topic;

/// The placeholder of a topic's index in the name of several topics.
pub(super) const INDEX: &str = "{index}";

/// The most topics of one load: each keeps its request and its form of publishing, some hundred bytes.
pub(super) const TOPICS_MAX: i64 = 1_000_000;

/// The topics of one load, at least one. Events and subscribers take them in turn by their numbers, so an event's number
/// determines its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topics(Arc<[Topic]>);

/// How many subscribers an event has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience {
    /// The number of the first subscriber: not 0 where other processes have earlier ones.
    pub first: u32,
    /// Over all topics.
    pub subscribers: u32,
    pub topics: u32,
}

impl Topics {
    /// `count` topics called `name` with a number at `{index}`, or behind a dot at its end; one topic needs no number.
    pub(super) fn new(name: &str, count: u32) -> Result<Self, String> {
        let template = match name.contains(INDEX) || count == 1 {
            true => name.to_owned(),
            false => format!("{name}.{INDEX}"),
        };
        let topic = |index: u32| Topic::parse(&template.replace(INDEX, &index.to_string()));
        let topics: Result<Arc<[Topic]>, _> = (0..count.max(1)).map(topic).collect();
        Ok(Self(topics.map_err(|bad| format!("--topic {name}: {bad}"))?))
    }

    pub(super) fn count(&self) -> u32 {
        self.0.len() as u32
    }

    /// The topic of the event, or of the subscriber, with this number.
    pub(super) fn of(&self, number: u32) -> &Topic {
        &self.0[(number % self.count()) as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.0.iter()
    }
}

impl From<Topic> for Topics {
    fn from(topic: Topic) -> Self {
        Self(Arc::new([topic]))
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            [first, .., last] => write!(f, "{first} … {last}"),
            only => only.iter().try_for_each(|topic| topic.fmt(f)),
        }
    }
}

impl Audience {
    /// The subscribers of the event with this number. Subscribers take the topics in turn, so the first topics may have one
    /// more.
    #[inline]
    pub(super) fn of(&self, sequence: u32) -> u32 {
        if self.topics == 1 {
            return self.subscribers;
        }
        let turn = (sequence % self.topics + self.topics - self.first % self.topics) % self.topics;
        self.subscribers / self.topics + u32::from(turn < self.subscribers % self.topics)
    }

    /// Deliveries that the first `event_count` events make.
    pub(super) fn deliveries(&self, event_count: u32) -> u64 {
        let rounds = u64::from(event_count / self.topics) * u64::from(self.subscribers);
        rounds + (0..event_count % self.topics).map(|event| u64::from(self.of(event))).sum::<u64>()
    }
}

/// `template` with the name of the topic in place of `{topic}`. The alphabet of topics needs no escaping in a URL.
pub(super) fn fill(template: &str, topic: &Topic) -> String {
    template.replace("{topic}", topic.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, count: u32, expected: Option<(&[&str], &str)>| {
            let made = Topics::new(name, count).ok();
            let names = made.as_ref().map(|topics| topics.iter().map(Topic::as_str).collect::<Vec<_>>());
            assert_eq!(names.as_deref(), expected.map(|(names, _)| names), "{name} {count}");
            assert_eq!(made.map(|topics| topics.to_string()).as_deref(), expected.map(|(_, shown)| shown));
        };
        check("a", 1, Some((&["a"], "a")));
        check("a", 3, Some((&["a.0", "a.1", "a.2"], "a.0 … a.2")));
        check("a.{index}.b", 2, Some((&["a.0.b", "a.1.b"], "a.0.b … a.1.b")));
        check("a{index}", 1, Some((&["a0"], "a0")));
        check("a b", 2, None);
        check(&"a".repeat(254), 2, None);
    }

    #[test]
    fn audiences_add_up() {
        let check = |(first, subscribers), topics, of_events: &[u32]| {
            let audience = Audience { first, subscribers, topics };
            for (event, expected) in (0..).zip(of_events) {
                assert_eq!(audience.of(event), *expected, "{event}");
                let sum: u32 = of_events[..event as usize].iter().sum();
                assert_eq!(audience.deliveries(event), u64::from(sum), "{event}");
            }
        };
        check((0, 5), 1, &[5, 5, 5]);
        check((0, 6), 3, &[2, 2, 2, 2, 2]);
        check((0, 5), 3, &[2, 2, 1, 2, 2, 1, 2]);
        check((5, 5), 3, &[2, 1, 2, 2, 1, 2]);
        check((7, 1), 3, &[0, 1, 0, 0, 1]);
    }
}
