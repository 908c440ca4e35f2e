//! What threads meet at, in forms that loom can schedule. The other half is `src/hub/bus/sync.rs`.
//!
//! The table of topics keeps the lock it has, and a look into it is one step: its readers copy what they find and go.
//!
//! The queue stands for crossbeam's. What matters about that one: a push publishes what was written before it, a look at
//! an empty queue synchronises with nobody, and `is_empty` is a load and no more. A queue that locked for the look would
//! do the notifier's fences' work for them.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{self, Arc, LockResult, RwLockReadGuard, TryLockError, TryLockResult},
};

pub(crate) use crossbeam_channel::{SendError, TryRecvError, TrySendError};
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU8};
use loom::{
    sync::atomic::{self, AtomicUsize, Ordering},
    thread,
};
pub(crate) use std::sync::RwLockWriteGuard;

thread_local! {
    /// All threads of a model run on the one that called it, so these concern one test only.
    static LEFT_OUT: Cell<Option<Part>> = const { Cell::new(None) };
}

/// What can be left out of the bus, to show that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The notifier's fences.
    Fences,
    /// The refusal of a full queue, from which a resync follows: what does not fit is dropped.
    Refusals,
}

/// From here on, in this test.
pub(crate) fn leave_out(part: Part) {
    LEFT_OUT.set(Some(part));
}

pub(crate) fn fence(order: Ordering) {
    if LEFT_OUT.get() != Some(Part::Fences) {
        atomic::fence(order);
    }
}

#[derive(Debug)]
struct Queue<T> {
    capacity: usize,
    items: Mutex<VecDeque<T>>,
    length: AtomicUsize,
}

/// The end to put into.
#[derive(Debug)]
pub struct Sender<T>(Arc<Queue<T>>);

/// The end to take from.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Queue<T>>);

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue { capacity, items: Mutex::new(VecDeque::new()), length: AtomicUsize::new(0) });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut items = self.0.items.lock().expect("a failed model is not gone on with");
        if items.len() == self.0.capacity {
            return if LEFT_OUT.get() == Some(Part::Refusals) { Ok(()) } else { Err(TrySendError::Full(item)) };
        }
        items.push_back(item);
        self.0.length.store(items.len(), Ordering::Release);
        Ok(())
    }

    pub(crate) fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.try_send(item).map_err(|refused| SendError(refused.into_inner()))
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        if self.is_empty() {
            return Err(TryRecvError::Empty);
        }
        let mut items = self.0.items.lock().expect("a failed model is not gone on with");
        let item = items.pop_front().ok_or(TryRecvError::Empty)?;
        self.0.length.store(items.len(), Ordering::Release);
        Ok(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.length.load(Ordering::Acquire) == 0
    }
}

/// The table's lock. Who finds it taken lets the others go on: all threads of a model share one of the system.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        until_free(|| self.0.try_read())
    }

    pub(crate) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        until_free(|| self.0.try_write())
    }
}

fn until_free<G>(mut attempt: impl FnMut() -> TryLockResult<G>) -> LockResult<G> {
    loop {
        match attempt() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => thread::yield_now(),
        }
    }
}
