//! What one `XREAD` brought, and whether anything is missing ahead of it.

use redis::RedisError;

use super::{
    entry::{Entry, read_entries},
    link::{Link, accept},
    place::{Place, StreamInfo, Verdict},
};
use crate::{event::EventId, topic::Topic};

/// What came of one stream.
pub(super) struct Arrival {
    pub(super) topic: Topic,
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) entries: Vec<Entry>,
    pub(super) verdict: Verdict,
    /// How many had been added before `entries`, where that was looked up.
    pub(super) added: Option<u64>,
}

/// Whether anything is missing between what was read before and what came now. Trimming takes the oldest first: while
/// a stream has something older than what came, nothing behind that is missing.
pub(super) fn judge(link: &mut Link, arrivals: &mut [Arrival]) -> Result<(), RedisError> {
    let first_of = |arrival: &Arrival| arrival.entries.first().map_or(arrival.place.last, |first| first.id);
    let answers = link.ask(|commands| {
        for arrival in &*arrivals {
            let before = format!("({}", first_of(arrival));
            commands.push_words(&["XRANGE", &arrival.key, "-", &before, "COUNT", "1"]);
        }
    })?;
    let mut suspects: Vec<&mut Arrival> = Vec::new();
    for (arrival, answer) in arrivals.iter_mut().zip(answers) {
        if read_entries(accept(answer)?)?.is_empty() {
            suspects.push(arrival);
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    let answers = link.ask(|commands| {
        suspects.iter().for_each(|suspect| commands.push_words(&["XINFO", "STREAM", &suspect.key]));
    })?;
    for (suspect, answer) in suspects.into_iter().zip(answers) {
        let held: Vec<EventId> = suspect.entries.iter().map(|entry| entry.id).collect();
        let info = StreamInfo::read(answer)?;
        suspect.verdict = suspect.place.judge(&info, &held);
        suspect.added = info.added_before(&held);
    }
    Ok(())
}
