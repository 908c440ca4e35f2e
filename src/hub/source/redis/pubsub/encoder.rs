//! Publications as `PUBLISH` commands.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;

use super::envelope;
use crate::{
    bus::Publication,
    clock::Clock,
    source::{
        SourceStatus,
        redis::{
            PublishCommand, PublishEncoder, RedisConfig, Script, ServerView, WriterHandle, digest, memory_key,
            start_writer_with,
        },
    },
};

/// Starts the thread that publishes. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub(super) fn start_writer(
    config: RedisConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
) -> io::Result<WriterHandle> {
    let form = ChannelEncoder { idempotency_window: config.idempotency_window };
    start_writer_with(Arc::new(form), config, clock, status, view)
}

/// `PUBLISH` to the channel of the topic's name.
#[derive(Debug)]
pub(super) struct ChannelEncoder {
    /// How long the key of an idempotent publication is remembered.
    pub(super) idempotency_window: Duration,
}

static PUBLISH_ONCE_TEXT: &str = "\
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local receivers = redis.call('PUBLISH', ARGV[2], ARGV[3])
    redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
    return receivers";
static PUBLISH_ONCE: Script = Script::new(PUBLISH_ONCE_TEXT, LazyLock::new(|| digest(PUBLISH_ONCE_TEXT)));

impl PublishEncoder for ChannelEncoder {
    fn request(&self, publication: &Publication) -> PublishCommand {
        let channel = Bytes::copy_from_slice(publication.topic.as_str().as_bytes());
        let payload = envelope::seal(publication.kind.as_deref(), &publication.data);
        match &publication.idempotency_key {
            None => PublishCommand { script: None, arguments: vec![Bytes::from_static(b"PUBLISH"), channel, payload] },
            Some(key) => {
                let memory = memory_key(&format!("channel.{}", publication.topic), key);
                let window_ms = self.idempotency_window.as_millis().to_string().into();
                let arguments = vec![Bytes::from_static(b"1"), memory, window_ms, channel, payload];
                PublishCommand { script: Some(&PUBLISH_ONCE), arguments }
            }
        }
    }
}
