//! What threads meet at in the bus: its locks, the notifier's word, the queues. Named once, so that the model test
//! (tests/loom) can put its own in their place and run the files of this folder under every order of its threads.

pub(super) use std::sync::{
    Mutex, MutexGuard, RwLock, RwLockWriteGuard,
    atomic::{AtomicU8, fence},
};

pub(super) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
