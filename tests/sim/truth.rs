//! What really happened: every topic's events in the order in which the bus took them, and what a listener may therefore
//! see.

use std::{collections::HashMap, sync::Arc};

use fanfare::{
    bus::Bus,
    clock::Moment,
    event::{Event, EventId},
    log::Start,
    topic::Topic,
};

/// All events of all topics. Each carries a tag of its own in its payload, by which it is known again.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) topics: Vec<Topic>,
    logs: Vec<Vec<Arc<Event>>>,
    /// How many events of each topic every reactor is known to have taken from its inbox.
    taken: Vec<usize>,
    by_tag: HashMap<u64, (usize, usize)>,
}

impl Truth {
    pub(crate) fn new(count: usize) -> Self {
        let topic = |index| Topic::parse(&format!("topic.{index}")).expect("a good name");
        Self {
            topics: (0..count).map(topic).collect(),
            logs: (0..count).map(|_| Vec::new()).collect(),
            taken: vec![0; count],
            by_tag: HashMap::new(),
        }
    }

    /// All inboxes are empty.
    pub(crate) fn note_taken(&mut self) {
        self.taken = self.logs.iter().map(Vec::len).collect();
    }

    /// A subscription that asks now for what comes next. It may get what still lies in its reactor's inbox.
    pub(crate) fn live_track(&self, topic: usize) -> Track {
        Track::live(topic, self.taken[topic])
    }

    /// Copies what the bus has taken since the last call. To be called before its histories can have forgotten it.
    pub(crate) fn copy_from(&mut self, bus: &Bus) {
        for (topic, log) in self.logs.iter_mut().enumerate() {
            let start = Start::After(log.last().map_or_else(EventId::default, |event| event.id));
            for event in bus
                .history(&self.topics[topic], start, usize::MAX, Moment::default())
                .map_or_else(Vec::new, |page| page.events)
            {
                assert!(log.last().is_none_or(|last| last.id < event.id), "ids go back");
                if event.gap.is_none() {
                    let known = self.by_tag.insert(tag_of(&event.data), (topic, log.len()));
                    assert_eq!(known, None, "published twice");
                }
                log.push(event);
            }
        }
    }

    /// How many events of `topic` there have been.
    pub(crate) fn len(&self, topic: usize) -> usize {
        self.logs[topic].len()
    }

    pub(crate) fn event(&self, topic: usize, index: usize) -> &Event {
        &self.logs[topic][index]
    }

    /// The index behind the event `id`: where a listener begins that has seen it.
    pub(crate) fn index_after(&self, topic: usize, id: EventId) -> usize {
        self.logs[topic].partition_point(|event| event.id <= id)
    }

    /// Which event has this payload: its topic and index.
    pub(crate) fn find(&self, data: &[u8]) -> (usize, usize) {
        let found = self.by_tag.get(&tag_of(data));
        let (topic, index) = *found.unwrap_or_else(|| panic!("nobody published {:?}", String::from_utf8_lossy(data)));
        assert_eq!(self.logs[topic][index].data, data, "a payload was changed");
        (topic, index)
    }

    /// The topic of this name.
    pub(crate) fn place_of(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| topic.as_str() == name).expect("a topic of ours")
    }

    /// Which topic a gap is in, and its ends.
    pub(crate) fn read_gap(&self, data: &[u8]) -> (usize, EventId, EventId) {
        let gap: serde_json::Value = serde_json::from_slice(data).expect("JSON");
        let text = |name: &str| gap[name].as_str().expect("a text");
        let id = |name: &str| text(name).parse().expect("an event id");
        (self.place_of(text("topic")), id("from"), id("to"))
    }

    /// The index of the hole in the log that ends with `id`, if there is one.
    pub(crate) fn hole_at(&self, topic: usize, id: EventId) -> Option<usize> {
        let index = self.index_after(topic, id).checked_sub(1)?;
        (self.logs[topic][index].id == id && self.logs[topic][index].gap.is_some()).then_some(index)
    }

    pub(crate) fn has_tag(&self, tag: u64) -> bool {
        self.by_tag.contains_key(&tag)
    }
}

/// A payload that is known again by `tag`.
pub(crate) fn payload(tag: u64, padding_bytes: usize) -> String {
    format!("{{\"tag\":{tag},\"padding\":\"{}\"}}", "x".repeat(padding_bytes))
}

fn tag_of(data: &[u8]) -> u64 {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let digits = text.strip_prefix("{\"tag\":").and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("not a payload of ours: {text:?}"))
}

/// What one subscription has been told, against what it must be told.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) topic: usize,
    /// It begins here or later: there were so many events when it was asked for, or the client named a place.
    from_least: usize,
    /// It begins exactly at `from_least` if no more than so many events came since.
    exact_within: Option<usize>,
    /// It begins here or earlier: there were so many events when the client could see that it had begun.
    from_most: Option<usize>,
    /// The next event that is due, once the first has come.
    next: Option<usize>,
    /// The client has ended it, and seen that it is over.
    pub(crate) over: bool,
}

impl Track {
    /// To begin with whatever comes next, after `len` events.
    fn live(topic: usize, len: usize) -> Self {
        Self { topic, from_least: len, exact_within: None, from_most: None, next: None, over: false }
    }

    /// To begin at `index`, if it is retained; the newest `retained` events are.
    pub(crate) fn resumed(topic: usize, index: usize, retained: usize) -> Self {
        Self { exact_within: Some(retained), ..Self::live(topic, index) }
    }

    /// It has begun, when there were `len` events.
    pub(crate) fn open(&mut self, len: usize) {
        let most = if self.is_exact(len) { self.from_least } else { len };
        self.from_most.get_or_insert(most);
    }

    /// It begins at `index`, the hub says, when there were `len` events.
    pub(crate) fn open_at(&mut self, index: usize, len: usize) {
        let least = self.from_least;
        assert!(least <= index && (index == least || !self.is_exact(len)), "begins at {index}, not at {least}");
        self.next = Some(index);
    }

    fn is_exact(&self, len: usize) -> bool {
        self.exact_within.is_some_and(|retained| len.saturating_sub(self.from_least) <= retained)
    }

    /// The event of `index` came.
    pub(crate) fn take(&mut self, index: usize) {
        assert!(!self.over, "an event after the end of its subscription");
        match self.next {
            Some(next) => assert_eq!(index, next, "topic {}: the wrong event", self.topic),
            None => {
                let least = self.from_least;
                assert!(least <= index, "topic {}: begins at {index}, before {least}", self.topic);
                let most = self.from_most.unwrap_or(usize::MAX);
                assert!(index <= most, "topic {}: begins at {index}, after {most}", self.topic);
            }
        }
        self.next = Some(index + 1);
    }

    /// The events after `from` up to `to` are missing, the hub says: a hole in the log, or one of its own.
    pub(crate) fn take_gap(&mut self, from: EventId, to: EventId, truth: &Truth) {
        assert!(!self.over, "a gap after the end of its subscription");
        if let Some(index) = truth.hole_at(self.topic, to).filter(|index| self.next.is_none_or(|next| next == *index)) {
            return self.take(index);
        }
        let (from, to) = (truth.index_after(self.topic, from), truth.index_after(self.topic, to));
        assert!(from < to, "a gap in which nothing is missing");
        let due = self.next.unwrap_or(self.from_least);
        assert_eq!(from, due, "topic {}: a gap that does not begin where the client stands", self.topic);
        self.next = Some(to);
    }

    /// Whether what is due next is a hole in the log; before the first event, whether there is one that may be.
    pub(crate) fn is_before_hole(&self, truth: &Truth) -> bool {
        let log = &truth.logs[self.topic];
        let due = match self.next {
            Some(next) => next..next + 1,
            None => self.from_least..log.len(),
        };
        log.get(due).into_iter().flatten().any(|event| event.gap.is_some())
    }

    /// How many of `len` events it has not been told, at the most.
    pub(crate) fn lag(&self, len: usize) -> usize {
        len - self.next.unwrap_or(self.from_least).min(len)
    }

    /// There are `len` events, and it must have been told all it has a right to.
    pub(crate) fn check_complete(&self, len: usize) {
        match self.next {
            Some(next) => assert_eq!(next, len, "topic {}: the last events are missing", self.topic),
            None => {
                let most = self.from_most.unwrap_or_else(|| panic!("topic {}: never began", self.topic));
                assert!(len <= most, "topic {}: nothing came, though {len} were published, {most} before", self.topic);
            }
        }
    }
}
