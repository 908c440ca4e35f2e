//! A reactor's inbox, and the notifier that wakes it.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use super::{
    ArchiveFailed, ArchivePage, Receipt, TopicKey, TopicState,
    sync::{AtomicU8, Mutex, Receiver, Sender, TrySendError, bounded, fence, unbounded},
};
use crate::{
    clock::Moment,
    event::{Event, EventId},
    label::RouteLabel,
    topic::Topic,
};

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
    /// What the archive has of a topic for a connection that goes on after an old id.
    Archived {
        /// The connection, in its reactor's own terms.
        token: u64,
        /// The topic.
        key: TopicKey,
        /// Behind which id, and up to which, it was asked for.
        asked: (EventId, EventId),
        /// The events.
        page: Result<ArchivePage, ArchiveFailed>,
    },
    /// What the archive has of a topic, for a connection that asked for its history.
    History {
        /// The connection, in its reactor's own terms.
        token: u64,
        /// The topic.
        topic: Topic,
        /// The events.
        page: Result<ArchivePage, ArchiveFailed>,
    },
    /// The answer to a request that had to wait for another thread's work.
    Answered {
        /// The connection, in its reactor's own terms.
        token: u64,
        /// The answer.
        answered: Answered,
    },
    /// What became of the publications that a connection handed to the outlet.
    Published {
        /// The connection, in its reactor's own terms.
        token: u64,
        /// What the connection needs to form its answer.
        waiting: Waiting,
        /// One answer per publication, in order.
        receipts: Vec<Receipt>,
    },
}

/// The answer to a request, as another thread left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What it was for.
    pub route: RouteLabel,
    /// Three digits.
    pub status: u16,
    /// Fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What becomes of receipts, one for each publication, in order.
type Completion<T> = Box<dyn FnOnce(&[Receipt]) -> T + Send>;

/// Makes the answer to a request from what became of its publications. Called on the connection's reactor.
pub struct Complete(pub Completion<Answered>);

impl fmt::Debug for Complete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Complete")
    }
}

/// Makes the WebSocket frames that a client gets from what became of its publications. Called on the connection's reactor.
pub struct CompleteFrames(pub Completion<Vec<u8>>);

impl fmt::Debug for CompleteFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompleteFrames")
    }
}

/// Who waits for the answer to publications: travels with them, so that the connection need not remember.
#[derive(Debug)]
pub struct Waiting {
    /// The topics published to, in order.
    pub topics: Vec<Topic>,
    /// When the request came.
    pub began: Moment,
    /// The form of the answer.
    pub form: AnswerForm,
}

/// The form of the answer to a publication.
#[derive(Debug)]
pub enum AnswerForm {
    /// An HTTP response with one object.
    Single,
    /// A `fanfare.v1` message that echoes this reference.
    Command(Option<Box<str>>),
    /// Whatever this makes of it.
    Custom(Complete),
    /// The WebSocket frames that this makes of it.
    Frames(CompleteFrames),
    /// None yet: it is a part of work that goes on with the receipts.
    Part,
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
