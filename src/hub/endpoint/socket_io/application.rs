//! The interface of a Socket.IO application: what it gets, and the actions it returns. See [`crate::endpoint::Application`].

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    auth::Identity,
    bus::Receipt,
    clock::Moment,
    endpoint::{
        AnswerForm, CheckedEvent, Context,
        gate::publish::{complete_frames, submit},
    },
    event::Start,
    protocol::socket_io::{self, Args, PacketTarget},
    topic::Topic,
};

/// The decisions of a Socket.IO application.
#[derive(Clone, Copy, Debug)]
pub struct SocketHandlers {
    /// Admits a client to a namespace, or refuses it. Called for any namespace; gets the payload of the CONNECT packet.
    pub connect: fn(&str, Option<&RawValue>, &Context<'_>) -> Result<ConnectAccepted, ConnectRefused>,
    /// Answers an event of a client.
    pub answer_event: fn(&SocketEvent<'_>, &SocketClient<'_>, &Context<'_>) -> Vec<SocketAction>,
    /// Answers a client's acknowledgement of the server's event with this number.
    pub answer_ack: fn(u64, Args<'_>, &SocketClient<'_>, &Context<'_>) -> Vec<SocketAction>,
}

/// A client is admitted to a namespace.
#[derive(Debug, Default)]
pub struct ConnectAccepted {
    /// Who the client is; `None` if the hub asks for no token.
    pub identity: Option<Arc<Identity>>,
    /// The events that the client gets first.
    pub emits: Vec<Emit>,
}

/// Why a client is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRefused {
    /// What is wrong, for people.
    pub message: String,
    /// What is wrong, for programs: JSON.
    pub data: Option<String>,
}

/// An event for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    pub name: String,
    /// The event's arguments: JSON texts.
    pub arguments: Vec<String>,
    /// Whether the client must acknowledge the event.
    pub wants_ack: bool,
}

impl Emit {
    /// The event `name` with one argument, a JSON text.
    pub fn new(name: &str, data: impl Into<String>) -> Self {
        Self { name: name.to_owned(), arguments: vec![data.into()], wants_ack: false }
    }
}

/// An event of a client.
#[derive(Clone, Copy, Debug)]
pub struct SocketEvent<'a> {
    pub name: &'a str,
    /// The event's arguments. A binary attachment is written as `{"$binary":"base64"}`.
    pub arguments: Args<'a>,
    /// Whether the client waits for an acknowledgement.
    pub wants_ack: bool,
}

/// The client that an event comes from.
#[derive(Clone, Copy, Debug)]
pub struct SocketClient<'a> {
    pub namespace: &'a str,
    /// The client's public id in the namespace.
    pub sid: &'a str,
    /// When it entered the namespace.
    pub since: Moment,
    /// How many events it has sent, including this one.
    pub messages: u64,
    /// The topics that it is subscribed to.
    pub topics: &'a [Topic],
    /// Who it is; `None` if the hub asks for no token.
    pub identity: Option<&'a Identity>,
}

/// What the reactor does about an event.
pub enum SocketAction {
    /// Send an event to the client.
    Emit(Emit),
    /// Acknowledge the event with these JSON texts, if the client waits for that.
    Ack(Vec<String>),
    /// Subscribe the client to a topic.
    Subscribe {
        topic: Topic,
        /// Where the subscription begins.
        start: Start,
        /// Actions once the subscription has begun.
        done: Vec<Self>,
        /// Actions if the client is subscribed already, or to as many topics as it may be.
        refused: Vec<Self>,
    },
    /// Unsubscribe the client from a topic.
    Unsubscribe {
        topic: Topic,
        /// Actions after that.
        done: Vec<Self>,
        /// Actions if the client is not subscribed to it.
        refused: Vec<Self>,
    },
    /// Publish events.
    Publish(SocketPublication),
    /// Remove the client from the namespace.
    Disconnect,
}

/// Returns the actions once the receipts are in: one receipt for each event, in order.
type OnReceipts = Box<dyn FnOnce(&[Receipt]) -> Vec<SocketAction> + Send>;

/// Events that a client publishes, and the actions that follow.
pub struct SocketPublication {
    pub(in crate::endpoint) batch: Vec<CheckedEvent>,
    pub(in crate::endpoint) complete: OnReceipts,
}

impl fmt::Debug for SocketPublication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketPublication").field("batch", &self.batch).finish_non_exhaustive()
    }
}

impl fmt::Debug for SocketAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emit(_) => "Emit",
            Self::Ack(_) => "Ack",
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
            Self::Publish(_) => "Publish",
            Self::Disconnect => "Disconnect",
        })
    }
}

/// Writes the messages among `actions`, as WebSocket frames for the client in `namespace`. `ack`: the number of the
/// acknowledgement that the client waits for.
pub(crate) fn write_messages(namespace: &str, ack: Option<u64>, actions: &[SocketAction], out: &mut Vec<u8>) {
    for action in actions {
        match (action, ack) {
            (SocketAction::Emit(emit), _) => {
                let arguments = emit.arguments.join(",");
                let target = PacketTarget { namespace, ack: None };
                socket_io::write_event(target, &emit.name, Args::from_list(&arguments), out);
            }
            (SocketAction::Ack(arguments), Some(id)) => {
                let arguments = arguments.join(",");
                socket_io::write_ack(namespace, id, Args::from_list(&arguments), out);
            }
            _ => {}
        }
    }
}

/// Publishes for the client in `namespace`. Returns the frames for it, or none if a completion will bring them.
pub(crate) fn publish_for_socket(
    publication: SocketPublication,
    namespace: &str,
    ack: Option<u64>,
    context: &Context<'_>,
) -> Vec<u8> {
    let SocketPublication { batch, complete } = publication;
    let namespace = namespace.to_owned();
    let complete = move |receipts: &[Receipt]| {
        let mut frames = Vec::new();
        write_messages(&namespace, ack, &complete(receipts), &mut frames);
        frames
    };
    match submit(batch, AnswerForm::Frames(Box::new(complete)), context) {
        Some((waiting, receipts)) => {
            complete_frames(waiting, &receipts, &context.hub.metrics.reactors[context.reactor], context.now)
        }
        None => Vec::new(),
    }
}
