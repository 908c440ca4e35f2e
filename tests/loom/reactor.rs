//! A reactor, as far as the bus is concerned: what `src/hub/reactor/messages.rs` does with its inbox, and how
//! `src/hub/reactor/mod.rs` lies down. Those files know sockets, so this one follows them; keep it so.

use std::sync::Arc;

use fanfare_core::event::{Event, Position};
use loom::sync::{Condvar, Mutex};

use crate::{
    bus::{Bus, LogSnapshot, Notifier, TopicState, Wake},
    topic::Topic,
};

/// What a test leaves out, to show that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Polls without looking at the inbox once more after the announcement.
    NoSecondLook,
    /// Does not know that a resync has brought what then comes by the inbox.
    TakesTwice,
}

/// What a poll waits for.
#[derive(Debug)]
pub(crate) struct Poll {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Poll {
    pub(crate) fn new() -> Self {
        Self { woken: Mutex::new(false), changed: Condvar::new() }
    }

    /// Until somebody wakes; at once if somebody has since the last time.
    fn wait(&self) {
        let mut woken = self.woken.lock().expect("a failed model is not gone on with");
        while !*woken {
            woken = self.changed.wait(woken).expect("a failed model is not gone on with");
        }
        *woken = false;
    }
}

impl Wake for Poll {
    fn wake(&self) {
        *self.woken.lock().expect("a failed model is not gone on with") = true;
        self.changed.notify_one();
    }
}

/// One reactor with one topic.
pub(crate) struct Reactor {
    pub(crate) bus: Arc<Bus>,
    pub(crate) index: usize,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) poll: Arc<Poll>,
    pub(crate) fault: Fault,
}

/// Events taken per turn. The real number is large; with a small one a turn ends in the middle of the inbox, too.
const EVENTS_PER_TURN: usize = 2;

impl Reactor {
    /// Listens to `topic` until it has all events up to `last`, each once and in order.
    pub(crate) fn run(&self, topic: &Topic, last: Position) {
        let snapshot = self.bus.attach(topic, self.index);
        self.follow(snapshot, last);
    }

    /// As [`Reactor::run`], attached already.
    pub(crate) fn follow(&self, snapshot: LogSnapshot, last: Position) {
        let LogSnapshot { state, events, next, .. } = snapshot;
        let mut log = Log { state, next: next - events.len() as Position, fault: self.fault };
        events.iter().for_each(|event| log.take(event));
        assert_eq!(log.next, next, "the inbox begins where the history ends");
        loop {
            self.take_inbox(&mut log);
            if last < log.next {
                return;
            }
            self.sleep();
        }
    }

    fn take_inbox(&self, log: &mut Log) {
        let inbox = self.bus.inbox(self.index);
        for _ in 0..EVENTS_PER_TURN {
            let Some(message) = inbox.next_event() else { break };
            assert_eq!(message.key, log.state.key);
            log.take(&message.event);
        }
        for state in inbox.take_resync() {
            let missed = self.bus.resync(&state, self.index, log.next);
            missed.events.iter().for_each(|event| log.take(event));
            assert_eq!(log.next, missed.next, "the history holds all of it here");
        }
    }

    fn sleep(&self) {
        self.notifier.prepare_park();
        if self.fault == Fault::NoSecondLook || self.bus.inbox(self.index).is_empty() {
            self.poll.wait();
        }
        self.notifier.unpark();
    }
}

/// The reactor's own copy of the topic's log: of interest is where it ends.
struct Log {
    state: Arc<TopicState>,
    next: Position,
    fault: Fault,
}

impl Log {
    /// What a resync has brought already is passed over; a hole must not be.
    fn take(&mut self, event: &Event) {
        if self.fault != Fault::TakesTwice && event.position < self.next {
            return;
        }
        assert_eq!(event.position, self.next, "an event lost, or taken twice");
        self.next = event.position + 1;
    }
}
