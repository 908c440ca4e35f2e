//! The command line of `fanfare bench`, as typed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    post::PostMethod,
    schedule::Arrivals,
    script::{SUBSCRIBING, Script},
    topics::{TOPICS_MAX, Topics},
    transport::Transport,
};
use crate::{
    client::{CredentialOptions, TlsOptions, parse_header, unshown},
    duration::parse_duration,
    topic::Topic,
};

/// How `--help` groups the flags, beside [`SUBSCRIBING`].
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
    /// URL of the server to measure: http://HOST:PORT or https://HOST:PORT.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", help_heading = SUBSCRIBING)]
    pub(super) url: String,
    /// Transport of the subscribers.
    #[arg(long, value_enum, default_value = "ws", help_heading = SUBSCRIBING)]
    pub(super) transport: Transport,
    /// Path of the subscribers' requests, without the query. [default: /sse, /ws or /socket.io/]
    #[arg(long, value_name = "PATH", help_heading = SUBSCRIBING)]
    pub(super) path: Option<String>,
    /// Full URL of the subscribers' requests, with {topic} for the topic's name; replaces --url and --path.
    #[arg(long, value_name = "URL", requires = "publish", conflicts_with = "path", help_heading = SUBSCRIBING)]
    pub(super) subscribe: Option<String>,
    /// Header of the subscribers' requests; may be repeated.
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = unshown(parse_header), help_heading = SUBSCRIBING)]
    pub(super) headers: Vec<(String, String)>,
    /// Do not count messages that contain TEXT as foreign, though they carry no event; may be repeated.
    #[arg(long = "ignore", value_name = "TEXT", help_heading = SUBSCRIBING)]
    pub(super) ignored: Vec<String>,
    #[command(flatten)]
    pub(super) script: Script,
    /// Name of the event by which Socket.IO subscribers request their topic.
    #[arg(long, value_name = "NAME", default_value = "subscribe", help_heading = SUBSCRIBING)]
    pub(super) socketio_event: String,
    /// Arguments of the event --socketio-event: JSON texts separated by commas, with {topic} for the topic's name.
    #[arg(long, value_name = "TEMPLATE", default_value = r#"{"topic":"{topic}"}"#, help_heading = SUBSCRIBING)]
    pub(super) socketio_args: String,
    /// Name of the event that confirms a Socket.IO subscription; if empty, subscribers wait for none.
    #[arg(long, value_name = "NAME", default_value = "subscribed", help_heading = SUBSCRIBING)]
    pub(super) socketio_confirmation: String,
    /// Namespace that Socket.IO subscribers connect to.
    #[arg(long, value_name = "NAMESPACE", default_value = "/", help_heading = SUBSCRIBING)]
    pub(super) socketio_namespace: String,
    /// Topic to publish and subscribe to.
    #[arg(long, default_value = "bench", value_parser = parse_topic_name, help_heading = SUBSCRIBING)]
    pub(super) topic: String,
    /// Number of topics: TOPIC.0, TOPIC.1 …, or as {index} in --topic says. Subscribers and events go to them in turn.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "storm",
        value_parser = clap::value_parser!(u32).range(1..=TOPICS_MAX), help_heading = SUBSCRIBING)]
    pub(super) topics: u32,
    #[command(flatten, next_help_heading = SIGNING_IN)]
    pub(super) credentials: CredentialOptions,
    #[command(flatten, next_help_heading = SIGNING_IN)]
    pub(super) tls: TlsOptions,
    /// Number of subscribers, over all topics of --topics.
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = SUBSCRIBING)]
    pub(super) subscribers: u32,
    /// Events per second, over all topics of --topics.
    #[arg(long, value_name = "HZ", default_value_t = 10.0, help_heading = LOADING)]
    pub(super) rate: f64,
    /// Size of each payload, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 200, help_heading = LOADING)]
    pub(super) size: usize,
    /// Distribution of the events over time.
    #[arg(long, value_enum, default_value = "even", help_heading = LOADING)]
    pub(super) arrivals: Arrivals,
    /// Number of events in a burst, with --arrivals burst.
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = LOADING)]
    pub(super) burst_events: u32,
    /// Length of the measured window, such as 500ms, 10s or 2m.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) duration: Duration,
    /// Length of the warm-up before the measured window, with the same load.
    #[arg(long, value_name = "SPAN", default_value = "3s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) warmup: Duration,
    /// Longest time to wait for late deliveries after the last event; what is still missing then is lost.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span, help_heading = LOADING)]
    pub(super) patience: Duration,
    /// URL to publish at: redis://USER:PASSWORD@HOST:PORT/DB or rediss://…, nats://USER:PASSWORD@HOST:PORT or
    /// nats://TOKEN@HOST:PORT, or an http:// URL with {topic} for the topic's name; without a path, /publish/{topic}. User,
    /// password and DB may be left out. Default: --url.
    #[arg(long, value_name = "URL", help_heading = PUBLISHING)]
    pub(super) publish: Option<String>,
    /// Header of the publisher's HTTP requests or NATS messages; may be repeated.
    #[arg(long = "publish-header", value_name = "NAME: VALUE", value_parser = unshown(parse_header), help_heading = PUBLISHING)]
    pub(super) publish_headers: Vec<(String, String)>,
    /// Body of the publisher's HTTP requests, with {topic}, and with {payload} or, form-urlencoded, {payload:form}.
    #[arg(long, value_name = "TEMPLATE", default_value = "{payload}", help_heading = PUBLISHING)]
    pub(super) publish_body: String,
    /// Method of the publisher's HTTP requests.
    #[arg(long, value_enum, ignore_case = true, default_value = "POST", help_heading = PUBLISHING)]
    pub(super) publish_method: PostMethod,
    /// Number of connections of the publisher; events take them in turn. With --topics, each topic keeps to one of them.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX),
        help_heading = PUBLISHING
    )]
    pub(super) publish_connections: u32,
    /// Send an event only after the event before it on the same connection was answered. The delay counts as lateness.
    #[arg(long, help_heading = PUBLISHING)]
    pub(super) publish_in_turn: bool,
    /// Second topic, with subscribers and a thread of its own, which is reported separately.
    #[arg(
        long,
        value_name = "TOPIC",
        value_parser = parse_topic,
        requires = "second_subscribers",
        help_heading = LOADING
    )]
    pub(super) second_topic: Option<Topic>,
    /// Number of subscribers of the second topic.
    #[arg(long, value_name = "N", requires = "second_topic", help_heading = LOADING)]
    pub(super) second_subscribers: Option<u32>,
    /// Events per second on the second topic. [default: --rate]
    #[arg(long, value_name = "HZ", requires = "second_topic", help_heading = LOADING)]
    pub(super) second_rate: Option<f64>,
    /// Transport of the second topic's subscribers. [default: --transport]
    #[arg(long, value_enum, requires = "second_topic", help_heading = LOADING)]
    pub(super) second_transport: Option<Transport>,
    /// Number of further subscribers of the first topic that never read.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = DISTURBING)]
    pub(super) stalled: u32,
    /// Rate at which short-lived subscribers of the first topic connect, per second.
    #[arg(long, value_name = "HZ", default_value_t = 0.0, help_heading = DISTURBING)]
    pub(super) churn: f64,
    /// How long each subscriber of --churn stays connected.
    #[arg(
        long,
        value_name = "SPAN",
        default_value = "1s",
        value_parser = parse_span,
        requires = "churn",
        help_heading = DISTURBING
    )]
    pub(super) churn_stay: Duration,
    /// Let the subscribers of --churn use Server-Sent Events and WebSocket in turn instead of --transport.
    #[arg(long, requires = "churn", help_heading = DISTURBING)]
    pub(super) churn_mixed: bool,
    /// Password sign-ins per second, every second one with the right password.
    #[arg(long, value_name = "HZ", default_value_t = 0.0, requires = "login", help_heading = DISTURBING)]
    pub(super) logins: f64,
    /// Name and password of a user of the server, for --logins.
    #[arg(long, value_name = "NAME:PASSWORD", value_parser = unshown(parse_login), help_heading = DISTURBING)]
    pub(super) login: Option<(String, String)>,
    /// At the end disconnect all subscribers but one at once, publish this many events, and let all reconnect and resume.
    #[arg(
        long,
        value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = ["idle", "second_topic"],
        help_heading = DISTURBING
    )]
    pub(super) storm: Option<u32>,
    /// Publish nothing: measures the cost of idle connections.
    #[arg(long, help_heading = DISTURBING)]
    pub(super) idle: bool,
    /// Process id of the server, whose CPU time and memory are then measured.
    #[arg(long, value_name = "PID", help_heading = MEASURING)]
    pub(super) server_pid: Option<u32>,
    /// Process id of a further process of the run, such as Redis. CPU time that other processes use makes the run void.
    #[arg(long, value_name = "PID", help_heading = MEASURING)]
    pub(super) beside_pid: Vec<u32>,
    /// CPU core to run on. With --processes, the first of that many cores, or one core for each process, such as 1,3; one more
    /// is for the publisher, which otherwise shares the first.
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = MEASURING)]
    pub(super) pin: Vec<usize>,
    /// Do not take the kernel's receive timestamps; only the time at which the client read counts.
    #[arg(long, help_heading = MEASURING)]
    pub(super) no_kernel_stamps: bool,
    /// Write the report to FILE, as JSON.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) json: Option<PathBuf>,
    /// Write the latency distribution of the first topic to FILE, in the text format of HdrHistogram's plotters.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) hgrm: Option<PathBuf>,
    /// Print no progress.
    #[arg(long, help_heading = TELLING)]
    pub(super) quiet: bool,
    /// Write the report to FILE, as an HTML page.
    #[arg(long, value_name = "FILE", help_heading = TELLING)]
    pub(super) html: Option<PathBuf>,
    /// Measure nothing: compare the results in these files, which --json wrote.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = TELLING)]
    pub(super) compare: Vec<PathBuf>,
    /// Label of a result, in the order of the files of --compare. [default: the file's name]
    #[arg(long, value_name = "TEXT", help_heading = TELLING)]
    pub(super) label: Vec<String>,
    /// Find the knee of the latency: measure at --rate, then in steps at higher rates, until p99 has doubled or events are lost.
    #[arg(long, conflicts_with_all = ["idle", "storm"], help_heading = CLIMBING)]
    pub(super) ladder: bool,
    /// Factor between the rates of two steps of --ladder.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.25, requires = "ladder", help_heading = CLIMBING)]
    pub(super) ladder_factor: f64,
    /// Largest number of steps of --ladder, repetitions not counted.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        requires = "ladder",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = CLIMBING
    )]
    pub(super) ladder_steps_max: u32,
    /// Highest rate of --ladder, in events per second.
    #[arg(long, value_name = "HZ", requires = "ladder", help_heading = CLIMBING)]
    pub(super) ladder_max: Option<f64>,
    /// Length of the warm-up of each step of --ladder. Each step opens new connections, so this is also the pause between steps.
    #[arg(
        long,
        value_name = "SPAN",
        default_value = "1s",
        value_parser = parse_span,
        requires = "ladder",
        help_heading = CLIMBING
    )]
    pub(super) ladder_warmup: Duration,
    /// Number of client processes that share the subscribers, and those of --stalled and --churn; publishers stay in this one.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        conflicts_with = "storm",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = SUBSCRIBING
    )]
    pub(super) processes: u32,
    /// Be one of the processes of --processes: requests come on the standard input.
    #[arg(long, hide = true)]
    pub(super) as_member: bool,
}

impl Options {
    /// Where the page goes.
    pub(super) fn html(&self) -> Option<&Path> {
        self.html.as_deref()
    }
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

fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 500ms, 10s, 2m or 1h".to_owned())
}
