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
    topic::Topic,
};

/// Starts the thread that publishes. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub(super) fn start_writer(
    config: RedisConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
) -> io::Result<WriterHandle> {
    let form = ChannelEncoder { command: ChannelCommand::Publish, idempotency_window: config.idempotency_window };
    start_writer_with(Arc::new(form), config, clock, status, view)
}

/// Publishes to the channel of the topic's name.
#[derive(Debug)]
pub(in crate::source::redis) struct ChannelEncoder {
    pub(in crate::source::redis) command: ChannelCommand,
    /// How long the key of an idempotent publication is remembered.
    pub(in crate::source::redis) idempotency_window: Duration,
}

/// The command that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::redis) enum ChannelCommand {
    /// `PUBLISH` at one server.
    Publish,
    /// `PUBLISH` at a node of a cluster; what remembers the key is in the topic's slot.
    PublishInCluster,
    /// `SPUBLISH` at the node that has the topic's slot.
    PublishSharded,
}

static PUBLISH_ONCE_TEXT: &str = "\
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local receivers = redis.call('PUBLISH', ARGV[2], ARGV[3])
    redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
    return receivers";
static PUBLISH_ONCE: Script = Script::new(PUBLISH_ONCE_TEXT, LazyLock::new(|| digest(PUBLISH_ONCE_TEXT)));

static PUBLISH_SHARDED_ONCE_TEXT: &str = "\
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local receivers = redis.call('SPUBLISH', ARGV[2], ARGV[3])
    redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
    return receivers";
static PUBLISH_SHARDED_ONCE: Script =
    Script::new(PUBLISH_SHARDED_ONCE_TEXT, LazyLock::new(|| digest(PUBLISH_SHARDED_ONCE_TEXT)));

impl ChannelCommand {
    fn word(self) -> &'static [u8] {
        match self {
            Self::Publish | Self::PublishInCluster => b"PUBLISH",
            Self::PublishSharded => b"SPUBLISH",
        }
    }

    fn script(self) -> &'static Script {
        match self {
            Self::Publish | Self::PublishInCluster => &PUBLISH_ONCE,
            Self::PublishSharded => &PUBLISH_SHARDED_ONCE,
        }
    }

    /// What the key's memory is called after. No topic has braces, so in a cluster its name is what decides on the slot.
    fn place(self, topic: &Topic) -> String {
        match self {
            Self::Publish => format!("channel.{topic}"),
            Self::PublishInCluster | Self::PublishSharded => format!("channel.{{{topic}}}"),
        }
    }
}

impl PublishEncoder for ChannelEncoder {
    fn request(&self, publication: &Publication) -> PublishCommand {
        let channel = Bytes::copy_from_slice(publication.topic.as_str().as_bytes());
        let payload = envelope::seal(publication.kind.as_deref(), &publication.data);
        let command = self.command;
        match &publication.idempotency_key {
            None => {
                let arguments = vec![Bytes::from_static(command.word()), channel, payload];
                PublishCommand { script: None, arguments }
            }
            Some(key) => {
                let memory = memory_key(&command.place(&publication.topic), key);
                let window_ms = self.idempotency_window.as_millis().to_string().into();
                let arguments = vec![Bytes::from_static(b"1"), memory, window_ms, channel, payload];
                PublishCommand { script: Some(command.script()), arguments }
            }
        }
    }
}
