//! Parses one buffer of replies: messages go to the bus, confirmations to the subscriptions.

use super::{
    fault::Fault,
    intake::Intake,
    session::{Incoming, PubSubSession},
    subscriptions::{Subscriptions, report_notices},
};
use crate::{
    bus::{Bus, Feed},
    clock::Moment,
    source::{ReadBuffer, SourceStatus, redis::RedisConfig},
};

/// What parsing one buffer needs, and what it counts.
pub(super) struct Delivery<'a> {
    pub(super) session: &'a mut PubSubSession,
    pub(super) config: &'a RedisConfig,
    pub(super) subscriptions: &'a mut Subscriptions,
    pub(super) intake: &'a mut Intake,
    pub(super) bus: &'a Bus,
    pub(super) status: &'a SourceStatus,
    /// Events the bus has taken.
    pub(super) received: u64,
    /// Messages on channels that are not subscribed.
    pub(super) unasked: u64,
    /// Whether the server answered something, so that the subscriptions may have changed.
    pub(super) answers: bool,
}

impl Delivery<'_> {
    /// Takes every whole reply out of `buffer`. What came before a fault is delivered.
    pub(super) fn parse(&mut self, buffer: &mut ReadBuffer, feed: &mut Feed<'_>, now: Moment) -> Result<(), Fault> {
        let mut parsed = 0;
        let outcome = loop {
            let rest = buffer.unparsed().get(parsed..).unwrap_or_default();
            match self.session.receive(rest, &self.config.url, self.subscriptions, now) {
                Ok(Some((incoming, consumed))) => {
                    self.handle(incoming, feed, now);
                    parsed += consumed;
                }
                Ok(None) if self.session.reply_bytes_max() < rest.len() => {
                    break Err(Fault::BadReply("a reply is over its limit".to_owned()));
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        buffer.consume(parsed);
        outcome
    }

    fn handle(&mut self, incoming: Incoming<'_>, feed: &mut Feed<'_>, now: Moment) {
        match incoming {
            Incoming::Message { channel, payload } => {
                self.received += u64::from(self.intake.take(channel, payload, feed, now));
            }
            Incoming::TooBig { channel } => self.intake.refuse_oversize(channel, feed, now),
            Incoming::Mark => feed.read_behind(self.session.newest_mark()),
            // Dropped before anything of it is kept, or any topic made.
            Incoming::Unasked => self.unasked += 1,
            Incoming::Nothing => {}
            Incoming::Answer => {
                self.answers = true;
                report_notices(self.bus, feed, self.subscriptions, self.status, now);
            }
        }
    }
}
