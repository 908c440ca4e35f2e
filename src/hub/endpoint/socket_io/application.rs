//! The terms in which a Socket.IO application decides: what it is told, and what it wants done. See
//! [`crate::endpoint::Application`].

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

/// What a Socket.IO application decides.
#[derive(Clone, Copy, Debug)]
pub struct SocketHandlers {
    /// Lets a client into a namespace, or not. It is asked for any name.
    pub connect: fn(&str, Option<&RawValue>, &Context<'_>) -> Result<ConnectAccepted, ConnectRefused>,
    /// What is to be done about an event.
    pub answer_event: fn(&SocketEvent<'_>, &SocketClient<'_>, &Context<'_>) -> Vec<SocketAction>,
    /// What is to be done about the acknowledgement of an event of the server, of this number.
    pub answer_ack: fn(u64, Args<'_>, &SocketClient<'_>, &Context<'_>) -> Vec<SocketAction>,
}

/// What a client that is let in gets.
#[derive(Debug, Default)]
pub struct ConnectAccepted {
    /// Who it is.
    pub identity: Option<Arc<Identity>>,
    /// What it is sent first.
    pub emits: Vec<Emit>,
}

/// Why a client is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRefused {
    /// For people.
    pub message: String,
    /// For programs: JSON.
    pub data: Option<String>,
}

/// An event for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit {
    /// Its name.
    pub name: String,
    /// Its arguments: JSON texts.
    pub arguments: Vec<String>,
    /// Whether the client is to acknowledge it.
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
    /// Its name.
    pub name: &'a str,
    /// Its arguments. Attachments stand in them as `{"$binary":"base64"}`.
    pub arguments: Args<'a>,
    /// Whether the client waits for an acknowledgement.
    pub wants_ack: bool,
}

/// The client that an event comes from.
#[derive(Clone, Copy, Debug)]
pub struct SocketClient<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Its public name.
    pub sid: &'a str,
    /// When it entered.
    pub since: Moment,
    /// How many events it has sent, this one included.
    pub messages: u64,
    /// What it listens to.
    pub topics: &'a [Topic],
    /// Who it is.
    pub identity: Option<&'a Identity>,
}

/// What is to be done about an event.
pub enum SocketAction {
    /// The client is sent this.
    Emit(Emit),
    /// The event is acknowledged with these JSON texts, if the client waits for that.
    Ack(Vec<String>),
    /// The client listens to a topic from now on.
    Subscribe {
        /// To this.
        topic: Topic,
        /// From here.
        start: Start,
        /// What it is told once that has begun.
        done: Vec<Self>,
        /// What it is told if it listens to it already, or to as many as it may.
        refused: Vec<Self>,
    },
    /// The client listens to a topic no more.
    Unsubscribe {
        /// To this.
        topic: Topic,
        /// What it is told then.
        done: Vec<Self>,
        /// What it is told if it does not listen to it.
        refused: Vec<Self>,
    },
    /// Events are published.
    Publish(SocketPublication),
    /// The client has to leave the namespace.
    Disconnect,
}

/// What is to be done once the receipts are in, one for each event, in order.
type OnReceipts = Box<dyn FnOnce(&[Receipt]) -> Vec<SocketAction> + Send>;

/// Events that a client publishes, and what it is told then.
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

/// Writes those of `actions` that are words to the client in `namespace`, as WebSocket frames. `ack`: the number it waits
/// for.
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

/// Publishes for the client in `namespace`; the frames it gets, or nothing yet if a completion will bring them.
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
