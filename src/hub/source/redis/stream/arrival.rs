//! What one `XREAD` brought, and whether it follows what was read before.

use redis::{RedisError, Value};

use super::{
    entry::{StreamEntry, read_entries},
    link::{StreamLink, accept},
    position::{Found, ReadPosition, StreamInfo, Verdict, read_is_made},
};
use crate::{event::EventId, topic::Topic};

/// What came of one stream.
pub(super) struct Arrival {
    pub(super) topic: Topic,
    pub(super) key: String,
    pub(super) position: ReadPosition,
    pub(super) entries: Vec<StreamEntry>,
    pub(super) verdict: Verdict,
    /// What the server says of the stream, where it was asked.
    pub(super) info: Option<StreamInfo>,
}

impl Arrival {
    pub(super) fn new(topic: Topic, key: String, position: ReadPosition, entries: Vec<StreamEntry>) -> Self {
        Self { topic, key, position, entries, verdict: Verdict::Whole, info: None }
    }

    fn ids(&self) -> Vec<EventId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }
}

/// Whether anything is missing between what was read before and what came now. The entry right before what came is the one
/// that was read last, unless that was trimmed, or the stream is another one.
pub(super) fn judge(link: &mut StreamLink, arrivals: &mut [Arrival]) -> Result<(), RedisError> {
    let first_of = |arrival: &Arrival| arrival.entries.first().map_or(arrival.position.last, |first| first.id);
    let answers = link.ask(|commands| {
        for arrival in &*arrivals {
            let before = format!("({}", first_of(arrival));
            commands.push_words(&["XREVRANGE", &arrival.key, &before, "-", "COUNT", "1"]);
        }
    })?;
    let mut suspects: Vec<(&mut Arrival, Found)> = Vec::new();
    for (arrival, answer) in arrivals.iter_mut().zip(answers) {
        let found = arrival.position.compare(read_entries(accept(answer)?)?.first());
        if found != Found::Same {
            suspects.push((arrival, found));
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    let answers = link.ask(|commands| {
        for (suspect, _) in &suspects {
            commands.push_words(&["XINFO", "STREAM", &suspect.key]);
            commands.push_words(&["XINFO", "GROUPS", &suspect.key]);
        }
    })?;
    let mut answers = answers.into_iter();
    for (suspect, found) in suspects {
        let info = StreamInfo::read(answers.next().unwrap_or(Value::Nil))?;
        let held = suspect.ids();
        suspect.verdict = suspect.position.judge(&info, &held, found);
        if info.first.is_none_or(|first| suspect.position.last < first) {
            suspect.position.added = info.added_before(&held).or(suspect.position.added);
        }
        suspect.position.deleted_max = info.deleted_max;
        suspect.position.is_made = read_is_made(answers.next().unwrap_or(Value::Nil));
        suspect.info = Some(info);
    }
    Ok(())
}
