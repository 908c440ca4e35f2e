//! A bounded queue to another thread that keeps nothing once its reader is gone.
//!
//! A plain channel keeps what it holds until its last sender is gone as well. The bus keeps a sender for as long as the hub runs, so
//! whoever awaited what becomes of an item would wait in vain.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Puts items into the queue.
#[derive(Debug)]
pub(super) struct ClosingSender<T> {
    sender: Sender<T>,
    /// For items that the reader left behind.
    receiver: Receiver<T>,
    is_closed: Arc<AtomicBool>,
}

/// The reader's end. Dropped, it closes the queue and drops what is in it.
#[derive(Debug)]
pub(super) struct ClosingReceiver<T> {
    receiver: Receiver<T>,
    is_closed: Arc<AtomicBool>,
}

/// Both ends of a queue of at most `items_max`.
pub(super) fn closing_queue<T>(items_max: usize) -> (ClosingSender<T>, ClosingReceiver<T>) {
    let (sender, receiver) = bounded(items_max);
    let is_closed = Arc::new(AtomicBool::new(false));
    let ends = (receiver.clone(), Arc::clone(&is_closed));
    (ClosingSender { sender, receiver, is_closed }, ClosingReceiver { receiver: ends.0, is_closed: ends.1 })
}

impl<T> ClosingSender<T> {
    /// Puts `item` into the queue, which drops it if the reader goes away. Fails if the queue is full, or the reader is gone already.
    pub(super) fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(TrySendError::Disconnected(item));
        }
        self.sender.try_send(item)?;
        // The reader may have gone meanwhile. It closes the queue before it looks a last time, and here it is the other way round, so
        // one of the two finds the item.
        if self.is_closed.load(Ordering::SeqCst) {
            self.receiver.try_iter().for_each(drop);
        }
        Ok(())
    }
}

impl<T> ClosingReceiver<T> {
    /// What the items come out of.
    pub(super) fn receiver(&self) -> &Receiver<T> {
        &self.receiver
    }
}

impl<T> Clone for ClosingSender<T> {
    fn clone(&self) -> Self {
        let (sender, receiver) = (self.sender.clone(), self.receiver.clone());
        Self { sender, receiver, is_closed: Arc::clone(&self.is_closed) }
    }
}

impl<T> Drop for ClosingReceiver<T> {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.receiver.try_iter().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    #[test]
    fn nothing_is_kept_once_the_reader_is_gone() {
        let item = Arc::new(());
        let (sender, receiver) = closing_queue(2);
        for _ in 0..2 {
            sender.try_send(Arc::clone(&item)).expect("there is room");
        }
        assert!(matches!(sender.try_send(Arc::clone(&item)), Err(TrySendError::Full(_))));
        assert_eq!(receiver.receiver().len(), 2);
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
        assert!(matches!(sender.try_send(Arc::clone(&item)), Err(TrySendError::Disconnected(_))));
        assert_eq!(Arc::strong_count(&item), 1);
    }

    /// The reader goes while others send.
    #[test]
    fn nothing_slips_in_while_the_reader_goes() {
        for _ in 0..500 {
            let (item, barrier) = (Arc::new(()), Barrier::new(3));
            let (sender, receiver) = closing_queue(1000);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        barrier.wait();
                        while sender.try_send(Arc::clone(&item)).is_ok() {}
                    });
                }
                barrier.wait();
                drop(receiver);
            });
            assert_eq!(Arc::strong_count(&item), 1);
        }
    }
}
