//! A reactor's inbox, and the notifier that wakes it.

use std::{
    any::Any,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::{
    TopicKey, TopicState,
    sync::{AtomicU8, Mutex, Receiver, Sender, TrySendError, bounded, fence, unbounded},
};
use crate::event::Event;

/// Interrupts a thread's poll. Called at most once per sleep.
pub trait Wake: Send + Sync + fmt::Debug {
    /// Makes the current or the next poll return at once.
    fn wake(&self);
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;

/// Wakes a reactor only if it announced that it sleeps, and only once per sleep: each needless wake-up costs the waker
/// as much as several deliveries.
///
/// The sleeper: [`Notifier::prepare_park`], look at every queue once more, poll, [`Notifier::unpark`]. The notifying thread: put
/// something into a queue, [`Notifier::notify`]. Both sides pass a sequentially consistent fence between their two steps,
/// so either the sleeper sees what was put, or the notifying thread sees the sleep.
#[derive(Debug)]
pub struct Notifier {
    state: AtomicU8,
    waker: Arc<dyn Wake>,
}

impl Notifier {
    /// Wakes through `waker`; its owner is awake.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        Self { state: AtomicU8::new(AWAKE), waker }
    }

    /// Announces sleep. The caller looks at its queues once more afterwards.
    pub fn prepare_park(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends the sleep, whoever ended the poll.
    pub fn unpark(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Tells the owner that one of its queues holds something; true if that took a wake-up.
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        let asleep = self.state.load(Ordering::Relaxed) == ASLEEP
            && self.state.compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if asleep {
            self.waker.wake();
        }
        asleep
    }
}

/// An event on its way to a reactor.
#[derive(Clone, Debug)]
pub struct EventMessage {
    /// The topic, by the number reactors know it by.
    pub key: TopicKey,
    /// The event.
    pub event: Arc<Event>,
}

/// What a reactor is told besides events.
#[derive(Debug)]
pub enum ControlMessage {
    /// The source now delivers this topic.
    Live(TopicKey),
    /// What another thread has finished for a connection.
    Completion {
        /// The connection, in its reactor's own terms.
        token: u64,
        /// What was finished. The bus carries it unread; whoever asked for it knows its type.
        content: Box<dyn Any + Send>,
    },
}

/// One reactor's end of the bus.
#[derive(Debug)]
pub struct Inbox {
    events_in: Sender<EventMessage>,
    events_out: Receiver<EventMessage>,
    /// Bounded by what the reactor itself has asked for: one answer per waiting connection, one `Live` per topic.
    controls_in: Sender<ControlMessage>,
    controls_out: Receiver<ControlMessage>,
    resync: Mutex<Vec<Arc<TopicState>>>,
    notifier: Arc<Notifier>,
}

impl Inbox {
    /// An inbox for at most `events_max` events.
    pub fn new(events_max: usize, notifier: Arc<Notifier>) -> Self {
        let (events_in, events_out) = bounded(events_max);
        let (controls_in, controls_out) = unbounded();
        Self { events_in, events_out, controls_in, controls_out, resync: Mutex::new(Vec::new()), notifier }
    }

    /// The notifier of the reactor that owns it.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The next event.
    #[inline]
    pub fn next_event(&self) -> Option<EventMessage> {
        self.events_out.try_recv().ok()
    }

    /// The next control message.
    pub fn next_control(&self) -> Option<ControlMessage> {
        self.controls_out.try_recv().ok()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.events_out.is_empty() && self.controls_out.is_empty() && super::topics::lock(&self.resync).is_empty()
    }

    /// The topics to copy from their histories, because events of them did not fit.
    pub fn take_resync(&self) -> Vec<Arc<TopicState>> {
        std::mem::take(&mut super::topics::lock(&self.resync))
    }

    /// Hands `content` to the connection of this `token`, and notifies its reactor.
    pub fn complete(&self, token: u64, content: impl Any + Send) {
        self.send_control(ControlMessage::Completion { token, content: Box::new(content) });
    }

    /// Leaves a control message and notifies the reactor.
    pub fn send_control(&self, message: ControlMessage) {
        // The receiver lives in the same struct, so sending cannot fail.
        let _ = self.controls_in.send(message);
        self.notifier.notify();
    }

    /// Puts `message` in, without notifying; false if it is full.
    pub(super) fn put_event(&self, message: EventMessage) -> bool {
        !matches!(self.events_in.try_send(message), Err(TrySendError::Full(_)))
    }

    pub(super) fn put_resync(&self, topic: Arc<TopicState>) {
        super::topics::lock(&self.resync).push(topic);
    }
}
