//! Arguments become a command.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use fanfare::{
    config::{self, Override},
    server,
};
use fanfare_core::version::FULL_VERSION;
use fanfare_platform::stdio;
use fanfare_tools::{bench, health, load, produce, publish, report, subscribe};

mod pages;
mod token;

/// A real-time event hub: events come in over HTTP and Redis, and go out over SSE, WebSocket and Socket.IO.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version = FULL_VERSION, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  fanfare serve                                    a hub on http://127.0.0.1:8080, no Redis needed
  fanfare serve --demo                             a hub with sample events at /api/v1/events
  fanfare serve --redis redis://127.0.0.1:6379     a hub on Redis Pub/Sub
  fanfare serve --nats nats://127.0.0.1:4222       a hub on NATS
  curl -N 'http://127.0.0.1:8080/sse?topic=events.critical'
  fanfare publish --type SERVER_DOWN --source server-a --count 10
  fanfare subscribe --topic events.critical

See `fanfare COMMAND --help`. Exit codes: 0 success, 1 failure, 2 invalid arguments.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub
    Serve(ServeArguments),
    /// Carry events from Redis to NATS, or from NATS to Redis
    Bridge(BridgeArguments),
    /// Publish events, over HTTP or straight to Redis
    Publish(publish::Options),
    /// Publish made-up sensor readings to a pod of a hub, one event per request
    Produce(produce::Options),
    /// Subscribe to topics and print their events, or measure their latency
    Subscribe(subscribe::Options),
    /// Summarize the logs of many subscribers: deliveries, dropped events, latency
    Report(report::Options),
    /// Benchmark a server under an open-loop load: latency, lost events, CPU time and memory
    Bench(Box<bench::Options>),
    /// Publish many conversations token by token, and compare the tokens that arrive with those published
    Load(Box<load::Options>),
    /// Ask a hub whether it is ready, by the exit code: for containers and scripts
    Health(health::Options),
    /// Issue a signed access token (JWT) for a client
    Token(TokenArguments),
    /// Read a password from standard input and print its hash for the users file
    HashPassword,
    /// Check the configuration, show it, or print every key with its default
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the completions of a shell, such as `fanfare completions bash > /etc/bash_completion.d/fanfare`
    Completions {
        /// The shell that reads them
        shell: clap_complete::Shell,
    },
    /// Write the man pages: fanfare.1, and one for each command
    Man {
        /// The folder to write them to, such as /usr/local/share/man/man1; it must be there
        folder: PathBuf,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Report errors in the configuration, with file and key
    Check(ConfigFile),
    /// Print the effective configuration (file, environment, defaults); passwords are masked
    Show(ConfigFile),
    /// Print every configuration key with its default value and a description
    Default,
}

#[derive(Args, Debug)]
struct ConfigFile {
    /// Read the configuration from FILE (TOML); without it, environment variables and defaults apply
    #[arg(long = "config", value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TokenAction {
    /// Say what a token, or an API key, is worth to a hub with this configuration, and by which rule, or why it is refused
    Check {
        /// Token to check, which is never printed; `-`: the first line of standard input, which other users cannot see
        token: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct TokenArguments {
    #[command(subcommand)]
    action: Option<TokenAction>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    token: token::Options,
    /// Lifetime of the token, such as 90s, 15m, 1h or 30d [default: the key auth.token_ttl]
    #[arg(long, value_name = "TIME", value_parser = config::parse_duration)]
    ttl: Option<Duration>,
}

/// Each flag sets a key of the configuration and overrides the file and the environment.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fanfare serve --listen 127.0.0.1:9000 --listen unix:/run/fanfare.sock
  fanfare serve --config fanfare.toml --reactors 4 --pin=0-3
  FANFARE_DRAIN__WINDOW=3s fanfare serve --redis redis://127.0.0.1:6379

`fanfare config default` prints every key there is.")]
struct ServeArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Listen on ADDR, `host:port`, `unix:/path` or `systemd:NAME`; may be repeated [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Serve health, readiness and metrics on ADDR, and no longer on the addresses of --listen
    #[arg(long, value_name = "ADDR")]
    admin_listen: Vec<String>,
    /// Number of reactor threads, which share the connections [default: the number of CPU cores]
    #[arg(long, value_name = "N")]
    reactors: Option<String>,
    /// Pin each reactor thread to a CPU core: to one of CORES, such as 0,2-4, or to one that the hub chooses
    #[arg(long, value_name = "CORES", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pin: Option<String>,
    /// Receive events from this Redis by Pub/Sub, and publish to it
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Receive events from these NATS servers, nats://host:4222 or tls://, and publish to them; several with commas
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Keep telemetry in PostgreSQL: postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Generate sample events for the streams at /api/v1/events and /api/v1/broadcast-demo
    #[arg(long)]
    demo: bool,
    /// Allow listening on an address that other machines can reach, although no client has to sign in
    #[arg(long)]
    insecure: bool,
    /// Lowest level to log: error, warn, info, debug, or directives such as info,fanfare::source=debug
    #[arg(long, value_name = "L")]
    log_level: Option<String>,
    /// Format of log lines: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// A bridge is a hub with two sources, and its flags set keys of the configuration like those of `serve`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  fanfare bridge --from redis://127.0.0.1:6379 --to nats://127.0.0.1:4222 --map 'conversations.*'
  fanfare bridge --from nats://a:4222,b:4222 --to redis://r:6379 --map 'orders.**=>shop.orders.**' --map alarms
  fanfare bridge --from redis://127.0.0.1:6379 --to nats://127.0.0.1:4222 --map 'orders.**' --stream
  fanfare bridge --config bridge.toml --from redis --to nats --map 'conversations.*'

Health, readiness and metrics are at the address of --listen. Two bridges with the same map and the same Redis may run side by
side: one carries the events, the other takes over when it dies. What a bridge has brought stays where it is, unless bridge.chain
is set; but bridges in both directions over Redis Pub/Sub need different names.")]
struct BridgeArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Server to carry events from: redis://…, nats://… or tls://…, or just redis or nats for the one in the configuration
    #[arg(long, value_name = "URL")]
    from: String,
    /// Server to carry events to, in the same forms
    #[arg(long, value_name = "URL")]
    to: String,
    /// Carry logs that the brokers keep, Redis Streams and JetStream, instead of Pub/Sub and core NATS: at both ends, or only
    /// where the events go to
    #[arg(long, value_name = "END", num_args = 0..=1, require_equals = true, default_missing_value = "both")]
    stream: Option<StreamEnds>,
    /// Topics to carry, such as 'a.*', or 'a.*=>b.*' to rename them; may be repeated [default: the key bridge.map]
    #[arg(long, value_name = "MAP")]
    map: Vec<String>,
    /// Serve health, readiness and metrics on ADDR, `host:port` or `unix:/path` [default: 127.0.0.1:8090, or the key
    /// server.listen of --config]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Lowest level to log: error, warn, info, debug, or directives such as info,fanfare::source=debug
    #[arg(long, value_name = "L")]
    log_level: Option<String>,
    /// Format of log lines: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Where a bridge listens that is told nothing else.
const BRIDGE_ADDRESS: &str = "127.0.0.1:8090";

fn main() -> ExitCode {
    let arguments = match bench::expand_preset(std::env::args_os()) {
        Ok(arguments) => Arguments::parse_from(load::expand_single_dashes(arguments)),
        Err(message) => {
            stdio::report(format_args!("fanfare: {message}"));
            return ExitCode::from(2);
        }
    };
    let done = match arguments.command {
        Command::Serve(arguments) => serve(arguments.config.file.clone(), arguments.overrides()),
        Command::Bridge(arguments) => {
            arguments.overrides().and_then(|overrides| serve(arguments.config.file.clone(), overrides))
        }
        Command::Publish(options) => publish::run(&options),
        Command::Produce(options) => produce::run(&options),
        Command::Subscribe(options) => subscribe::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Bench(options) => return bench::run(&options),
        Command::Load(options) => return load::run(&options),
        Command::Health(options) => health::run(&options),
        Command::Token(TokenArguments { action: Some(action), .. }) => check_token(&action),
        Command::Token(arguments) => make_token(arguments),
        Command::HashPassword => token::hash().and_then(|hash| stdio::print(format!("{hash}\n"))),
        Command::Config { action } => run_config(&action),
        Command::Completions { shell } => pages::print_completions(shell, Arguments::command()),
        Command::Man { folder } => pages::write_man(&folder, Arguments::command()),
        Command::Version => print_version(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            stdio::report(format_args!("fanfare: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(file: Option<PathBuf>, overrides: Vec<Override>) -> Result<(), String> {
    let config = config::load(file.as_deref(), environment(), &overrides).map_err(|error| error.to_string())?;
    let log = config::start_log(&config.log)?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let load_again =
        move || config::load_again(file.as_deref(), environment(), &overrides).map_err(|error| error.to_string());
    server::run(config, &log, load_again)
}

impl ServeArguments {
    fn overrides(&self) -> Vec<Override> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        let rows = [
            ("--listen", "server.listen", list(&self.listen)),
            ("--admin-listen", "admin.listen", list(&self.admin_listen)),
            ("--reactors", "server.reactors", self.reactors.clone()),
            ("--pin", "server.pin", self.pin.clone()),
            ("--redis", "redis.url", self.redis.clone()),
            ("--nats", "nats.url", self.nats.clone()),
            ("--store", "store.url", self.store.clone()),
            ("--demo", "demo.enabled", self.demo.then(|| "true".to_owned())),
            ("--insecure", "server.insecure", self.insecure.then(|| "true".to_owned())),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.clone()),
        ];
        rows.into_iter().filter_map(|(flag, key, value)| Some(Override { flag, key, value: value? })).collect()
    }
}

impl BridgeArguments {
    fn overrides(&self) -> Result<Vec<Override>, String> {
        let (from, to) = (BridgeEnd::parse("--from", &self.from)?, BridgeEnd::parse("--to", &self.to)?);
        let list = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        let of_file = |value: &str| self.config.file.is_none().then(|| value.to_owned());
        let from_source = if self.stream == Some(StreamEnds::Both) { from.log_source } else { from.source };
        let to_source = if self.stream.is_some() { to.log_source } else { to.source };
        let rows = [
            ("--from", "bridge.from", Some(from_source.to_owned())),
            ("--to", "bridge.to", Some(to_source.to_owned())),
            ("--from", from.url_key, from.url),
            ("--to", to.url_key, to.url),
            ("--map", "bridge.map", list(&self.map)),
            ("--listen", "server.listen", list(&self.listen).or_else(|| of_file(BRIDGE_ADDRESS))),
            // One thread answers probes well enough.
            ("fanfare bridge", "server.reactors", of_file("1")),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.clone()),
        ];
        Ok(rows.into_iter().filter_map(|(flag, key, value)| Some(Override { flag, key, value: value? })).collect())
    }
}

/// At which ends of a bridge brokers keep logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StreamEnds {
    Both,
    To,
}

/// One of the two servers between which a bridge stands.
struct BridgeEnd {
    source: &'static str,
    /// The same server's source of logs.
    log_source: &'static str,
    url_key: &'static str,
    /// `None`: the configuration says where it is.
    url: Option<String>,
}

impl BridgeEnd {
    fn parse(flag: &str, text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let (source, log_source, url_key) = match scheme.unwrap_or(text) {
            "nats" | "tls" => ("nats", "jetstream", "nats.url"),
            "redis" | "rediss" | "unix" | "redis+sentinel" | "redis+cluster" | "rediss+cluster" => {
                ("redis", "redis_stream", "redis.url")
            }
            // Not quoted whole: it may hold a password.
            _ => return Err(format!("{flag} is neither redis://…, nats://… nor tls://…, and neither redis nor nats")),
        };
        Ok(Self { source, log_source, url_key, url: scheme.is_some().then(|| text.to_owned()) })
    }
}

fn make_token(arguments: TokenArguments) -> Result<(), String> {
    let file = arguments.config.file.as_deref();
    let config = config::load(file, environment(), &[]).map_err(|error| error.to_string())?;
    stdio::print(format!("{}\n", token::mint(arguments.token, arguments.ttl, &config.auth)?))
}

fn check_token(TokenAction::Check { token, config }: &TokenAction) -> Result<(), String> {
    let config = config::load(config.file.as_deref(), environment(), &[]).map_err(|error| error.to_string())?;
    stdio::print(format!("{}\n", token::check(token, &config.auth)?))
}

fn run_config(action: &ConfigAction) -> Result<(), String> {
    match action {
        ConfigAction::Check(ConfigFile { file }) => {
            let config = config::load(file.as_deref(), environment(), &[]).map_err(|error| error.to_string())?;
            config.warnings.iter().for_each(|warning| stdio::report(format_args!("warning: {warning}")));
            stdio::print(format!("{}: all is well\n", name_of(file.as_deref())))
        }
        ConfigAction::Show(ConfigFile { file }) => {
            let shown = config::show(file.as_deref(), environment(), &[]).map_err(|error| error.to_string())?;
            stdio::print(shown)
        }
        ConfigAction::Default => stdio::print(config::default_file()),
    }
}

fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(|| "environment and defaults".to_owned(), |file| file.display().to_string())
}

fn print_version() -> Result<(), String> {
    stdio::print(format!("fanfare {}\n", FULL_VERSION))
}

/// The variables of this process, but for those that are not UTF-8: none of ours is.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    /// The line `fanfare serve …` as the configuration it makes.
    fn configure(flags: &[&str]) -> config::Config {
        let line = ["fanfare", "serve"].iter().chain(flags);
        let Command::Serve(arguments) = Arguments::parse_from(line).command else { panic!("it says serve") };
        config::load(None, [].into_iter(), &arguments.overrides()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_flag_of_serve_reaches_its_key() {
        let flags = [
            "--listen=0.0.0.0:1",
            "--listen=unix:/run/fanfare.sock",
            "--admin-listen=127.0.0.1:2",
            "--reactors=2",
            "--pin=4,6-7",
            "--redis=redis://127.0.0.1/5",
            "--store=postgres://esp@db/wells",
            "--demo",
            "--insecure",
            "--log-level=warn",
            "--log-format=json",
        ];
        let config = configure(&flags);
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!(config.admin.listen, [config::Address::loopback(2)]);
        assert_eq!((config.server.reactors, config.server.pin), (2, config::Pin::Cores(vec![4, 6, 7])));
        assert_eq!(config.sources.redis.expect("a Redis").url.to_string(), "redis://127.0.0.1:6379/5");
        assert_eq!(config.store.expect("a store").login.url.to_string(), "postgres://esp@db:5432/wells");
        assert!(config.server.insecure);
        assert!(config.sources.demo.is_some());
        assert_eq!((config.log.level.as_str(), config.log.format), ("warn", config::LogFormat::Json));
    }

    #[test]
    fn pin_alone_lets_the_hub_choose_the_cores() {
        assert_eq!(configure(&["--pin"]).server.pin, config::Pin::Automatic);
        assert_eq!(configure(&[]).server.pin, config::Pin::Off);
    }
}
