//! What each reply means, by the command that it answers.

use super::{
    Confirmation, ExpectedReply, Incoming, PubSubSession, SessionStage,
    greeting::{hello_field, hello_role},
};
use crate::{
    clock::Moment,
    protocol::resp::Reply,
    source::redis::{
        RedisUrl,
        error_codes::{Moved, is_denial, is_final, is_of_command, is_served, is_unserved},
        pubsub::{
            fault::Fault,
            subscriptions::{Batch, Subscriptions},
        },
    },
};

impl PubSubSession {
    pub(super) fn on_probe(&mut self, channel: &[u8], payload: &[u8], now: Moment) -> Incoming<'static> {
        if channel != self.probe.channel().as_bytes() {
            return Incoming::Unasked;
        }
        self.proof = self.probe.proof(channel, payload, now).or(self.proof);
        Incoming::Answer
    }

    /// A confirmation carries the channel's name, but confirmations come in the order of the command's arguments: counting them
    /// needs no look-up, and a wrong name has no effect.
    pub(super) fn on_confirmation(
        &mut self,
        confirmation: Confirmation,
        subscriptions: &mut Subscriptions,
    ) -> Result<Incoming<'static>, Fault> {
        match self.expected.front_mut() {
            Some(ExpectedReply::ProbeSubscription) if confirmation == Confirmation::Channel => {
                self.expected.pop_front();
                self.probe.switch(true);
                self.subscribing_denied = false;
                self.next_ping = Moment::default();
                subscriptions.on_command_allowed();
            }
            Some(ExpectedReply::MarkSubscription) if confirmation == Confirmation::Channel => {
                self.expected.pop_front();
                self.marks.on_subscribed();
            }
            Some(ExpectedReply::Batch { batch, confirmed }) if confirmation.is_of(batch) => {
                self.marks.on_news();
                let length = match batch {
                    Batch::Topics(topics) => {
                        subscriptions.on_subscribed(&topics[*confirmed]);
                        topics.len()
                    }
                    Batch::Patterns(indices) => {
                        subscriptions.on_pattern_subscribed(indices[*confirmed]);
                        indices.len()
                    }
                    Batch::Leave(topics) => topics.len(),
                };
                *confirmed += 1;
                if *confirmed == length {
                    self.expected.pop_front();
                }
            }
            _ => return Err(Fault::BadReply("a confirmation of nothing".to_owned())),
        }
        Ok(Incoming::Answer)
    }

    pub(super) fn on_reply(
        &mut self,
        reply: &Reply<'_>,
        url: &RedisUrl,
        subscriptions: &mut Subscriptions,
        now: Moment,
    ) -> Result<Incoming<'static>, Fault> {
        let error = if let Reply::Error(text) = reply { Some(*text) } else { None };
        if let Some(moved) = error.filter(|_| self.is_sharded()).and_then(Moved::parse) {
            return Ok(self.on_moved(moved, subscriptions));
        }
        match (self.expected.pop_front(), error) {
            (None, Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            (None, None) => return Err(Fault::BadReply("an answer to nothing".to_owned())),
            (Some(ExpectedReply::Hello), None) => {
                self.check_sharding(reply)?;
                self.greeted_role = hello_role(reply);
                self.is_cluster_node = hello_field(reply, b"mode") == Some(b"cluster");
                self.ask_role();
            }
            (Some(ExpectedReply::Hello), Some(text)) if is_final(text) => return Err(Fault::Rejected(text.to_owned())),
            (Some(ExpectedReply::Hello), Some(text)) if self.is_sharded() => {
                return Err(match text.contains("unknown command") {
                    true => Fault::TooOld("this server knows no HELLO".to_owned()),
                    false => Fault::Rejected(text.to_owned()),
                });
            }
            (Some(ExpectedReply::Hello), Some(_)) => self.greet_in_resp2(url),
            (Some(ExpectedReply::Step { needed: true }), Some(text)) if !is_served(error) => {
                return Err(Fault::Rejected(text.to_owned()));
            }
            (Some(ExpectedReply::Step { .. }), _) => {
                if self.expected.is_empty() {
                    self.ask_role();
                }
            }
            (Some(ExpectedReply::Role(question)), _) => {
                self.on_role(question, reply)?;
                if self.stage != SessionStage::Ready {
                    self.become_ready(subscriptions, now);
                }
            }
            (Some(ExpectedReply::Batch { batch, .. }), Some(text)) if self.is_sharded() && is_unserved(text) => {
                self.on_unserved(&batch, subscriptions);
            }
            (Some(ExpectedReply::Batch { batch, confirmed: 0 }), Some(text)) if is_denial(text) => {
                subscriptions.on_refused(&batch, text, now);
            }
            (Some(ExpectedReply::Batch { .. }), Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            (Some(ExpectedReply::Batch { .. }), None) => return Err(confirms_nothing()),
            (Some(ExpectedReply::Ping { sent }), _) => {
                self.proof = is_served(error).then(|| now.since(sent)).or(self.proof);
            }
            (Some(ExpectedReply::Info), None) => self.marks.on_info(text_of(reply).unwrap_or_default()),
            (Some(ExpectedReply::MarkSubscription), None) => return Err(confirms_nothing()),
            (Some(ExpectedReply::MarkPublication), None) => {}
            // Access rules forbid it. Then ids have no fingerprints, or only by the marks of other hubs.
            (Some(ExpectedReply::Info | ExpectedReply::MarkSubscription), Some(_)) => self.marks.switch_off(),
            (Some(ExpectedReply::MarkPublication), Some(_)) => self.marks.on_publishing_denied(),
            (Some(probe), _) => self.on_probe_reply(&probe, error, subscriptions, now)?,
        }
        Ok(Incoming::Answer)
    }

    /// Takes the reply to a command of the probe. Access rules may forbid the command as such, or only the probe's channel.
    fn on_probe_reply(
        &mut self,
        probe: &ExpectedReply,
        error: Option<&str>,
        subscriptions: &mut Subscriptions,
        now: Moment,
    ) -> Result<(), Fault> {
        match (probe, error) {
            (ExpectedReply::ProbePublication | ExpectedReply::PublishingRetry, Some(text)) if is_of_command(text) => {
                self.probe.switch(false);
                self.publishing_denied = true;
                self.publishing = Some(Err(text.to_owned()));
            }
            (ExpectedReply::PublishingRetry, None) => {
                self.probe.switch(true);
                self.publishing_denied = false;
                self.publishing = Some(Ok(()));
            }
            (ExpectedReply::ProbeSubscription, Some(text)) if is_of_command(text) => {
                // Tried again with the next sign of life, which must not be at once.
                self.subscribing_denied = true;
                subscriptions.on_command_refused(text, now);
            }
            // The channel is forbidden: then a `PING` has to do.
            (ExpectedReply::ProbeSubscription | ExpectedReply::ProbePublication, Some(text)) if is_denial(text) => {
                self.probe.switch(false);
                self.next_ping = Moment::default();
            }
            (ExpectedReply::ProbeSubscription, Some(text)) => return Err(Fault::Rejected(text.to_owned())),
            (ExpectedReply::ProbeSubscription, None) => return Err(confirms_nothing()),
            // An accepted publication proves no delivery, and other errors pass.
            (ExpectedReply::ProbePublication, None) => self.publishing = Some(Ok(())),
            _ => {}
        }
        Ok(())
    }
}

/// The bytes of a text.
fn text_of<'a>(reply: &Reply<'a>) -> Option<&'a [u8]> {
    match reply {
        Reply::Verbatim { text, .. } | Reply::Bulk(Some(text)) => Some(text),
        _ => None,
    }
}

/// A subscription is confirmed by a push, not by a reply.
fn confirms_nothing() -> Fault {
    Fault::BadReply("an answer that confirms nothing".to_owned())
}
