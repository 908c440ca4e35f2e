//! The locks, atomics and queues of the bus, imported in one place, so that the model test (tests/loom) can replace them and run
//! the files of this folder under every interleaving of its threads.

pub(super) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockWriteGuard,
    atomic::{AtomicU8, fence},
};

pub(super) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
