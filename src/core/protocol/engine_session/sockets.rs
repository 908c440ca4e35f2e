//! The Socket.IO clients of one session: one for each namespace it has entered.

use smallvec::SmallVec;

use super::EngineLimits;
use crate::{
    clock::Moment,
    close::Close,
    event::{EventId, Position, gap_json},
    frame::SocketIoForm,
    gap::Gap,
    index::TopicIndex,
    json::LONG_TEXT_BYTES,
    outbox::Outbox,
    protocol::{
        LongCheck, LongMessage, PeerInput,
        socket_io::{
            self, Args, BadSocketIoPacket, DataCheck, PacketTarget, Reassembly, SocketIoPacket, SocketIoPacketKind,
        },
        websocket::Message,
    },
    topic::Topic,
};

impl SocketIoClient {
    /// One that has entered `namespace` just now.
    pub fn new(namespace: Box<str>, sid: Box<str>, pid: Option<Box<str>>, now: Moment) -> Self {
        Self { namespace, sid, pid, since: now, messages: 0, topics: Vec::new(), next_ack: 0 }
    }

    /// Appends where it stands in all its topics, for it to come back with.
    pub fn write_offset(&self, out: &mut String) {
        socket_io::write_offset(self.topics.iter().map(|it| (&it.topic, it.passed)), out);
    }
}

/// One packet of a Socket.IO client, understood.
#[derive(Debug)]
pub enum SocketIoInput {
    /// To enter a namespace.
    Connect {
        namespace: Box<str>,
        /// What it shows: a JSON object.
        payload: Option<String>,
    },
    /// That something be done.
    Event {
        /// Where it said so; it has entered it.
        namespace: Box<str>,
        name: String,
        /// With what: JSON values, joined by commas; attachments stand in them as `{"$binary":"base64"}`.
        arguments: String,
        /// The number of the acknowledgement it waits for.
        ack: Option<u64>,
    },
    /// It acknowledges an event of the server.
    Ack { namespace: Box<str>, id: u64, arguments: String },
    /// To leave a namespace.
    Disconnect {
        /// Which; it has entered it.
        namespace: Box<str>,
    },
}

/// A client in one namespace.
#[derive(Debug)]
pub struct SocketIoClient {
    /// The namespace; `/` is the one of clients that name none.
    pub namespace: Box<str>,
    /// Its public name.
    pub sid: Box<str>,
    /// Its private name, by which it may come back; only where that is possible.
    pub pid: Option<Box<str>>,
    /// When it entered.
    pub since: Moment,
    /// How many events it has sent.
    pub messages: u64,
    /// What it listens to.
    pub topics: Vec<SocketIoSubscription>,
    /// The number of the next acknowledgement the server asks for.
    pub next_ack: u64,
}

/// A topic that a client listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketIoSubscription {
    /// The topic, by its owner's index for it.
    pub topic_index: TopicIndex,
    /// Its name.
    pub topic: Topic,
    /// The id after which it began.
    pub began: EventId,
    /// The last id it was sent. While the session listens to the topic, its owner knows that better, and brings it up to date
    /// when it is needed ([`Sockets::subscriptions`]).
    pub passed: EventId,
    /// Where in the log the session has begun to listen. While it stands there `passed` is right as it is: the log may know the
    /// position by another id.
    pub began_at: Position,
}

/// All clients of a session.
#[derive(Debug)]
pub struct Sockets {
    /// Until when a client has to enter a namespace.
    enter_by: Option<Moment>,
    clients: SmallVec<[SocketIoClient; 1]>,
    /// A message whose attachments are on their way, and whether it is heeded.
    reassembly: Option<(Box<Reassembly>, bool)>,
    /// Whether a long message is being checked.
    is_checking: bool,
    /// Whether events carry offsets, with which the client may come back.
    pub recovers: bool,
}

impl Sockets {
    pub(super) fn new(enter_by: Moment) -> Self {
        Self {
            enter_by: Some(enter_by),
            clients: SmallVec::new(),
            reassembly: None,
            is_checking: false,
            recovers: false,
        }
    }

    /// The form of its events. A session has frames of its own if they name another namespace than `/`, or the ids in
    /// several topics.
    pub fn form(&self) -> SocketIoForm {
        let elsewhere = self.clients.iter().any(|client| &*client.namespace != "/" && !client.topics.is_empty());
        let topics: usize = self.clients.iter().map(|client| client.topics.len()).sum();
        SocketIoForm { offset: self.recovers, own: elsewhere || self.recovers && 1 < topics }
    }

    /// The client has been sent everything of the topic up to `id`.
    pub fn pass(&mut self, topic_index: TopicIndex, id: EventId) {
        let topics = self.subscriptions().filter(|it| it.topic_index == topic_index);
        topics.for_each(|it| it.passed = id);
    }

    /// All topics of all clients.
    pub fn subscriptions(&mut self) -> impl Iterator<Item = &mut SocketIoSubscription> {
        self.clients.iter_mut().flat_map(|client| client.topics.iter_mut())
    }

    /// The session listens to the topic from the position `began` on.
    pub fn begin(&mut self, topic_index: TopicIndex, began: Position) {
        let topics = self.subscriptions().filter(|it| it.topic_index == topic_index);
        topics.for_each(|it| it.began_at = began);
    }

    /// Whether a client listens to the topic.
    pub fn listens(&self, topic_index: TopicIndex) -> bool {
        self.clients.iter().any(|client| client.topics.iter().any(|it| it.topic_index == topic_index))
    }

    /// Tells the clients that listen to the topic, whose name is `topic`, of a gap.
    pub fn write_gap(&self, topic_index: TopicIndex, topic: &Topic, gap: Gap, out: &mut Vec<u8>) {
        for client in &self.clients {
            if client.topics.iter().any(|it| it.topic_index == topic_index) {
                let mut arguments = gap_json(topic, gap);
                if self.recovers {
                    arguments.push_str(",\"");
                    client.write_offset(&mut arguments);
                    arguments.push('"');
                }
                let target = PacketTarget { namespace: &client.namespace, ack: None };
                socket_io::write_event(target, "gap", Args::from_list(&arguments), out);
            }
        }
    }

    /// Writes an event of the topic, whose frames for the namespace `/` are `shared`, as its clients get it.
    /// `scratch` is overwritten.
    pub fn write_own(&self, topic_index: TopicIndex, shared: &[u8], scratch: &mut String, out: &mut Vec<u8>) {
        for client in &self.clients {
            if client.topics.iter().any(|it| it.topic_index == topic_index) {
                scratch.clear();
                if self.recovers {
                    client.write_offset(scratch);
                }
                socket_io::write_event_for(shared, &client.namespace, self.recovers.then_some(scratch), out);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.enter_by
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.reassembly.as_ref().map_or(0, |(reassembly, _)| reassembly.held_bytes())
    }

    pub fn clients(&self) -> &[SocketIoClient] {
        &self.clients
    }

    pub fn client(&mut self, namespace: &str) -> Option<&mut SocketIoClient> {
        self.clients.iter_mut().find(|client| &*client.namespace == namespace)
    }

    /// A client has entered a namespace.
    pub fn enter(&mut self, client: SocketIoClient) {
        self.enter_by = None;
        self.clients.push(client);
    }

    /// The client leaves `namespace`. If it is in none now, it has until `enter_by` to enter another.
    pub fn leave(&mut self, namespace: &str, enter_by: Moment) -> Option<SocketIoClient> {
        let index = self.clients.iter().position(|client| &*client.namespace == namespace)?;
        let client = self.clients.remove(index);
        if self.clients.is_empty() {
            self.enter_by = Some(enter_by);
        }
        Some(client)
    }

    /// Takes one message. `heeded`: it came within the limit on their rate; one that did not is read all the same, for
    /// attachments may follow, but nothing comes of it. Of a packet for a namespace that the client is not in nothing but the
    /// head is read, and the session ends.
    ///
    /// Nothing that changes where the client is may stand in `inputs`, unanswered: see [`Sockets::is_undecided`].
    pub(super) fn take(
        &mut self,
        message: Message,
        heeded: bool,
        limits: &EngineLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
    ) -> Result<(), Close> {
        let bad = |bad: BadSocketIoPacket| Close::BadFrame(bad.0);
        match (message, &mut self.reassembly) {
            (Message::Text(_), Some(_)) => Err(Close::BadFrame("attachments were to follow")),
            (Message::Binary(_), None) => Err(Close::BadFrame("no attachment was announced")),
            (Message::Binary(bytes), Some((reassembly, heeded))) => {
                let (whole, heeded) = (reassembly.receive(&bytes, limits.payload_bytes_max).map_err(bad)?, *heeded);
                let Some(whole) = whole else { return Ok(()) };
                self.reassembly = None;
                self.take_packet(&whole.packet(), heeded, outbox, inputs)
            }
            (Message::Text(text), None) => {
                let packet = SocketIoPacket::parse_head(&text, limits.attachments_max).map_err(bad)?;
                self.check_place(&packet, limits)?;
                if LONG_TEXT_BYTES < text.len() {
                    let check = LongCheck::Packet { check: DataCheck::begin(&packet), heeded };
                    self.is_checking = true;
                    inputs.push(PeerInput::Long(Box::new(LongMessage { text, check })));
                    return Ok(());
                }
                packet.check_data().map_err(bad)?;
                self.take_text(&packet, heeded, outbox, inputs)
            }
            (Message::Ping | Message::Pong, _) => Ok(()),
        }
    }

    /// Takes a long message whose check has found nothing wrong.
    pub(super) fn take_checked(
        &mut self,
        mut text: String,
        heeded: bool,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
    ) -> Result<(), Close> {
        self.is_checking = false;
        let packet = SocketIoPacket::parse_head(&text, usize::MAX).map_err(|bad| Close::BadFrame(bad.0))?;
        if packet.kind != SocketIoPacketKind::Event || !heeded {
            return self.take_text(&packet, heeded, outbox, inputs);
        }
        let Some((name, arguments)) = packet.data.and_then(socket_io::event_of) else {
            return Err(Close::BadFrame("an event has a name"));
        };
        let (namespace, name, ack) = (packet.namespace.into(), name.into_owned(), packet.ack);
        // It is long: what stands around its arguments is taken off, and they are not copied.
        let list = arguments.list();
        let start = if list.is_empty() { 0 } else { list.as_ptr().addr() - text.as_ptr().addr() };
        let end = start + list.len();
        text.truncate(end);
        text.drain(..start);
        inputs.push(PeerInput::Socket(SocketIoInput::Event { namespace, name, arguments: text, ack }));
        Ok(())
    }

    fn take_text(
        &mut self,
        packet: &SocketIoPacket<'_>,
        heeded: bool,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
    ) -> Result<(), Close> {
        if 0 < packet.attachments {
            self.reassembly = Some((Box::new(Reassembly::begin(packet)), heeded));
            return Ok(());
        }
        self.take_packet(packet, heeded, outbox, inputs)
    }

    /// Whether the client may send such a packet where it is.
    fn check_place(&mut self, packet: &SocketIoPacket<'_>, limits: &EngineLimits) -> Result<(), Close> {
        let is_inside = self.client(packet.namespace).is_some();
        match (packet.kind, is_inside) {
            (SocketIoPacketKind::ConnectError, _) => Err(Close::BadFrame("only the server refuses a client")),
            (SocketIoPacketKind::Connect, true) => Err(Close::BadFrame("the client is in this namespace already")),
            (SocketIoPacketKind::Connect, false)
                if limits.connect_bytes_max < packet.data.unwrap_or_default().len() =>
            {
                Err(Close::MessageTooBig)
            }
            (SocketIoPacketKind::Connect, false) | (_, true) => Ok(()),
            //= Socket.IO 5 section Connection to a namespace: "If the server does not receive a `CONNECT` packet first,
            //=   then it MUST close the connection immediately."
            (_, false) => Err(Close::BadFrame("the client is not in this namespace")),
        }
    }

    fn take_packet(
        &self,
        packet: &SocketIoPacket<'_>,
        heeded: bool,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
    ) -> Result<(), Close> {
        let namespace: Box<str> = packet.namespace.into();
        let input = match packet.kind {
            //= Socket.IO 5 section Connection to a namespace: "The server MUST respond with either"
            SocketIoPacketKind::Connect => {
                SocketIoInput::Connect { namespace, payload: packet.data.map(ToOwned::to_owned) }
            }
            SocketIoPacketKind::Event | SocketIoPacketKind::BinaryEvent => {
                if !heeded {
                    let (target, why) =
                        (PacketTarget { namespace: &namespace, ack: None }, Args::from_list(RATE_LIMITED));
                    socket_io::write_event(target, "error", why, outbox.buffer());
                    // Like any other event that is refused: a client that waits for the answer would wait for ever.
                    if let Some(id) = packet.ack {
                        socket_io::write_ack(&namespace, id, why, outbox.buffer());
                    }
                    return Ok(());
                }
                //= Socket.IO 5 section Sending and receiving data: "The payload is mandatory and MUST be a non-empty
                //=   array. If that's not the case, then the receiver MUST close the connection."
                let Some((name, arguments)) = packet.data.and_then(socket_io::event_of) else {
                    return Err(Close::BadFrame("an event has a name"));
                };
                let (name, arguments) = (name.into_owned(), arguments.list().to_owned());
                //= Socket.IO 5 section Acknowledgement: "The receiver MUST respond with an `ACK` packet with the same
                //=   event ID."
                SocketIoInput::Event { namespace, name, arguments, ack: packet.ack }
            }
            SocketIoPacketKind::Ack | SocketIoPacketKind::BinaryAck => {
                let arguments = Args::from_array(packet.data.unwrap_or_default()).list().to_owned();
                SocketIoInput::Ack { namespace, id: packet.ack.unwrap_or_default(), arguments }
            }
            SocketIoPacketKind::Disconnect => SocketIoInput::Disconnect { namespace },
            SocketIoPacketKind::ConnectError => return Ok(()),
        };
        inputs.push(PeerInput::Socket(input));
        Ok(())
    }

    /// Whether what the client sends now waits: a long message is being checked, or the last of `inputs` decides where the client is.
    pub(super) fn is_undecided(&self, inputs: &[PeerInput]) -> bool {
        // Only held messages come after such an input.
        self.is_checking
            || matches!(
                inputs.last(),
                Some(
                    PeerInput::Held(_)
                        | PeerInput::Socket(SocketIoInput::Connect { .. } | SocketIoInput::Disconnect { .. })
                )
            )
    }
}

const RATE_LIMITED: &str = r#"{"error":"RateLimited","message":"too many messages; this one was ignored"}"#;
