//! The protocol of one connection. No I/O: bytes, commands and `now` in; bytes, messages and deadlines out.
//!
//! Lifecycle: *greeting* (`HELLO 3` with the login) → *ready*; a server without RESP3 → *greeting in RESP2* (`AUTH`,
//! `CLIENT SETNAME`) → *ready*. `ROLE` stands between the greeting and *ready*: the server must be a master, or a replica where
//! the configuration allows one. Every fault ends the session: the caller closes the connection, waits, and opens another.
//!
//! Replies come in the order of their commands, so a queue of expected replies says what each is about. Messages may come
//! between them at any time.

mod greeting;
mod replies;
mod sharded;

use std::{collections::VecDeque, time::Duration};

pub(in crate::source::redis) use self::sharded::SlotNews;
use self::sharded::{Sharding, part};
use super::{
    envelope::ENVELOPE_BYTES_MAX,
    fault::Fault,
    marks::{MARK_CHANNEL, Marks},
    oversize,
    probe::{ChannelProbe, is_probe},
    subscriptions::{Admission, Batch, Subscriptions},
};
use crate::{
    clock::Moment,
    fingerprint::Mark,
    protocol::resp::{self, BadReply, Push, Reply, RespLimits},
    source::redis::{RedisConfig, RedisUrl, Role},
};

/// What the server lists the connection as.
const CLIENT_NAME: &[u8] = b"fanfare-reader";

/// Commands are withheld while this much is unsent, so that a stalled server costs no more memory than that.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;

/// The session of one connection.
#[derive(Debug)]
pub(super) struct PubSubSession {
    stage: SessionStage,
    allow_replica: bool,
    /// How to ask what the server is, while it may be asked.
    role_question: Option<RoleQuestion>,
    /// What it said in its answer to the greeting.
    greeted_role: Role,
    /// Whether the server said that it is a node of a cluster.
    is_cluster_node: bool,
    limits: RespLimits,
    expected: VecDeque<ExpectedReply>,
    outgoing: Vec<u8>,
    ping_interval: Duration,
    ping_timeout: Duration,
    greeting_deadline: Moment,
    next_ping: Moment,
    last_received: Moment,
    probe: ChannelProbe,
    marks: Marks,
    proof: Option<Duration>,
    /// The server forbids the hub to subscribe to anything at all.
    subscribing_denied: bool,
    /// The same for publishing.
    publishing_denied: bool,
    /// What has become known of that.
    publishing: Option<Result<(), String>>,
    /// `Some`: channels are sharded ones of a cluster.
    sharding: Option<Sharding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionStage {
    Greeting,
    GreetingInResp2,
    Ready,
}

/// The command that asks for the server's role. Access rules that forbid one often allow the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoleQuestion {
    Role,
    Hello,
}

/// A reply that is due, by the command that it answers.
#[derive(Debug)]
enum ExpectedReply {
    Hello,
    /// A step of the greeting; its failure ends the session if it is needed.
    Step {
        needed: bool,
    },
    Role(RoleQuestion),
    Batch {
        batch: Batch,
        confirmed: usize,
    },
    /// What the server is.
    Info,
    MarkSubscription,
    MarkPublication,
    ProbeSubscription,
    ProbePublication,
    /// The same while publishing is denied, beside a `PING`.
    PublishingRetry,
    Ping {
        sent: Moment,
    },
}

/// What a confirmation is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmation {
    Channel,
    Pattern,
    Leave,
}

impl Confirmation {
    fn is_of(self, batch: &Batch) -> bool {
        match batch {
            Batch::Topics(_) => self == Self::Channel,
            Batch::Patterns(_) => self == Self::Pattern,
            Batch::Leave(_) => self == Self::Leave,
        }
    }
}

/// What [`PubSubSession::receive`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// An event with a payload over the limit; the caller passes over what of it is still to come.
    TooBig {
        channel: &'a [u8],
    },
    /// A message on a channel that is not subscribed; the caller passes over what of it is still to come.
    Unasked,
    /// A [mark](PubSubSession::newest_mark), behind which the next messages stand.
    Mark,
    /// Nothing for the caller.
    Nothing,
    /// An answer: there may be notices, commands and a proof.
    Answer,
}

impl PubSubSession {
    /// Greets the server. `probe_seed` makes this hub's probe differ from those of others.
    pub(super) fn open(config: &RedisConfig, probe_seed: u64, now: Moment) -> Self {
        let mut session = Self {
            stage: SessionStage::Greeting,
            allow_replica: config.allow_replica,
            role_question: Some(RoleQuestion::Role),
            greeted_role: Role::Unknown,
            is_cluster_node: false,
            limits: RespLimits {
                bulk_bytes_max: config.message_bytes_max + ENVELOPE_BYTES_MAX,
                ..RespLimits::default()
            },
            expected: VecDeque::new(),
            outgoing: Vec::new(),
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            greeting_deadline: now + config.connect_timeout,
            next_ping: now,
            last_received: now,
            probe: ChannelProbe::new(probe_seed, now),
            marks: Marks::new(config.mark_interval, probe_seed),
            proof: None,
            subscribing_denied: false,
            publishing_denied: false,
            publishing: None,
            sharding: None,
        };
        session.say_hello(&config.url);
        session
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == SessionStage::Ready
    }

    /// What is to be sent; the caller removes what it has sent.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// How long the last proof of delivery took, once.
    pub(super) fn take_proof(&mut self) -> Option<Duration> {
        self.proof.take()
    }

    /// The newest mark that was read, or the begin of the connection.
    pub(super) fn newest_mark(&self) -> Mark {
        self.marks.newest()
    }

    /// The place of something that was read cannot be said before the next mark.
    pub(super) fn hurry_mark(&mut self) {
        self.marks.hurry();
    }

    /// Whether the server lets the hub publish at all, or its error; `Some` each time that becomes known.
    pub(super) fn take_publishing(&mut self) -> Option<Result<(), String>> {
        self.publishing.take()
    }

    /// The most bytes that a reply may take; what is longer will never be whole.
    pub(super) fn reply_bytes_max(&self) -> usize {
        // A pattern, a channel and a payload, each of them as long as it may be.
        3 * self.limits.bulk_bytes_max + self.limits.line_bytes_max
    }

    /// What stands at the start of `bytes`, and how many bytes it takes, which may be more than there are if it is
    /// [too big](Incoming::TooBig). `None` if it is not all there yet.
    pub(super) fn receive<'a>(
        &mut self,
        bytes: &'a [u8],
        url: &RedisUrl,
        subscriptions: &mut Subscriptions,
        now: Moment,
    ) -> Result<Option<(Incoming<'a>, usize)>, Fault> {
        if !bytes.is_empty() {
            self.last_received = now;
        }
        let (push, consumed) = match resp::parse_push(bytes, &self.limits) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(BadReply::BulkTooLong) => return self.receive_oversize(bytes, subscriptions).map(Some),
            Err(bad) => return Err(Fault::BadReply(bad.to_string())),
        };
        let incoming = match push {
            Push::Message { channel, payload } if channel == MARK_CHANNEL.as_bytes() => {
                self.marks.take(payload, now);
                Incoming::Mark
            }
            Push::Message { channel, payload } if is_probe(channel) => self.on_probe(channel, payload, now),
            Push::Message { channel, payload } => match self.admit(None, channel, subscriptions) {
                Admission::Wanted => Incoming::Message { channel, payload },
                Admission::Repeated => Incoming::Nothing,
                Admission::Unasked => Incoming::Unasked,
            },
            Push::PatternMessage { pattern, channel, payload } => {
                match self.admit(Some(pattern), channel, subscriptions) {
                    Admission::Wanted => Incoming::Message { channel, payload },
                    Admission::Repeated => Incoming::Nothing,
                    Admission::Unasked => Incoming::Unasked,
                }
            }
            Push::Subscribed { .. } => self.on_confirmation(Confirmation::Channel, subscriptions)?,
            Push::PatternSubscribed { .. } => self.on_confirmation(Confirmation::Pattern, subscriptions)?,
            Push::Unsubscribed { channel, .. } if self.sharding.is_some() => {
                self.on_sharded_end(channel, subscriptions);
                Incoming::Answer
            }
            Push::Unsubscribed { .. } => self.on_confirmation(Confirmation::Leave, subscriptions)?,
            Push::PatternUnsubscribed { .. } => Incoming::Nothing,
            Push::Other(Reply::Push(_)) => Incoming::Nothing,
            Push::Other(reply) => self.on_reply(&reply, url, subscriptions, now)?,
        };
        if matches!(incoming, Incoming::Message { .. }) {
            self.marks.on_news();
        }
        Ok(Some((incoming, consumed)))
    }

    /// Writes the commands that are due: subscriptions that changed, and a sign of life.
    pub(super) fn poll_commands(&mut self, subscriptions: &mut Subscriptions, now: Moment) {
        if self.stage != SessionStage::Ready {
            return;
        }
        while self.outgoing.len() < OUTGOING_BYTES_MAX
            && let Some(batch) = subscriptions.next_batch()
        {
            if self.sharding.is_some() {
                part(batch).for_each(|one| self.send_batch(one, subscriptions));
            } else {
                self.send_batch(batch, subscriptions);
            }
        }
        if self.next_ping <= now {
            self.send_ping(now);
        }
        if let Some(mark) = self.marks.take_due(now) {
            self.send(&[b"PUBLISH", MARK_CHANNEL.as_bytes(), mark.as_bytes()], ExpectedReply::MarkPublication);
        }
    }

    /// When [`Self::poll_commands`] or [`Self::check_deadlines`] has something to do next.
    pub(super) fn deadline(&self) -> Moment {
        match self.stage {
            SessionStage::Ready => {
                let others = self.silence_deadline().into_iter().chain(self.marks.due());
                others.fold(self.next_ping, Moment::min)
            }
            _ => self.greeting_deadline,
        }
    }

    /// Whether the server is a node of a cluster, as far as it says.
    pub(super) fn is_cluster_node(&self) -> bool {
        self.is_cluster_node
    }

    /// Whether the server has been silent for too long.
    pub(super) fn check_deadlines(&self, now: Moment) -> Result<(), Fault> {
        let deadline = match self.stage {
            SessionStage::Ready => self.silence_deadline(),
            _ => Some(self.greeting_deadline),
        };
        if deadline.is_some_and(|deadline| deadline <= now) { Err(Fault::Silent) } else { Ok(()) }
    }

    /// An answer may queue behind a burst of messages, so any byte counts as a sign of life.
    fn silence_deadline(&self) -> Option<Moment> {
        let sent = self.expected.iter().find_map(|reply| match reply {
            ExpectedReply::Ping { sent } => Some(*sent),
            ExpectedReply::ProbePublication => Some(self.probe.sent()),
            _ => None,
        })?;
        Some(sent.max(self.last_received) + self.ping_timeout)
    }

    /// Asks for the marks of all hubs, and what tells this server from others.
    fn subscribe_marks(&mut self) {
        self.send(&[b"INFO", b"server"], ExpectedReply::Info);
        self.send(&[b"SUBSCRIBE", MARK_CHANNEL.as_bytes()], ExpectedReply::MarkSubscription);
    }

    fn subscribe_probe(&mut self) {
        let channel = self.probe.channel().to_owned();
        self.send(&[self.words().subscribe, channel.as_bytes()], ExpectedReply::ProbeSubscription);
    }

    fn send(&mut self, arguments: &[&[u8]], reply: ExpectedReply) {
        resp::write_command(&mut self.outgoing, arguments);
        self.expected.push_back(reply);
    }

    fn send_batch(&mut self, batch: Batch, subscriptions: &Subscriptions) {
        let words = self.words();
        let mut command: Vec<&[u8]> = Vec::new();
        match &batch {
            Batch::Topics(topics) | Batch::Leave(topics) => {
                command.push(if matches!(batch, Batch::Topics(_)) { words.subscribe } else { words.unsubscribe });
                command.extend(topics.iter().map(|topic| topic.as_str().as_bytes()));
            }
            Batch::Patterns(indices) => {
                command.push(b"PSUBSCRIBE");
                command.extend(indices.iter().map(|index| subscriptions.patterns().text(*index).as_bytes()));
            }
        }
        resp::write_command(&mut self.outgoing, &command);
        self.expected.push_back(ExpectedReply::Batch { batch, confirmed: 0 });
    }

    fn send_ping(&mut self, now: Moment) {
        self.next_ping = now + self.ping_interval;
        if self.silence_deadline().is_some() {
            return;
        }
        if self.probe.is_on() {
            let (channel, nonce) = (self.probe.channel().to_owned(), self.probe.next_nonce(now));
            self.send(&[self.words().publish, channel.as_bytes(), nonce.as_bytes()], ExpectedReply::ProbePublication);
        } else {
            self.send(&[b"PING"], ExpectedReply::Ping { sent: now });
        }
        if self.subscribing_denied {
            self.subscribe_probe();
        }
        if self.publishing_denied {
            let (channel, nonce) = (self.probe.channel().to_owned(), self.probe.next_nonce(now));
            self.send(&[self.words().publish, channel.as_bytes(), nonce.as_bytes()], ExpectedReply::PublishingRetry);
        }
        // A master may have become a replica meanwhile. Whoever subscribes in RESP2 may not ask.
        self.ask_role();
    }

    fn receive_oversize<'a>(
        &self,
        bytes: &'a [u8],
        subscriptions: &Subscriptions,
    ) -> Result<(Incoming<'a>, usize), Fault> {
        let oversize = oversize::measure(bytes, self.limits.bulk_bytes_max);
        let oversize = oversize.ok_or_else(|| Fault::BadReply(BadReply::BulkTooLong.to_string()))?;
        let incoming = match self.admit(oversize.pattern, oversize.channel, subscriptions) {
            Admission::Wanted => Incoming::TooBig { channel: oversize.channel },
            Admission::Repeated => Incoming::Nothing,
            Admission::Unasked => Incoming::Unasked,
        };
        Ok((incoming, oversize.bytes))
    }

    /// Whether a message belongs to a subscription. Decided before anything of it is kept.
    fn admit(&self, pattern: Option<&[u8]>, channel: &[u8], subscriptions: &Subscriptions) -> Admission {
        let admission = match pattern {
            // Every hub's probes come through a pattern that covers all.
            Some(_) if is_probe(channel) => Admission::Repeated,
            Some(pattern) => subscriptions.patterns().admit(pattern, channel),
            None => subscriptions.admit(channel),
        };
        let is_leaving =
            || self.expected.iter().any(|reply| matches!(reply, ExpectedReply::Batch { batch: Batch::Leave(_), .. }));
        // The server goes on until it has read that a channel is left.
        if admission == Admission::Unasked && is_leaving() { Admission::Repeated } else { admission }
    }
}
