//! Conflation: a reader that is behind in a topic whose policy is `latest` gets the newest event of each key only.

use super::{connection::Connection, gather::BYTES_PER_VISIT, replay::write_logged, table::LocalTopic, visit::Visit};
use crate::{event::Position, frame::Format, log::Listener, metrics::ReactorMetrics};

/// Puts into the outbox what the listener at `listener_place` is owed, without what is superseded, as far as one visit
/// goes. `AtHead`, `More`, or why it cannot go on; never `Blocked`, for nothing is written here.
pub(super) fn conflate<S>(
    connection: &mut Connection<S>,
    topic: &mut LocalTopic,
    place: u32,
    listener_place: u32,
    metrics: &ReactorMetrics,
) -> Visit {
    let Listener { format, mut cursor, .. } = *topic.lap.listener(listener_place);
    if cursor < topic.ring.oldest() {
        return Visit::Stranded;
    }
    let mut outcome = Visit::AtHead;
    let mut conflated = 0;
    while let Some(event) = topic.ring.event(cursor) {
        if BYTES_PER_VISIT <= connection.outbox.len() {
            outcome = Visit::More;
            break;
        }
        if topic.is_superseded(cursor) {
            conflated += 1;
        } else if event.gap.is_some() && format.format() == Format::WebSocketRaw {
            outcome = Visit::Stranded;
            break;
        } else {
            write_logged(connection, place, event, metrics);
        }
        cursor += 1;
    }
    topic.lap.listener(listener_place).cursor = cursor as Position;
    metrics.on_conflated(conflated);
    outcome
}
