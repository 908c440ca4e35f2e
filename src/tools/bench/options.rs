//! The command line of `fanfare bench`, as typed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    post::PostMethod,
    schedule::Arrivals,
    script::Script,
    topics::{TOPICS_MAX, Topics},
};
use crate::{
    client::{CredentialOptions, TlsOptions, parse_header, unshown},
    topic::Topic,
};

/// How `--help` groups them.
pub(super) const SUBSCRIBING: &str = "Subscribers";
const SIGNING_IN: &str = "Signing in (subscribers, and publishers at the same server)";
const LOADING: &str = "Load";
const PUBLISHING: &str = "Publishing";
const DISTURBING: &str = "Disturbances";
const CLIMBING: &str = "Rate ladder";
const MEASURING: &str = "Measuring";
const TELLING: &str = "Results";

/// The most connections of a publisher: it looks at all of them in each turn.
const CONNECTIONS_MAX: i64 = 1024;

/// Options of `fanfare bench`.
#[derive(clap::Args, Clone, Debug)]
#[command(args_override_self = true, after_help = super::presets::list())]
pub struct Options {
    /// The server to measure.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", help_heading = SUBSCRIBING)]
    pub(super) url: String,
    /// What the subscribers speak.
    #[arg(long, value_enum, default_value = "ws", help_heading = SUBSCRIBING)]
    pub(super) transport: Transport,
    /// The path they ask for, without the query. [default: /sse, /ws or /socket.io/]
    #[arg(long, value_name = "PATH", help_heading = SUBSCRIBING)]
    pub(super) path: Option<String>,
    /// What they ask for, of any server, with {topic} where it belongs; takes the place of --url and --path.
    #[arg(long, value_name = "URL", requires = "publish", conflicts_with = "path", help_heading = SUBSCRIBING)]
    pub(super) subscribe: Option<String>,
    /// A header of their requests; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = unshown(parse_header), help_heading = SUBSCRIBING)]
    pub(super) headers: Vec<(String, String)>,
    /// Messages that contain TEXT are expected, though they carry no event; may be repeated.
    #[arg(long = "ignore", value_name = "TEXT", help_heading = SUBSCRIBING)]
    pub(super) ignored: Vec<String>,
    #[command(flatten)]
    pub(super) script: Script,
    /// The event by which Socket.IO subscribers ask for their topic.
    #[arg(long, value_name = "NAME", default_value = "subscribe", help_heading = SUBSCRIBING)]
    pub(super) socketio_event: String,
    /// Its arguments: JSON, with {topic}, and commas between several.
    #[arg(long, value_name = "TEMPLATE", default_value = r#"{"topic":"{topic}"}"#, help_heading = SUBSCRIBING)]
    pub(super) socketio_args: String,
    /// The event that confirms it; if empty, none is awaited.
    #[arg(long, value_name = "NAME", default_value = "subscribed", help_heading = SUBSCRIBING)]
    pub(super) socketio_confirmation: String,
    /// The namespace they connect to.
    #[arg(long, value_name = "NAMESPACE", default_value = "/", help_heading = SUBSCRIBING)]
    pub(super) socketio_namespace: String,
    /// The topic they subscribe to.
    #[arg(long, default_value = "bench", value_parser = parse_topic_name, help_heading = SUBSCRIBING)]
    pub(super) topic: String,
    /// So many topics, TOPIC.0, TOPIC.1 … or with {index} in --topic; subscribers and events are dealt out to them in turn.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "storm",
        value_parser = clap::value_parser!(u32).range(1..=TOPICS_MAX), help_heading = SUBSCRIBING)]
    pub(super) topics: u32,
    #[command(flatten, next_help_heading = SIGNING_IN)]
    pub(super) credentials: CredentialOptions,
    #[command(flatten, next_help_heading = SIGNING_IN)]
    pub(super) tls: TlsOptions,
    /// How many subscribers.
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = SUBSCRIBING)]
    pub(super) subscribers: u32,
    /// Events per second.
    #[arg(long, value_name = "HZ", default_value_t = 10.0, help_heading = LOADING)]
    pub(super) rate: f64,
    /// Bytes of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 200, help_heading = LOADING)]
    pub(super) size: usize,
    /// How the events are spread over time.
    #[arg(long, value_enum, default_value = "even", help_heading = LOADING)]
    pub(super) arrivals: Arrivals,
    /// Events in a burst, with --arrivals burst.
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = LOADING)]
    pub(super) burst_events: u32,
    /// The span that is measured.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) duration: Duration,
    /// The span before it, with the same load.
    #[arg(long, value_name = "SPAN", default_value = "3s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) warmup: Duration,
    /// How long to wait for late deliveries afterwards.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) patience: Duration,
    /// Where events are published: redis://HOST:PORT or rediss://HOST:PORT (with USER:PASSWORD@ before it, /DB behind), nats://HOST:PORT (with
    /// USER:PASSWORD@ or TOKEN@), or an http:// URL with {topic} where it belongs; without a path, /publish/{topic}. [default:
    /// --url]
    #[arg(long, value_name = "URL", help_heading = PUBLISHING)]
    pub(super) publish: Option<String>,
    /// A header of the publisher's requests over HTTP, or of its messages over NATS; may be repeated.
    #[arg(long = "publish-header", value_name = "NAME: VALUE", value_parser = unshown(parse_header), help_heading = PUBLISHING)]
    pub(super) publish_headers: Vec<(String, String)>,
    /// The body of these requests, with {topic}, and {payload} or, form-urlencoded, {payload:form}.
    #[arg(long, value_name = "TEMPLATE", default_value = "{payload}", help_heading = PUBLISHING)]
    pub(super) publish_body: String,
    /// The method of these requests.
    #[arg(long, value_enum, ignore_case = true, default_value = "POST", help_heading = PUBLISHING)]
    pub(super) publish_method: PostMethod,
    /// Connections of each topic's publisher; its events take them in turn. With --topics, a topic keeps to one of them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX),
        help_heading = PUBLISHING
    )]
    pub(super) publish_connections: u32,
    /// Send an event only when the one before it on the same connection was answered; how late that makes it is written down.
    #[arg(long, help_heading = PUBLISHING)]
    pub(super) publish_in_turn: bool,
    /// A second topic, with subscribers and a thread of its own, reported separately.
    #[arg(
        long,
        value_name = "TOPIC",
        value_parser = parse_topic,
        requires = "second_subscribers",
        help_heading = LOADING
    )]
    pub(super) second_topic: Option<Topic>,
    /// Subscribers of the second topic.
    #[arg(long, value_name = "N", requires = "second_topic", help_heading = LOADING)]
    pub(super) second_subscribers: Option<u32>,
    /// Events per second on the second topic. [default: --rate]
    #[arg(long, value_name = "HZ", requires = "second_topic", help_heading = LOADING)]
    pub(super) second_rate: Option<f64>,
    /// What the second topic's subscribers speak. [default: --transport]
    #[arg(long, value_enum, requires = "second_topic", help_heading = LOADING)]
    pub(super) second_transport: Option<Transport>,
    /// Further subscribers of the first topic that never read.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = DISTURBING)]
    pub(super) stalled: u32,
    /// Further subscribers of the first topic that come per second.
    #[arg(long, value_name = "HZ", default_value_t = 0.0, help_heading = DISTURBING)]
    pub(super) churn: f64,
    /// How long each of them stays.
    #[arg(
        long,
        value_name = "SPAN",
        default_value = "1s",
        value_parser = parse_span,
        requires = "churn",
        help_heading = DISTURBING
    )]
    pub(super) churn_stay: Duration,
    /// Let them speak Server-Sent Events and WebSocket in turn, not what the others speak.
    #[arg(long, requires = "churn", help_heading = DISTURBING)]
    pub(super) churn_mixed: bool,
    /// People who sign in per second, every second one with the right password.
    #[arg(long, value_name = "HZ", default_value_t = 0.0, requires = "login", help_heading = DISTURBING)]
    pub(super) logins: f64,
    /// A user of the server.
    #[arg(long, value_name = "NAME:PASSWORD", value_parser = unshown(parse_login), help_heading = DISTURBING)]
    pub(super) login: Option<(String, String)>,
    /// In the end cut all subscribers but one at once, publish so many events, and let all come back for them.
    #[arg(
        long,
        value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["idle", "second_topic"],
        help_heading = DISTURBING
    )]
    pub(super) storm: Option<u32>,
    /// Publish nothing: what do connections cost that only exist?
    #[arg(long, help_heading = DISTURBING)]
    pub(super) idle: bool,
    /// The server's process, for its processor time and memory.
    #[arg(long, value_name = "PID", help_heading = MEASURING)]
    pub(super) server_pid: Option<u32>,
    /// Further processes that belong to the run, such as Redis. What all others use beside them makes the run void.
    #[arg(long, value_name = "PID", help_heading = MEASURING)]
    pub(super) beside_pid: Vec<u32>,
    /// The core to run on. With --processes, the first of so many, or one for each, such as 1,3; one more is for the publisher,
    /// which else shares the first.
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = MEASURING)]
    pub(super) pin: Vec<usize>,
    /// Leave the kernel's receive stamps out.
    #[arg(long, help_heading = MEASURING)]
    pub(super) no_kernel_stamps: bool,
    /// Write the report as JSON to this file.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) json: Option<PathBuf>,
    /// Write the latency distribution of the first topic's deliveries to this file, for HdrHistogram's plotters.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) hgrm: Option<PathBuf>,
    /// Show no progress.
    #[arg(long, help_heading = TELLING)]
    pub(super) quiet: bool,
    /// Write the report as a page to this file.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) html: Option<PathBuf>,
    /// Measure nothing: compare these results, files that --json wrote.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = TELLING)]
    pub(super) compare: Vec<PathBuf>,
    /// What to call a result, in their order. [default: the file's name]
    #[arg(long, value_name = "TEXT", help_heading = TELLING)]
    pub(super) label: Vec<String>,
    /// Find the knee: measure at --rate, then at a higher rate with each step, until p99 has doubled or events are missing.
    #[arg(long, conflicts_with_all = ["idle", "storm"], help_heading = CLIMBING)]
    pub(super) ladder: bool,
    /// Each step's rate is so many times the last one's.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.25, requires = "ladder", help_heading = CLIMBING)]
    pub(super) ladder_factor: f64,
    /// The most steps, repetitions not counted.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        requires = "ladder",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = CLIMBING
    )]
    pub(super) ladder_steps_max: u32,
    /// The highest rate.
    #[arg(long, value_name = "HZ", requires = "ladder", help_heading = CLIMBING)]
    pub(super) ladder_max: Option<f64>,
    /// Each step's --warmup. A step connects anew, so on the same machine this is also the rest between two steps.
    #[arg(
        long,
        value_name = "SPAN",
        default_value = "1s",
        value_parser = parse_span,
        requires = "ladder",
        help_heading = CLIMBING
    )]
    pub(super) ladder_warmup: Duration,
    /// Split the subscribers over so many processes, and those that never read or come and go; events are published beside them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "storm",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = SUBSCRIBING
    )]
    pub(super) processes: u32,
    /// Be one of these processes: orders come on the standard input.
    #[arg(long, hide = true)]
    pub(super) as_member: bool,
}

impl Options {
    /// Where the page goes.
    pub(super) fn html(&self) -> Option<&Path> {
        self.html.as_deref()
    }
}

/// What the subscribers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
pub(super) enum Transport {
    /// Server-Sent Events.
    Sse,
    /// WebSocket, each message one payload.
    Ws,
    /// WebSocket with the subprotocol `fanfare.v1`.
    #[value(name = "fanfare.v1")]
    FanfareV1,
    /// Socket.IO v5 over WebSocket: each asks for its topic with the event `subscribe`.
    #[value(name = "socketio")]
    #[serde(rename = "socketio")]
    SocketIo,
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    Topic::parse(text).map_err(|error| error.to_string())
}

/// One that may have a place for a number.
fn parse_topic_name(text: &str) -> Result<String, String> {
    Topics::new(text, 1).map(|_| text.to_owned())
}

fn parse_login(text: &str) -> Result<(String, String), String> {
    let (username, password) = text.split_once(':').ok_or("expected NAME:PASSWORD")?;
    Ok((username.to_owned(), password.to_owned()))
}

/// `10s`, `500ms`, `2m`, `1h`.
fn parse_span(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let milliseconds_each = match &text[split..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("expected a span such as 500ms, 10s, 2m or 1h".to_owned()),
    };
    let number: u64 = text[..split].parse().map_err(|_| "expected a number and a unit, such as 10s".to_owned())?;
    number.checked_mul(milliseconds_each).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}
