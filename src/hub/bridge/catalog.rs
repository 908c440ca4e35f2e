//! The thread that asks a broker about its logs, so that what carries events never waits for an answer.

use std::{io, thread};

use crossbeam_channel::{Sender, unbounded};

use crate::{
    source::LogCatalog,
    topic::{Pattern, Topic},
};

/// A question for the broker that events go to: which topics under these patterns have a log.
#[derive(Debug)]
pub(super) struct Question(pub(super) Vec<Pattern>);

/// Its answer, or in words why there is none at present.
pub(super) type Answer = Result<Vec<Topic>, String>;

/// How an answer comes back, from the thread.
pub(super) type Reply = Box<dyn Fn(Answer) + Send>;

/// Starts the thread, which ends when nobody can ask it any more.
pub(super) fn start_catalog(mut target: Option<Box<dyn LogCatalog>>, reply: Reply) -> io::Result<Sender<Question>> {
    // The bridge has one question under way at most.
    let (questions, asked) = unbounded::<Question>();
    let run = move || {
        while let Ok(Question(patterns)) = asked.recv() {
            reply(target.as_mut().map_or_else(|| Ok(Vec::new()), |target| target.topics(&patterns)));
        }
    };
    thread::Builder::new().name("bridge-catalog".to_owned()).spawn(run)?;
    Ok(questions)
}
