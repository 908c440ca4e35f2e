//! The thread that asks brokers about their logs, so that what carries events never waits for an answer.

use std::{io, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    event::EventId,
    source::{CarriedUpto, LogCatalog},
    topic::{Pattern, Topic},
};

/// A question for a broker.
#[derive(Debug)]
pub(super) enum Question {
    /// Which topics under these patterns have a log, where events come from.
    SourceTopics(Vec<Pattern>),
    /// The same where they go to.
    TargetTopics(Vec<Pattern>),
    /// How far the log of `topic` was carried.
    Carried(CarriedLog),
    /// To remember how far it was.
    Remember(CarriedLog, EventId),
}

/// A log that is carried into another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarriedLog {
    /// Its topic, where it comes from.
    pub(super) topic: Topic,
    /// What it is called where it goes to ([`Carried`](crate::bus::Carried)).
    pub(super) origin: Arc<str>,
    /// The topic there.
    pub(super) target: Topic,
}

/// A broker's answer, or in words why there is none at present.
#[derive(Debug)]
pub(super) enum Answer {
    SourceTopics(Result<Vec<Topic>, String>),
    TargetTopics(Result<Vec<Topic>, String>),
    /// Of the topic where the log comes from.
    Carried(Topic, Result<Option<CarriedUpto>, String>),
}

/// How an answer comes back, from the thread.
pub(super) type Reply = Box<dyn Fn(Answer) + Send>;

/// The brokers' catalogs.
struct Catalogs {
    source: Option<Box<dyn LogCatalog>>,
    target: Option<Box<dyn LogCatalog>>,
}

/// Starts the thread, which ends when nobody can ask it any more.
pub(super) fn start_catalogs(
    source: Option<Box<dyn LogCatalog>>,
    target: Option<Box<dyn LogCatalog>>,
    reply: Reply,
) -> io::Result<Sender<Question>> {
    // The bridge has one question of each kind and topic under way at most.
    let (questions, asked) = unbounded();
    let mut catalogs = Catalogs { source, target };
    let run = move || catalogs.run(&asked, &reply);
    thread::Builder::new().name("bridge-catalog".to_owned()).spawn(run)?;
    Ok(questions)
}

impl Catalogs {
    fn run(&mut self, asked: &Receiver<Question>, reply: &Reply) {
        while let Ok(question) = asked.recv() {
            match question {
                Question::SourceTopics(patterns) => reply(Answer::SourceTopics(topics(&mut self.source, &patterns))),
                Question::TargetTopics(patterns) => reply(Answer::TargetTopics(topics(&mut self.target, &patterns))),
                Question::Carried(log) => {
                    let carried = self.carried(&log);
                    reply(Answer::Carried(log.topic, carried));
                }
                Question::Remember(log, upto) => {
                    let remembered = self.source.as_mut().map(|source| source.remember(&log.target, &log.origin, upto));
                    if let Some(Err(error)) = remembered {
                        tracing::warn!(
                            topic = log.topic.as_str(),
                            "how far a log was carried is not remembered: {error}"
                        );
                    }
                }
            }
        }
    }

    /// The target knows best. Where it has forgotten the newest event that was carried, the source's broker may know.
    fn carried(&mut self, log: &CarriedLog) -> Result<Option<CarriedUpto>, String> {
        let target = self.target.as_mut().map(|target| target.carried(&log.target, &log.origin));
        if let Some(carried) = target.transpose()?.flatten() {
            return Ok(Some(carried));
        }
        let source = self.source.as_mut().map(|source| source.remembered(&log.target, &log.origin));
        Ok(source.transpose()?.flatten().map(|id| CarriedUpto { id, content: None }))
    }
}

fn topics(catalog: &mut Option<Box<dyn LogCatalog>>, patterns: &[Pattern]) -> Result<Vec<Topic>, String> {
    catalog.as_mut().map_or_else(|| Ok(Vec::new()), |catalog| catalog.topics(patterns))
}
