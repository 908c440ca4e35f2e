//! The command line of `fanfare load`, and the plan that follows from it. Pure.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Command, ValueEnum};

use crate::{
    client::{AccessOptions, HubAccess, HubUrl, RedisTarget, RedisUrl, unshown},
    duration,
};

/// The most conversations: each is a stream, thus a descriptor.
const CONVERSATIONS_MAX: u32 = 100_000;
/// The most tokens of a conversation.
pub(super) const TOKENS_MAX: u32 = 1_000_000;
/// The most tokens of a run: each takes two bits of memory.
const TOKENS_SUM_MAX: u64 = 100_000_000;
/// The longest pause between two tokens of a conversation, in ms: an hour.
const DELAY_MS_MAX: u64 = 3_600_000;
/// The longest run: a week.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Options of `fanfare load`.
#[derive(Args, Clone, Debug)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  fanfare load                                               5 conversations of 50 tokens, over HTTP
  fanfare load -r localhost:6379 -s http://localhost:8080 -c 100 -t 200 -d 20 --duration 5m --repeat
  fanfare load -m producer -r redis.internal:6379 -c 10      publish only
  fanfare load -m consumer -s http://hub:8080 -c 10          receive only
  fanfare load -s https://hub.example --token-file token     at a hub that requires a token, over TLS

Long flags may have one dash: -mode both -conversations 50.
Conversation N is the topic conversations.N, and the Redis channel of that name.
Exit codes: 0 all tokens arrived; 1 tokens were lost, duplicated or out of order, or none arrived; 2 invalid arguments;
130 interrupted by Ctrl+C or SIGTERM."
)]
pub struct Options {
    /// Publish tokens, receive them, or both
    #[arg(short, long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,
    /// Publish to this Redis: host:port or redis://user:password@host:port/database, with TLS rediss://… [default: over HTTP]
    #[arg(short, long, value_name = "ADDR", value_parser = unshown(str::parse::<RedisUrl>))]
    redis: Option<RedisUrl>,
    /// URL of the hub to receive tokens from: http://host:port, https://host:port or unix:/path
    #[arg(short, long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = unshown(str::parse::<HubUrl>))]
    sse: HubUrl,
    /// URL of the hub to publish at, with POST /publish/{topic} [default: the URL of --sse]
    #[arg(long, value_name = "URL", conflicts_with = "redis", value_parser = unshown(str::parse::<HubUrl>))]
    publish_url: Option<HubUrl>,
    /// Number of simultaneous conversations, each with a topic and a stream of its own
    #[arg(short, long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CONVERSATIONS_MAX)))]
    conversations: u32,
    /// Number of tokens in each conversation
    #[arg(short, long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(TOKENS_MAX)))]
    tokens: u32,
    /// Interval between two tokens of a conversation, in ms; 0 publishes as fast as tokens are accepted
    #[arg(short, long, value_name = "MS", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(..=DELAY_MS_MAX))]
    delay: u64,
    /// Longest time to publish or receive, such as 30s, 5m or 1m30s, even if tokens are left. The run then waits for missing
    /// tokens, for the same time at most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Restart each conversation on its stream when its tokens are used up, until --duration is over. Token numbers continue
    #[arg(long)]
    repeat: bool,
    /// Also write the report to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    access: AccessOptions,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Publish tokens, as a language model would
    Producer,
    /// Receive tokens, as its users would
    Consumer,
    /// Do both, and compare
    Both,
}

impl Mode {
    /// Whether tokens are published.
    pub(super) fn publishes(self) -> bool {
        self != Self::Consumer
    }

    /// Whether streams are opened.
    pub(super) fn listens(self) -> bool {
        self != Self::Producer
    }
}

/// Where tokens are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublishTarget {
    /// Directly to Redis.
    Redis(RedisTarget),
    /// At a hub, with POST.
    Hub(HubAccess),
}

/// All parameters of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    pub(super) target: PublishTarget,
    pub(super) sse: HubAccess,
    pub(super) conversations: u32,
    /// Of each conversation.
    pub(super) tokens: u32,
    pub(super) delay: Duration,
    pub(super) duration: Duration,
    /// Whether conversations restart until the duration is over.
    pub(super) repeats: bool,
    pub(super) json: Option<PathBuf>,
    pub(super) is_quiet: bool,
}

impl Plan {
    /// Checks the options. The error says what is wrong and what to do.
    pub(super) fn new(options: &Options) -> Result<Self, String> {
        let sum = u64::from(options.conversations) * u64::from(options.tokens);
        if TOKENS_SUM_MAX < sum {
            return Err(format!(
                "--conversations times --tokens is {sum}; the most is {TOKENS_SUM_MAX}: make one of them smaller"
            ));
        }
        let sse = options.access.hub(&options.sse)?;
        let target = match (&options.redis, &options.publish_url) {
            (Some(url), _) => PublishTarget::Redis(options.access.redis(url)?),
            (None, Some(url)) => PublishTarget::Hub(options.access.hub(url)?),
            (None, None) => PublishTarget::Hub(sse.clone()),
        };
        Ok(Self {
            mode: options.mode,
            target,
            sse,
            conversations: options.conversations,
            tokens: options.tokens,
            delay: Duration::from_millis(options.delay),
            duration: options.duration,
            repeats: options.repeat,
            json: options.json.clone(),
            is_quiet: options.quiet,
        })
    }

    /// The most tokens to publish: with --repeat those that are due before the duration is over, up to
    /// [`Plan::account_max`].
    pub(super) fn token_sum(&self) -> u64 {
        match self.repeats {
            true => self.due_before(self.duration),
            false => u64::from(self.conversations) * u64::from(self.tokens),
        }
    }

    /// With --repeat, the number of tokens that are due before `end`; without a pause between them, [`Plan::account_max`].
    pub(super) fn due_before(&self, end: Duration) -> u64 {
        let (mut low, mut high) = (0, self.account_max());
        if self.delay.is_zero() {
            return high;
        }
        // They are numbered in the order in which they are due.
        while low < high {
            let middle = low + (high - low) / 2;
            if self.scheduled(middle).due < end { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// With --repeat, the most tokens that are tracked.
    pub(super) fn account_max(&self) -> u64 {
        let conversations = u64::from(self.conversations);
        u64::from(TOKENS_MAX).min(TOKENS_SUM_MAX / conversations) * conversations
    }

    /// The number of conversations that are complete when the first `sent` tokens are sent.
    pub(super) fn completed(&self, sent: u64) -> u64 {
        let (conversations, tokens) = (u64::from(self.conversations), u64::from(self.tokens));
        let (rounds, rest) = (sent / conversations, sent % conversations);
        // The first `rest` conversations are a token ahead of the others.
        rest * ((rounds + 1) / tokens) + (conversations - rest) * (rounds / tokens)
    }

    /// The token with this index, counted from 0 over all conversations in the order in which tokens are due.
    pub(super) fn scheduled(&self, index: u64) -> ScheduledToken {
        let conversations = u64::from(self.conversations);
        let (round, conversation) = (index / conversations, index % conversations);
        // Conversations are spread evenly over one pause, as independent ones would be.
        let [round, conversation] = [round, conversation].map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        let due = self.delay * round + self.delay * conversation / self.conversations;
        ScheduledToken { conversation, sequence: round.saturating_add(1), due }
    }
}

/// A token and the time at which it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScheduledToken {
    /// Counted from 0; the topic's name counts from 1.
    pub(super) conversation: u32,
    /// In its conversation, counted from 1.
    pub(super) sequence: u32,
    /// Since the first token of the run.
    pub(super) due: Duration,
}

/// A duration above 0 and of at most a week.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration above 0, such as 500ms, 30s, 5m or 1h30m";
    match duration::parse_duration(text) {
        Some(duration) if DURATION_MAX < duration => Err(format!("the longest is {} h", DURATION_MAX.as_secs() / 3600)),
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(EXPECTED.into()),
    }
}

/// Adds the second dash to long flags of `fanfare load` that have one (`-redis X`, `-mode=both`, `-help`), as Go's flag
/// package accepts them. All else is unchanged, including what follows `--`.
pub fn expand_single_dashes(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_none_or(|command| command != "load") {
        return arguments;
    }
    let mut command = Options::augment_args(Command::new("load"));
    // This adds the flag `help`.
    command.build();
    let names: Vec<&str> = command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let is_long = |word: &str| {
        let name = word.strip_prefix('-').map(|rest| rest.split('=').next().unwrap_or(rest));
        // One letter is a short flag.
        name.is_some_and(|name| 1 < name.len() && names.contains(&name))
    };
    for argument in arguments[2..].iter_mut().take_while(|argument| *argument != "--") {
        if let Some(word) = argument.to_str()
            && is_long(word)
        {
            *argument = format!("-{word}").into();
        }
    }
    arguments
}
