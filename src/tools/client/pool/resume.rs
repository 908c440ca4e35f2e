//! From where a client resumes its topics.

use crate::protocol::http::percent_encode;

use super::{super::stream::Transport, ClientSpec};

/// What a client says when it reconnects.
#[derive(Debug)]
pub(super) struct ResumePoint {
    /// The value of [`ClientSpec::since`], until ids are known.
    since: Option<String>,
    /// The last id of the whole stream (Server-Sent Events).
    last_id: String,
    /// Each topic with its last id (`fanfare.v1`).
    topics: Vec<(String, Option<String>)>,
    transport: Transport,
}

impl ResumePoint {
    pub(super) fn new(spec: &ClientSpec) -> Self {
        Self {
            since: spec.since.clone(),
            last_id: String::new(),
            topics: spec.topics.iter().map(|topic| (topic.clone(), None)).collect(),
            transport: spec.transport,
        }
    }

    /// An id came. `topic` is empty where the transport has no ids by topic.
    pub(super) fn advance(&mut self, topic: &str, id: &str) {
        if id.is_empty() {
            return;
        }
        match self.topics.iter_mut().find(|(name, _)| name == topic) {
            Some((_, last)) => id.clone_into(last.get_or_insert_default()),
            None => id.clone_into(&mut self.last_id),
        }
    }

    /// The value to resume from, if there is one: an id, one for each topic, or a word such as `first`.
    pub(super) fn value(&self) -> Option<String> {
        let by_topics = || -> Option<Vec<&str>> { self.topics.iter().map(|(_, id)| id.as_deref()).collect() };
        match self.transport {
            Transport::Sse if !self.last_id.is_empty() => Some(self.last_id.clone()),
            Transport::FanfareV1 if !self.topics.is_empty() => {
                by_topics().map(|ids| ids.join(",")).or_else(|| self.since.clone())
            }
            _ => self.since.clone(),
        }
    }

    /// A stream opened. Raw WebSocket messages have no ids, so the given start is used for the first stream only.
    pub(super) fn open(&mut self) {
        if self.transport == Transport::Ws {
            self.since = None;
        }
    }

    /// The request target, and the value of the field `Last-Event-ID`, which only Server-Sent Events use; else empty.
    pub(super) fn request(&self, target: &str) -> (String, String) {
        match (self.value(), self.transport) {
            (None, _) => (target.to_owned(), String::new()),
            (Some(resume), Transport::Sse) => (target.to_owned(), resume),
            (Some(resume), Transport::Ws | Transport::FanfareV1) => {
                let mut target = target.to_owned();
                target.push_str(if target.contains('?') { "&since=" } else { "?since=" });
                percent_encode(&resume, &mut target);
                (target, String::new())
            }
        }
    }
}
