//! Publications of a cluster: each goes to the node that has its topic's slot, through the writer of that node.
//!
//! A slot may change its node while publications are under way. What a node did not take goes to the next one, and those of one slot
//! stay in order: while some are on their way to one node, none is sent to another. What cannot be sent waits, at most until its
//! deadline.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tracing::warn;

use super::{
    slots::{SlotMap, slot_of_key},
    status::ClusterStatus,
    view::{ClusterPlace, ClusterView},
};
use crate::{
    bus::{EventSink, Publication, PublishFailed},
    clock::{Clock, Moment},
    protocol::resp::SLOTS,
    source::redis::{
        Directory, NodeAddress, PublicationIntake, QueuedPublication, RedisConfig, WriterThread, error_codes::Moved,
    },
    topic::Topic,
};

/// Sends publications to the writers of the nodes, and starts and ends those.
#[derive(Debug)]
pub(in crate::source::redis) struct Router {
    config: RedisConfig,
    directory: Directory,
    /// What stands before a topic's name in what it is called at the cluster.
    prefix: String,
    clock: Clock,
    view: Arc<ClusterView>,
    status: Arc<ClusterStatus>,
    /// Publications that wait for a node.
    held: AtomicUsize,
    state: Mutex<RouterState>,
}

#[derive(Debug, Default)]
struct RouterState {
    writers: HashMap<NodeAddress, NodeWriter>,
    /// Of the writers, by id.
    queues: HashMap<u32, Sender<QueuedPublication>, foldhash::fast::RandomState>,
    /// By the index of the slot.
    slots: Vec<SlotState>,
    /// Of the slots whose publications wait.
    waiting: BTreeMap<u16, Waiting>,
    last_id: u32,
    last_serial: u64,
    /// Ended, or about to.
    retired: Vec<WriterThread>,
    is_stopped: bool,
}

#[derive(Debug)]
struct NodeWriter {
    id: u32,
    queued: Receiver<QueuedPublication>,
    thread: WriterThread,
}

/// Where the publications of a slot go.
#[derive(Clone, Copy, Debug, Default)]
struct SlotState {
    /// The writer of its node, by id; 0: there is none.
    owner: u32,
    /// How many are on their way.
    in_flight: u32,
    /// To which writer those are.
    target: u32,
}

/// Publications of one slot that wait.
#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they came to the hub.
    queued: BTreeMap<u64, QueuedPublication>,
    /// Not before this moment: the node that has the slot did not take them.
    not_before: Moment,
}

/// Marks a publication that is on its way to a node. Dropped when it is answered.
pub(in crate::source::redis) struct Flight {
    /// `None`: it came back.
    router: Option<Arc<Router>>,
    slot: u16,
    serial: u64,
}

/// Takes publications for the whole cluster.
#[derive(Clone, Debug)]
pub(in crate::source::redis) struct ClusterPublisher {
    pub(super) intake: PublicationIntake,
    pub(super) router: Arc<Router>,
}

impl EventSink for ClusterPublisher {
    fn publish(&self, publication: Publication) {
        if let Some(queued) = self.intake.take(publication) {
            self.router.send(queued);
        }
    }
}

impl Router {
    /// A router that knows of no node yet, for topics that are called `prefix` and their name at the cluster, whose nodes have to be of
    /// `least_version`. Fails if `config` names files that cannot be used.
    pub(super) fn new(
        config: RedisConfig,
        prefix: String,
        least_version: u64,
        clock: Clock,
        view: Arc<ClusterView>,
        status: Arc<ClusterStatus>,
    ) -> std::io::Result<Self> {
        let directory = config.directory()?.with_least_version(least_version);
        let slots = vec![SlotState::default(); usize::from(SLOTS)];
        let state = Mutex::new(RouterState { slots, ..RouterState::default() });
        Ok(Self { config, directory, prefix, clock, view, status, held: AtomicUsize::new(0), state })
    }

    fn slot_of(&self, topic: &Topic) -> u16 {
        slot_of_key(&self.prefix, topic)
    }

    /// Whether publications wait.
    pub(super) fn holds_any(&self) -> bool {
        self.held.load(Ordering::Relaxed) != 0
    }

    /// Sends `queued` to the node that has its slot; if there is none, or earlier ones wait, it waits.
    fn send(self: &Arc<Self>, queued: QueuedPublication) {
        let slot = self.slot_of(&queued.topic);
        let mut state = self.state();
        state.last_serial += 1;
        let serial = state.last_serial;
        let refused = if state.may_send(slot) {
            self.dispatch(&mut state, slot, serial, queued)
        } else if state.is_stopped || self.config.publish_queue_max <= self.held.load(Ordering::Relaxed) {
            Some(queued)
        } else {
            self.held.fetch_add(1, Ordering::Relaxed);
            state.waiting.entry(slot).or_default().queued.insert(serial, queued);
            self.view.request_look();
            None
        };
        drop(state);
        refuse(refused);
    }

    /// Hands it to the writer of its slot's node. Returns it if that one's queue is full.
    fn dispatch(
        self: &Arc<Self>,
        state: &mut RouterState,
        slot: u16,
        serial: u64,
        mut queued: QueuedPublication,
    ) -> Option<QueuedPublication> {
        let entry = &mut state.slots[usize::from(slot)];
        let Some(queue) = state.queues.get(&entry.owner) else { return Some(queued) };
        queued.flight = Some(Flight { router: Some(Arc::clone(self)), slot, serial });
        match queue.try_send(queued) {
            Ok(()) => {
                (entry.in_flight, entry.target) = (entry.in_flight + 1, entry.owner);
                None
            }
            Err(TrySendError::Full(mut queued) | TrySendError::Disconnected(mut queued)) => {
                queued.flight.take().into_iter().for_each(Flight::cancel);
                Some(queued)
            }
        }
    }

    /// The node says that another one has the slot. It did nothing.
    pub(in crate::source::redis) fn on_moved(self: &Arc<Self>, queued: QueuedPublication, moved: &Moved) {
        if let Some(by) = self.target_of(self.slot_of(&queued.topic)) {
            self.view.redirect(moved, &by);
        }
        // At once if the map has changed by that.
        self.take_back(queued, self.clock.now() + self.config.backoff_min);
    }

    /// The node does not take it at present. It did nothing.
    pub(in crate::source::redis) fn on_unserved(self: &Arc<Self>, queued: QueuedPublication) {
        self.take_back(queued, self.clock.now() + self.config.backoff_min);
    }

    /// The writer ends, and has not sent it.
    pub(in crate::source::redis) fn on_unsent(self: &Arc<Self>, queued: QueuedPublication) {
        self.take_back(queued, Moment::default());
    }

    fn take_back(self: &Arc<Self>, mut queued: QueuedPublication, not_before: Moment) {
        let Some(flight) = queued.flight.take() else { return };
        let (slot, serial) = (flight.slot, flight.serial);
        flight.cancel();
        let mut state = self.state();
        let entry = &mut state.slots[usize::from(slot)];
        entry.in_flight -= 1;
        let (owner, target) = (entry.owner, entry.target);
        if state.is_stopped {
            // Dropped without an answer it says that nothing was published; not under the lock.
            drop(state);
            return drop(queued);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let waiting = state.waiting.entry(slot).or_default();
        waiting.queued.insert(serial, queued);
        if owner == target {
            waiting.not_before = waiting.not_before.max(not_before);
        }
        let refused = self.release(&mut state, slot, self.clock.now());
        drop(state);
        refuse(refused);
        self.view.request_look();
    }

    /// The last of a slot's publications may have been answered.
    fn land(self: &Arc<Self>, slot: u16) {
        let mut state = self.state();
        state.slots[usize::from(slot)].in_flight -= 1;
        let refused = self.release(&mut state, slot, self.clock.now());
        drop(state);
        refuse(refused);
    }

    /// Sends what waits in `slot`, if it may be sent. Returns what no queue takes.
    fn release(self: &Arc<Self>, state: &mut RouterState, slot: u16, now: Moment) -> Vec<QueuedPublication> {
        let entry = &state.slots[usize::from(slot)];
        let is_free = entry.owner != 0 && entry.in_flight == 0;
        if !is_free || state.waiting.get(&slot).is_none_or(|waiting| now < waiting.not_before) {
            return Vec::new();
        }
        let waiting = state.waiting.remove(&slot).unwrap_or_default();
        self.held.fetch_sub(waiting.queued.len(), Ordering::Relaxed);
        let all = waiting.queued.into_iter();
        all.filter_map(|(serial, queued)| self.dispatch(state, slot, serial, queued)).collect()
    }

    /// Follows the map: starts the writers of new masters, ends those of masters without slots, and takes back what those have not
    /// sent. [`Self::tick`] sends it.
    pub(super) fn apply(self: &Arc<Self>, map: &SlotMap) {
        let masters = map.masters();
        let mut state = self.state();
        if state.is_stopped {
            return;
        }
        for master in &masters {
            if !state.writers.contains_key(*master) {
                self.start_writer(&mut state, master);
            }
        }
        state.set_owners(map);
        let gone: Vec<NodeWriter> =
            state.writers.extract_if(|node, _| !masters.contains(&node)).map(|(_, writer)| writer).collect();
        gone.iter().for_each(|writer| drop(state.queues.remove(&writer.id)));
        drop(state);
        for writer in gone {
            writer.thread.signal_give_back();
            writer.queued.try_iter().for_each(|queued| self.on_unsent(queued));
            self.state().retired.push(writer.thread);
        }
    }

    /// Sends what may be sent by now, and answers what has waited too long.
    pub(super) fn tick(self: &Arc<Self>, now: Moment) {
        let mut state = self.state();
        let ended: Vec<WriterThread> = state.retired.extract_if(.., |thread| thread.has_ended()).collect();
        let slots: Vec<u16> = state.waiting.keys().copied().collect();
        let mut refused = Vec::new();
        let mut expired = Vec::new();
        for slot in slots {
            refused.extend(self.release(&mut state, slot, now));
            let Some(waiting) = state.waiting.get_mut(&slot) else { continue };
            while let Some(oldest) = waiting.queued.first_entry().filter(|oldest| oldest.get().deadline <= now) {
                self.held.fetch_sub(1, Ordering::Relaxed);
                expired.push(oldest.remove());
            }
            if waiting.queued.is_empty() {
                state.waiting.remove(&slot);
            }
        }
        drop(state);
        refuse(refused);
        // Nobody sent them.
        expired.into_iter().for_each(|queued| queued.answer(Err(PublishFailed::Unavailable)));
        ended.into_iter().for_each(WriterThread::join);
    }

    /// Lets the writers send what they have, answers what waits, and ends them.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.is_stopped = true;
        let writers = state.writers.drain().map(|(_, writer)| writer.thread).collect::<Vec<_>>();
        let waiting = std::mem::take(&mut state.waiting);
        let retired = std::mem::take(&mut state.retired);
        drop(state);
        drop(waiting);
        writers.iter().for_each(WriterThread::signal_drain);
        writers.into_iter().chain(retired).for_each(WriterThread::join);
        // With the queues goes what is still in them, and not under the lock.
        let queues = std::mem::take(&mut self.state().queues);
        drop(queues);
    }

    fn start_writer(self: &Arc<Self>, state: &mut RouterState, node: &NodeAddress) {
        let (queue, queued) = bounded(self.config.publish_queue_max);
        let config = RedisConfig { url: self.config.url.at(node), ..self.config.clone() };
        let directory = self.directory.in_cluster(ClusterPlace::Node(node.clone()));
        let (status, view) = (self.status.shard(node), self.view.server(node));
        status.set_proof_age_max(self.config.proof_age_max);
        let router = Some(Arc::clone(self));
        match WriterThread::start(config, directory, queued.clone(), self.clock, status, view, router, None) {
            Ok(thread) => {
                state.last_id += 1;
                let id = state.last_id;
                state.queues.insert(id, queue);
                state.writers.insert(node.clone(), NodeWriter { id, queued, thread });
            }
            Err(error) => warn!("the writer for {node} cannot be started: {error}"),
        }
    }

    /// A writer has lost its node.
    pub(in crate::source::redis) fn on_node_lost(&self) {
        self.view.request_look();
    }

    /// The node to which the publications of `slot` are on their way.
    fn target_of(&self, slot: u16) -> Option<NodeAddress> {
        let state = self.state();
        let target = state.slots[usize::from(slot)].target;
        state.writers.iter().find(|(_, writer)| writer.id == target).map(|(node, _)| node.clone())
    }

    fn state(&self) -> MutexGuard<'_, RouterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RouterState {
    /// Whether a new publication in `slot` may be sent at once: it overtakes none.
    fn may_send(&self, slot: u16) -> bool {
        let entry = &self.slots[usize::from(slot)];
        let overtakes_none = entry.in_flight == 0 || entry.owner == entry.target;
        entry.owner != 0 && overtakes_none && !self.waiting.contains_key(&slot)
    }

    fn set_owners(&mut self, map: &SlotMap) {
        let ids = map.map_owners(|owner| self.writers.get(owner).map_or(0, |writer| writer.id));
        for (slot, owner) in (0..).zip(ids) {
            let owner = owner.unwrap_or_default();
            let former = std::mem::replace(&mut self.slots[usize::from(slot)].owner, owner);
            if owner != former
                && let Some(waiting) = self.waiting.get_mut(&slot)
            {
                waiting.not_before = Moment::default();
            }
        }
    }
}

/// No queue takes these. Not to be called under the lock: what is answered ends its flight.
fn refuse(queued: impl IntoIterator<Item = QueuedPublication>) {
    queued.into_iter().for_each(|queued| queued.answer(Err(PublishFailed::QueueFull)));
}

impl Flight {
    /// It came back, or was never sent.
    fn cancel(mut self) {
        self.router = None;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(router) = self.router.take() {
            router.land(self.slot);
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("slot", &self.slot).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
