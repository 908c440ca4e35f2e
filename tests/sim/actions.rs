//! What may happen in a simulation, and how often.

use std::time::Duration;

use bytes::Bytes;
use fanfare::bus::{Feed, PublishRefused};
use fanfare_core::{event::EventId, gap::GapReason};
use rand::RngExt;

use crate::{
    broken::Fault,
    client::{Client, ClientProtocol, ConnectionState},
    track::Track,
    truth::payload,
    world::World,
};

type Action = fn(&mut World);

/// Each action and its weight.
const ACTIONS: &[(u32, Action)] = &[
    (14, World::connect_any),
    (30, World::exchange_some),
    (15, World::exchange_all),
    (10, World::publish_few),
    (3, World::publish_burst),
    (8, World::request_publication),
    (10, World::command_any),
    (4, World::stall_or_resume),
    (2, World::reset_any),
    (2, World::close_any),
    (1, World::half_close_any),
    (1, World::send_nonsense),
    (6, World::let_time_pass),
    (10, World::let_source_work),
    (1, World::exhaust_descriptors),
    (1, World::sweep_bus),
    (1, World::settle_and_check),
    (1, World::wait_in_silence),
    (2, World::connect_crowd),
    (2, World::send_noise),
    (12, World::come_back),
    (1, World::restart_seldom),
    (3, World::repeat_request),
    (2, World::source_leaves),
    (3, World::source_returns),
    (2, World::source_forgets),
    (3, World::find_out_unheard),
    (5, World::trim_stream),
    (2, World::replace_stream),
];

/// More than a reactor reads from one connection in one turn.
const NOISE_BYTES: usize = 5 * 64 * 1024;
const ALL: usize = usize::MAX;

impl World {
    /// Does one thing.
    pub(crate) fn act(&mut self) {
        let total: u32 = ACTIONS.iter().map(|(weight, _)| weight).sum();
        let mut chosen = self.random.random_range(0..total);
        for (weight, action) in ACTIONS {
            if chosen < *weight {
                return action(self);
            }
            chosen -= weight;
        }
    }

    fn connect_any(&mut self) {
        if self.plan.clients_max <= self.clients.iter().filter(|client| client.state == ConnectionState::Open).count() {
            return;
        }
        let protocol = match self.random.random_range(0..14) {
            0 | 1 => ClientProtocol::Http,
            2..=4 => ClientProtocol::Sse { named: self.random.random(), http10: false },
            5 => ClientProtocol::Sse { named: self.random.random(), http10: true },
            6..=8 => ClientProtocol::Raw,
            9 | 10 => ClientProtocol::V1,
            11 | 12 => ClientProtocol::Socket,
            _ => ClientProtocol::Garbage,
        };
        let tracks = self.choose_tracks(protocol);
        let wire = self.new_wire();
        let mut client = Client::new(wire, protocol, tracks, &self.truth);
        if self.random.random() {
            client.send(ALL);
        }
        self.connect(client);
    }

    fn choose_tracks(&mut self, protocol: ClientProtocol) -> Vec<(Track, Option<EventId>)> {
        let most = match protocol {
            ClientProtocol::Http | ClientProtocol::Garbage => 0,
            ClientProtocol::V1 | ClientProtocol::Socket => self.random.random_range(0..=2),
            ClientProtocol::Sse { .. } | ClientProtocol::Raw => self.random.random_range(1..=3),
        };
        let count = most.min(self.plan.topics.len());
        let first = self.random.random_range(0..self.plan.topics.len());
        let mut topics: Vec<usize> = (0..count).map(|offset| (first + offset) % self.plan.topics.len()).collect();
        // Streams over the same topics in another order have other ids.
        if self.next_tag.is_multiple_of(3) {
            topics.reverse();
        }
        // Either all resume or none does: the id of a stream is one for all its topics.
        let resumes = self.random.random_range(0..4) == 0 && topics.iter().all(|topic| 0 < self.truth.len(*topic));
        topics.into_iter().map(|topic| self.choose_start(topic, resumes)).collect()
    }

    fn choose_start(&mut self, topic: usize, resumes: bool) -> (Track, Option<EventId>) {
        let len = self.truth.len(topic);
        if !resumes || len == 0 {
            self.note_taken();
            return (self.truth.live_track(topic), None);
        }
        // Often the newest, which the reactor may not have taken from its inbox yet.
        let back = if self.random.random() { 1 } else { self.random.random_range(1..=60) };
        let last_seen = len.saturating_sub(back);
        let id = self.truth.entry(topic, last_seen).id;
        (Track::resumed(topic, last_seen + 1, id), Some(id))
    }

    fn any_client(&mut self, is_wanted: impl Fn(&Client) -> bool) -> Option<usize> {
        let wanted: Vec<usize> = (0..self.clients.len()).filter(|index| is_wanted(&self.clients[*index])).collect();
        if wanted.is_empty() { None } else { Some(wanted[self.random.random_range(0..wanted.len())]) }
    }

    fn any_open(&mut self) -> Option<usize> {
        self.any_client(|client| client.state == ConnectionState::Open)
    }

    /// One client goes on by a few bytes.
    fn exchange_some(&mut self) {
        let Some(index) = self.any_open() else { return };
        let (send_most, receive_most) = (self.random.random_range(1..40), self.random.random_range(1..3000));
        self.client_turn(index, send_most, receive_most);
    }

    /// All clients go on as far as they can.
    fn exchange_all(&mut self) {
        (0..self.clients.len()).for_each(|index| self.client_turn(index, ALL, ALL));
    }

    fn new_payload(&mut self) -> (u64, String) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let padding_bytes = match self.random.random_range(0..60) {
            0 => self.random.random_range(5_000..90_000),
            1..=5 => self.random.random_range(200..3_000),
            _ => self.random.random_range(0..200),
        };
        (tag, payload(tag, padding_bytes.min(self.plan.payload_bytes_max())))
    }

    fn any_topic(&mut self) -> usize {
        self.random.random_range(0..self.plan.topics.len())
    }

    fn publish_few(&mut self) {
        let count = self.random.random_range(1..4);
        self.publish(count);
    }

    /// More than an inbox holds, or a log keeps.
    fn publish_burst(&mut self) {
        let count = self.random.random_range(10..120);
        self.publish(count);
    }

    fn publish(&mut self, count: usize) {
        let mostly = self.any_topic();
        let bus = std::sync::Arc::clone(&self.hub.bus);
        let mut feed = bus.feed();
        for _ in 0..count {
            let topic = if self.random.random_range(0..4) == 0 { self.any_topic() } else { mostly };
            let (tag, data) = self.new_payload();
            if self.truth.rules[topic].is_stream {
                self.broker.append(topic, data, &mut self.truth, &mut self.random);
            } else if self.source_away || self.unheard.contains(&self.truth.topics[topic]) {
                self.truth.lose(topic);
            } else {
                self.feed_event(&mut feed, topic, tag, data);
                self.truth.copy_from(&bus);
            }
        }
    }

    fn feed_event(&self, feed: &mut Feed<'_>, topic: usize, tag: u64, data: String) {
        let (now, name) = (self.clock.now(), &self.truth.topics[topic]);
        let kind = tag.is_multiple_of(2).then_some("kind");
        match feed.publish(name, kind, Bytes::from(data), now) {
            Ok(_) => {}
            Err(PublishRefused::NoRoom) => feed.report_loss(name, GapReason::Overflow, now),
            Err(other) => panic!("refused: {other:?}"),
        }
    }

    /// From now on what is published at the source is lost. Without one that all share there is nothing to lose.
    fn source_leaves(&mut self) {
        self.source_away = self.plan.sink;
    }

    /// The source is there again, and says of which topics it may have lost something.
    pub(crate) fn source_returns(&mut self) {
        if !std::mem::take(&mut self.source_away) || self.plan.fault == Some(Fault::LossUntold) {
            return;
        }
        // Reports of one moment stand for one loss.
        self.clock.advance(Duration::from_nanos(1));
        let bus = std::sync::Arc::clone(&self.hub.bus);
        for topic in 0..self.plan.topics.len() {
            if !self.truth.rules[topic].is_stream {
                bus.feed().report_loss(&self.truth.topics[topic], GapReason::SourceLost, self.clock.now());
            }
        }
        self.truth.copy_from(&bus);
    }

    /// The source forgets that the hub wants a topic: nothing of it comes any more, and nobody is told.
    fn source_forgets(&mut self) {
        let topic = self.any_topic();
        if self.plan.sink && !self.truth.rules[topic].is_stream {
            self.unheard.insert(self.truth.topics[topic].clone());
        }
    }

    /// The hub finds out, and subscribes again.
    pub(crate) fn find_out_unheard(&mut self) {
        let unheard = std::mem::take(&mut self.unheard);
        if self.plan.fault == Some(Fault::ForgottenUntold) || unheard.is_empty() {
            return;
        }
        // As above.
        self.clock.advance(Duration::from_nanos(1));
        let bus = std::sync::Arc::clone(&self.hub.bus);
        for topic in &unheard {
            bus.feed().report_loss(topic, GapReason::SourceLost, self.clock.now());
        }
        self.truth.copy_from(&bus);
    }

    /// The broker drops the oldest entries of a stream.
    fn trim_stream(&mut self) {
        let topic = self.any_topic();
        if self.truth.rules[topic].is_stream {
            let len = self.truth.len(topic);
            let kept = self.random.random_range(0..80).min(len);
            self.truth.trim(topic, len - kept);
        }
    }

    /// The broker has another stream under the same key.
    fn replace_stream(&mut self) {
        let topic = self.any_topic();
        if self.truth.rules[topic].is_stream {
            self.broker.replace(topic, &mut self.truth, &mut self.random);
        }
    }

    fn restart_seldom(&mut self) {
        if self.random.random_range(0..3) == 0 {
            self.restart();
        }
    }

    /// A client whose connection has ended comes back, with what it has.
    fn come_back(&mut self) {
        let is_wanted = |client: &Client| client.state != ConnectionState::Open && client.dialog.may_come_back();
        let Some(index) = self.any_client(is_wanted) else { return };
        self.clients[index].dialog.was_succeeded = true;
        let Some(tracks) = self.clients[index].dialog.account(&self.truth) else { return };
        let protocol = self.clients[index].dialog.protocol;
        let wire = self.new_wire();
        let mut client = Client::new(wire, protocol, tracks, &self.truth);
        if self.random.random() {
            client.send(ALL);
        }
        self.connect(client);
    }

    /// A publisher does not know whether its request was taken, and repeats it under the same key.
    fn repeat_request(&mut self) {
        let is_wanted = |client: &Client| is_talking(client, ClientProtocol::Http);
        let Some(index) = self.any_client(is_wanted) else { return };
        if self.requested.is_empty() {
            return;
        }
        let chosen = self.random.random_range(0..self.requested.len());
        let (tag, topic, data) = self.requested[chosen].clone();
        self.clients[index].request_publish(topic, tag, &data, &self.truth);
    }

    /// Publishes over HTTP, several requests in a row perhaps.
    fn request_publication(&mut self) {
        let is_wanted = |client: &Client| is_talking(client, ClientProtocol::Http);
        let Some(index) = self.any_client(is_wanted) else { return };
        for _ in 0..self.random.random_range(1..4) {
            let topic = self.any_topic();
            let (tag, data) = self.new_payload();
            self.clients[index].request_publish(topic, tag, &data, &self.truth);
            self.requested.push((tag, topic, data));
        }
    }

    /// A client of `fanfare.v1` or Socket.IO says something.
    fn command_any(&mut self) {
        let may_ask =
            |client: &Client| is_talking(client, ClientProtocol::V1) || is_talking(client, ClientProtocol::Socket);
        let is_wanted = |client: &Client| may_ask(client) && client.dialog.opened;
        let Some(index) = self.any_client(is_wanted) else { return };
        for _ in 0..self.random.random_range(1..4) {
            self.command_once(index);
        }
        if self.random.random() {
            self.clients[index].send(ALL);
        }
    }

    fn command_once(&mut self, index: usize) {
        let topic = self.any_topic();
        let listens = self.clients[index].dialog.listens_to(topic);
        match self.random.random_range(0..10) {
            0 => self.clients[index].command_ping(),
            1 | 2 => {
                let (tag, data) = self.new_payload();
                if data.len() < 60_000 {
                    self.clients[index].command_publish(topic, tag, &data, &self.truth);
                }
            }
            3 => self.clients[index].command_unsubscribe(topic, &self.truth),
            4..=8 if listens && self.random.random_range(0..4) != 0 => {
                self.clients[index].command_unsubscribe(topic, &self.truth);
            }
            _ => {
                let (track, since) = match self.random.random_range(0..8) {
                    0 => (Track::rewound(topic), Some(EventId::default())),
                    luck => self.choose_start(topic, luck < 3),
                };
                // Whoever listens has joined, says Socket.IO: nothing begins anew.
                if !(listens && self.clients[index].dialog.protocol == ClientProtocol::Socket) {
                    self.clients[index].command_subscribe(track, since, &self.truth);
                }
            }
        }
    }

    fn stall_or_resume(&mut self) {
        if let Some(index) = self.any_open() {
            self.clients[index].stalled = !self.clients[index].stalled;
        }
    }

    fn reset_any(&mut self) {
        if let Some(index) = self.any_open() {
            self.clients[index].state = ConnectionState::Left;
            self.clients[index].wire.lock().break_off();
        }
    }

    fn close_any(&mut self) {
        let Some(index) = self.any_open() else { return };
        let client = &mut self.clients[index];
        if client.dialog.leaving {
            return;
        }
        if client.dialog.opened
            && matches!(client.dialog.protocol, ClientProtocol::Raw | ClientProtocol::V1 | ClientProtocol::Socket)
        {
            return client.close_politely();
        }
        client.state = ConnectionState::Left;
        client.wire.lock().close();
    }

    /// A publisher has nothing more to ask, and waits for its answers.
    fn half_close_any(&mut self) {
        let is_wanted = |client: &Client| is_talking(client, ClientProtocol::Http);
        let Some(index) = self.any_client(is_wanted) else { return };
        let client = &mut self.clients[index];
        client.send(ALL);
        client.dialog.leaving = true;
        client.wire.lock().half_close();
    }

    fn send_nonsense(&mut self) {
        let is_wanted = |client: &Client| is_talking(client, ClientProtocol::Garbage);
        let Some(index) = self.any_client(is_wanted) else { return };
        let count = self.random.random_range(1..300);
        let words: [&[u8]; 6] =
            [b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n", b"\0\xff", b"Content-Length: 9\r\n", b"x"];
        for _ in 0..count {
            let word = words[self.random.random_range(0..words.len())];
            self.clients[index].outgoing.extend(word);
        }
    }

    /// A stream's client sends much that nobody asked for.
    fn send_noise(&mut self) {
        let is_stream =
            |client: &Client| matches!(client.dialog.protocol, ClientProtocol::Sse { .. }) && client.dialog.opened;
        let Some(index) = self.any_client(|client| client.state == ConnectionState::Open && is_stream(client)) else {
            return;
        };
        let client = &mut self.clients[index];
        client.wire.lock().send(&[b'x'; NOISE_BYTES]);
        if self.random.random() {
            client.state = ConnectionState::Left;
            client.wire.lock().close();
        }
    }

    /// Many at once, if the plan is for a crowd.
    fn connect_crowd(&mut self) {
        if 24 < self.plan.clients_max {
            (0..20).for_each(|_| self.connect_any());
        }
    }

    fn wait_in_silence(&mut self) {
        self.settle_and_check();
        self.check_heartbeats();
    }

    fn let_time_pass(&mut self) {
        let most_ms = if self.random.random_range(0..10) == 0 { 20_000 } else { 1_500 };
        let span = Duration::from_millis(self.random.random_range(1..most_ms));
        self.clock.advance(span);
    }

    fn let_source_work(&mut self) {
        let most = self.random.random_range(1..5);
        self.source_turn(most);
    }

    fn exhaust_descriptors(&mut self) {
        let index = self.random.random_range(0..self.ports.len());
        self.ports[index].borrow_mut().exhausted = self.random.random_range(1..4);
    }

    fn sweep_bus(&mut self) {
        self.hub.bus.sweep(self.clock.now());
    }

    fn settle_and_check(&mut self) {
        self.settle();
        self.check_complete();
    }
}

fn is_talking(client: &Client, protocol: ClientProtocol) -> bool {
    client.state == ConnectionState::Open && client.dialog.protocol == protocol && !client.dialog.leaving
}
