//! An event stream, and where its client stands.

use smallvec::SmallVec;

use crate::{
    event::{EventId, Position},
    frame::SseForm,
    index::TopicIndex,
    protocol::sse,
};

/// An open Server-Sent Events stream.
#[derive(Debug)]
pub struct SseStream {
    /// The variant of its frames.
    pub form: SseForm,
    /// With several topics: where the client stands in each, in the order of the URL. Together they are the stream's id.
    pub cursors: Option<Box<TopicCursors>>,
    /// Whether the resume id goes ahead of the first event. By the standard a block without data is no event (WHATWG HTML, section
    /// 9.2.6), but some clients make an empty one of it, so it is written to browsers only.
    pub tells_place: bool,
    /// The event that goes ahead of everything else, until it is written.
    pub greeting: Option<Box<sse::Greeting>>,
    /// What its clients expect besides the events.
    pub profile: Option<Box<sse::SseProfile>>,
}

/// Where a client stands in several topics. In a box of their own, so that streams over one topic stay small.
pub type TopicCursors = SmallVec<[TopicCursor; 4]>;

/// Where a client stands in one of several topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicCursor {
    /// The topic, by its owner's index for it.
    pub topic: TopicIndex,
    /// The last id. While the stream listens to the topic, its owner knows that better, and brings it up to date when it is
    /// needed.
    pub id: EventId,
    /// Where in the log the stream has begun to listen. While it stands there the id is right as it is: the log may know the
    /// position by another one.
    pub began: Position,
}

impl SseStream {
    /// The stream's id, if it is over several topics.
    pub fn ids(&self) -> Option<impl ExactSizeIterator<Item = EventId> + Clone> {
        self.cursors.as_ref().map(|cursors| cursors.iter().map(|cursor| cursor.id))
    }

    /// The stream listens to `topic` from the position `began` on.
    pub fn begin(&mut self, topic: TopicIndex, began: Position) {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.filter(|cursor| cursor.topic == topic).for_each(|cursor| cursor.began = began);
    }

    /// The client has everything of `topic` up to `id`.
    pub fn pass(&mut self, topic: TopicIndex, id: EventId) {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.filter(|cursor| cursor.topic == topic).for_each(|cursor| cursor.id = id);
    }
}
