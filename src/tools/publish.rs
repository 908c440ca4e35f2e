//! `fanfare publish`: publishes generated events or a given text, over HTTP or directly to Redis.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{
    client::{AccessOptions, Client, HubUrl, RedisChannel, Response, describe_refusal, unshown},
    signals,
};
use crate::{protocol::http::percent_encode, stdio, topic::Topic};

/// What to publish, and where.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare publish --type SERVER_DOWN --source server-a --count 10
  fanfare publish --topic orders.eu --data '{\"order\":17}' --type created
  fanfare publish --url https://hub.example --token-file token     at a hub that requires a token, over TLS
  fanfare publish --redis redis://127.0.0.1:6379 --channel events.critical --count 50 --rate 10
  fanfare publish --redis redis+sentinel://a,b,c/main        at the master that the sentinels a, b, c name
  fanfare publish --redis redis+cluster://a,b,c              to a sharded channel, at the node that has it
  SSL_CERT_FILE=ca.pem fanfare publish --redis rediss://redis.example    with a private certificate authority

Without --data each event is a JSON object: event_id, event_type, source, sequence, published_at_ms.")]
pub struct Options {
    /// Value of `event_type` in generated events; with --data, the type the event is published with
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Value of `source` in generated events
    #[arg(long, default_value = "fanfare")]
    source: String,
    /// Number of events to publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Events per second [default: as fast as each is acknowledged]
    #[arg(long, value_name = "HZ", value_parser = parse_rate, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Publish TEXT unchanged instead of a generated JSON object
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// URL of the hub: http://host:port, https://host:port or unix:/path
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = unshown(str::parse::<HubUrl>))]
    url: HubUrl,
    /// Topic to publish to
    #[arg(long, default_value = "events.critical", value_parser = Topic::parse)]
    topic: Topic,
    /// Publish to Redis directly instead of over a hub: redis://, rediss://, unix://, redis+sentinel://a,b,c/main, or redis+cluster://a,b,c
    #[arg(long, value_name = "URL", conflicts_with_all = ["url", "topic", "AccessOptions", "CredentialOptions", "TlsOptions"])]
    redis: Option<String>,
    /// Redis channel to publish to
    #[arg(long, default_value = "events.critical", requires = "redis")]
    channel: String,
    #[command(flatten)]
    access: AccessOptions,
}

/// The lowest rate: an event in eleven days.
const RATE_MIN: f64 = 1e-6;
/// The highest rate, which one request after the other never reaches.
const RATE_MAX: f64 = 1e6;

/// Parses a rate in events per second, from [`RATE_MIN`] to [`RATE_MAX`].
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Err(_) => Err("not a number".into()),
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        Ok(_) => Err(format!("it must be from {RATE_MIN} to {RATE_MAX}")),
    }
}

/// Publishes, and prints a summary.
pub fn run(options: &Options) -> Result<(), String> {
    let summary = publish(options)?;
    stdio::print(format_args!("{summary}\n"))
}

fn publish(options: &Options) -> Result<String, String> {
    let start = Instant::now();
    let mut publisher = Publisher::open(options)?;
    let data = options.data.as_deref();
    let stop = signals::catch()?;
    let mut published = 0;
    for sequence in 1..=options.count {
        wait_for_turn(start, options.rate, sequence, &stop);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let payload = data.map_or_else(|| make_event(options, sequence), str::to_owned);
        let done = publisher.publish(payload);
        done.map_err(|error| format!("{error} ({} of {} events were published)", sequence - 1, options.count))?;
        published = sequence;
    }
    let plural = if published == 1 { "" } else { "s" };
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!("published {published} event{plural} {} in {seconds:.3} s", publisher.describe()))
}

/// The longest sleep, so that Ctrl+C ends the command soon.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Waits until the event is due. The schedule is fixed from the start, so a slow publication does not delay the rest.
fn wait_for_turn(start: Instant, rate: Option<f64>, sequence: u64, stop: &AtomicBool) {
    let Some(rate) = rate else { return };
    #[expect(clippy::cast_precision_loss, reason = "nobody publishes more than 2^53 events")]
    let due = Duration::try_from_secs_f64((sequence - 1) as f64 / rate).unwrap_or(Duration::MAX);
    while start.elapsed() < due && !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_sub(start.elapsed()).min(SLEEP_MAX));
    }
}

/// A generated event, with the fields of the publisher that this command replaces.
#[derive(Serialize)]
struct MadeEvent<'a> {
    event_id: String,
    event_type: &'a str,
    source: &'a str,
    sequence: u64,
    published_at_ms: u128,
}

fn make_event(options: &Options, sequence: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let event = MadeEvent {
        event_id: make_uuid(rand::random()),
        event_type: options.kind.as_deref().unwrap_or("TEST"),
        source: &options.source,
        sequence,
        published_at_ms: now.as_millis(),
    };
    serde_json::to_string(&event).expect("a struct of texts and numbers has a JSON form")
}

/// A random UUID (RFC 9562 section 5.4).
fn make_uuid(random: u128) -> String {
    const VERSION_4: u128 = 0x4 << 76;
    const VARIANT: u128 = 0b10 << 62;
    let bits = random & !(0xf << 76) & !(0b11 << 62) | VERSION_4 | VARIANT;
    let digits = format!("{bits:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A connected target of events.
enum Publisher {
    Hub { client: Client, path: String, name: String, last_id: Option<String> },
    Redis(RedisChannel),
}

impl Publisher {
    fn open(options: &Options) -> Result<Self, String> {
        match &options.redis {
            Some(_) if options.kind.is_some() && options.data.is_some() => {
                Err("a Redis message has no type of its own: --type goes with --data only over HTTP".into())
            }
            Some(url) => RedisChannel::open(url, &options.channel).map(Self::Redis),
            None => Self::open_hub(options),
        }
    }

    fn open_hub(options: &Options) -> Result<Self, String> {
        let mut path = "/publish/".to_owned();
        percent_encode(options.topic.as_str(), &mut path);
        if let (Some(kind), Some(_)) = (&options.kind, &options.data) {
            path.push_str("?type=");
            percent_encode(kind, &mut path);
        }
        let name = format!("to {} at {}", options.topic, options.url);
        let client = Client::new(options.access.hub(&options.url)?);
        Ok(Self::Hub { client, path, name, last_id: None })
    }

    fn publish(&mut self, payload: String) -> Result<(), String> {
        match self {
            Self::Hub { client, path, last_id, .. } => {
                *last_id = read_id(&client.post(path, payload.as_bytes())?)?;
            }
            Self::Redis(publisher) => publisher.publish(&payload)?,
        }
        Ok(())
    }

    /// The target and the outcome, for the summary.
    fn describe(&self) -> String {
        match self {
            Self::Hub { name, last_id: Some(id), .. } => format!("{name} (last id {id})"),
            Self::Hub { name, last_id: None, .. } => name.clone(),
            Self::Redis(publisher) => publisher.describe(),
        }
    }
}

/// The id the hub gave the event, if it gave one.
fn read_id(answer: &Response) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct Published {
        id: Option<String>,
    }
    if (200..300).contains(&answer.status) {
        return Ok(serde_json::from_slice(&answer.body).map_or(None, |published: Published| published.id));
    }
    Err(describe_refusal(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids() {
        let check = |random: u128, expected: &str| assert_eq!(make_uuid(random), expected);
        check(0, "00000000-0000-4000-8000-000000000000");
        check(u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        check(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn answers() {
        let check = |status: u16, body: &str, expected: Result<Option<&str>, &str>| {
            let read = read_id(&Response { status, body: body.into() });
            assert_eq!(read.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{status} {body}");
        };
        check(200, r#"{"id":"1-2","topic":"a"}"#, Ok(Some("1-2")));
        check(202, r#"{"id":null,"topic":"a"}"#, Ok(None));
        check(200, "", Ok(None));
        let refusal = r#"{"error":{"code":"BadTopic","message":"a topic needs a name","field":"topic"}}"#;
        check(400, refusal, Err("the hub answered 400: a topic needs a name"));
        check(502, "Bad gateway", Err("the hub answered 502: Bad gateway"));
    }

    #[test]
    fn rates() {
        for good in ["2.5", "0.000001", "1e6"] {
            assert_eq!(parse_rate(good).map_err(drop), good.parse().map_err(drop), "{good}");
        }
        for bad in ["0", "1e-7", "1000001", "-1", "inf", "NaN", "x", ""] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
