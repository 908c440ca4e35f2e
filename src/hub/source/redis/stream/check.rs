//! Whether the streams that are being read are still the ones that were read: asked after every connect, and of each stream
//! once in every `redis.ping_interval`, because a stream whose new ids are all smaller sends nothing that could be judged.

use redis::{RedisError, Value};

use super::{
    config::kept_ms,
    entry::{BadAnswer, StreamEntry, read_entries},
    link::{StreamLink, find_unserved, is_down},
    load::time_floor,
    position::{ReadPosition, StreamInfo, Verdict, read_is_made},
    streams::{FollowedStreams, StreamStage},
    turn::{STREAMS_PER_TRIP, StreamReader},
};
use crate::{
    bus::Feed,
    clock::Moment,
    event::EventId,
    gap::{Gap, GapReason},
    topic::Topic,
};

/// What a stream is found to be.
struct StreamCheck {
    info: StreamInfo,
    is_made: bool,
    /// What it has at the position that was read.
    entry: Option<StreamEntry>,
}

/// The server's clock, before and after it was asked.
#[derive(Clone, Copy)]
struct Times {
    /// Before any id that it can give from then on by itself.
    floor: EventId,
    end_ms: u64,
}

impl StreamReader {
    /// Checks all streams that are being read.
    pub(super) async fn check_all(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        self.begin_checks();
        while !self.to_check.is_empty() {
            self.check_next(link).await?;
        }
        Ok(())
    }

    /// Checks some streams if that is due; whether more are.
    pub(super) async fn check_some(&mut self, link: &mut StreamLink) -> Result<bool, RedisError> {
        self.to_check.extend(self.streams.lock().take_arrived());
        if self.to_check.is_empty() && self.check_due <= self.clock.now() {
            self.begin_checks();
        }
        if !self.to_check.is_empty() {
            self.check_next(link).await?;
        }
        Ok(!self.to_check.is_empty())
    }

    fn begin_checks(&mut self) {
        let mut streams = self.streams.lock();
        streams.take_arrived();
        self.to_check = streams.reading().map(|(topic, ..)| topic.clone()).collect();
        drop(streams);
        self.check_due = self.clock.now() + self.redis.ping_interval;
    }

    async fn check_next(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        let part = self.to_check.split_off(self.to_check.len().saturating_sub(STREAMS_PER_TRIP));
        let table = self.streams.clone();
        let positions: Vec<(Topic, ReadPosition)> = {
            let streams = table.lock();
            part.into_iter().filter_map(|topic| streams.position(&topic).map(|position| (topic, position))).collect()
        };
        let answers = link
            .request(|commands| {
                commands.push_words(&["TIME"]);
                for (topic, position) in &positions {
                    let (key, last) = (self.config.key(topic), position.last.to_string());
                    commands.push_words(&["XINFO", "STREAM", &key]);
                    commands.push_words(&["XINFO", "GROUPS", &key]);
                    commands.push_words(&["XRANGE", &key, &last, &last, "COUNT", "1"]);
                }
                commands.push_words(&["TIME"]);
            })
            .await?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let floor = time_floor(next())?;
        let looks: Vec<_> =
            positions.into_iter().map(|(topic, position)| (topic, position, [next(), next(), next()])).collect();
        let times = Times { floor, end_ms: time_floor(next())?.major.saturating_add(1) };
        for (topic, position, answers) in looks {
            if let Some(error) = find_unserved(&answers) {
                if is_down(&error) {
                    return Err(error);
                }
                if self.take_elsewhere(&error) {
                    continue;
                }
            }
            match StreamCheck::read(answers) {
                Ok(look) => self.go_on(&mut table.lock(), &topic, position, &look, times),
                // Refused. To read it with the others would be refused for all.
                Err(BadAnswer) => self.give_up(&topic, position),
            }
        }
        Ok(())
    }

    /// Goes on from `position`, or reports what became of the stream; unless another reader has it by now.
    fn go_on(
        &self,
        streams: &mut FollowedStreams,
        topic: &Topic,
        mut position: ReadPosition,
        look: &StreamCheck,
        times: Times,
    ) {
        if streams.position(topic).is_none_or(|known| known.last != position.last) {
            return;
        }
        let now = self.clock.now();
        let bus = std::sync::Arc::clone(&self.bus);
        let mut feed = bus.feed();
        let StreamCheck { info, is_made, entry } = look;
        match position.judge(info, &[], position.compare(entry.as_ref())) {
            Verdict::Whole => {
                position.is_made = *is_made;
                if info.last == position.last {
                    (position.added, position.deleted_max) = (info.added.or(position.added), info.deleted_max);
                }
            }
            Verdict::Expired { to } => {
                let gap = Gap { from: position.newest, to, reason: GapReason::Expired };
                self.report(&mut feed, topic, &mut position, gap, now);
                position.added = info.added.map(|added| added.saturating_sub(info.length));
            }
            Verdict::Replaced if info.exists => return self.begin_anew(streams, &mut feed, topic, position, info, now),
            Verdict::Replaced => self.end_life(&mut feed, topic, &mut position, times, now),
        }
        streams.set_stage(topic, StreamStage::Reading(position));
    }

    /// The stream is gone: whatever comes under its key is another one.
    fn end_life(&self, feed: &mut Feed<'_>, topic: &Topic, position: &mut ReadPosition, times: Times, now: Moment) {
        let kept_ms = self.kept_ms(topic);
        let unread_ms = u64::try_from(now.since(self.read_at).as_millis()).unwrap_or(u64::MAX);
        let is_too_old = position.has_expired(kept_ms, times.end_ms, 0);
        if is_too_old && !position.has_expired(kept_ms, times.end_ms, unread_ms) {
            // It may have been added to and have expired while it was not read.
            let gap = Gap { from: position.newest, to: times.floor, reason: GapReason::Expired };
            self.report(feed, topic, position, gap, now);
        } else if !is_too_old {
            self.restart(feed, topic, position, times.floor, now);
        }
        *position = ReadPosition { newest: position.newest, added: Some(0), ..ReadPosition::default() };
    }

    /// The stream is another one than was read before: reads all of it, and readers get a gap `epoch`.
    pub(super) fn begin_anew(
        &self,
        streams: &mut FollowedStreams,
        feed: &mut Feed<'_>,
        topic: &Topic,
        mut position: ReadPosition,
        info: &StreamInfo,
        now: Moment,
    ) {
        let floor = info.first.map_or(info.last, EventId::before);
        self.restart(feed, topic, &mut position, floor, now);
        position.added = info.added.map(|added| added.saturating_sub(info.length));
        position.deleted_max = info.deleted_max;
        streams.set_stage(topic, StreamStage::Reading(position));
    }

    fn kept_ms(&self, topic: &Topic) -> u64 {
        kept_ms(self.bus.class(topic).retention.history.age)
    }
}

impl StreamCheck {
    fn read([info, groups, entries]: [Value; 3]) -> Result<Self, BadAnswer> {
        let entry = read_entries(entries)?.into_iter().next();
        Ok(Self { info: StreamInfo::read(info)?, is_made: read_is_made(groups), entry })
    }
}
