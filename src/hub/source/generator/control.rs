//! The queue to the generators' thread, and the list of generators that other threads see.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::{
    bus::{GeneratorCallback, GeneratorFailed, GeneratorRequest, Generators},
    topic::Topic,
};

/// Commands the generators. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Control {
    commands: Sender<Command>,
    listed: Listed,
}

/// The topics that have a generator, and whether it is paused. Written by the generators' thread alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed(Arc<RwLock<BTreeMap<Topic, bool>>>);

/// A command to the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Start, stop, pause or resume a generator.
    Request(Queued),
    End,
}

/// A request on its way. Dropped without an answer, it answers [`GeneratorFailed::Ended`].
pub(super) struct Queued {
    pub(super) request: GeneratorRequest,
    reply: Option<GeneratorCallback>,
}

/// Both ends of a queue for at most `queue_max` commands.
pub(super) fn queue(queue_max: usize) -> (Control, Receiver<Command>) {
    let (commands, received) = bounded(queue_max);
    (Control { commands, listed: Listed::default() }, received)
}

impl Generators for Control {
    fn ask(&self, request: GeneratorRequest) {
        let sent = self.commands.try_send(Command::Request(Queued::new(request)));
        // Where nobody takes commands any more it answers by itself, being dropped.
        if let Err(TrySendError::Full(Command::Request(queued))) = sent {
            queued.answer(Err(GeneratorFailed::QueueFull));
        }
    }

    fn list(&self) -> Vec<(Topic, bool)> {
        let listed = self.listed.0.read().unwrap_or_else(PoisonError::into_inner);
        listed.iter().map(|(topic, is_paused)| (topic.clone(), *is_paused)).collect()
    }
}

impl Control {
    pub(super) fn listed(&self) -> Listed {
        self.listed.clone()
    }

    /// Makes the thread end, after the commands that wait.
    pub(super) fn end(&self) {
        // It may have ended already.
        let _ = self.commands.send(Command::End);
    }
}

impl Listed {
    pub(super) fn replace(&self, listed: BTreeMap<Topic, bool>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = listed;
    }
}

impl Queued {
    fn new(mut request: GeneratorRequest) -> Self {
        let reply = std::mem::replace(&mut request.reply, Box::new(drop));
        Self { request, reply: Some(reply) }
    }

    pub(super) fn answer(mut self, outcome: Result<(), GeneratorFailed>) {
        self.give(outcome);
    }

    fn give(&mut self, outcome: Result<(), GeneratorFailed>) {
        if let Some(reply) = self.reply.take() {
            reply(outcome);
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.give(Err(GeneratorFailed::Ended));
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}
