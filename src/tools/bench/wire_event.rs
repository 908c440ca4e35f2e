//! What a server's bytes mean to a subscriber of the benchmark.

/// What a subscriber learns from its connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum WireEvent<'a> {
    /// The request is granted, and the subscriber subscribed.
    Opened,
    /// A message: a payload, or an envelope with one in it.
    Message(&'a [u8]),
    /// A message without an event, while the subscriber waits to be subscribed.
    Other(&'a [u8]),
    /// The subscriber waits for a message that contains this text.
    Awaiting(&'a str),
    /// The status of the response to a request that is no subscription.
    Response(u16),
}
