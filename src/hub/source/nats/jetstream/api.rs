//! JetStream's API: requests and answers are JSON on subjects of the server's own
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>). Pure.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::delivery::SEQUENCE_MAX;

/// The subjects of the API.
#[derive(Clone, Debug)]
pub(super) struct Api {
    prefix: String,
}

/// What the server refuses, in its words.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct ApiError {
    /// As in HTTP.
    pub(super) code: u64,
    /// What exactly; absent from servers before 2.3.
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

/// Why an answer brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody answers: there is no JetStream, or no leader at present.
    NoResponders,
    /// The server's permissions forbid the request.
    Denied(String),
    /// The API's own answer.
    Api(ApiError),
    /// The answer is not what the request is answered by.
    Unreadable,
}

/// A stream, as the server has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamInfo {
    /// Whole, so that it can be sent back with one value changed.
    pub(super) config: Value,
    created: String,
    pub(super) state: StreamState,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct StreamState {
    /// The oldest message, or the one after `last_seq` in an empty stream.
    #[serde(deserialize_with = "sequence")]
    pub(super) first_seq: u64,
    /// The newest message that there ever was.
    #[serde(deserialize_with = "sequence")]
    pub(super) last_seq: u64,
    #[serde(default)]
    last_ts: String,
}

fn sequence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(u64::deserialize(deserializer)?.min(SEQUENCE_MAX))
}

/// A consumer that was made.
#[derive(Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) name: String,
    /// The messages that it has to deliver.
    #[serde(default)]
    pub(super) num_pending: u64,
}

/// The answer to a publication.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct PublishAck {
    pub(super) seq: u64,
}

/// A message that was asked for by its sequence.
#[derive(Debug, Deserialize)]
pub(super) struct StoredMessage {
    message: StoredTime,
}

#[derive(Debug, Deserialize)]
struct StoredTime {
    time: String,
}

impl ApiError {
    pub(super) const STREAM_NOT_FOUND: u64 = 10059;
    pub(super) const STREAM_NAME_IN_USE: u64 = 10058;
    pub(super) const MESSAGE_TOO_BIG: u64 = 10054;
    /// The stream, or the account, has no room, and its policy is to take nothing new.
    pub(super) const STORE_FAILED: u64 = 10077;
    pub(super) const NO_RESOURCES: u64 = 10023;
}

impl Api {
    /// In the domain `domain`; empty: that of the server.
    pub(super) fn new(domain: &str) -> Self {
        let prefix = if domain.is_empty() { "$JS.API".to_owned() } else { format!("$JS.{domain}.API") };
        Self { prefix }
    }

    pub(super) fn stream_info(&self, stream: &str) -> String {
        format!("{}.STREAM.INFO.{stream}", self.prefix)
    }

    pub(super) fn stream_create(&self, stream: &str) -> String {
        format!("{}.STREAM.CREATE.{stream}", self.prefix)
    }

    pub(super) fn stream_update(&self, stream: &str) -> String {
        format!("{}.STREAM.UPDATE.{stream}", self.prefix)
    }

    pub(super) fn message_get(&self, stream: &str) -> String {
        format!("{}.STREAM.MSG.GET.{stream}", self.prefix)
    }

    pub(super) fn consumer_create(&self, stream: &str) -> String {
        format!("{}.CONSUMER.CREATE.{stream}", self.prefix)
    }

    pub(super) fn consumer_next(&self, stream: &str, consumer: &str) -> String {
        format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", self.prefix)
    }

    pub(super) fn consumer_delete(&self, stream: &str, consumer: &str) -> String {
        format!("{}.CONSUMER.DELETE.{stream}.{consumer}", self.prefix)
    }
}

/// How long a consumer outlives a hub that has gone without a word.
const INACTIVE: Duration = Duration::from_secs(30);

/// A request for a consumer that pushes all of the stream from `start` on to `deliver`, in order and unacknowledged, and says every
/// `heartbeat` that it is there. With flow control it stops after
/// some bytes until the hub has asked for more.
pub(super) fn push_consumer(stream: &str, start: u64, deliver: &str, heartbeat: Duration, flow_control: bool) -> Bytes {
    consumer(
        stream,
        json!({
            "deliver_subject": deliver,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start.max(1),
            "flow_control": flow_control,
            "idle_heartbeat": nanos(heartbeat),
        }),
    )
}

/// A request for a consumer from which messages on `subject`, from `start` on, are fetched.
pub(super) fn pull_consumer(stream: &str, subject: &str, start: u64) -> Bytes {
    consumer(
        stream,
        json!({
            "filter_subject": subject,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start.max(1),
        }),
    )
}

fn consumer(stream: &str, mut config: Value) -> Bytes {
    config["ack_policy"] = "none".into();
    config["max_deliver"] = 1.into();
    config["inactive_threshold"] = nanos(INACTIVE).into();
    config["mem_storage"] = true.into();
    config["num_replicas"] = 1.into();
    json!({ "stream_name": stream, "config": config }).to_string().into()
}

/// A request for the next messages: at most so many, and, if it is given, so many bytes.
pub(super) fn next_messages(count: usize, bytes: Option<usize>) -> Bytes {
    let mut request = json!({ "batch": count, "no_wait": true });
    if let Some(bytes) = bytes {
        request["max_bytes"] = bytes.into();
    }
    request.to_string().into()
}

/// A request for the message with this sequence.
pub(super) fn message_at(seq: u64) -> Bytes {
    json!({ "seq": seq }).to_string().into()
}

/// A span as the API has them.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refused> {
    #[derive(Deserialize)]
    struct Failure {
        error: Option<ApiError>,
    }
    if let Ok(Failure { error: Some(error) }) = serde_json::from_slice(payload) {
        return Err(Refused::Api(error));
    }
    serde_json::from_slice(payload).map_err(|_| Refused::Unreadable)
}

impl StreamInfo {
    /// When it was made, in nanoseconds since 1970. No two streams of a name share it, except a copy that was restored.
    pub(super) fn created(&self) -> u64 {
        read_time(&self.created).unwrap_or_default()
    }

    /// When its newest message was stored, in nanoseconds since 1970; `None`: it has had none.
    pub(super) fn last_time(&self) -> Option<u64> {
        read_time(&self.state.last_ts).filter(|_| self.state.last_seq != 0)
    }

    pub(super) fn description(&self) -> &str {
        self.config["description"].as_str().unwrap_or_default()
    }

    pub(super) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.config["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    pub(super) fn retention(&self) -> &str {
        self.config["retention"].as_str().unwrap_or("limits")
    }

    /// How many messages of one subject it keeps; `None`: it does not count them.
    pub(super) fn subject_count_max(&self) -> Option<u64> {
        self.config["max_msgs_per_subject"].as_u64().filter(|count| *count != 0)
    }
}

impl StoredMessage {
    /// When it was stored, in nanoseconds since 1970.
    pub(super) fn time(&self) -> Option<u64> {
        read_time(&self.message.time)
    }
}

fn read_time(text: &str) -> Option<u64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos()).ok()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoResponders => f.write_str("no JetStream answers (is it enabled, and has the stream a leader?)"),
            Self::Denied(text) => f.write_str(text),
            Self::Api(ApiError { description, err_code, .. }) => write!(f, "{description} ({err_code})"),
            Self::Unreadable => f.write_str("the answer of JetStream's API cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let info = br#"{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"S","subjects":["a.>"],
            "retention":"limits","max_msgs_per_subject":5,"description":"d"},"created":"2026-11-30T15:00:00.000000001Z",
            "state":{"messages":2,"first_seq":3,"last_seq":7,"last_ts":"2026-11-30T15:00:01Z","num_deleted":3}}"#;
        let info: StreamInfo = read(info).expect("an answer");
        assert_eq!(info.created() % 1_000_000_000, 1);
        assert_eq!(info.last_time().map(|time| time - info.created()), Some(999_999_999));
        assert_eq!((info.state.first_seq, info.state.last_seq), (3, 7));
        assert_eq!(info.subjects().collect::<Vec<_>>(), ["a.>"]);
        assert_eq!((info.retention(), info.description(), info.subject_count_max()), ("limits", "d", Some(5)));
        let ack: PublishAck = read(br#"{"stream":"S","seq":8,"duplicate":true}"#).expect("an answer");
        assert_eq!(ack.seq, 8);
        let stored: StoredMessage =
            read(br#"{"message":{"subject":"a","seq":1,"data":"eA==","time":"1970-01-01T00:00:01Z"}}"#).expect("one");
        assert_eq!(stored.time(), Some(1_000_000_000));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let check = |text: &str, expected: Refused| match read::<PublishAck>(text.as_bytes()) {
            Err(found) => assert_eq!(found, expected, "{text}"),
            Ok(found) => panic!("{text}: {found:?}"),
        };
        let error = |code, err_code, description: &str| {
            Refused::Api(ApiError { code, err_code, description: description.to_owned() })
        };
        check(
            r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#,
            error(404, 10059, "stream not found"),
        );
        // A refused publication has a sequence, too.
        check(r#"{"error":{"code":503},"stream":"S","seq":0}"#, error(503, 0, ""));
        check("", Refused::Unreadable);
        check("[]", Refused::Unreadable);
        check(r#"{"seq":"x"}"#, Refused::Unreadable);
    }

    #[test]
    fn subjects_are_in_the_domain() {
        assert_eq!(Api::new("").stream_info("S"), "$JS.API.STREAM.INFO.S");
        assert_eq!(Api::new("hub").consumer_next("S", "C"), "$JS.hub.API.CONSUMER.MSG.NEXT.S.C");
    }
}
