//! `GET …/streams`: a page of streams, made in steps as a page of topics is.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use serde_json::{Value, json};

use super::{Mount, unix_s};
use crate::{
    auth::Identity,
    endpoint::{
        Context,
        gate::access,
        native::pages::{PageQuery, look_through},
        work::{STEP_ENTRIES, Step, Work},
    },
    protocol::http::Response,
};

/// The figures of a stream.
#[derive(Debug, Default)]
pub(super) struct StreamFigures {
    /// Subscriptions at this hub, over all routes.
    pub(super) clients: usize,
    /// Whether the generator is paused; `None`: no generator.
    pub(super) generator: Option<bool>,
}

impl StreamFigures {
    /// The figures as JSON. Every stream takes events, so each is active. If `is_shared`, other hubs on the broker may have more
    /// clients, and the figures say so.
    pub(super) fn describe(&self, is_shared: bool) -> Value {
        let generator = json!({ "running": self.generator.is_some(), "paused": self.generator == Some(true) });
        let mut figures = json!({ "clients": self.clients, "active": true, "generator": generator });
        if is_shared {
            figures["clients_of"] = "this hub".into();
        }
        figures
    }
}

/// A page under way: of the streams that the client may subscribe to, the default ones, those with generators, and those with
/// clients at this hub. If it `is_paged`, the first two kinds are on the page to which their names belong, else all of them are
/// on this page.
#[derive(Debug)]
pub(super) struct StreamPage {
    mount: &'static Mount,
    identity: Option<Arc<Identity>>,
    is_paged: bool,
    prefix: String,
    after: Option<String>,
    limit: usize,
    /// The streams found: at most as many as the topics looked at plus the generators.
    streams: BTreeMap<String, StreamFigures>,
    /// The sum of their names' lengths, in bytes.
    name_bytes: usize,
    /// The name after which the next page begins, once it is known.
    next: Option<String>,
    stage: PageStage,
}

/// The stage of a page.
#[derive(Debug)]
enum PageStage {
    /// Looking at topics, from this name on; `left` of them are yet to be looked at.
    Looking { from: Bound<String>, left: usize },
    /// Adding default streams and those with generators, each with whether its generator is paused.
    Adding(VecDeque<(String, Option<bool>)>),
    /// Writing the answer's JSON.
    Writing(Vec<u8>),
}

/// The memory of a stream besides its name, in bytes: its entry and its part of the map's nodes.
const STREAM_BYTES: usize = 2 * size_of::<(String, StreamFigures)>();

impl StreamPage {
    pub(super) fn new(
        mount: &'static Mount,
        identity: Option<Arc<Identity>>,
        asked: &PageQuery<'_>,
        is_paged: bool,
    ) -> Self {
        let under = |name: &str| format!("{}{name}", mount.prefix);
        let from = match asked.from() {
            Bound::Excluded(after) => Bound::Excluded(under(&after)),
            from => from.map(|first| under(&first)),
        };
        Self {
            mount,
            identity,
            is_paged,
            prefix: asked.prefix.to_owned(),
            after: asked.after.map(str::to_owned),
            limit: asked.limit,
            streams: BTreeMap::new(),
            name_bytes: 0,
            next: None,
            stage: PageStage::Looking { from, left: asked.limit },
        }
    }

    /// Looks at the next topics.
    fn look(&mut self, from: Bound<String>, left: usize, context: &Context<'_>) -> PageStage {
        let prefix = self.mount.prefix;
        let context = Context { identity: self.identity.as_deref(), ..*context };
        let (streams, name_bytes) = (&mut self.streams, &mut self.name_bytes);
        let looks = left.min(STEP_ENTRIES);
        let next = look_through(&format!("{prefix}{}", self.prefix), from, looks, &context, |state| {
            let clients = state.subscriber_count.load(Ordering::Relaxed);
            if let Some(stream) = state.topic.as_str().strip_prefix(prefix).filter(|_| 0 < clients) {
                *name_bytes += stream.len();
                streams.entry(stream.to_owned()).or_default().clients = clients;
            }
        });
        match next {
            Some(last) if looks < left => {
                PageStage::Looking { from: Bound::Excluded(last.as_str().to_owned()), left: left - looks }
            }
            next => {
                self.next = next.and_then(|last| last.as_str().strip_prefix(prefix).map(str::to_owned));
                PageStage::Adding(self.mount.permanent_streams(&context))
            }
        }
    }

    /// Adds some of the streams that exist without clients.
    fn add(&mut self, mut permanent: VecDeque<(String, Option<bool>)>, context: &Context<'_>) -> PageStage {
        for (stream, generator) in permanent.drain(..permanent.len().min(STEP_ENTRIES)) {
            let Ok(topic) = self.mount.topic(&stream) else { continue };
            if !self.is_on_page(&stream) || access::may_subscribe(self.identity.as_deref(), &topic).is_err() {
                continue;
            }
            self.name_bytes += stream.len();
            let figures = self.streams.entry(stream).or_insert_with(|| StreamFigures {
                // Behind the page, where no topic was looked at.
                clients: context.hub.bus.subscriber_count(&topic),
                ..StreamFigures::default()
            });
            figures.generator = generator;
        }
        if !permanent.is_empty() {
            return PageStage::Adding(permanent);
        }
        if self.is_paged && self.limit < self.streams.len() {
            let beyond = self.streams.keys().nth(self.limit).cloned().unwrap_or_default();
            self.streams.split_off(&beyond);
            self.next = self.streams.keys().next_back().cloned();
        }
        PageStage::Writing(br#"{"success":true,"data":{"#.to_vec())
    }

    fn is_on_page(&self, stream: &str) -> bool {
        let is_behind = self.after.as_deref().is_none_or(|after| after < stream);
        let is_within = self.next.as_deref().is_none_or(|next| stream <= next);
        !self.is_paged || stream.starts_with(&self.prefix) && is_behind && is_within
    }

    /// Writes the next streams. `true`: all are written.
    fn write(&mut self, body: &mut Vec<u8>, context: &Context<'_>) -> bool {
        let is_shared = context.hub.bus.default_sink().is_some();
        for _ in 0..STEP_ENTRIES {
            let Some((stream, figures)) = self.streams.pop_first() else { return true };
            if !body.ends_with(b"{") {
                body.push(b',');
            }
            // Such values are always JSON, and writing to a Vec cannot fail.
            let _ = serde_json::to_writer(&mut *body, &stream);
            body.push(b':');
            let _ = serde_json::to_writer(&mut *body, &figures.describe(is_shared));
        }
        self.streams.is_empty()
    }

    /// Writes what follows the streams.
    fn finish(&self, mut body: Vec<u8>, context: &Context<'_>) -> Response {
        body.push(b'}');
        if self.is_paged || self.next.is_some() {
            body.extend_from_slice(b",\"next\":");
            let _ = serde_json::to_writer(&mut body, &self.next);
        }
        body.extend_from_slice(format!(",\"timestamp\":{}}}", unix_s(context)).as_bytes());
        Response::json_text(200, body)
    }
}

impl Work for StreamPage {
    fn step(&mut self, context: &Context<'_>) -> Step {
        self.stage = match std::mem::replace(&mut self.stage, PageStage::Writing(Vec::new())) {
            PageStage::Looking { from, left } => self.look(from, left, context),
            PageStage::Adding(permanent) => self.add(permanent, context),
            PageStage::Writing(mut body) => {
                if self.write(&mut body, context) {
                    return Step::Done(self.finish(body, context));
                }
                PageStage::Writing(body)
            }
        };
        Step::More
    }

    fn is_committed(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        let stage_bytes = match &self.stage {
            PageStage::Looking { .. } => 0,
            PageStage::Adding(permanent) => permanent.capacity() * STREAM_BYTES,
            PageStage::Writing(body) => body.capacity(),
        };
        self.streams.len() * STREAM_BYTES + self.name_bytes + stage_bytes
    }
}
