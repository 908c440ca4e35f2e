//! One connection's conversation with the server. No I/O: bytes, commands and `now` in; bytes, messages and deadlines
//! out.
//!
//! LIFECYCLE: *greeting* (`HELLO 3` with the login) → *ready*; a server that knows no RESP3 → *greeting in RESP2*
//! (`AUTH`, `CLIENT SETNAME`) → *ready*. Where sentinels named the server, `ROLE` stands between greeting and *ready*: it
//! must be a master. Every fault ends it: the caller closes, waits, and opens another. Neither side ever says goodbye.
//!
//! Answers come in the order of their commands, so a queue of what was asked tells what each answer is about; messages
//! come between them at any time.

use std::{collections::VecDeque, time::Duration};

use super::{
    envelope::ENVELOPE_BYTES_MAX,
    fault::Fault,
    oversize,
    patterns::Admission,
    probe::{ChannelProbe, is_probe},
    subscriptions::{Batch, Subscriptions},
};
use crate::{
    clock::Moment,
    protocol::resp::{self, BadReply, Push, Reply, RespLimits},
    source::redis::{
        RedisConfig, RedisUrl, Role,
        error_codes::{is_denial, is_final, is_of_command, is_served},
    },
};

/// What the server lists the connection as.
const CLIENT_NAME: &[u8] = b"fanfare-reader";

/// Commands are withheld while this much is unsent, so that a stalled server costs no more memory than that.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;

/// One connection's conversation.
#[derive(Debug)]
pub(super) struct PubSubSession {
    stage: Stage,
    allow_replica: bool,
    /// How to ask what the server is, while it may be asked.
    role_question: Option<RoleQuestion>,
    /// What it said in its answer to the greeting.
    greeted_role: Role,
    /// Whether the server said that it is a node of a cluster.
    is_cluster_node: bool,
    limits: RespLimits,
    asked: VecDeque<Asked>,
    outgoing: Vec<u8>,
    ping_interval: Duration,
    ping_timeout: Duration,
    greeting_deadline: Moment,
    next_ping: Moment,
    last_received: Moment,
    probe: ChannelProbe,
    proof: Option<Duration>,
    /// The server forbids the hub to subscribe to anything at all.
    subscribing_denied: bool,
    /// The same for publishing.
    publishing_denied: bool,
    /// What has become known of that.
    publishing: Option<Result<(), String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    GreetingInResp2,
    Ready,
}

/// The command that tells what the server is. Access rules that forbid the one often allow the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoleQuestion {
    Role,
    Hello,
}

/// What an answer is awaited for.
#[derive(Debug)]
enum Asked {
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
    /// An event.
    Message { channel: &'a [u8], payload: &'a [u8] },
    /// An event with a payload over the limit; the caller passes over what of it is still to come.
    TooBig { channel: &'a [u8] },
    /// A message on a channel that is not subscribed; the caller passes over what of it is still to come.
    Unasked,
    /// Nothing for the caller.
    Nothing,
    /// An answer: there may be notices, commands and a proof.
    Answer,
}

impl PubSubSession {
    /// Greets the server. `probe_seed` tells this hub's probe from those of others.
    pub(super) fn open(config: &RedisConfig, probe_seed: u64, now: Moment) -> Self {
        let mut session = Self {
            stage: Stage::Greeting,
            allow_replica: config.allow_replica,
            role_question: Some(RoleQuestion::Role),
            greeted_role: Role::Unknown,
            is_cluster_node: false,
            limits: RespLimits {
                bulk_bytes_max: config.message_bytes_max + ENVELOPE_BYTES_MAX,
                ..RespLimits::default()
            },
            asked: VecDeque::new(),
            outgoing: Vec::new(),
            ping_interval: config.ping_interval,
            ping_timeout: config.ping_timeout,
            greeting_deadline: now + config.connect_timeout,
            next_ping: now,
            last_received: now,
            probe: ChannelProbe::new(probe_seed, now),
            proof: None,
            subscribing_denied: false,
            publishing_denied: false,
            publishing: None,
        };
        session.say_hello(&config.url);
        session
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// What is to be sent; the caller removes what it has sent.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// How long the last proof of delivery took, once.
    pub(super) fn take_proof(&mut self) -> Option<Duration> {
        self.proof.take()
    }

    /// Whether the server lets the hub publish at all, in its own words if not; each time it becomes known.
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
            Push::Unsubscribed { .. } => self.on_confirmation(Confirmation::Leave, subscriptions)?,
            Push::PatternUnsubscribed { .. } => Incoming::Nothing,
            Push::Other(Reply::Push(_)) => Incoming::Nothing,
            Push::Other(reply) => self.on_reply(&reply, url, subscriptions, now)?,
        };
        Ok(Some((incoming, consumed)))
    }

    /// Writes the commands that are due: subscriptions that changed, and a sign of life.
    pub(super) fn poll_commands(&mut self, subscriptions: &mut Subscriptions, now: Moment) {
        if self.stage != Stage::Ready {
            return;
        }
        while self.outgoing.len() < OUTGOING_BYTES_MAX
            && let Some(batch) = subscriptions.next_batch()
        {
            self.send_batch(batch, subscriptions);
        }
        if self.next_ping <= now {
            self.send_ping(now);
        }
    }

    /// When [`Self::poll_commands`] or [`Self::check_deadlines`] has something to do next.
    pub(super) fn deadline(&self) -> Moment {
        match self.stage {
            Stage::Ready => self.silence_deadline().map_or(self.next_ping, |silence| silence.min(self.next_ping)),
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
            Stage::Ready => self.silence_deadline(),
            _ => Some(self.greeting_deadline),
        };
        if deadline.is_some_and(|deadline| deadline <= now) { Err(Fault::Silent) } else { Ok(()) }
    }

    /// An answer may queue behind a burst of messages, so any byte counts as a sign of life.
    fn silence_deadline(&self) -> Option<Moment> {
        let sent = self.asked.iter().find_map(|asked| match asked {
            Asked::Ping { sent } => Some(*sent),
            Asked::ProbePublication => Some(self.probe.sent()),
            _ => None,
        })?;
        Some(sent.max(self.last_received) + self.ping_timeout)
    }

    fn say_hello(&mut self, url: &RedisUrl) {
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = url.password() {
            // Redis calls the user that a password alone logs in as "default".
            hello.extend([b"AUTH", url.username().unwrap_or("default").as_bytes(), password.as_bytes()]);
        }
        hello.extend([b"SETNAME".as_slice(), CLIENT_NAME]);
        self.send(&hello, Asked::Hello);
    }

    fn greet_in_resp2(&mut self, url: &RedisUrl) {
        self.stage = Stage::GreetingInResp2;
        match (url.username(), url.password()) {
            (Some(name), Some(password)) => {
                self.send(&[b"AUTH", name.as_bytes(), password.as_bytes()], Asked::Step { needed: true });
            }
            (None, Some(password)) => self.send(&[b"AUTH", password.as_bytes()], Asked::Step { needed: true }),
            (_, None) => {}
        }
        self.send(&[b"CLIENT", b"SETNAME", CLIENT_NAME], Asked::Step { needed: false });
        // The last step: its answer shows that the server lets us in, whether or not it lets us choose a name.
        self.send(&[b"PING"], Asked::Step { needed: true });
    }

    fn ask_role(&mut self) {
        match self.role_question {
            Some(RoleQuestion::Role) => self.send(&[b"ROLE"], Asked::Role(RoleQuestion::Role)),
            Some(RoleQuestion::Hello) => self.send(&[b"HELLO"], Asked::Role(RoleQuestion::Hello)),
            None => {}
        }
    }

    /// Takes the answer to `question`. Fails if the server is not, or no longer, one to use.
    fn on_role(&mut self, question: RoleQuestion, reply: &Reply<'_>) -> Result<(), Fault> {
        let role = match (question, reply) {
            (_, Reply::Error(text)) if !is_denial(text) => return Err(Fault::Rejected((*text).to_owned())),
            (RoleQuestion::Role, Reply::Error(_)) => {
                let is_told = self.greeted_role != Role::Unknown;
                self.role_question = is_told.then_some(RoleQuestion::Hello);
                Some(self.greeted_role)
            }
            (RoleQuestion::Hello, Reply::Error(_)) => {
                self.role_question = None;
                Some(Role::Unknown)
            }
            (RoleQuestion::Role, reply) => Role::of_reply(reply),
            (RoleQuestion::Hello, reply) => Some(hello_role(reply)),
        };
        let role = role.ok_or_else(|| Fault::BadReply("ROLE is answered by a list".to_owned()))?;
        role.check(self.allow_replica).map_err(Fault::Unfit)
    }

    /// ChannelEncoder are the same in every database, so the URL's database needs no `SELECT` here.
    fn become_ready(&mut self, subscriptions: &mut Subscriptions, now: Moment) {
        let resp3 = self.stage == Stage::Greeting;
        self.stage = Stage::Ready;
        self.next_ping = now;
        if !resp3 {
            self.role_question = None;
        } else {
            // RESP2 has no publishing on a connection that subscribes.
            self.subscribe_probe();
        }
        subscriptions.on_connected();
    }

    fn subscribe_probe(&mut self) {
        let channel = self.probe.channel().to_owned();
        self.send(&[b"SUBSCRIBE", channel.as_bytes()], Asked::ProbeSubscription);
    }

    fn send(&mut self, arguments: &[&[u8]], asked: Asked) {
        resp::write_command(&mut self.outgoing, arguments);
        self.asked.push_back(asked);
    }

    fn send_batch(&mut self, batch: Batch, subscriptions: &Subscriptions) {
        let mut command: Vec<&[u8]> = Vec::new();
        match &batch {
            Batch::Topics(topics) | Batch::Leave(topics) => {
                command.push(if matches!(batch, Batch::Topics(_)) { b"SUBSCRIBE" } else { b"UNSUBSCRIBE" });
                command.extend(topics.iter().map(|topic| topic.as_str().as_bytes()));
            }
            Batch::Patterns(indices) => {
                command.push(b"PSUBSCRIBE");
                command.extend(indices.iter().map(|index| subscriptions.patterns().text(*index).as_bytes()));
            }
        }
        resp::write_command(&mut self.outgoing, &command);
        self.asked.push_back(Asked::Batch { batch, confirmed: 0 });
    }

    fn send_ping(&mut self, now: Moment) {
        self.next_ping = now + self.ping_interval;
        if self.silence_deadline().is_some() {
            return;
        }
        if self.probe.is_on() {
            let (channel, nonce) = (self.probe.channel().to_owned(), self.probe.next_nonce(now));
            self.send(&[b"PUBLISH", channel.as_bytes(), nonce.as_bytes()], Asked::ProbePublication);
        } else {
            self.send(&[b"PING"], Asked::Ping { sent: now });
        }
        if self.subscribing_denied {
            self.subscribe_probe();
        }
        if self.publishing_denied {
            let (channel, nonce) = (self.probe.channel().to_owned(), self.probe.next_nonce(now));
            self.send(&[b"PUBLISH", channel.as_bytes(), nonce.as_bytes()], Asked::PublishingRetry);
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

    /// The door: whether a message is one that was asked for, before anything of it is kept.
    fn admit(&self, pattern: Option<&[u8]>, channel: &[u8], subscriptions: &Subscriptions) -> Admission {
        let admission = match pattern {
            // Every hub's probes come through a pattern that covers all.
            Some(_) if is_probe(channel) => Admission::Repeated,
            Some(pattern) => subscriptions.patterns().admit(pattern, channel),
            None => subscriptions.admit(channel),
        };
        let is_leaving = || self.asked.iter().any(|asked| matches!(asked, Asked::Batch { batch: Batch::Leave(_), .. }));
        // The server goes on until it has read that a channel is left.
        if admission == Admission::Unasked && is_leaving() { Admission::Repeated } else { admission }
    }

    fn on_probe(&mut self, channel: &[u8], payload: &[u8], now: Moment) -> Incoming<'static> {
        if channel != self.probe.channel().as_bytes() {
            return Incoming::Unasked;
        }
        self.proof = self.probe.proof(channel, payload, now).or(self.proof);
        Incoming::Answer
    }

    /// Confirmations carry the channel's name, but they come in the order of the command's arguments, which spares a
    /// look-up and cannot be led astray.
    fn on_confirmation(
        &mut self,
        confirmation: Confirmation,
        subscriptions: &mut Subscriptions,
    ) -> Result<Incoming<'static>, Fault> {
        match self.asked.front_mut() {
            Some(Asked::ProbeSubscription) if confirmation == Confirmation::Channel => {
                self.asked.pop_front();
                self.probe.switch(true);
                self.subscribing_denied = false;
                self.next_ping = Moment::default();
                subscriptions.on_command_allowed();
            }
            Some(Asked::Batch { batch, confirmed }) if confirmation.is_of(batch) => {
                let length = match batch {
                    Batch::Topics(topics) => {
                        subscriptions.on_subscribed(&topics[*confirmed]);
                        topics.len()
                    }
                    Batch::Patterns(indices) => {
                        subscriptions.on_pattern_subscribed(indices[*confirmed]);
                        indices.len()
                    }
                    Batch::Leave(topics) => topics.len(),
                };
                *confirmed += 1;
                if *confirmed == length {
                    self.asked.pop_front();
                }
            }
            _ => return Err(Fault::BadReply("a confirmation of nothing".to_owned())),
        }
        Ok(Incoming::Answer)
    }

    fn on_reply(
        &mut self,
        reply: &Reply<'_>,
        url: &RedisUrl,
        subscriptions: &mut Subscriptions,
        now: Moment,
    ) -> Result<Incoming<'static>, Fault> {
        let error = if let Reply::Error(text) = reply { Some(*text) } else { None };
        match (self.asked.pop_front(), error) {
            (None, Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            (None, None) => return Err(Fault::BadReply("an answer to nothing".to_owned())),
            (Some(Asked::Hello), None) => {
                self.greeted_role = hello_role(reply);
                self.is_cluster_node = hello_field(reply, b"mode") == Some(b"cluster");
                self.ask_role();
            }
            (Some(Asked::Hello), Some(text)) if is_final(text) => return Err(Fault::Rejected(text.to_owned())),
            (Some(Asked::Hello), Some(_)) => self.greet_in_resp2(url),
            (Some(Asked::Step { needed: true }), Some(text)) if !is_served(error) => {
                return Err(Fault::Rejected(text.to_owned()));
            }
            (Some(Asked::Step { .. }), _) => {
                if self.asked.is_empty() {
                    self.ask_role();
                }
            }
            (Some(Asked::Role(question)), _) => {
                self.on_role(question, reply)?;
                if self.stage != Stage::Ready {
                    self.become_ready(subscriptions, now);
                }
            }
            (Some(Asked::Batch { batch, confirmed: 0 }), Some(text)) if is_denial(text) => {
                subscriptions.on_refused(&batch, text, now);
            }
            (Some(Asked::Batch { .. }), Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            (Some(Asked::ProbePublication | Asked::PublishingRetry), Some(text)) if is_of_command(text) => {
                self.probe.switch(false);
                self.publishing_denied = true;
                self.publishing = Some(Err(text.to_owned()));
            }
            (Some(Asked::PublishingRetry), None) => {
                self.probe.switch(true);
                self.publishing_denied = false;
                self.publishing = Some(Ok(()));
            }
            (Some(Asked::PublishingRetry), Some(_)) => {}
            (Some(Asked::ProbeSubscription), Some(text)) if is_of_command(text) => {
                // Tried again with the next sign of life, which must not be at once.
                self.subscribing_denied = true;
                subscriptions.on_command_refused(text, now);
            }
            // Access rules may forbid the probe: then a `PING` has to do.
            (Some(Asked::ProbeSubscription | Asked::ProbePublication), Some(text)) if is_denial(text) => {
                self.probe.switch(false);
                self.next_ping = Moment::default();
            }
            (Some(Asked::ProbeSubscription), Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            // That it was taken proves no delivery, and that it was not passes.
            (Some(Asked::ProbePublication), None) => self.publishing = Some(Ok(())),
            (Some(Asked::ProbePublication), Some(_)) => {}
            (Some(Asked::Ping { sent }), _) => {
                self.proof = is_served(error).then(|| now.since(sent)).or(self.proof);
            }
            (Some(Asked::Batch { .. } | Asked::ProbeSubscription), _) => {
                return Err(Fault::BadReply("an answer that confirms nothing".to_owned()));
            }
        }
        Ok(Incoming::Answer)
    }
}

/// What the server is by its answer to `HELLO`.
fn hello_role(answer: &Reply<'_>) -> Role {
    hello_field(answer, b"role").map_or(Role::Unknown, Role::of_hello)
}

/// What the answer to `HELLO` has under `name`.
fn hello_field<'a>(answer: &Reply<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let Reply::Map(pairs) = answer else { return None };
    pairs.iter().find_map(|(found, value)| match (found, value) {
        (Reply::Bulk(Some(found)), Reply::Bulk(Some(value))) if *found == name => Some(*value),
        _ => None,
    })
}
