//! How publications are added to streams.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;

use super::{
    STREAM_SOURCE,
    config::{RedisStreamConfig, kept_ms},
    entry::{CARRIED, GAP, GAP_DATA},
    link::LEAST_VERSION,
};
use crate::{
    bus::Publication,
    clock::Clock,
    source::{
        SourceStatus, TopicClasses,
        redis::{
            PublishCommand, PublishEncoder, RedisConfig, Script, ServerView, WriterHandle, digest, memory_key,
            start_writer_with,
        },
    },
};

/// Starts the thread that publishes. Fails if `redis` names files that cannot be used.
pub(super) fn start_writer(
    redis: RedisConfig,
    config: RedisStreamConfig,
    classes: TopicClasses,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
) -> io::Result<WriterHandle> {
    let form = StreamEncoder { config, classes, idempotency_window: redis.idempotency_window, is_in_cluster: false };
    start_writer_with(Arc::new(form), redis, clock, status, view)
}

/// One script adds to the topic's stream and lets go what is no longer kept; it is answered by the event's id.
#[derive(Debug)]
pub(super) struct StreamEncoder {
    pub(super) config: RedisStreamConfig,
    pub(super) classes: TopicClasses,
    pub(super) idempotency_window: Duration,
    /// What remembers an idempotency key has to be in the stream's slot.
    pub(super) is_in_cluster: bool,
}

/// The consumer group that marks streams made by the script.
pub(super) const MARKER_GROUP: &str = "fanfare";

static APPEND_TEXT: &str = include_str!("append.lua");
/// The same for a publication of a bridge, which is added only if the log that it comes from is carried exactly as far as the
/// bridge believes. So what two bridges carry, or one carries twice, stands there once.
static CARRY_TEXT: &str = concat!(
    "local cursor = redis.call('GET', KEYS[2]) or '0-0'\n",
    "if cursor ~= ARGV[1] then return redis.error_reply('CARRIED the log was carried up to ' .. cursor) end\n",
    "local function append(KEYS, ARGV)\n",
    include_str!("append.lua"),
    "\nend\n",
    "local id = append({KEYS[1]}, {unpack(ARGV, 3)})\n",
    "redis.call('SET', KEYS[2], ARGV[2])\n",
    "return id\n",
);
static CARRY: Script = Script::new(CARRY_TEXT, LazyLock::new(|| digest(CARRY_TEXT)));
static APPEND: Script = Script::new(APPEND_TEXT, LazyLock::new(|| digest(APPEND_TEXT)));

/// A stream is weighed once in so many bytes that are added, as a share of what it may weigh: weighing takes time in
/// proportion to the stream, and so its publishers pay for it. Between two looks a stream may grow by about as much.
const LOOKS_PER_BOUND: f64 = 16.0;
/// What an entry is taken to weigh besides its payload, in bytes.
const ENTRY_BYTES: usize = 48;

impl PublishEncoder for StreamEncoder {
    fn least_version(&self) -> u64 {
        LEAST_VERSION
    }

    fn request(&self, publication: &Publication) -> PublishCommand {
        let key = self.config.key(&publication.topic);
        // A prefix with a hash tag decides on the slot also here. No topic has braces, so without one the whole key does.
        let tagged = if self.is_in_cluster && !key.contains('{') { format!("{{{key}}}") } else { key.clone() };
        let bridged = publication.bridged.as_deref();
        let carried = bridged.and_then(|bridged| bridged.carried.as_ref());
        let memory = match carried {
            Some(_) => {
                let origin = bridged.map_or("", |bridged| &bridged.origin);
                Some(cursor_key(&tagged, origin).into())
            }
            None => publication.idempotency_key.as_ref().map(|once| memory_key(&format!("stream.{tagged}"), once)),
        };
        let keys: Bytes = if memory.is_some() { "2" } else { "1" }.into();
        let history = self.classes.of_source(&publication.topic, STREAM_SOURCE).retention.history;
        let bytes_max =
            if is_weighed(publication.data.len(), history.bytes, rand::random()) { history.bytes } else { 0 };
        let window_ms = self.idempotency_window.as_millis();
        let bounds = [kept_ms(history.age).into(), history.count as u128, bytes_max as u128, window_ms];
        let mut arguments = Vec::with_capacity(12);
        arguments.extend([keys, key.into()].into_iter().chain(memory));
        arguments.extend(carried.into_iter().flat_map(|it| [it.after, it.upto]).map(|id| Bytes::from(id.to_string())));
        arguments.extend(bounds.map(|bound| Bytes::from(bound.to_string())));
        if let Some(bridged) = bridged {
            arguments.extend([Bytes::from_static(CARRIED.as_bytes()), bridged.to_string().into()]);
        }
        match bridged.and_then(|bridged| bridged.gap) {
            Some(reason) => {
                arguments.extend([GAP, reason.label(), "data"].map(|word| Bytes::from_static(word.as_bytes())));
                arguments.push(Bytes::from_static(GAP_DATA));
            }
            None => {
                if let Some(kind) = &publication.kind {
                    arguments.extend([Bytes::from_static(b"type"), Bytes::copy_from_slice(kind.as_bytes())]);
                }
                arguments.extend([Bytes::from_static(b"data"), publication.data.clone()]);
            }
        }
        PublishCommand { script: Some(if carried.is_some() { &CARRY } else { &APPEND }), arguments }
    }
}

/// The key under which the server remembers how far the log `origin` was carried into the stream `key`, which stands in braces in
/// a cluster. No topic contains a blank,
/// so no two of them meet.
pub(super) fn cursor_key(key: &str, origin: &str) -> String {
    format!("fanfare.carried.{key} {origin}")
}

/// Whether a stream that may weigh `bytes_max` is to be weighed after `payload_bytes` were added; `luck` is from 0 to 1.
pub(super) fn is_weighed(payload_bytes: usize, bytes_max: usize, luck: f64) -> bool {
    luck * (bytes_max as f64) < (payload_bytes + ENTRY_BYTES) as f64 * LOOKS_PER_BOUND
}
