//! Indices into the lists of a reactor. Each has a type, so that two of them cannot be swapped.

use std::fmt;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($bits:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name($bits);

        impl $name {
            /// Names no element. No list is that long.
            pub const NONE: Self = Self(<$bits>::MAX);

            /// Names the element at `index`, which is less than that of [`Self::NONE`].
            #[inline]
            pub const fn new(index: usize) -> Self {
                Self(index as $bits)
            }

            /// The index, for a list.
            #[inline]
            pub const fn get(self) -> usize {
                self.0 as usize
            }

            /// The index in bytes, for keys.
            pub const fn to_le_bytes(self) -> [u8; size_of::<$bits>()] {
                self.0.to_le_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index! {
    /// A connection of a reactor. It keeps its slot while it lives; then another may have it.
    Slot(u32)
}

index! {
    /// A topic in a reactor's table. It keeps its index while it has subscribers; then another may have it.
    TopicIndex(u32)
}

index! {
    /// A subscriber of a topic ([`crate::log::SubscriberRing`]). It changes when another subscriber leaves
    /// ([`crate::log::MovedSubscriber`]).
    SubscriberIndex(u32)
}

index! {
    /// A subscription of a connection. It changes when the connection ends another one.
    SubscriptionIndex(u16)
}

index! {
    /// A group of connections that are owed the same bytes.
    GroupIndex(u32)
}
