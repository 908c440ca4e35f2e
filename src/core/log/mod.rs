//! The ring, the lap. Pure: no threads, no sockets, no clock.
//!
//! A topic's events live in a [`Ring`]; whoever listens to them is a [`Subscriber`], a cursor into it; a [`SubscriberRing`] is the
//! order in which a reactor brings its subscribers to the head.

mod ring;
mod subscriber_ring;

pub use ring::{Bounds, Retention, Ring};
pub use subscriber_ring::{MovedSubscriber, Subscriber, SubscriberRing};

pub use crate::event::Start;

/// What happens to a reader that the log's tail has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The connection ends with [`crate::close::Close::Slow`]; the client reconnects and resumes.
    #[default]
    Close,
    /// It is told of the gap and goes on from the oldest event retained.
    Skip,
    /// As `Skip`; and while it is behind, it gets only the newest event of each key.
    Latest,
}

impl Policy {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::Close, Self::Skip, Self::Latest];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Skip => "skip",
            Self::Latest => "latest",
        }
    }
}
