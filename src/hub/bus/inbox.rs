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

/// Wakes a reactor only if it has announced that it sleeps, and only once per sleep. A needless wake-up costs the waker as much as
/// several deliveries.
///
/// The sleeper calls [`Notifier::prepare_park`], looks at every queue once more, polls, and calls [`Notifier::unpark`]. The other
/// thread puts a message into a queue and calls [`Notifier::notify`]. Both sides pass a sequentially consistent fence between their
/// two steps, so either the sleeper sees the message, or the other thread sees the sleep.
#[derive(Debug)]
pub struct Notifier {
    state: AtomicU8,
    waker: Arc<dyn Wake>,
}

impl Notifier {
    /// A notifier whose owner is awake, and is woken through `waker`.
    pub fn new(waker: Arc<dyn Wake>) -> Self {
        Self { state: AtomicU8::new(AWAKE), waker }
    }

    /// Announces sleep. The caller must look at its queues once more before it sleeps.
    pub fn prepare_park(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends the announced sleep, whatever ended the poll.
    pub fn unpark(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Notifies the owner that one of its queues has a message. True if the owner was asleep and was woken.
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
    /// The topic of the event.
    pub key: TopicKey,
    /// The event.
    pub event: Arc<Event>,
}

/// A message to a reactor that is not an event.
#[derive(Debug)]
pub(crate) enum ControlMessage {
    /// The source now delivers this topic.
    Live(TopicKey),
    /// Another thread has finished work for a connection.
    Completion {
        /// The connection's token, which only its reactor understands.
        token: u64,
        /// The result. The bus does not look into it; the requester knows its type.
        content: Box<dyn Any + Send>,
    },
}

/// One reactor's end of the bus.
#[derive(Debug)]
pub struct Inbox {
    events_in: Sender<EventMessage>,
    events_out: Receiver<EventMessage>,
    /// Unbounded, but the reactor itself bounds it: one answer per waiting connection, one `Live` per topic.
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

    /// The notifier of the reactor that owns the inbox.
    pub fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The next event.
    #[inline]
    pub fn next_event(&self) -> Option<EventMessage> {
        self.events_out.try_recv().ok()
    }

    /// The next control message.
    pub(crate) fn next_control(&self) -> Option<ControlMessage> {
        self.controls_out.try_recv().ok()
    }

    /// Whether the inbox has neither messages nor topics to resync.
    pub fn is_empty(&self) -> bool {
        self.events_out.is_empty() && self.controls_out.is_empty() && super::topics::lock(&self.resync).is_empty()
    }

    /// Takes the topics that lost events because the inbox was full. The reactor copies what it lacks from their histories.
    pub fn take_resync(&self) -> Vec<Arc<TopicState>> {
        std::mem::take(&mut super::topics::lock(&self.resync))
    }

    /// Sends `content` to the connection of this `token`, and notifies the reactor.
    pub(crate) fn complete(&self, token: u64, content: impl Any + Send) {
        self.send_control(ControlMessage::Completion { token, content: Box::new(content) });
    }

    /// Sends a control message and notifies the reactor.
    pub(crate) fn send_control(&self, message: ControlMessage) {
        // The receiver lives in the same struct, so sending cannot fail.
        let _ = self.controls_in.send(message);
        self.notifier.notify();
    }

    /// Puts `message` in, without notifying. False if the inbox is full.
    pub(super) fn put_event(&self, message: EventMessage) -> bool {
        !matches!(self.events_in.try_send(message), Err(TrySendError::Full(_)))
    }

    pub(super) fn put_resync(&self, topic: Arc<TopicState>) {
        super::topics::lock(&self.resync).push(topic);
    }
}
