//! A value that is replaced while threads use it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// A value of which there is a newer version now and then, at a reload. Each thread keeps a copy of its own, so that using it costs
/// nothing, and looks at a number to see whether there is a newer one.
#[derive(Debug)]
pub struct Reloadable<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

/// A thread's copy of a [`Reloadable`].
#[derive(Clone, Debug)]
pub struct LocalCopy<T> {
    version: u64,
    /// The value, shared with nobody else.
    pub value: Arc<T>,
}

impl<T: Clone> Reloadable<T> {
    pub fn new(value: T) -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) }
    }

    /// Puts `value` in place of what is there. Threads see it when they next look.
    pub fn replace(&self, value: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The newest version, for who looks seldom.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy of its own for a thread.
    pub fn copy(&self) -> LocalCopy<T> {
        // Read before the value: a copy may be newer than its number, and is then taken once more.
        let version = self.version.load(Ordering::Acquire);
        LocalCopy { version, value: Arc::new(T::clone(&self.get())) }
    }

    /// Brings `copied` up to date; true if there was a newer version.
    #[inline]
    pub fn refresh(&self, copied: &mut LocalCopy<T>) -> bool {
        if self.version.load(Ordering::Acquire) == copied.version {
            return false;
        }
        *copied = self.copy();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_brought_up_to_date() {
        let shared = Reloadable::new(1);
        let mut copied = shared.copy();
        assert!(!shared.refresh(&mut copied));
        shared.replace(2);
        assert_eq!((*copied.value, *shared.get()), (1, 2));
        assert!(shared.refresh(&mut copied));
        assert_eq!(*copied.value, 2);
        assert!(!shared.refresh(&mut copied));
    }
}
