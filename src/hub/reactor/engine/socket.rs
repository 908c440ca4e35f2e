//! Socket.IO: what clients want, decided by the application ([`crate::endpoint::SocketHandlers`]) and carried out here.

use std::time::Duration;

use rand::RngExt;
use serde_json::value::RawValue;

use crate::{
    auth::{AccessDenied, Identity},
    endpoint::{
        ConnectAccepted, Context, Emit, Hub, RecoveredClient, SavedClient, SocketAction, SocketClient, SocketEvent,
        publish_for_socket, recover, write_messages,
    },
    event::{EventId, Position, Start},
    index::{Slot, TopicIndex},
    protocol::{
        SocketIoClient, SocketIoInput, SocketIoSubscription, Sockets,
        socket_io::{self, Args, PacketTarget},
    },
    reactor::{Reactor, net::Net, subscribe::describe_refused, table::SubscribeReason},
    topic::Topic,
};

/// A client in a namespace, and what of its own is answered.
#[derive(Clone, Debug)]
struct ClientTarget {
    namespace: Box<str>,
    /// Its public name there: it may have left, and entered again.
    sid: Box<str>,
    /// The acknowledgement that it waits for.
    ack: Option<u64>,
}

/// A subscription of a client, which waits for its topic.
#[derive(Debug)]
pub(in crate::reactor) struct PendingSubscribe {
    client: ClientTarget,
    /// What is done once it has begun.
    done: Vec<SocketAction>,
}

impl PendingSubscribe {
    pub(in crate::reactor) fn is_in(&self, namespace: &str) -> bool {
        *self.client.namespace == *namespace
    }
}

impl<N: Net> Reactor<N> {
    pub(super) fn take_socket(&mut self, slot: Slot, input: SocketIoInput) {
        match input {
            SocketIoInput::Connect { namespace, payload } => {
                let payload = payload.as_deref().and_then(|text| serde_json::from_str(text).ok());
                self.enter_namespace(slot, namespace, payload);
            }
            SocketIoInput::Event { namespace, name, arguments, ack } => {
                let arguments = Args::from_list(&arguments);
                let incoming = SocketEvent { name: &name, arguments, wants_ack: ack.is_some() };
                let replies = self.ask_application(slot, &namespace, |hub, client, context| {
                    (hub.sockets().answer_event)(&incoming, client, context)
                });
                let target = self.target(slot, namespace, ack);
                self.take_socket_replies(slot, &target, replies);
            }
            SocketIoInput::Ack { namespace, id, arguments } => {
                let arguments = Args::from_list(&arguments);
                let replies = self.ask_application(slot, &namespace, |hub, client, context| {
                    (hub.sockets().answer_ack)(id, arguments, client, context)
                });
                let target = self.target(slot, namespace, None);
                self.take_socket_replies(slot, &target, replies);
            }
            SocketIoInput::Disconnect { namespace } => self.leave_namespace(slot, &namespace),
        }
    }

    fn target(&mut self, slot: Slot, namespace: Box<str>, ack: Option<u64>) -> ClientTarget {
        let client = self.sockets(slot).and_then(|sockets| sockets.client(&namespace));
        let sid = client.map(|client| client.sid.clone()).unwrap_or_default();
        ClientTarget { namespace, sid, ack }
    }

    fn sockets(&mut self, slot: Slot) -> Option<&mut Sockets> {
        self.connections.at(slot)?.speaks()?.0.engine()?.sockets.as_mut()
    }

    /// Whether the client is still where it was.
    fn is_inside(&mut self, slot: Slot, target: &ClientTarget) -> bool {
        let client = self.sockets(slot).and_then(|sockets| sockets.client(&target.namespace));
        client.is_some_and(|client| client.sid == target.sid)
    }

    fn enter_namespace(&mut self, slot: Slot, namespace: Box<str>, payload: Option<&RawValue>) {
        let shared = self.shared();
        let Some(connection) = self.connections.at(slot) else { return };
        let admission = connection.admission();
        // A request may bring tokens for one session after the other: they count for the connection that it came by.
        let context = self.context(&shared, self.engines.post.unwrap_or(slot), admission, None);
        match (shared.hub.sockets().connect)(&namespace, payload, &context) {
            Ok(welcome) => {
                self.welcome(slot, namespace, welcome, payload);
            }
            Err(refused) => {
                self.refuse_namespace(slot, &namespace, &refused.message, refused.data.as_deref());
                if shared.hub.auth.has_spent(context.connection(), self.now) {
                    self.end(slot, AccessDenied::TooMany.close());
                }
            }
        }
    }

    /// Refuses a client a namespace.
    fn refuse_namespace(&mut self, slot: Slot, namespace: &str, message: &str, data: Option<&str>) {
        let mut frames = Vec::new();
        socket_io::write_connect_error(namespace, message, data, &mut frames);
        self.metrics.on_websocket_error();
        self.send_frames(slot, &frames);
    }

    fn welcome(&mut self, slot: Slot, namespace: Box<str>, welcome: ConnectAccepted, payload: Option<&RawValue>) {
        let limits = self.config.limits.engine;
        let (now, recovers) = (self.now, limits.recovery != Duration::ZERO);
        let mut frames = Vec::new();
        let Some(sockets) = self.sockets(slot) else { return };
        if limits.namespaces_max <= sockets.clients().len() {
            let why = "this session is in as many namespaces as it may";
            return self.refuse_namespace(slot, &namespace, why, None);
        }
        if !self.is_of(slot, welcome.identity.as_deref()) {
            let why = "this session is another user's";
            return self.refuse_namespace(slot, &namespace, why, None);
        }
        // The session's user is known only now. The session is one stream, however many namespaces its clients enter.
        if let Err(refused) = self.claim_stream(slot, welcome.identity.as_deref()) {
            let message = refused.to_string();
            let data = serde_json::json!({ "error": "QuotaExceeded", "message": message }).to_string();
            return self.refuse_namespace(slot, &namespace, &message, Some(&data));
        }
        if let Err(why) = self.claim_connection(slot) {
            self.stream_reservations.release(slot);
            return self.refuse_namespace(slot, &namespace, why, None);
        }
        // Only now: a client that is refused loses nothing that it could come back to.
        let identity = welcome.identity.as_deref();
        let known = (&*self.hub, self.endpoints.value.topics_per_connection_max);
        let back = if recovers { recover(payload, &namespace, identity, known, now) } else { None };
        let Some(sockets) = self.sockets(slot) else { return };
        let (pid, sid, topics) = match back {
            Some(RecoveredClient { pid, sid, topics }) => (Some(pid), sid.unwrap_or_else(random_name), topics),
            None => (recovers.then(random_name), random_name(), Vec::new()),
        };
        socket_io::write_connect(&namespace, &sid, pid.as_deref(), &mut frames);
        sockets.recovers = recovers;
        sockets.enter(SocketIoClient::new(namespace.clone(), sid, pid, now));
        if welcome.identity.is_some()
            && let Some(connection) = self.connections.at(slot)
        {
            connection.identity = welcome.identity;
            self.rearm(slot);
        }
        self.send_frames(slot, &frames);
        let target = self.target(slot, namespace, None);
        self.take_socket_replies(slot, &target, welcome.emits.into_iter().map(SocketAction::Emit).collect());
        self.resume_client(slot, &target, topics);
        self.note_recoverable(slot);
        self.schedule_session(slot);
    }

    /// Whether a client known as `identity` may enter a namespace of the session: all its clients are one user.
    fn is_of(&mut self, slot: Slot, identity: Option<&Identity>) -> bool {
        let Some(known) = self.connections.at(slot).and_then(|connection| connection.identity.as_ref()) else {
            return true;
        };
        identity.is_some_and(|identity| identity.subject == known.subject)
    }

    /// Keeps what the session's clients would come back to.
    fn note_recoverable(&mut self, slot: Slot) {
        let subject =
            self.connections.at(slot).and_then(|connection| Some(connection.identity.as_ref()?.subject.clone()));
        let Some(sockets) = self.sockets(slot) else { return };
        if !sockets.recovers {
            return;
        }
        let remember = |client: &SocketIoClient| {
            let topics = client.topics.iter().map(|it| (it.topic.clone(), it.began)).collect();
            let (sid, namespace) = (client.sid.clone(), client.namespace.clone());
            Some((client.pid.clone()?, SavedClient { sid, namespace, subject: subject.clone(), topics }))
        };
        let clients: Vec<(Box<str>, SavedClient)> = sockets.clients().iter().filter_map(remember).collect();
        let Some(entry) = self.engines.sessions.get_mut(&slot) else { return };
        let pids = clients.iter().map(|(pid, _)| pid.clone()).collect();
        for gone in std::mem::replace(&mut entry.pids, pids).iter().filter(|pid| !entry.pids.contains(pid)) {
            self.hub.recovery.forget(gone, entry.sid);
        }
        for (pid, remembered) in clients {
            self.hub.recovery.save(&pid, entry.sid, remembered, self.hub.bus.budget());
        }
    }

    /// What the application makes of something that the client in `namespace` has said.
    fn ask_application(
        &mut self,
        slot: Slot,
        namespace: &str,
        handle: impl FnOnce(&Hub, &SocketClient<'_>, &Context<'_>) -> Vec<SocketAction>,
    ) -> Vec<SocketAction> {
        let shared = self.shared();
        let Some(connection) = self.connections.at(slot) else { return Vec::new() };
        let (admission, identity) = (connection.admission(), connection.identity.clone());
        let context = self.context(&shared, slot, admission, identity.as_deref());
        let Some(client) = self.sockets(slot).and_then(|sockets| sockets.client(namespace)) else { return Vec::new() };
        client.messages += 1;
        let topics: Vec<Topic> = client.topics.iter().map(|it| it.topic.clone()).collect();
        let client = SocketClient {
            namespace,
            sid: &client.sid,
            since: client.since,
            messages: client.messages,
            topics: &topics,
            identity: identity.as_deref(),
        };
        handle(&shared.hub, &client, &context)
    }

    /// Carries out what the application has decided.
    fn take_socket_replies(&mut self, slot: Slot, target: &ClientTarget, replies: Vec<SocketAction>) {
        for reply in replies {
            match reply {
                SocketAction::Emit(emit) => {
                    let mut frames = Vec::new();
                    let Some(client) = self.sockets(slot).and_then(|sockets| sockets.client(&target.namespace)) else {
                        return;
                    };
                    let ack = emit.wants_ack.then(|| {
                        client.next_ack += 1;
                        client.next_ack - 1
                    });
                    let packet = PacketTarget { namespace: &target.namespace, ack };
                    let arguments = emit.arguments.join(",");
                    socket_io::write_event(packet, &emit.name, Args::from_list(&arguments), &mut frames);
                    self.send_frames(slot, &frames);
                }
                SocketAction::Ack(_) => {
                    let mut frames = Vec::new();
                    write_messages(&target.namespace, target.ack, &[reply], &mut frames);
                    self.send_frames(slot, &frames);
                }
                SocketAction::Subscribe { topic, start, done, refused } => {
                    self.subscribe_client(slot, target, &topic, start, done, refused);
                }
                SocketAction::Unsubscribe { topic, done, refused } => {
                    let was_there = self.unsubscribe_client(slot, &target.namespace, &topic);
                    self.take_socket_replies(slot, target, if was_there { done } else { refused });
                }
                SocketAction::Publish(publication) => {
                    let shared = self.shared();
                    let Some(connection) = self.connections.at(slot) else { return };
                    let (admission, identity) = (connection.admission(), connection.identity.clone());
                    let context = self.context(&shared, slot, admission, identity.as_deref());
                    let frames = publish_for_socket(publication, &target.namespace, target.ack, &context);
                    self.send_frames(slot, &frames);
                }
                SocketAction::Disconnect => {
                    let mut frames = Vec::new();
                    socket_io::write_disconnect(&target.namespace, &mut frames);
                    self.send_frames(slot, &frames);
                    return self.leave_namespace(slot, &target.namespace);
                }
            }
        }
    }

    fn subscribe_client(
        &mut self,
        slot: Slot,
        target: &ClientTarget,
        topic: &Topic,
        start: Start,
        done: Vec<SocketAction>,
        refused: Vec<SocketAction>,
    ) {
        let Some(client) = self.sockets(slot).and_then(|sockets| sockets.client(&target.namespace)) else { return };
        if client.topics.iter().any(|it| it.topic == *topic) {
            return self.take_socket_replies(slot, target, done);
        }
        let Some(connection) = self.connections.at(slot) else { return };
        let held = connection.subscriptions.len() + usize::from(connection.pending) + self.replay_count(slot);
        if self.endpoints.value.topics_per_connection_max <= held {
            return self.take_socket_replies(slot, target, refused);
        }
        let topic_index = match self.try_attach(slot, topic) {
            Ok(topic_index) => topic_index,
            Err(refused) => {
                let (code, why) = describe_refused(refused);
                return self.refuse_client(slot, target, code, &why);
            }
        };
        if self.is_reading(slot, topic_index) {
            return self.join_reader(slot, topic_index, target, done);
        }
        self.subscribe(
            slot,
            topic_index,
            start,
            SubscribeReason::Client(Box::new(PendingSubscribe { client: target.clone(), done })),
        );
    }

    /// A client that has come back listens to `topics` again. All of them stand in its offset from the first event on, also
    /// those that are yet to begin: it may be lost again before they do.
    fn resume_client(&mut self, slot: Slot, target: &ClientTarget, topics: Vec<(Topic, EventId)>) {
        let topics: Vec<(TopicIndex, EventId)> =
            topics.into_iter().map(|(topic, id)| (self.attach(&topic), id)).collect();
        for (topic_index, id) in &topics {
            self.note_subscription(slot, *topic_index, *id, &target.namespace);
        }
        for (topic_index, id) in topics {
            self.subscribe(
                slot,
                topic_index,
                Start::after(id),
                SubscribeReason::Client(Box::new(PendingSubscribe { client: target.clone(), done: Vec::new() })),
            );
        }
    }

    /// Whether the session listens to the topic, or replays it.
    fn is_reading(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        self.subscription(slot, topic_index).is_some() || self.is_replaying(slot, topic_index)
    }

    /// The session reads the topic already, for a client in another namespace: this one joins it where it is.
    fn join_reader(&mut self, slot: Slot, topic_index: TopicIndex, target: &ClientTarget, done: Vec<SocketAction>) {
        let (id, began_at) = self.cursor_of_reader(slot, topic_index);
        self.note_subscription(slot, topic_index, id, &target.namespace);
        if let Some(sockets) = self.sockets(slot) {
            sockets.begin(topic_index, began_at);
        }
        self.take_socket_replies(slot, target, done);
    }

    /// A subscription that has waited may begin, unless its client is gone. If the session reads the topic by now, the client joins
    /// it there, and nothing is left to do.
    pub(in crate::reactor) fn resume_pending(
        &mut self,
        slot: Slot,
        topic_index: TopicIndex,
        pending: Box<PendingSubscribe>,
    ) -> Option<Box<PendingSubscribe>> {
        if !self.is_inside(slot, &pending.client) {
            return None;
        }
        if self.is_reading(slot, topic_index) {
            let PendingSubscribe { client, done } = *pending;
            self.join_reader(slot, topic_index, &client, done);
            return None;
        }
        Some(pending)
    }

    /// A client's subscription begins: events follow from behind `before`.
    pub(in crate::reactor) fn begin_pending(
        &mut self,
        slot: Slot,
        topic_index: TopicIndex,
        before: EventId,
        pending: PendingSubscribe,
    ) {
        let PendingSubscribe { client, done } = pending;
        self.note_subscription(slot, topic_index, before, &client.namespace);
        self.take_socket_replies(slot, &client, done);
    }

    /// Nothing comes of a subscription that has waited. A client that has come back waits for no word.
    pub(in crate::reactor) fn refuse_pending(
        &mut self,
        slot: Slot,
        pending: &PendingSubscribe,
        error: &str,
        why: &str,
    ) {
        if !pending.done.is_empty() {
            self.refuse_client(slot, &pending.client, error, why);
        }
    }

    /// Nothing comes of what a client waits for.
    fn refuse_client(&mut self, slot: Slot, target: &ClientTarget, error: &str, message: &str) {
        let error = serde_json::json!({ "error": error, "message": message }).to_string();
        let replies = vec![SocketAction::Emit(Emit::new("error", error.as_str())), SocketAction::Ack(vec![error])];
        self.take_socket_replies(slot, target, replies);
    }

    /// The subscription of the client in `namespace` has begun: events follow from behind `began`.
    fn note_subscription(&mut self, slot: Slot, topic_index: TopicIndex, began: EventId, namespace: &str) {
        let Some(topic) = self.topics.at(topic_index).map(|topic| topic.state.topic.clone()) else { return };
        self.refresh_cursors(slot);
        if let Some(client) = self.sockets(slot).and_then(|sockets| sockets.client(namespace)) {
            match client.topics.iter_mut().find(|it| it.topic_index == topic_index) {
                Some(it) => it.passed = began,
                None => {
                    // Most clients listen to one, and a list that grows by itself begins with four.
                    client.topics.reserve_exact(1);
                    client.topics.push(SocketIoSubscription { topic_index, topic, began, passed: began, began_at: 0 });
                }
            }
        }
        self.regroup(slot);
        self.note_recoverable(slot);
    }

    /// Where the session, which reads the topic, stands in it.
    fn cursor_of_reader(&mut self, slot: Slot, topic_index: TopicIndex) -> (EventId, Position) {
        self.refresh_cursors(slot);
        let found =
            self.sockets(slot).and_then(|sockets| sockets.subscriptions().find(|it| it.topic_index == topic_index));
        found.map_or_else(Default::default, |it| (it.passed, it.began_at))
    }

    fn unsubscribe_client(&mut self, slot: Slot, namespace: &str, topic: &Topic) -> bool {
        let Some(topic_index) = self.topics.find(topic) else { return false };
        self.refresh_cursors(slot);
        let Some(sockets) = self.sockets(slot) else { return false };
        let Some(client) = sockets.client(namespace) else { return false };
        let Some(index) = client.topics.iter().position(|it| it.topic_index == topic_index) else {
            return self.cancel_client(slot, topic_index, namespace);
        };
        client.topics.remove(index);
        if !sockets.listens(topic_index) {
            self.unlisten_topic(slot, topic_index);
        }
        // One that has come back may not have begun to listen to it.
        self.cancel_client(slot, topic_index, namespace);
        self.regroup(slot);
        self.note_recoverable(slot);
        true
    }

    fn leave_namespace(&mut self, slot: Slot, namespace: &str) {
        let enter_by = self.now + self.config.limits.engine.connect_timeout;
        self.refresh_cursors(slot);
        let Some(client) = self.sockets(slot).and_then(|sockets| sockets.leave(namespace, enter_by)) else { return };
        for SocketIoSubscription { topic_index, .. } in client.topics {
            if self.sockets(slot).is_some_and(|sockets| !sockets.listens(topic_index)) {
                self.unlisten_topic(slot, topic_index);
            }
        }
        self.regroup(slot);
        self.note_recoverable(slot);
        self.schedule_session(slot);
    }
}

/// A client's name, beyond guessing.
fn random_name() -> Box<str> {
    let random: [u8; 15] = rand::rng().random();
    data_encoding::BASE64URL_NOPAD.encode(&random).into()
}
