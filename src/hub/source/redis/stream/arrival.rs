//! What one `XREAD` brought, and whether it follows what was read before.

use redis::{RedisError, Value};

use super::{
    entry::{StreamEntry, read_entries},
    link::{StreamLink, accept, elsewhere, find_unserved},
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
    /// Set if a node of a cluster does not serve the stream any more, so that nobody knows whether anything is missing.
    pub(super) elsewhere: Option<RedisError>,
}

impl Arrival {
    pub(super) fn new(topic: Topic, key: String, position: ReadPosition, entries: Vec<StreamEntry>) -> Self {
        Self { topic, key, position, entries, verdict: Verdict::Whole, info: None, elsewhere: None }
    }

    fn ids(&self) -> Vec<EventId> {
        self.entries.iter().map(|entry| entry.id).collect()
    }
}

/// Whether anything is missing between what was read before and what came now. The entry right before what came is the one
/// that was read last, unless that was trimmed, or the stream is another one.
pub(super) async fn judge(link: &mut StreamLink, arrivals: &mut [Arrival]) -> Result<(), RedisError> {
    let first_of = |arrival: &Arrival| arrival.entries.first().map_or(arrival.position.last, |first| first.id);
    let answers = link
        .request(|commands| {
            for arrival in &*arrivals {
                let before = format!("({}", first_of(arrival));
                commands.push_words(&["XREVRANGE", &arrival.key, &before, "-", "COUNT", "1"]);
            }
        })
        .await?;
    let mut suspects: Vec<(&mut Arrival, Found)> = Vec::new();
    for (arrival, answer) in arrivals.iter_mut().zip(answers) {
        match accept(answer) {
            Ok(answer) => {
                let found = arrival.position.compare(read_entries(answer)?.first());
                if found != Found::Same {
                    suspects.push((arrival, found));
                }
            }
            Err(error) if elsewhere(&error).is_some() => arrival.elsewhere = Some(error),
            Err(error) => return Err(error),
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    let answers = link
        .request(|commands| {
            for (suspect, _) in &suspects {
                commands.push_words(&["XINFO", "STREAM", &suspect.key]);
                commands.push_words(&["XINFO", "GROUPS", &suspect.key]);
            }
        })
        .await?;
    let mut answers = answers.into_iter();
    for (suspect, found) in suspects {
        let [info, groups] = [0, 1].map(|_| answers.next().unwrap_or(Value::Nil));
        match find_unserved(std::slice::from_ref(&info)) {
            Some(error) if elsewhere(&error).is_some() => {
                suspect.elsewhere = Some(error);
                continue;
            }
            Some(error) => return Err(error),
            None => {}
        }
        suspect.settle(&StreamInfo::read(info)?, found, groups);
    }
    Ok(())
}

impl Arrival {
    /// Judges by what the server says of the stream, where the entry right before what came is not the one that was read last.
    fn settle(&mut self, info: &StreamInfo, found: Found, groups: Value) {
        let held = self.ids();
        self.verdict = self.position.judge(info, &held, found);
        if info.first.is_none_or(|first| self.position.last < first) {
            self.position.added = info.added_before(&held).or(self.position.added);
        }
        self.position.deleted_max = info.deleted_max;
        self.position.is_made = read_is_made(groups);
        self.info = Some(*info);
    }
}
