//! An event stream: how a request opens it, and where its client stands.

use smallvec::SmallVec;

use super::{
    encoder::{CONTENT_TYPE, heartbeat, write_cursor_id, write_event, write_final, write_gap, write_open, write_place},
    event_source::is_event_source,
    profile::{Greeting, SseProfile},
};
use crate::{
    clock::Moment,
    close::Close,
    event::{Event, EventId, Position},
    frame::{Format, FormatCode, SseForm},
    gap::Gap,
    index::TopicIndex,
    outbox::Outbox,
    protocol::{
        AfterRefusal, Ending, GapOutcome, OpeningContext, Session, SessionCursor, encode_frame,
        http::{Request, Response},
        session::{ProtocolOpening, ProtocolSession, error_json, error_of},
    },
    topic::Topic,
    transport::Transport,
};

/// An event stream to open.
#[derive(Debug, Default)]
pub struct SseOpening {
    /// Whether events have `event:` lines.
    pub named: bool,
    /// Whether the client gets the ids that it starts from, in a block without data, before the first event.
    pub wants_initial_id: bool,
    /// An event for this client alone, sent first. It carries the ids, so `wants_initial_id` is not needed with it.
    pub greeting: Option<Greeting>,
    /// What an API's clients expect besides the events, such as heartbeats.
    pub profile: Option<Box<SseProfile>>,
}

impl ProtocolOpening for SseOpening {
    const TRANSPORT: Transport = Transport::Sse;
    const STATUS: u16 = 200;

    fn open(mut self, context: OpeningContext<'_>, outbox: &mut Outbox) -> Session {
        let OpeningContext { date, headers, retry_ms, can_chunk, topic_count, now, early } = context;
        if let Some(profile) = &mut self.profile {
            profile.begin(now, early);
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        write_open(can_chunk, date, retry_ms, &headers, outbox.buffer());
        let form = SseForm { named: self.named, chunked: can_chunk, with_id: topic_count == 1 };
        Session::Sse(SseStream {
            form,
            cursors: None,
            tells_place: self.wants_initial_id,
            greeting: self.greeting.map(Box::new),
            profile: self.profile,
        })
    }

    fn has_own_id(&self, topic_count: usize) -> bool {
        topic_count != 1
    }

    fn head(&self) -> Option<Response> {
        let response = Response::empty(200).with("Content-Type", CONTENT_TYPE).with("Cache-Control", "no-cache");
        Some(response.with("X-Accel-Buffering", "no"))
    }

    fn expect_refusal(&mut self) {
        self.profile.get_or_insert_with(|| Box::new(SseProfile::of_refusal()));
    }

    /// An `EventSource` of a browser retries only after a 200. A client that shall not come back gets the status.
    fn of_refusal(request: &Request, after: AfterRefusal) -> Option<Self> {
        let is_wanted = after == AfterRefusal::Retry && is_event_source(request);
        is_wanted.then(|| Self { named: true, ..Self::default() })
    }
}

/// An open Server-Sent Events stream.
#[derive(Debug)]
pub struct SseStream {
    /// The variant of its frames.
    form: SseForm,
    /// With several topics: where the client stands in each, in the order of the URL. Together they are the stream's id.
    cursors: Option<Box<TopicCursors>>,
    /// Whether the resume id goes ahead of the first event. By the standard a block without data is no event (WHATWG HTML, section
    /// 9.2.6), but some clients make an empty one of it, so it is written to browsers only.
    tells_place: bool,
    /// The event that goes ahead of everything else, until it is written.
    pub(in crate::protocol) greeting: Option<Box<Greeting>>,
    /// What its clients expect besides the events.
    pub(in crate::protocol) profile: Option<Box<SseProfile>>,
}

/// Where a client stands in several topics. In a box of their own, so that streams over one topic stay small.
type TopicCursors = SmallVec<[TopicCursor; 4]>;

/// Where a client stands in one of several topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TopicCursor {
    /// The topic, by its owner's index for it.
    topic: TopicIndex,
    /// The last id. While the stream listens to the topic, its owner knows that better, and brings it up to date when it is
    /// needed.
    id: EventId,
    /// Where in the log the stream has begun to listen. While it stands there the id is right as it is: the log may know the
    /// position by another one.
    began: Position,
}

impl SseStream {
    /// A stream whose frames have this `form`.
    #[cfg(test)]
    pub(in crate::protocol) fn new(form: SseForm, tells_place: bool) -> Self {
        Self { form, cursors: None, tells_place, greeting: None, profile: None }
    }

    /// The stream's id, if it is over several topics.
    fn ids(&self) -> Option<impl ExactSizeIterator<Item = EventId> + Clone> {
        self.cursors.as_ref().map(|cursors| cursors.iter().map(|cursor| cursor.id))
    }

    fn cursors_of(&mut self, topic: TopicIndex) -> impl Iterator<Item = &mut TopicCursor> {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.filter(move |cursor| cursor.topic == topic)
    }
}

impl ProtocolSession for SseStream {
    fn format(&self) -> Option<Format> {
        Some(Format::Sse(self.form))
    }

    fn heartbeat_due(&self) -> Option<Moment> {
        self.profile.as_ref().map(|profile| profile.heartbeat_due())
    }

    fn has_greeting(&self) -> bool {
        self.greeting.is_some()
    }

    fn sort_for_group<T>(
        &self,
        format: FormatCode,
        subscriptions: &mut [T],
        topic_of: impl Fn(&T) -> TopicIndex,
        key: &mut Vec<u8>,
    ) -> bool {
        key.push(format.bits());
        let Some(cursors) = self.cursors.as_ref().filter(|_| !format.is_shared()) else { return false };
        if cursors.len() != subscriptions.len() {
            return false;
        }
        subscriptions.sort_unstable_by_key(|it| cursors.iter().position(|cursor| cursor.topic == topic_of(it)));
        subscriptions.iter().for_each(|it| key.extend(topic_of(it).to_le_bytes()));
        cursors.iter().zip(subscriptions.iter()).all(|(cursor, it)| cursor.topic == topic_of(it))
    }

    fn write_resume_id(&self, only: Option<EventId>, outbox: &mut Outbox) {
        let chunked = self.form.chunked;
        match (self.ids(), only) {
            (Some(ids), _) => write_place(ids, chunked, outbox.buffer()),
            (None, Some(only)) => write_place([only].into_iter(), chunked, outbox.buffer()),
            (None, None) => {}
        }
    }

    fn write_refusal(&self, close: Close, outbox: &mut Outbox) {
        if error_of(close).is_none() {
            let error = self.profile.as_ref().map_or_else(|| error_json(close), |profile| profile.error_json(close));
            write_event(None, Some("error"), &error, self.form.chunked, outbox.buffer());
        }
    }

    fn set_topics(&mut self, topics: impl Iterator<Item = TopicIndex>) {
        let cursor = |topic| TopicCursor { topic, id: EventId::default(), began: 0 };
        self.cursors = Some(Box::new(topics.map(cursor).collect()));
    }

    fn start_after(&mut self, topic: TopicIndex, id: EventId) {
        self.pass(topic, id);
    }

    fn begin(&mut self, topic: TopicIndex, began: Position) {
        self.cursors_of(topic).for_each(|cursor| cursor.began = began);
    }

    fn pass(&mut self, topic: TopicIndex, id: EventId) {
        self.cursors_of(topic).for_each(|cursor| cursor.id = id);
    }

    #[inline]
    fn each_cursor(&mut self, mut act: impl FnMut(SessionCursor<'_>)) {
        let cursors = self.cursors.iter_mut().flat_map(|cursors| cursors.iter_mut());
        cursors.enumerate().for_each(|(index, it)| {
            act(SessionCursor { index, topic: it.topic, began: it.began, id: &mut it.id });
        });
    }

    fn write_event(
        &mut self,
        topic: TopicIndex,
        event: &Event,
        format: Format,
        _: &mut String,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let before = out.len();
        self.pass(topic, event.id);
        if let Some(ids) = self.ids() {
            write_cursor_id(ids, self.form.chunked, out);
        }
        let lead_bytes = (out.len() - before) as u32;
        out.extend_from_slice(&event.frame(format, |event| encode_frame(event, format)));
        Some(lead_bytes)
    }

    fn write_gap(&mut self, topic: TopicIndex, name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
        self.pass(topic, gap.to);
        if let Some(ids) = self.ids() {
            write_cursor_id(ids, self.form.chunked, outbox.buffer());
        }
        write_gap(name, gap, self.form, outbox.buffer());
        GapOutcome::Written
    }

    fn write_greeting(&mut self, resume_id: Option<EventId>, outbox: &mut Outbox) {
        if let Some(greeting) = self.greeting.take() {
            greeting.write(resume_id, self.form.chunked, outbox.buffer());
        }
    }

    fn takes_resume_id(&mut self) -> bool {
        std::mem::take(&mut self.tells_place)
    }

    fn write_heartbeat(&mut self, _: Moment, outbox: &mut Outbox) {
        outbox.put(heartbeat(self.form.chunked));
    }

    fn write_heartbeat_event(
        &mut self,
        resume_id: Option<EventId>,
        timestamp: &str,
        now: Moment,
        outbox: &mut Outbox,
    ) -> bool {
        let Some(profile) = &mut self.profile else { return false };
        profile.write_heartbeat(resume_id, timestamp, self.form.chunked, now, outbox.buffer())
    }

    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        let Ending { close, retry_ms, .. } = ending;
        let profile = self.profile.as_deref();
        let error = error_of(close).map(|error| profile.map_or(error, |profile| profile.error_json(close)));
        let retry_ms = profile.and_then(|profile| profile.retry_ms(close)).unwrap_or(retry_ms);
        write_final(self.form.chunked, retry_ms, error.as_deref(), outbox.buffer());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(topics: &[usize]) -> Session {
        let form = SseForm { named: true, chunked: false, with_id: false };
        let mut session = Session::Sse(SseStream::new(form, false));
        session.set_topics(topics.iter().map(|index| TopicIndex::new(*index)));
        session
    }

    #[test]
    fn subscriptions_stand_in_the_order_of_the_frames() {
        let check = |session: Session, subscribed: &[usize], expected: Option<&[usize]>| {
            let mut subscriptions: Vec<TopicIndex> = subscribed.iter().map(|index| TopicIndex::new(*index)).collect();
            let format = FormatCode::from(session.format().expect("a stream"));
            let mut key = Vec::new();
            let is_grouped = session.sort_for_group(format, &mut subscriptions, |it| *it, &mut key);
            let found: Vec<usize> = subscriptions.into_iter().map(TopicIndex::get).collect();
            assert_eq!(is_grouped.then_some(&found[..]), expected, "{session:?}");
            assert_eq!(key[0], format.bits());
        };
        check(stream(&[3, 1, 2]), &[1, 2, 3], Some(&[3, 1, 2]));
        // It waits for one of its topics.
        check(stream(&[3, 1, 2]), &[1, 2], None);
        check(stream(&[3, 1]), &[1, 2], None);
    }

    #[test]
    fn a_stream_over_several_topics_knows_where_it_stands_in_each() {
        let mut session = stream(&[4, 2]);
        let id = EventId::new(1, 9);
        session.begin(TopicIndex::new(2), 7);
        session.pass(TopicIndex::new(2), id);
        let mut found = Vec::new();
        session.each_cursor(|it| found.push((it.index, it.topic.get(), it.began, *it.id)));
        assert_eq!(found, [(0, 4, 0, EventId::default()), (1, 2, 7, id)]);
    }
}
