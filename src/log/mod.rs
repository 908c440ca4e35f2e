//! The ring, the lap. Pure: no threads, no sockets, no clock.
//!
//! A topic's events live in a [`Ring`]; whoever listens to them is a [`Listener`], a cursor into it; a [`Lap`] is the
//! order in which a reactor brings its listeners to the head.

mod lap;
mod ring;

pub use lap::{Lap, Listener, Moved};
pub use ring::{Bounds, Retention, Ring, Start};

/// What happens to a reader that the log's tail has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The connection ends with [`crate::close::Close::Slow`]; the client reconnects.
    #[default]
    Close,
}
