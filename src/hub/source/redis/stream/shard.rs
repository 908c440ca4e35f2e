//! Reading from one master of a cluster.
//!
//! A command takes keys of one slot only, so each stream is asked for by an `XREAD` of its own, all of them in one round trip. None waits
//! at the server, where it would hold up the others: the reader asks again after `redis.stream_poll`, or at once if there was more than
//! fitted. What is asked for is written once and sent again until something has come.
//!
//! While a slot is on its way from one node to another, the former answers `ASK` for streams that it has not, or no longer. They are asked
//! for again until the slot has moved: their entries are late then, and none is lost.

use std::{sync::Arc, time::Duration};

use redis::RedisError;
use tokio::sync::Notify;

use super::{
    arrival::Arrival,
    entry::read_streams,
    link::{Commands, StreamLink, accept, elsewhere, is_of_key},
    load::weight_bytes,
    position::ReadPosition,
    streams::StreamStage,
    turn::{ENTRIES_PER_READ, StreamPlace, StreamReader},
};
use crate::{
    source::redis::{ClusterView, NodeAddress, error_codes::Elsewhere},
    topic::Topic,
};

/// The master that a reader reads from.
pub(super) struct Shard {
    node: NodeAddress,
    view: Arc<ClusterView>,
    /// Wakes the reader.
    notify: Arc<Notify>,
    /// How long after one look for new entries the next one is due.
    interval: Duration,
    asked: AskedStreams,
}

/// What is asked for: the streams and their positions, and the commands for it.
#[derive(Default)]
struct AskedStreams {
    commands: Commands,
    streams: Vec<(Topic, Box<str>, ReadPosition)>,
    /// Of the streams, when the commands were written; with how many entries they ask for.
    version: Option<(u64, usize)>,
    count: usize,
}

impl Shard {
    pub(super) fn new(node: NodeAddress, view: Arc<ClusterView>, notify: Arc<Notify>, interval: Duration) -> Self {
        Self { node, view, notify, interval, asked: AskedStreams::default() }
    }

    pub(super) async fn pause(&self, longest: Duration) {
        // Woken or not, the reader looks at everything.
        let _ = tokio::time::timeout(longest, self.notify.notified()).await;
    }

    /// The node says that it does not serve a key.
    pub(super) fn take_elsewhere(&self, error: &RedisError) {
        if let Some(Elsewhere::Moved(moved)) = elsewhere(error) {
            self.view.redirect(&moved, &self.node);
        }
    }

    pub(super) fn on_node_lost(&self) {
        self.view.request_look();
    }
}

impl AskedStreams {
    /// Writes the commands anew if something has changed.
    fn update(&mut self, reader: &StreamReader) {
        let streams = reader.streams.lock();
        let version = Some((streams.version(), reader.count));
        if self.version == version {
            return;
        }
        self.version = version;
        self.streams.clear();
        self.streams.extend(streams.reading().map(|(topic, key, position)| (topic.clone(), key.into(), position)));
        drop(streams);
        self.count = (ENTRIES_PER_READ / self.streams.len().max(1)).clamp(1, reader.count);
        let count = self.count.to_string();
        self.commands.clear();
        for (_, key, position) in &self.streams {
            let last = position.last.to_string();
            self.commands.push_words(&["XREAD", "COUNT", &count, "STREAMS", key, &last]);
        }
    }
}

impl StreamReader {
    /// Looks for new entries of all streams; then waits for the next time, unless there is `more` to do.
    pub(super) async fn poll(&mut self, link: &mut StreamLink, more: bool) -> Result<(), RedisError> {
        let StreamPlace::Shard(shard) = &mut self.place else { return Ok(()) };
        let (interval, mut asked) = (shard.interval, std::mem::take(&mut shard.asked));
        asked.update(self);
        let began = self.clock.now();
        let is_behind = self.ask_each(link, &asked).await;
        if let StreamPlace::Shard(shard) = &mut self.place {
            shard.asked = asked;
        }
        if !is_behind? && !more {
            let now = self.clock.now();
            // Who wants a stream wakes the reader.
            let is_idle = self.streams.lock().counts() == (0, 0);
            let due = if is_idle { self.role_due } else { self.role_due.min(began + interval) };
            self.pause(due.since(now)).await;
        }
        Ok(())
    }

    /// Whether there may be more of a stream.
    async fn ask_each(&mut self, link: &mut StreamLink, asked: &AskedStreams) -> Result<bool, RedisError> {
        if asked.streams.is_empty() {
            self.read_at = self.clock.now();
            return Ok(false);
        }
        let answers = link.exchange(&asked.commands).await?;
        self.read_at = self.clock.now();
        let (mut arrivals, mut bytes, mut is_behind) = (Vec::new(), 0, false);
        for ((topic, key, position), answer) in asked.streams.iter().zip(answers) {
            let answer = match accept(answer) {
                Ok(answer) => answer,
                Err(error) if elsewhere(&error).is_some() => {
                    self.take_elsewhere(&error);
                    continue;
                }
                Err(error) if is_of_key(&error) => {
                    self.give_up(topic, *position);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (_, entries) in read_streams(answer)? {
                bytes += entries.iter().map(weight_bytes).sum::<usize>();
                is_behind |= asked.count <= entries.len();
                arrivals.push(Arrival::new(topic.clone(), key.to_string(), *position, entries));
            }
        }
        self.adapt_count(bytes);
        self.judge_and_deliver(link, arrivals).await?;
        Ok(is_behind)
    }

    /// Reads `topic` no longer until it can be loaded again, unless another reader has it by now.
    pub(super) fn give_up(&self, topic: &Topic, position: ReadPosition) {
        let now = self.clock.now();
        let mut streams = self.streams.lock();
        if streams.position(topic).is_some_and(|known| known.last == position.last) {
            self.bus.mark_stale(topic);
            streams.set_stage(topic, StreamStage::New { due: now, again: true });
        }
    }
}
