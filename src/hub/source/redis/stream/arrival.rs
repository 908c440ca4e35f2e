//! What one `XREAD` brought, and whether it follows what was read before.

use redis::{RedisError, Value};

use super::{
    entry::{Entry, read_entries},
    link::{Link, accept},
    position::{Found, Place, StreamInfo, Verdict, read_is_made},
};
use crate::{event::EventId, topic::Topic};

/// What came of one stream.
pub(super) struct Arrival {
    pub(super) topic: Topic,
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) entries: Vec<Entry>,
    pub(super) verdict: Verdict,
    /// What the server says of the stream, where it was asked.
    pub(super) info: Option<StreamInfo>,
}

impl Arrival {
    pub(super) fn new(topic: Topic, key: String, place: Place, entries: Vec<Entry>) -> Self {
        Self { topic, key, place, entries, verdict: Verdict::Whole, info: None }
    }

    fn ids(&self) -> Vec<EventId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }
}

/// Whether anything is missing between what was read before and what came now. The entry right before what came is the one
/// that was read last, unless that was trimmed, or the stream is another one.
pub(super) fn judge(link: &mut Link, arrivals: &mut [Arrival]) -> Result<(), RedisError> {
    let first_of = |arrival: &Arrival| arrival.entries.first().map_or(arrival.place.last, |first| first.id);
    let answers = link.ask(|commands| {
        for arrival in &*arrivals {
            let before = format!("({}", first_of(arrival));
            commands.push_words(&["XREVRANGE", &arrival.key, &before, "-", "COUNT", "1"]);
        }
    })?;
    let mut suspects: Vec<(&mut Arrival, Found)> = Vec::new();
    for (arrival, answer) in arrivals.iter_mut().zip(answers) {
        let found = arrival.place.compare(read_entries(accept(answer)?)?.first());
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
        suspect.verdict = suspect.place.judge(&info, &held, found);
        if info.first.is_none_or(|first| suspect.place.last < first) {
            suspect.place.added = info.added_before(&held).or(suspect.place.added);
        }
        suspect.place.deleted_max = info.deleted_max;
        suspect.place.is_made = read_is_made(answers.next().unwrap_or(Value::Nil));
        suspect.info = Some(info);
    }
    Ok(())
}
