//! How publications are added to streams.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;

use super::{
    config::{Classes, Config},
    link::LEAST_VERSION,
};
use crate::{
    bus::Publication,
    clock::Clock,
    source::redis_pubsub::{
        self, Form, Request, Script, SourceStatus, WriterHandle, digest, memory_key, start_writer_of,
    },
};

/// Starts the thread that publishes. Fails if `redis` names files that cannot be used.
pub fn start_writer(
    redis: redis_pubsub::Config,
    config: Config,
    classes: Classes,
    clock: Clock,
    status: Arc<SourceStatus>,
) -> io::Result<WriterHandle> {
    let form = Streams { config, classes, idempotency_window: redis.idempotency_window };
    start_writer_of(Arc::new(form), redis, clock, status)
}

/// `XADD` to the topic's stream, which is answered by the event's id.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) config: Config,
    pub(super) classes: Classes,
    pub(super) idempotency_window: Duration,
}

static ADD_ONCE_TEXT: &str = "\
    local first = redis.call('GET', KEYS[1])
    if first then return first end
    local id = redis.call('XADD', KEYS[2], unpack(ARGV, 2))
    redis.call('SET', KEYS[1], id, 'PX', ARGV[1])
    return id";
static ADD_ONCE: Script = Script::new(ADD_ONCE_TEXT, LazyLock::new(|| digest(ADD_ONCE_TEXT)));

impl Form for Streams {
    fn least_version(&self) -> u64 {
        LEAST_VERSION
    }

    fn request(&self, publication: &Publication) -> Request {
        let key = self.config.key(&publication.topic);
        let entry = self.entry(publication);
        let key_bytes = Bytes::copy_from_slice(key.as_bytes());
        let Some(once) = &publication.idempotency_key else {
            let arguments = [Bytes::from_static(b"XADD"), key_bytes].into_iter().chain(entry).collect();
            return Request { script: None, arguments };
        };
        let memory = memory_key(&format!("stream.{key}"), once);
        let window_ms = self.idempotency_window.as_millis().to_string().into();
        let arguments = [Bytes::from_static(b"2"), memory, key_bytes, window_ms].into_iter().chain(entry).collect();
        Request { script: Some(&ADD_ONCE), arguments }
    }
}

impl Streams {
    /// The words of an `XADD` behind its key.
    fn entry(&self, publication: &Publication) -> Vec<Bytes> {
        let mut words = Vec::with_capacity(8);
        let count = self.classes.history(&publication.topic).count;
        if count != 0 {
            words.extend([b"MAXLEN".as_slice(), b"~"].map(Bytes::from_static));
            words.push(count.to_string().into());
        }
        words.push(Bytes::from_static(b"*"));
        if let Some(kind) = &publication.kind {
            words.extend([Bytes::from_static(b"type"), Bytes::copy_from_slice(kind.as_bytes())]);
        }
        words.extend([Bytes::from_static(b"data"), publication.data.clone()]);
        words
    }
}
