//! Offsets of connection state recovery: where a client stands in each of its topics, `topic@id` joined by commas.

use std::fmt::Write as _;

use crate::{event::EventId, topic::Topic};

/// The places in `offset`; `None` if it is not of this form, or has more than `topics_max`.
pub fn parse_offset(offset: &str, topics_max: usize) -> Option<Vec<(Topic, EventId)>> {
    let mut places = Vec::new();
    for place in offset.split(',') {
        if places.len() == topics_max {
            return None;
        }
        let (topic, id) = place.split_once('@')?;
        places.push((Topic::parse(topic).ok()?, id.parse().ok()?));
    }
    Some(places)
}

/// Appends the offset that says `places`.
pub fn write_offset<'a>(places: impl IntoIterator<Item = (&'a Topic, EventId)>, out: &mut String) {
    for (index, (topic, id)) in places.into_iter().enumerate() {
        // Writing into a String cannot fail.
        let _ = write!(out, "{}{topic}@{id}", if index == 0 { "" } else { "," });
    }
}
