//! A stream as the reader knows it: what it is, and how far it was read. No I/O.

use std::sync::Arc;

use super::{
    api::{ApiError, Refused, StoredMessage, StreamInfo},
    config::StreamSpec,
    quiet::QuietTopics,
};
use crate::{clock::Moment, event::EventId, source::nats::link::SubscriptionHandle};

/// A stream that keeps a class of topics.
#[derive(Debug)]
pub(super) struct KeptStream {
    pub(super) spec: StreamSpec,
    /// What makes it another stream than any before it, the major part of its events' ids. `None` until it was seen.
    pub(super) identity: Option<u64>,
    /// How far it was read; `None` while nobody wants its topics.
    pub(super) position: Option<StreamPosition>,
    /// What delivers what follows.
    pub(super) follower: Option<Follower>,
    /// Messages up to here were found to be removed, and not every topic was told yet; and until when all are.
    pub(super) hole: Option<(u64, Moment)>,
    /// Whether the follower is to be replaced at the next look.
    pub(super) renews_follower: bool,
    /// When to look next whether it still is the stream that is read.
    pub(super) check_due: Moment,
    /// Failed attempts in a row.
    pub(super) failures: u32,
    /// When something of each topic came last.
    pub(super) quiet: Arc<QuietTopics>,
    /// Whether the log has a line about what it has otherwise than the class asks for.
    pub(super) has_warned: bool,
}

/// Up to where a stream was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPosition {
    pub(super) seq: u64,
    /// When the message there was stored, by which it is known again, in nanoseconds since 1970. `None`: nobody knows.
    pub(super) time: Option<u64>,
}

/// A consumer that delivers a stream to the hub.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) consumer: String,
    /// Where its deliveries and heartbeats go.
    pub(super) subject: String,
    pub(super) subscription: SubscriptionHandle,
    /// How many it has delivered.
    pub(super) delivered: u64,
    /// When it last said something.
    pub(super) heard: Moment,
    /// How many it had delivered when the stream was found to have more. If it is no more at the next look, it has stopped.
    pub(super) behind_at: Option<u64>,
}

/// What a stream is found to be, compared with what was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    /// A copy of the same stream that goes back to an earlier time: the same name, the same time of making.
    Restored,
    /// Another one.
    Replaced,
}

/// The word in a stream's description that is part of its identity.
const IDENTITY_WORD: &str = "fanfare-log=";

/// The description of a stream that the hub makes, or whose identity it renews: the stream's former one with another identity.
pub(super) fn renewed_description(former: &str, random: u64) -> String {
    let kept = former.split(' ').filter(|word| !word.starts_with(IDENTITY_WORD) && !word.is_empty());
    let word = format!("{IDENTITY_WORD}{random:016x}");
    kept.chain([word.as_str()]).collect::<Vec<_>>().join(" ")
}

/// The major part of the ids of events in a stream. It changes when the stream is deleted and made anew, and when somebody writes
/// another identity into its description; it stays when the stream is restored from a copy.
pub(super) fn identity(info: &StreamInfo) -> u64 {
    let word = info.description().split(' ').find_map(|word| word.strip_prefix(IDENTITY_WORD));
    info.created() ^ word.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

impl KeptStream {
    pub(super) fn new(spec: StreamSpec, quiet: Arc<QuietTopics>, now: Moment) -> Self {
        Self {
            spec,
            quiet,
            identity: None,
            position: None,
            follower: None,
            hole: None,
            renews_follower: false,
            check_due: now,
            failures: 0,
            has_warned: false,
        }
    }

    /// The id of the message with this sequence.
    pub(super) fn id(&self, seq: u64) -> EventId {
        EventId::new(self.identity.unwrap_or_default(), seq)
    }

    /// Compares what was read with the stream that there is. `stored` is the answer to the question for the message at the position.
    pub(super) fn judge(&self, info: &StreamInfo, stored: Option<&Result<StoredMessage, Refused>>) -> Verdict {
        let Some(known) = self.identity else { return Verdict::Same };
        if identity(info) != known {
            return Verdict::Replaced;
        }
        let Some(position) = self.position else { return Verdict::Same };
        if info.state.last_seq < position.seq {
            return Verdict::Restored;
        }
        match stored {
            // Of a message that is gone nobody can say anything.
            Some(Ok(stored)) if position.time.is_some() && stored.time() != position.time => Verdict::Restored,
            _ => Verdict::Same,
        }
    }

    /// What the class needs of the stream, and it has not.
    pub(super) fn unfit(&self, info: &StreamInfo) -> Option<String> {
        let StreamSpec { name, subject, .. } = &self.spec;
        if !info.subjects().any(|pattern| covers(pattern, subject)) {
            let subjects: Vec<&str> = info.subjects().collect();
            return Some(format!("the stream `{name}` keeps the subjects {subjects:?}, and not `{subject}`"));
        }
        (info.retention() != "limits").then(|| {
            format!("the stream `{name}` has the retention `{}`: another reader may take events away", info.retention())
        })
    }
}

impl StreamPosition {
    /// The end of the stream.
    pub(super) fn end(info: &StreamInfo) -> Self {
        Self { seq: info.state.last_seq, time: info.last_time() }
    }
}

impl Refused {
    /// Whether there is no such stream.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Api(error) if error.err_code == ApiError::STREAM_NOT_FOUND)
    }
}

/// Whether all subjects of the pattern `narrow` fall under the pattern `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('.');
    for token in wide.split('.') {
        match (token, narrow.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(other)) if other != ">" => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::{super::config::JetStreamConfig, *};
    use crate::{
        bus::{Class, LogKind},
        source::{
            TopicClasses,
            nats::{NatsConfig, jetstream::JETSTREAM_SOURCE},
        },
        topic::Pattern,
    };

    fn stream() -> KeptStream {
        let class = Class { source: Some(JETSTREAM_SOURCE), log: LogKind::Broker, ..Class::default() };
        let listed = vec![(Pattern::parse("a.*").expect("a pattern"), class)];
        let classes = TopicClasses { default: Class::default(), listed };
        let specs = StreamSpec::of_classes(&classes, &JetStreamConfig::default(), &NatsConfig::default());
        KeptStream::new(specs.expect("usable").remove(0), Arc::new(QuietTopics::new(1)), Moment(0))
    }

    fn info(description: &str, created: u8, last: u64) -> StreamInfo {
        let text = format!(
            r#"{{"config":{{"subjects":["a.>"],"description":"{description}"}},"created":"2026-11-30T15:00:0{created}Z",
               "state":{{"first_seq":1,"last_seq":{last}}}}}"#
        );
        super::super::api::read(text.as_bytes()).expect("an answer")
    }

    fn stored(second: u64) -> Result<StoredMessage, Refused> {
        super::super::api::read(format!(r#"{{"message":{{"time":"1970-01-01T00:00:0{second}Z"}}}}"#).as_bytes())
    }

    #[test]
    fn an_identity_is_of_one_stream() {
        let description = renewed_description("orders of Europe", 0xabc);
        assert_eq!(description, "orders of Europe fanfare-log=0000000000000abc");
        let renewed = renewed_description(&description, 1);
        assert_eq!(renewed, "orders of Europe fanfare-log=0000000000000001");
        let all = [info(&description, 1, 0), info(&renewed, 1, 0), info("", 1, 0), info(&description, 2, 0)];
        let identities: std::collections::HashSet<u64> = all.iter().map(identity).collect();
        assert_eq!(identities.len(), 4);
        assert_eq!(
            identity(&info("", 1, 0)),
            identity(&info("fanfare-log=", 1, 7)),
            "what is no number counts for none"
        );
    }

    #[test]
    fn a_stream_is_the_same_or_not() {
        let mut kept = stream();
        let check = |kept: &KeptStream, info: StreamInfo, stored: Option<Result<StoredMessage, Refused>>, expected| {
            assert_eq!(kept.judge(&info, stored.as_ref()), expected, "{info:?} {stored:?}");
        };
        check(&kept, info("", 1, 0), None, Verdict::Same);
        kept.identity = Some(identity(&info("", 1, 0)));
        check(&kept, info("", 1, 0), None, Verdict::Same);
        check(&kept, info("", 2, 0), None, Verdict::Replaced);
        kept.position = Some(StreamPosition { seq: 5, time: Some(3_000_000_000) });
        check(&kept, info("", 1, 5), Some(stored(3)), Verdict::Same);
        check(&kept, info("", 1, 9), Some(stored(3)), Verdict::Same);
        check(&kept, info("", 1, 9), Some(stored(4)), Verdict::Restored);
        check(&kept, info("", 1, 4), None, Verdict::Restored);
        check(&kept, info("", 1, 9), Some(Err(Refused::Unreadable)), Verdict::Same);
        kept.position = Some(StreamPosition { seq: 5, time: None });
        check(&kept, info("", 1, 9), Some(stored(4)), Verdict::Same);
    }

    #[test]
    fn a_stream_covers_its_class_or_not() {
        assert_eq!(stream().unfit(&info("", 1, 0)), None);
        let check =
            |wide: &str, narrow: &str, expected: bool| assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        check("a.*", "a.*", true);
        check("a.>", "a.*", true);
        check("a.*", "a.b", true);
        check("*.b", "a.b", true);
        check(">", "a.*.c", true);
        check("a.b", "a.*", false);
        check("a.*", "a.>", false);
        check("a.>", "a", false);
        check("a", "a.b", false);
        check("a.*.c", "a.b", false);
        check("b.>", "a.>", false);
    }
}
