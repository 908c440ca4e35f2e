//! Marks: messages that the hubs on one server put among those of all channels, so that each counts on from the same place
//! ([`crate::fingerprint`]).
//!
//! Each hub listens to them, and publishes one when something came since the last and `redis.mark_interval` has passed: so hubs
//! with traffic share one mark an interval, and an idle server gets none. A topic that was just subscribed has to wait for a mark; so
//! that its clients need not wait for long, that one comes sooner. Without marks, or where the server does not say which
//! process it is, events have no fingerprints.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{clock::Moment, fingerprint::Mark};

/// The channel of all hubs' marks. Hubs that know no marks take it for a probe of others.
pub(super) const MARK_CHANNEL: &str = "fanfare.probe.marks";

/// The part of the interval after which a mark comes that is waited for.
const HURRY: u32 = 16;

/// A longer message is no mark.
const NONCE_BYTES_MAX: usize = 64;

/// The marks of one connection.
#[derive(Debug)]
pub(super) struct Marks {
    /// Zero: there are none.
    interval: Duration,
    /// Makes this connection's marks differ from those of all others.
    seed: u64,
    published: u64,
    /// What the server process is called, once it has said so.
    server: Option<Box<[u8]>>,
    is_subscribed: bool,
    /// Access rules do not forbid to publish marks.
    may_publish: bool,
    newest: Mark,
    /// Something was read or subscribed since the newest mark.
    has_news: bool,
    /// Something has no place before the next mark.
    hurries: bool,
    /// When the last mark was read or published; `None` before the first, which is due at once.
    last: Option<Moment>,
}

impl Marks {
    /// No marks yet, on a new connection; none ever if `interval` is zero. No other connection to the server may have `seed`.
    pub(super) fn new(interval: Duration, seed: u64) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        Self {
            interval,
            seed,
            published: 0,
            server: None,
            is_subscribed: false,
            may_publish: true,
            newest: Mark::begin(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            has_news: false,
            hurries: false,
            last: None,
        }
    }

    /// There are no marks, from here on.
    pub(super) fn switch_off(&mut self) {
        (self.interval, self.server) = (Duration::ZERO, None);
    }

    pub(super) fn are_on(&self) -> bool {
        !self.interval.is_zero()
    }

    /// The newest mark that was read.
    pub(super) fn newest(&self) -> Mark {
        self.newest
    }

    /// Takes what the server says of itself (`INFO server`). Only a process has an order of its own: no name that a replica has
    /// too, and that a master keeps when it starts anew, will do. Nodes of a cluster pass messages on to each other.
    pub(super) fn on_info(&mut self, info: &[u8]) {
        let field = |name: &str| {
            let values =
                info.split(|byte| *byte == b'\n').filter_map(|line| line.trim_ascii().strip_prefix(name.as_bytes()));
            values.map(<[u8]>::trim_ascii).find(|value| !value.is_empty())
        };
        match field("run_id:") {
            Some(run_id) if field("redis_mode:").is_some_and(|mode| mode != b"cluster") => {
                self.server = Some(run_id.into())
            }
            _ => self.switch_off(),
        }
    }

    /// The channel of marks is subscribed.
    pub(super) fn on_subscribed(&mut self) {
        self.is_subscribed = true;
    }

    /// Access rules forbid to publish marks. Those of other hubs still count.
    pub(super) fn on_publishing_denied(&mut self) {
        self.may_publish = false;
    }

    /// A message was read, or a topic subscribed.
    pub(super) fn on_news(&mut self) {
        self.has_news = true;
    }

    /// Something that was read or subscribed has no place before the next mark.
    pub(super) fn hurry(&mut self) {
        (self.has_news, self.hurries) = (true, true);
    }

    /// A message of the channel of marks came.
    pub(super) fn take(&mut self, nonce: &[u8], now: Moment) {
        let Some(server) = self.server.as_deref().filter(|_| nonce.len() <= NONCE_BYTES_MAX) else { return };
        self.newest = self.newest.next(server, nonce);
        (self.has_news, self.hurries, self.last) = (false, false, Some(now));
    }

    /// The mark to publish now, if one is due.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<String> {
        self.due().filter(|due| *due <= now)?;
        self.published += 1;
        self.last = Some(now);
        Some(format!("{:016x}.{}", self.seed, self.published))
    }

    /// When the next mark is due: after an interval, and up to a quarter more, so that of several hubs mostly one publishes it.
    pub(super) fn due(&self) -> Option<Moment> {
        let is_on = self.are_on() && self.is_subscribed && self.may_publish && self.server.is_some();
        let span = self.interval + self.interval * (self.seed % 256) as u32 / 1024;
        let span = if self.hurries { span / HURRY } else { span };
        (is_on && self.has_news).then(|| self.last.map_or_else(Moment::default, |last| last + span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] =
        b"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:c0ffee\r\ntcp_port:6379\r\n";
    const INTERVAL: Duration = Duration::from_secs(4);

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn marks(seed: u64) -> Marks {
        let mut marks = Marks::new(INTERVAL, seed);
        marks.on_info(INFO);
        marks.on_subscribed();
        marks
    }

    #[test]
    fn a_server_has_to_say_which_process_it_is() {
        let check = |info: &str, expected: Option<&str>| {
            let mut marks = Marks::new(INTERVAL, 1);
            marks.on_info(info.as_bytes());
            assert_eq!(marks.server.as_deref(), expected.map(str::as_bytes), "{info:?}");
            assert_eq!(marks.are_on(), expected.is_some());
            let begin = marks.newest();
            marks.take(b"n", at(1));
            assert_eq!(marks.newest() != begin, expected.is_some(), "{info:?}");
        };
        check(std::str::from_utf8(INFO).expect("ASCII"), Some("c0ffee"));
        check("redis_mode:sentinel\nrun_id: x \n", Some("x"));
        check("redis_mode:cluster\r\nrun_id:c0ffee\r\n", None);
        check("run_id:c0ffee\r\n", None);
        check("redis_mode:standalone\r\nrun_id:\r\n", None);
        check("redis_mode:standalone\r\nmaster_run_id:x\r\n", None);
        check("", None);
    }

    #[test]
    fn one_is_due_an_interval_after_the_last_if_there_was_news() {
        let mut marks = marks(0x80);
        assert_eq!((marks.due(), marks.take_due(at(9))), (None, None), "nothing came");
        marks.on_news();
        assert_eq!(marks.take_due(at(9)).as_deref(), Some("0000000000000080.1"));
        assert_eq!(marks.due(), Some(at(9) + INTERVAL + INTERVAL / 8), "it may get lost");
        marks.take(b"of another hub", at(10));
        assert_eq!(marks.due(), None);
        marks.on_news();
        let due = at(10) + INTERVAL + INTERVAL / 8;
        assert_eq!((marks.due(), marks.take_due(at(14))), (Some(due), None));
        assert_eq!(marks.take_due(due).as_deref(), Some("0000000000000080.2"));
        marks.hurry();
        let (soon, later) = (due + (INTERVAL + INTERVAL / 8) / 16, due + INTERVAL + INTERVAL / 8);
        assert_eq!(marks.take_due(soon).as_deref(), Some("0000000000000080.3"), "something waits for it");
        marks.take(b"of another hub", later);
        assert_eq!(marks.due(), None);
        marks.on_news();
        assert_eq!(marks.due(), Some(later + INTERVAL + INTERVAL / 8));
    }

    #[test]
    fn what_keeps_a_hub_from_publishing() {
        let check = |change: fn(&mut Marks), expected: bool| {
            let mut marks = Marks::new(INTERVAL, 1);
            marks.on_news();
            change(&mut marks);
            assert_eq!(marks.take_due(at(9)).is_some(), expected);
        };
        check(|it| (it.on_info(INFO), it.on_subscribed()).1, true);
        check(|it| it.on_info(INFO), false);
        check(Marks::on_subscribed, false);
        check(|it| (it.on_info(INFO), it.on_subscribed(), it.on_publishing_denied()).2, false);
        check(|it| (it.on_info(INFO), it.on_subscribed(), it.switch_off()).2, false);
    }

    #[test]
    fn connections_have_marks_of_their_own() {
        let (mut one, mut other) = (marks(1), marks(2));
        assert_ne!(one.newest(), other.newest());
        one.take(b"n", at(1));
        let first = one.newest();
        one.take(&[b'x'; NONCE_BYTES_MAX + 1], at(1));
        assert_eq!(one.newest(), first, "this was no mark");
        other.take(b"n", at(1));
        assert_ne!(first, other.newest());
    }
}
