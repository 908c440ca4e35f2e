//! Loading the newest part of a stream, for a topic that nobody reads yet.

use std::time::Duration;

use redis::{RedisError, Value};

use super::{
    entry::{BadAnswer, StreamEntry, read_entries},
    link::{Commands, StreamLink, accept, is_down, transaction_answer},
    position::{ReadPosition, StreamInfo, read_is_made},
};
use crate::{event::EventId, log::Bounds};

/// What was loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// All that followed this id is in `entries`.
    pub(super) floor: EventId,
    /// Oldest first.
    pub(super) entries: Vec<StreamEntry>,
    /// Where to go on reading.
    pub(super) position: ReadPosition,
}

/// The most entries that are asked for at once, before it is known how large they are.
const FIRST_COUNT_MAX: usize = 128;

/// Loads the streams with these keys, each as far back as its bounds say, in one round trip if that does. A refusal
/// concerns one stream; an error says that the link is of no more use.
pub(super) async fn load(
    link: &mut StreamLink,
    wanted: &[(String, Bounds)],
    real_now: Duration,
) -> Result<Vec<Result<Loaded, RedisError>>, RedisError> {
    let answers =
        link.request(|commands| wanted.iter().for_each(|(key, bounds)| ask(commands, key, bounds, real_now))).await?;
    let mut loaded = Vec::with_capacity(wanted.len());
    let mut answers = answers.into_iter();
    for (key, bounds) in wanted {
        let answer = transaction_answer(answers.by_ref().take(COMMANDS));
        match accept(answer).and_then(|answer| read(answer, bounds)) {
            Ok(mut part) => {
                if part.has_more {
                    extend(link, key, bounds, &oldest_id(bounds, real_now), &mut part.loaded).await?;
                }
                loaded.push(Ok(part.loaded));
            }
            Err(refused) if is_down(&refused) => return Err(refused),
            Err(refused) => loaded.push(Err(refused)),
        }
    }
    Ok(loaded)
}

const COMMANDS: usize = 6;

/// In one transaction, so that the figures are those of the entries.
fn ask(commands: &mut Commands, key: &str, bounds: &Bounds, real_now: Duration) {
    let oldest = oldest_id(bounds, real_now);
    let count = (bounds.count.min(FIRST_COUNT_MAX) + 1).to_string();
    commands.push_words(&["MULTI"]);
    commands.push_words(&["TIME"]);
    commands.push_words(&["XINFO", "STREAM", key]);
    commands.push_words(&["XINFO", "GROUPS", key]);
    commands.push_words(&["XREVRANGE", key, "+", &oldest, "COUNT", &count]);
    commands.push_words(&["EXEC"]);
}

/// Nothing older than this is wanted.
fn oldest_id(bounds: &Bounds, real_now: Duration) -> String {
    format!("{}-0", real_now.saturating_sub(bounds.age).as_millis())
}

struct Part {
    loaded: Loaded,
    /// Whether there may be more that is wanted.
    has_more: bool,
}

fn read(answer: Value, bounds: &Bounds) -> Result<Part, RedisError> {
    let Value::Array(answers) = answer else { return Err(BadAnswer.into()) };
    let [time, info, groups, entries] = <[Value; 4]>::try_from(answers).map_err(|_| BadAnswer)?;
    let info = StreamInfo::accept(info)?;
    let mut entries = read_entries(accept(entries)?)?;
    let has_more = FIRST_COUNT_MAX < entries.len() && FIRST_COUNT_MAX < bounds.count;
    // The entry at the end, if the bounds do not hide it.
    let content = entries.first().filter(|newest| newest.id == info.last).and_then(StreamEntry::digest);
    let floor = cut(&mut entries, bounds, &info, time_floor(time)?);
    entries.reverse();
    let newest = entries.last().map_or(floor, |entry| entry.id);
    let position = ReadPosition {
        last: info.last,
        content,
        added: if info.exists { info.added } else { Some(0) },
        deleted_max: info.deleted_max,
        newest,
        is_made: read_is_made(groups),
    };
    Ok(Part { loaded: Loaded { floor, entries, position }, has_more })
}

/// Keeps of `entries`, newest first, what `bounds` cover; returns the id that all the kept ones follow. It is as low as
/// may be said for certain: an entry of this stream, if one was read that is not kept.
fn cut(entries: &mut Vec<StreamEntry>, bounds: &Bounds, info: &StreamInfo, time_floor: EventId) -> EventId {
    let mut bytes = 0;
    let mut is_kept = |entry: &StreamEntry| {
        bytes += weight_bytes(entry);
        bytes <= bounds.bytes
    };
    let kept = entries.iter().take(bounds.count).take_while(|entry| is_kept(entry)).count();
    match entries.get(kept).map(|entry| entry.id) {
        Some(before) => {
            entries.truncate(kept);
            before
        }
        None if info.exists => entries.last().map_or(info.last, |oldest| oldest.id.before()),
        // Nobody can have seen anything of it; what was seen under its key before was another stream.
        None => time_floor,
    }
}

/// Reads on, further back, with as many entries at a time as may be expected to fit.
async fn extend(
    link: &mut StreamLink,
    key: &str,
    bounds: &Bounds,
    oldest: &str,
    loaded: &mut Loaded,
) -> Result<(), RedisError> {
    loop {
        let bytes: usize = loaded.entries.iter().map(weight_bytes).sum();
        let average = bytes / loaded.entries.len().max(1) + 1;
        let wanted =
            (bounds.count - loaded.entries.len().min(bounds.count)).min(bounds.bytes.saturating_sub(bytes) / average);
        let Some(first) = loaded.entries.first().filter(|_| 0 < wanted) else { return Ok(()) };
        let (before, count) = (format!("({}", first.id), (wanted + 1).to_string());
        let answer = link.request_one(&["XREVRANGE", key, &before, oldest, "COUNT", &count]).await?;
        // Refused or not understood: what there is will do.
        let Ok(mut entries) = accept(answer).map_err(drop).and_then(|answer| read_entries(answer).map_err(drop)) else {
            return Ok(());
        };
        let is_last = entries.len() <= wanted;
        let rest = Bounds { count: wanted, bytes: bounds.bytes - bytes, ..*bounds };
        let known = StreamInfo { exists: true, last: loaded.floor, ..StreamInfo::default() };
        let found = entries.len();
        loaded.floor = cut(&mut entries, &rest, &known, loaded.floor);
        let is_full = entries.len() < found;
        entries.reverse();
        entries.append(&mut loaded.entries);
        loaded.entries = entries;
        if is_last || is_full {
            return Ok(());
        }
    }
}

/// What an entry is taken to weigh, in bytes.
pub(super) fn weight_bytes(entry: &StreamEntry) -> usize {
    size_of::<StreamEntry>() + entry.content.as_ref().map_or(0, |content| content.data.len())
}

/// The id before any that the server can give from now on by itself.
pub(super) fn time_floor(time: Value) -> Result<EventId, BadAnswer> {
    let Value::Array(parts) = time else { return Err(BadAnswer) };
    let number = |index: usize| match parts.get(index) {
        Some(Value::BulkString(text)) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok()).ok_or(BadAnswer)
        }
        _ => Err(BadAnswer),
    };
    let (seconds, micros) = (number(0)?, number(1)?);
    Ok(EventId::new(seconds.saturating_mul(1000) + micros / 1000, 0).before())
}
