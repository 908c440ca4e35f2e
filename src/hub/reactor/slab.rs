//! Connections in one piece of memory, each in a slot that keeps its number while the connection lives.

use super::net::Token;

/// A growing array of slots. A freed slot is used again, under a new generation.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// An empty slab. Memory for `capacity` slots is reserved, and costs nothing until it is touched.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { slots: Vec::with_capacity(capacity), free: Vec::new() }
    }

    /// How many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many slots there are, in use or not.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts in what `make` makes of its token.
    pub(super) fn insert(&mut self, make: impl FnOnce(Token) -> T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let token = Token { slot, generation: place.generation };
        place.value = Some(make(token));
        token
    }

    /// The connection of this slot, whichever it is.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    /// The same, to be looked at.
    pub(super) fn peek(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    /// The connection of this token, if it still lives.
    pub(super) fn named(&mut self, token: Token) -> Option<&mut T> {
        let place = self.slots.get_mut(token.slot as usize)?;
        if place.generation == token.generation { place.value.as_mut() } else { None }
    }

    /// The token of the connection in this slot.
    pub(super) fn token(&self, slot: u32) -> Token {
        Token { slot, generation: self.slots[slot as usize].generation }
    }

    /// Takes the connection out of this slot.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let place = self.slots.get_mut(slot as usize)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(slot);
        Some(value)
    }

    /// Every connection there is.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|place| place.value.as_ref())
    }

    /// The slots in use.
    pub(super) fn used(&self) -> Vec<u32> {
        let in_use = |(slot, place): (usize, &Slot<T>)| place.value.is_some().then_some(slot as u32);
        self.slots.iter().enumerate().filter_map(in_use).collect()
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
        assert_eq!(slab.used(), [0, 1]);
    }
}
