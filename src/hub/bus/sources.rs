//! What the bus knows of its sources: where publications go, which topics have subscribers, and whether a topic is delivered.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Archive, Bus, Class, ControlMessage, EventSink, LogKind, SourceName, TopicState, Wake,
    sync::{Mutex, Sender},
    topics::lock,
};
use crate::{clock::Moment, event::EventId, gap::GapReason, topic::Topic};

/// What a source gives the bus.
#[derive(Debug)]
pub struct SourcePort {
    /// The name by which classes of topics refer to the source.
    pub name: SourceName,
    /// Whether it is the source of topics whose class names none. At most one source is.
    pub is_default: bool,
    /// Takes publications to its topics; `None`: they are appended to the hub's own logs.
    pub sink: Option<Box<dyn EventSink>>,
    /// The logs that its broker keeps; `None`: it keeps none.
    pub log: Option<BrokerLog>,
}

/// The logs that a source's broker keeps, of topics whose class says so ([`LogKind::Broker`]).
#[derive(Debug)]
pub struct BrokerLog {
    /// The word for such a log in the configuration and the API.
    pub word: &'static str,
    /// Reads what the broker keeps of a topic beyond the hub's own log.
    pub archive: Box<dyn Archive>,
}

/// A change of interest that a source is notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// The topic has its first subscriber.
    Wanted(Topic),
    /// The topic has lost its last subscriber.
    Unwanted(Topic),
}

/// A source, and where its notifications go.
#[derive(Debug)]
pub(super) struct AttachedSource {
    port: SourcePort,
    watch: Mutex<Option<InterestWatch>>,
}

#[derive(Debug)]
struct InterestWatch {
    changes: Sender<Interest>,
    waker: Arc<dyn Wake>,
}

impl AttachedSource {
    pub(super) fn new(port: SourcePort) -> Self {
        Self { port, watch: Mutex::new(None) }
    }

    fn notify(&self, interest: Interest) {
        if let Some(watch) = &*lock(&self.watch) {
            // Fails only if the source has stopped.
            let _ = watch.changes.send(interest);
            watch.waker.wake();
        }
    }
}

impl Bus {
    /// What takes publications to `topic`. `None`: they are appended to the log here.
    pub(crate) fn event_sink(&self, topic: &Topic) -> Option<&dyn EventSink> {
        self.sink_of(self.first_class(topic))
    }

    fn sink_of(&self, class: &Class) -> Option<&dyn EventSink> {
        self.source_of(class)?.port.sink.as_deref()
    }

    /// The event sink of the default source, if there is one. Its publications reach every hub.
    pub(crate) fn default_sink(&self) -> Option<&dyn EventSink> {
        self.sources.iter().find(|source| source.port.is_default)?.port.sink.as_deref()
    }

    /// What reads the events of `topic` that its broker keeps beyond the log here. `None`: the log here is all there is.
    pub fn archive(&self, topic: &Topic) -> Option<&dyn Archive> {
        self.archive_of(self.first_class(topic))
    }

    /// The archive of a topic that has `class`. What a topic has for its class spares the search by its name.
    pub(crate) fn archive_of(&self, class: &Class) -> Option<&dyn Archive> {
        match class.log {
            LogKind::Memory => None,
            LogKind::Broker => Some(&*self.source_of(class)?.port.log.as_ref()?.archive),
        }
    }

    /// Whether other hubs may deliver the same events of a topic of `class` under ids of their own.
    pub(crate) fn ids_differ_per_hub(&self, class: &Class) -> bool {
        self.sink_of(class).is_some() && self.archive_of(class).is_none()
    }

    /// Notifies the source `name`, through `changes`, of each of its topics that gains its first subscriber or loses its last,
    /// beginning with those that have subscribers now. From now on a new topic of the source is live only when the source says
    /// so. No effect if the bus was built without that source.
    pub fn watch_interest(&self, name: SourceName, changes: Sender<Interest>, waker: Arc<dyn Wake>) {
        let Some(source) = self.sources.iter().find(|source| source.port.name == name) else { return };
        *lock(&source.watch) = Some(InterestWatch { changes, waker });
        let is_of_source =
            |state: &Arc<TopicState>| self.source_of(&state.class).is_some_and(|of| of.port.name == name);
        for state in self.topics().filter(is_of_source) {
            let mut log = lock(&state.log);
            log.live = false;
            log.sequence.interrupt();
            if !log.interest.is_empty() {
                source.notify(Interest::Wanted(state.topic.clone()));
            }
        }
    }

    /// Empties the log of `topic` before the source loads the broker's log, which begins after `floor`. The topic has no readers
    /// yet.
    pub fn begin_log(&self, topic: &Topic, floor: EventId) {
        let state = self.state(topic);
        let mut log = lock(&state.log);
        log.history.restart(floor);
        self.count_log(&mut log);
    }

    /// The newest id in the log of `topic`, or the id before its first event if the log is empty.
    pub fn newest_id(&self, topic: &Topic) -> EventId {
        lock(&self.state(topic).log).history.newest_id()
    }

    /// The source has confirmed that it delivers `topic`. Readers admitted before may have missed events, and get a gap.
    pub fn mark_live(&self, topic: &Topic, now: Moment) {
        let state = self.state(topic);
        state.refused.store(false, Ordering::Release);
        let had_unconfirmed = std::mem::take(&mut lock(&state.log).has_unconfirmed);
        if had_unconfirmed {
            self.feed().report_loss(topic, GapReason::SourceLost, now);
        }
        let mut log = lock(&state.log);
        log.live = true;
        for reactor in log.interest.iter() {
            self.inboxes[reactor].send_control(ControlMessage::Live(state.key));
        }
    }

    /// Whether readers were admitted to `topic` before the source confirmed it. The caller reports their gap, in place of
    /// [`Bus::mark_live`].
    pub(crate) fn take_unconfirmed(&self, topic: &Topic) -> bool {
        std::mem::take(&mut lock(&self.state(topic).log).has_unconfirmed)
    }

    /// Records that a reader is admitted to `state`, which the source may not have confirmed.
    pub(crate) fn admit_unconfirmed(&self, state: &TopicState) {
        let mut log = lock(&state.log);
        log.has_unconfirmed = !log.live;
    }

    /// The source does not deliver `topic` at present.
    pub fn mark_stale(&self, topic: &Topic) {
        let state = self.state(topic);
        state.refused.store(false, Ordering::Release);
        let mut log = lock(&state.log);
        log.live = false;
        log.sequence.interrupt();
    }

    /// The source does not deliver `topic`, and will not until an operator changes something at its broker. New subscribers are
    /// told so. True if readers were admitted who expect that it delivers.
    pub(crate) fn mark_refused(&self, topic: &Topic) -> bool {
        let state = self.state(topic);
        state.refused.store(true, Ordering::Release);
        let mut log = lock(&state.log);
        log.live = false;
        log.sequence.interrupt();
        log.has_unconfirmed
    }

    /// The word for the log of a topic of `class` in the configuration and the API.
    pub(super) fn log_word(&self, class: &Class) -> &'static str {
        match class.log {
            LogKind::Memory => LogKind::MEMORY_WORD,
            LogKind::Broker => {
                self.source_of(class).and_then(|source| source.port.log.as_ref()).map_or("broker", |log| log.word)
            }
        }
    }

    /// Whether the source of `class` is notified of interest, and so says when it delivers a topic.
    pub(super) fn has_interest_watch(&self, class: &Class) -> bool {
        self.source_of(class).is_some_and(|source| lock(&source.watch).is_some())
    }

    /// Has the source of `state`, in which a reactor has interest, say again that it delivers the topic, once it has read what
    /// its broker had sent by now: [`ControlMessage::Live`] follows. Not before the broker is there, if it is away.
    pub(crate) fn ask_for_live(&self, state: &TopicState) {
        self.notify_source(&state.class, Interest::Wanted(state.topic.clone()));
    }

    /// Notifies the source of topics of `class`.
    pub(super) fn notify_source(&self, class: &Class, interest: Interest) {
        if let Some(source) = self.source_of(class) {
            source.notify(interest);
        }
    }

    fn source_of(&self, class: &Class) -> Option<&AttachedSource> {
        self.sources.iter().find(|source| match class.source {
            Some(name) => source.port.name == name,
            None => source.port.is_default,
        })
    }
}
