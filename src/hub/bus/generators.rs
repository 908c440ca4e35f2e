//! Generators of simulated events, for demonstration: endpoints command them, a source's thread runs them.

use std::fmt;

use crate::topic::Topic;

/// Starts and stops generators. A reactor hands a request over and does not wait; the answer comes later.
pub(crate) trait Generators: Send + Sync + fmt::Debug {
    /// Takes `request`, and calls its `reply` exactly once, at once or later, from any thread. Never blocks.
    fn ask(&self, request: GeneratorRequest);

    /// The topics that have a generator, each with whether it is paused.
    fn list(&self) -> Vec<(Topic, bool)>;
}

/// A request to change the generator of a topic.
pub(crate) struct GeneratorRequest {
    /// The topic that the generator publishes to.
    pub topic: Topic,
    /// The stream's name in the generated events.
    pub stream: Box<str>,
    /// The change.
    pub action: GeneratorAction,
    /// Called with the answer, exactly once.
    pub reply: GeneratorCallback,
}

/// The callback that gets the answer to a [`GeneratorRequest`].
pub(crate) type GeneratorCallback = Box<dyn FnOnce(Result<(), GeneratorFailed>) + Send>;

/// A change of a topic's generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GeneratorAction {
    /// Start a generator. A running one starts again from the beginning.
    Start,
    /// Stop the generator and remove it.
    Stop,
    /// Publish no events until resumed.
    Pause,
    /// Publish again after a pause.
    Resume,
}

/// Why a request changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GeneratorFailed {
    /// The topic has no generator.
    Unknown,
    /// The generator is paused already.
    AlreadyPaused,
    /// The generator is not paused.
    NotPaused,
    /// As many generators run as are allowed.
    TooMany,
    /// The queue of requests is full.
    QueueFull,
    /// The generators' thread has ended.
    Ended,
}

impl fmt::Debug for GeneratorRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, action, .. } = self;
        f.debug_struct("GeneratorRequest").field("topic", topic).field("action", action).finish_non_exhaustive()
    }
}
