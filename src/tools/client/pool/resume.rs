//! Where in its topics a member stands.

use crate::protocol::http::percent_encode;

use super::{super::stream::Transport, ClientSpec};

/// What to say when coming back.
#[derive(Debug)]
pub(super) struct ResumePoint {
    /// As it was given, while nothing better is known.
    since: Option<String>,
    /// The last id of the whole stream, as SSE tells it.
    last_id: String,
    /// The topics, each with the last id of its own, as `fanfare.v1` tells them.
    topics: Vec<(String, Option<String>)>,
    transport: Transport,
}

impl ResumePoint {
    /// Before anything came.
    pub(super) fn new(spec: &ClientSpec) -> Self {
        Self {
            since: spec.since.clone(),
            last_id: String::new(),
            topics: spec.topics.iter().map(|topic| (topic.clone(), None)).collect(),
            transport: spec.transport,
        }
    }

    /// An id came. `topic` is empty where the transport does not tell it.
    pub(super) fn advance(&mut self, topic: &str, id: &str) {
        if id.is_empty() {
            return;
        }
        match self.topics.iter_mut().find(|(name, _)| name == topic) {
            Some((_, last)) => id.clone_into(last.get_or_insert_default()),
            None => id.clone_into(&mut self.last_id),
        }
    }

    /// What the member says, if there is anything it can say: an id, one for each topic, or a word.
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

    /// Takes note that a stream opened. Raw frames have no ids: a place that was given is left behind with the first.
    pub(super) fn open(&mut self) {
        if self.transport == Transport::Ws {
            self.since = None;
        }
    }

    /// The request target, and what goes into the field `Last-Event-ID`, which EventSource clients send.
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
