//! Generators of simulated events, for demonstration: endpoints command them, a source's thread runs them.

use std::fmt;

use crate::topic::Topic;

/// Starts and stops generators. A reactor hands a request over and goes on; the answer comes later.
pub trait Generators: Send + Sync + fmt::Debug {
    /// Takes `request` and answers through its `reply`, later or at once, exactly once, from any thread. Never blocks.
    fn ask(&self, request: GeneratorRequest);

    /// The topics that have a generator, and whether it is paused.
    fn list(&self) -> Vec<(Topic, bool)>;
}

/// What is to be done with the generator of a topic.
pub struct GeneratorRequest {
    /// Where its events go.
    pub topic: Topic,
    /// What its events call the stream.
    pub stream: Box<str>,
    /// What to do.
    pub action: GeneratorAction,
    /// Takes the answer.
    pub reply: GeneratorReply,
}

/// Takes the answer to a [`GeneratorRequest`].
pub type GeneratorReply = Box<dyn FnOnce(Result<(), GeneratorFailed>) + Send>;

/// What can be done with a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeneratorAction {
    /// Begin; one that runs begins anew.
    Start,
    /// End, and be forgotten.
    Stop,
    /// Make no events until resumed.
    Pause,
    /// Go on after a pause.
    Resume,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GeneratorFailed {
    /// The topic has no generator.
    Unknown,
    /// It is paused already.
    AlreadyPaused,
    /// It is not paused.
    NotPaused,
    /// There are as many as are allowed.
    TooMany,
    /// Too many requests wait already.
    QueueFull,
    /// Generators have ended.
    Ended,
}

impl fmt::Debug for GeneratorRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, action, .. } = self;
        f.debug_struct("GeneratorRequest").field("topic", topic).field("action", action).finish_non_exhaustive()
    }
}
