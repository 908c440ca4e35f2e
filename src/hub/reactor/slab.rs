//! Connections in one piece of memory, each in a slot that keeps its number while the connection lives.

use super::net::Token;
use crate::index::Slot;

/// A growing array of slots. A freed slot is used again, under a new generation.
#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<Slot>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// An empty slab. Memory for `capacity` slots is reserved, and costs nothing until it is touched.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), free: Vec::new() }
    }

    /// How many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many slots there are, in use or not.
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// Puts in what `make` makes of its token.
    pub(super) fn insert(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            Slot::new(self.entries.len() - 1)
        });
        let entry = &mut self.entries[slot.get()];
        let token = Token { slot, generation: entry.generation };
        entry.value = Some(make(token));
        token
    }

    /// The connection of this slot, whichever it is.
    #[inline]
    pub(super) fn at(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot.get())?.value.as_mut()
    }

    /// The same, to be looked at.
    pub(super) fn peek(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot.get())?.value.as_ref()
    }

    /// The connection of this token, if it still lives.
    pub(super) fn named(&mut self, token: Token) -> Option<&mut T> {
        let entry = self.entries.get_mut(token.slot.get())?;
        if entry.generation == token.generation { entry.value.as_mut() } else { None }
    }

    /// The token of the connection in this slot.
    pub(super) fn token(&self, slot: Slot) -> Token {
        Token { slot, generation: self.entries[slot.get()].generation }
    }

    /// Takes the connection out of this slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.get())?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(slot);
        Some(value)
    }

    /// Every connection there is.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    /// The slots in use.
    pub(super) fn used(&self) -> Vec<Slot> {
        let in_use = |(index, entry): (usize, &Entry<T>)| entry.value.is_some().then_some(Slot::new(index));
        self.entries.iter().enumerate().filter_map(in_use).collect()
    }
}

/// Keeps packed tokens clear of the numbers of listeners and notifier, which lie at the very top.
const GENERATION_MASK: u32 = u32::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_slot_has_another_name() {
        let mut slab = Slab::with_capacity(4);
        let first = slab.insert(|_| "first");
        let second = slab.insert(|_| "second");
        assert_eq!(slab.remove(first.slot), Some("first"));
        assert_eq!(slab.remove(first.slot), None);
        let third = slab.insert(|_| "third");
        assert_eq!((third.slot, slab.len()), (first.slot, 2));
        assert_eq!(slab.named(first), None);
        assert_eq!(slab.named(third), Some(&mut "third"));
        assert_eq!(slab.at(second.slot), Some(&mut "second"));
        assert_eq!(slab.token(third.slot), third);
        assert_eq!(slab.used(), [0, 1].map(Slot::new));
    }
}
