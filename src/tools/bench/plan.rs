//! The plan of a run: the command line, checked.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    broker::Broker,
    options::Options,
    payload::PAYLOAD_BYTES_MIN,
    post::Post,
    schedule::Pace,
    script::Script,
    target::Target,
    topics::{Audience, Topics, fill},
    transport::Transport,
};
use crate::{
    client::{Credential, RedisTarget, RedisUrl, SocketIoOptions},
    topic::Topic,
};

/// How events are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub target: PublishTarget,
    /// For each publisher, at least one.
    pub connections: u32,
    /// Whether each connection waits for an answer before it sends the next event.
    pub is_in_turn: bool,
}

/// Where events are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishTarget {
    Redis(RedisTarget),
    Nats(Broker),
    Http(Post),
}

/// Events published after all subscribers have resumed: live events must follow the missed ones without a gap.
pub(super) const EVENTS_AFTER_STORM: u32 = 5;

/// One topic's load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub topic: Topics,
    /// Over all topics.
    pub subscribers: u32,
    /// The number of subscribers in other processes that come before these.
    pub subscribers_before: u32,
    pub transport: Transport,
    pub pace: Pace,
    /// Path and query of the request, with `{topic}`.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub signs_in: Option<Credential>,
}

impl Load {
    pub(super) fn audience(&self) -> Audience {
        Audience { first: self.subscribers_before, subscribers: self.subscribers, topics: self.topic.count() }
    }

    /// The subscribers' credential now: a token file is read again. While it cannot be read, the old token stays.
    pub(super) fn credential(&self) -> Option<Credential> {
        self.signs_in.as_ref().map(|credential| credential.renew().unwrap_or_else(|_| credential.clone()))
    }

    fn takes_scripts(&self) -> bool {
        matches!(self.transport, Transport::Ws | Transport::FanfareV1)
    }
}

/// Short-lived subscribers beside the measured ones.
#[derive(Clone, Debug)]
pub(super) struct ChurnPlan {
    /// Connections per second; none if 0.
    pub rate: f64,
    pub stay: Duration,
    /// The first topic's load for each transport; the subscribers take them in turn.
    pub loads: Vec<Load>,
}

/// Password sign-ins beside the measured load.
#[derive(Clone, Debug)]
pub(super) struct SignIn {
    /// Attempts per second.
    pub rate: f64,
    pub username: String,
    pub password: String,
}

/// All parameters of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub target: Target,
    pub publish: Publish,
    /// One or two.
    pub loads: Vec<Load>,
    /// Texts of messages that are expected although they carry no event.
    pub ignored: Vec<String>,
    /// The handshake of WebSocket subscribers.
    pub script: Script,
    /// The handshake of Socket.IO subscribers.
    pub socket_io: SocketIoOptions,
    pub size_bytes: usize,
    pub warmup: Duration,
    pub duration: Duration,
    pub timeout: Duration,
    pub stalled: u32,
    pub churn: ChurnPlan,
    pub sign_in: Option<SignIn>,
    /// The number of events that disconnected subscribers miss in the storm at the end.
    pub storm: Option<u32>,
    pub is_idle: bool,
    pub server_pid: Option<u32>,
    pub beside_pids: Vec<u32>,
    pub pins: Vec<usize>,
    pub takes_kernel_stamps: bool,
    pub json: Option<PathBuf>,
    pub hgrm: Option<PathBuf>,
    pub is_quiet: bool,
    /// The rules of `--ladder`.
    pub ladder: Option<LadderRules>,
    /// The number of client processes; with 1, this process has the subscribers.
    pub processes: u32,
}

/// How the rates of a ladder rise.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct LadderRules {
    /// The first step's rate, in events per second.
    pub first_hz: f64,
    /// The factor between the rates of two steps.
    pub factor: f64,
    pub steps_max: u32,
    /// The highest rate, if there is one.
    pub max_hz: Option<f64>,
}

impl Plan {
    /// Checks the options. The error says what is wrong.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        if options.size < PAYLOAD_BYTES_MIN {
            return Err(format!("--size must be at least {PAYLOAD_BYTES_MIN}: each payload carries its own stamp"));
        }
        let rates = [Some(options.rate), options.second_rate];
        if rates.into_iter().flatten().any(|rate| !(rate.is_finite() && 0.0 < rate)) || options.burst_events == 0 {
            return Err("--rate, --second-rate and --burst-events must be above 0".to_owned());
        }
        if [options.churn, options.logins].iter().any(|rate| !(rate.is_finite() && 0.0 <= *rate)) {
            return Err("--churn and --logins must not be below 0".to_owned());
        }
        if options.storm.is_some() && options.transport != Transport::Sse {
            return Err("--storm needs --transport sse: they come back with their last event id".to_owned());
        }
        if options.subscribers < options.topics {
            return Err(format!("--topics {}: each needs one of the --subscribers", options.topics));
        }
        let topics = Topics::new(&options.topic, options.topics)?;
        let credential = credential(options)?;
        let loads = loads(options, &topics, credential.as_ref());
        let churn = churn_plan(options, &topics, credential.as_ref());
        if !options.script.is_empty() && !loads.iter().chain(&churn.loads).any(Load::takes_scripts) {
            return Err("--send, --await and --answer need --transport ws or fanfare.v1".to_owned());
        }
        check_processes(options)?;
        let target = target(options)?;
        // With TLS the kernel's timestamps are those of records, not of events.
        let is_tls = target.tls.is_some();
        Ok(Self {
            publish: Publish::new(options, &topics, (&target, credential.as_ref()))?,
            target,
            loads,
            script: options.script.clone(),
            socket_io: socket_io(options)?,
            ignored: options.ignored.clone(),
            size_bytes: options.size,
            warmup: warmup(options),
            duration: options.duration,
            timeout: options.patience,
            stalled: options.stalled,
            churn,
            sign_in: sign_in(options),
            storm: options.storm,
            is_idle: options.idle,
            server_pid: options.server_pid,
            beside_pids: options.beside_pid.clone(),
            pins: options.pin.clone(),
            takes_kernel_stamps: !options.no_kernel_stamps && !is_tls,
            json: options.json.clone(),
            hgrm: options.hgrm.clone(),
            is_quiet: options.quiet,
            ladder: rules(options)?,
            processes: options.processes,
        })
    }

    /// The core of a worker; workers count from 0.
    pub(super) fn worker_core(&self, worker: u32) -> Option<usize> {
        match self.pins[..] {
            [first] => Some(first + worker as usize),
            _ => self.pins.get(worker as usize).copied(),
        }
    }

    /// The core of this process: with workers, the core that is left over, or the first.
    pub(super) fn own_core(&self) -> Option<usize> {
        let own = if self.processes == 1 { None } else { self.pins.get(self.processes as usize) };
        own.or_else(|| self.pins.first()).copied()
    }

    /// The plan with another rate of the first topic: one step of a ladder.
    pub(super) fn at_rate(&self, rate_hz: f64) -> Self {
        let mut plan = self.clone();
        plan.loads[0].pace.rate = rate_hz;
        plan
    }
}

impl Publish {
    fn new(options: &Options, topics: &Topics, signed_in: SignedIn<'_>) -> Result<Self, String> {
        let target = PublishTarget::new(options, topics, signed_in)?;
        Ok(Self { target, connections: options.publish_connections, is_in_turn: options.publish_in_turn })
    }
}

/// The subscribers' server and their credential.
type SignedIn<'a> = (&'a Target, Option<&'a Credential>);

impl PublishTarget {
    fn new(options: &Options, topics: &Topics, (server, credential): SignedIn<'_>) -> Result<Self, String> {
        let url = options.publish.as_deref().unwrap_or(&options.url);
        if url.starts_with("redis://") || url.starts_with("rediss://") {
            let target = url.parse::<RedisUrl>().and_then(|url| RedisTarget::new(url, &options.tls));
            return target.map(Self::Redis).map_err(|error| format!("--publish: {error}"));
        }
        if url.starts_with("nats://") {
            return Broker::parse(url, &options.publish_headers).map(Self::Nats);
        }
        let (base, path) = split_path(url);
        let target = Target::http(base, &options.tls)?;
        let headers = options.publish_headers.clone();
        let has_own = headers.iter().any(|(name, _)| signs_in(name));
        // The credential goes to no other server.
        let credential = credential.filter(|_| target.host == server.host && !has_own).cloned();
        let post = Post {
            target,
            method: options.publish_method,
            path: if matches!(path, "" | "/") { "/publish/{topic}".to_owned() } else { origin_form(path) },
            headers,
            credential,
            body: options.publish_body.clone(),
        };
        post.form(topics.of(0))?;
        Ok(Self::Http(post))
    }
}

/// The server that subscribers connect to.
fn target(options: &Options) -> Result<Target, String> {
    let url = options.subscribe.as_deref().map_or(options.url.as_str(), |url| split_path(url).0);
    Target::http(url, &options.tls)
}

/// Whether a header is a credential.
fn signs_in(name: &str) -> bool {
    ["authorization", "x-api-key"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The subscribers' credential. The token in the environment is for a hub only, and not used beside a header that signs in.
fn credential(options: &Options) -> Result<Option<Credential>, String> {
    if options.subscribe.is_some() || options.headers.iter().any(|(name, _)| signs_in(name)) {
        return options.credentials.named();
    }
    options.credentials.resolve()
}

/// A URL's scheme and authority, and what follows (RFC 3986 section 3).
fn split_path(url: &str) -> (&str, &str) {
    let authority_start = url.find("://").map_or(0, |at| at + 3);
    let path_start = url[authority_start..].find(['/', '?']).map_or(url.len(), |at| authority_start + at);
    url.split_at(path_start)
}

/// What a request line says of a URL's path and query (RFC 9112 section 3.2.1).
fn origin_form(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn loads(options: &Options, topics: &Topics, credential: Option<&Credential>) -> Vec<Load> {
    let first = load(options, topics, options.subscribers, options.rate, options.transport, credential);
    let second_rate = options.second_rate.unwrap_or(options.rate);
    let second_transport = options.second_transport.unwrap_or(options.transport);
    let second = options.second_topic.as_ref().zip(options.second_subscribers);
    let second = second
        .map(|(topic, count)| load(options, &topic.clone().into(), count, second_rate, second_transport, credential));
    std::iter::once(first).chain(second).collect()
}

fn load(
    options: &Options,
    topic: &Topics,
    subscribers: u32,
    rate: f64,
    transport: Transport,
    credential: Option<&Credential>,
) -> Load {
    Load {
        topic: topic.clone(),
        subscribers,
        subscribers_before: 0,
        transport,
        pace: Pace {
            arrivals: options.arrivals,
            rate,
            burst_events: options.burst_events,
            warmup: warmup(options),
            duration: options.duration,
        },
        path: target_path(options, transport),
        headers: options.headers.clone(),
        signs_in: credential.cloned(),
    }
}

fn churn_plan(options: &Options, topics: &Topics, credential: Option<&Credential>) -> ChurnPlan {
    let mixed = [Transport::Sse, Transport::Ws];
    let transports = if options.churn_mixed { &mixed[..] } else { &[options.transport] };
    let loads = transports.iter().map(|&transport| load(options, topics, 0, options.rate, transport, credential));
    ChurnPlan { rate: options.churn, stay: options.churn_stay, loads: loads.collect() }
}

fn sign_in(options: &Options) -> Option<SignIn> {
    let (username, password) = options.login.clone()?;
    (0.0 < options.logins).then_some(SignIn { rate: options.logins, username, password })
}

fn socket_io(options: &Options) -> Result<SocketIoOptions, String> {
    let socket_io = SocketIoOptions {
        event: options.socketio_event.clone(),
        args: options.socketio_args.clone(),
        confirmation: options.socketio_confirmation.clone(),
        namespace: options.socketio_namespace.clone(),
    };
    check_socket_io(&socket_io)?;
    Ok(socket_io)
}

/// Fails unless name and arguments form a packet.
fn check_socket_io(options: &SocketIoOptions) -> Result<(), String> {
    let topic = Topic::parse("a").map_err(|bad| bad.to_string())?;
    let packet = SocketIoOptions { args: fill(&options.args, &topic), ..options.clone() }.subscription();
    let array: Result<Vec<serde_json::Value>, _> = serde_json::from_str(&packet);
    array.map_err(|error| format!("--socketio-args: {packet} is no event of Socket.IO: {error}"))?;
    if !options.namespace.starts_with('/') || options.namespace.contains(',') {
        return Err(format!("--socketio-namespace {}: it begins with / and has no comma", options.namespace));
    }
    Ok(())
}

/// A topic's name, which comes in place of `{topic}`, needs no escaping in a query: its alphabet is a part of the query's.
fn target_path(options: &Options, transport: Transport) -> String {
    if let Some(url) = &options.subscribe {
        return origin_form(split_path(url).1);
    }
    let (default_path, query) = match transport {
        Transport::Sse => ("/sse", "topic={topic}"),
        Transport::Ws | Transport::FanfareV1 => ("/ws", "topic={topic}"),
        Transport::SocketIo => ("/socket.io/", "EIO=4&transport=websocket"),
    };
    format!("{}?{query}", options.path.as_deref().unwrap_or(default_path))
}

fn check_processes(options: &Options) -> Result<(), String> {
    let (processes, cores) = (options.processes as usize, options.pin.len());
    if options.subscribers < options.processes {
        return Err(format!("--processes {processes}: there are fewer subscribers, {}", options.subscribers));
    }
    let has_one_for_the_publisher = 1 < processes && cores == processes + 1;
    if !has_one_for_the_publisher && ![0, 1, processes].contains(&cores) {
        return Err(format!("--pin: {cores} cores for {processes} processes: name one, or one for each"));
    }
    Ok(())
}

fn warmup(options: &Options) -> Duration {
    if options.ladder { options.ladder_warmup } else { options.warmup }
}

fn rules(options: &Options) -> Result<Option<LadderRules>, String> {
    let Options { ladder_factor: factor, ladder_max: max_hz, rate: first_hz, .. } = *options;
    if !(factor.is_finite() && 1.0 < factor) {
        return Err("--ladder-factor must be above 1: each step is faster than the last one".to_owned());
    }
    if max_hz.is_some_and(|max_hz| !(max_hz.is_finite() && first_hz <= max_hz)) {
        return Err(format!(
            "--ladder-max must not be below --rate, which is {first_hz}: the first step has that rate"
        ));
    }
    Ok(options.ladder.then_some(LadderRules { first_hz, factor, steps_max: options.ladder_steps_max, max_hz }))
}
