//! The writer thread: publications of this hub, many to a round trip.
//!
//! It never sends anything twice. What was sent and not answered may have been delivered, so its publisher gets
//! [`PublishFailed::Unknown`] and decides; what was not sent waits for a connection, but no longer than
//! `publish_timeout`. A connection that the server closed while it was idle is found out before anything is written, and
//! replaced.
//!
//! A replica takes a publication and answers it as a master does, but reaches only its own subscribers. So the last
//! command of each batch asks what the server is, and nothing is confirmed before that answer.

mod link;
mod publisher;
mod script;
mod thread;

pub(super) use publisher::{PublicationIntake, PublishEncoder, QueuedPublication};
pub(super) use script::{PublishCommand, Script, digest, memory_key};
pub(super) use thread::{WriterHandle, WriterThread, start_writer_with};

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, never, select};
use redis::RedisError;
use tracing::{debug, info, warn};

use self::{
    link::{PublishAnswer, RefusedPublication, WriterLink},
    thread::End,
};
use super::{
    Directory, RedisConfig, Router, ServerView,
    error_codes::{Elsewhere, is_of_command},
    is_lasting, is_read_only,
};
use crate::{
    bus::{PublishFailed, Receipt, Refusal},
    clock::{Clock, Moment},
    source::{Backoff, LogRateLimiter, SourceStatus},
};

/// The most publications in one round trip: the first waits for the last one's answer.
const BATCH_COUNT_MAX: usize = 1000;

/// The most bytes in one round trip, but for the last publication.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The least time for an attempt to connect, even if publications expire meanwhile: some round trips to sentinels and server.
const CONNECT_TIME_MIN: Duration = Duration::from_secs(1);

struct Writer {
    config: RedisConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
    directory: Directory,
    link: Option<WriterLink>,
    /// Whether the server has loaded the script that publications may need.
    knows_script: bool,
    backoff: Backoff,
    /// When to try the next connection.
    retry: Moment,
    /// When the link was opened.
    opened: Moment,
    /// When the link last proved to be good.
    last_used: Moment,
    /// Why publications are not worth waiting, while there is no link: the server would refuse them.
    refusal: Option<Refusal>,
    /// How many connections the reader had lost by then.
    reader_disconnects: u64,
    failures: LogRateLimiter,
    queued: Receiver<QueuedPublication>,
    /// Taken from the queue, to be sent next.
    pending: VecDeque<QueuedPublication>,
    pending_bytes: usize,
    /// The commands of a batch; kept for its capacity.
    commands: Vec<u8>,
    /// The answers of a batch, until the server has said what it is; kept for its capacity.
    answered: Vec<(QueuedPublication, Receipt)>,
    /// What other nodes of the cluster are to take, of the same batch.
    elsewhere: Vec<(QueuedPublication, Elsewhere)>,
    stopped: Receiver<End>,
    /// Until when what is queued may still be sent, once the end is near.
    stop_deadline: Option<Moment>,
    /// What is not sent is given back at the end.
    gives_back: bool,
    /// In a cluster.
    router: Option<Arc<Router>>,
}

impl Writer {
    /// What is still queued at the end is answered by being dropped, or given back.
    fn run(&mut self) {
        loop {
            self.gather();
            if self.gives_back {
                return self.give_back_pending();
            }
            let now = self.clock.now();
            self.expire(now);
            if self.link.is_none() && self.retry <= now && self.stop_deadline.is_none() {
                self.connect();
            }
            self.check_link();
            self.publish_pending();
            if self.stop_deadline.is_some_and(|deadline| {
                self.link.is_none() || deadline <= now || (self.pending.is_empty() && self.queued.is_empty())
            }) {
                return;
            }
        }
    }

    /// Waits for something to do, then takes all that is queued, up to a batch.
    fn gather(&mut self) {
        let queued = if self.has_room() { self.queued.clone() } else { never() };
        select! {
            recv(queued) -> queued => self.pending_push(queued.ok()),
            recv(self.stopped) -> end => match end {
                Ok(End::GiveBack) => self.gives_back = true,
                Ok(End::Drain) | Err(_) => self.stop_deadline = Some(self.clock.now() + self.config.publish_timeout),
            },
            default(self.wait_max()) => {}
        }
        while self.has_room()
            && let Ok(queued) = self.queued.try_recv()
        {
            self.pending_push(Some(queued));
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < BATCH_COUNT_MAX && self.pending_bytes < BATCH_BYTES_MAX
    }

    fn pending_push(&mut self, queued: Option<QueuedPublication>) {
        if let Some(queued) = queued {
            self.pending_bytes += queued.weight_bytes();
            self.pending.push_back(queued);
        }
    }

    fn pending_pop(&mut self) -> Option<QueuedPublication> {
        let queued = self.pending.pop_front()?;
        self.pending_bytes -= queued.weight_bytes();
        Some(queued)
    }

    /// How long the thread may wait for publications.
    fn wait_max(&self) -> Duration {
        let deadline = match (&self.link, self.pending.front()) {
            (Some(_), None) => self.last_used + self.config.ping_interval,
            // The server had forgotten the script: they are to be sent again at once.
            (Some(_), Some(_)) => self.clock.now(),
            (None, None) => self.retry,
            (None, Some(oldest)) => self.retry.min(oldest.deadline),
        };
        deadline.since(self.clock.now())
    }

    /// Answers those that have waited too long for a connection, or that no connection would help: they were not sent.
    fn expire(&mut self, now: Moment) {
        let is_hopeless = self.refusal.is_some() && !self.directory.may_move();
        let failed = self.refusal.map_or(PublishFailed::Unavailable, PublishFailed::Refused);
        while self.link.is_none()
            && self.pending.front().is_some_and(|oldest| is_hopeless || oldest.deadline <= now)
            && let Some(queued) = self.pending_pop()
        {
            queued.answer(Err(failed));
        }
    }

    fn connect(&mut self) {
        // Whoever waits longest should not wait longer than it may. But under a steady stream of publications the oldest
        // is always about to give up, and a connection must be possible all the same.
        let left = self.pending.front().map(|oldest| oldest.deadline.since(self.clock.now()));
        let timeout = left.map_or(Duration::MAX, |left| left.max(CONNECT_TIME_MIN)).min(self.config.connect_timeout);
        let reader_disconnects = self.status.reader().disconnects();
        let opened = WriterLink::open(&self.directory, self.view.sentinels(), timeout.max(Duration::from_millis(1)));
        match opened.and_then(|link| link.set_timeout(self.config.publish_timeout).map(|()| link)) {
            Ok(link) => {
                self.link = Some(link);
                self.knows_script = false;
                self.refusal = None;
                self.backoff.reset();
                self.last_used = self.clock.now();
                self.opened = self.last_used;
                self.reader_disconnects = reader_disconnects;
                self.status.writer().on_answer(self.last_used);
                if self.status.writer().on_connected(self.last_used) {
                    info!("publishing through {}", self.config.url);
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Replaces a link that the server closed while it was idle: a publication written to it would be lost without an
    /// error.
    fn renew_link(&mut self) {
        if self.link.as_mut().is_some_and(|link| !link.is_usable()) {
            debug!("{} has closed the idle connection", self.config.url);
            self.link = None;
            self.connect();
        }
    }

    /// Asks for a sign of life when the link was idle, or when the reader lost its own since: a publication sent into a
    /// dead connection ends as [`PublishFailed::Unknown`], which this avoids.
    fn check_link(&mut self) {
        self.renew_link();
        let now = self.clock.now();
        if self.link.as_mut().is_some_and(|link| link.is_outdated(self.view.sentinels())) {
            self.fail(&(redis::ErrorKind::Client, "the sentinels name another server as the master").into());
            self.retry = now;
            return;
        }
        let disconnects = self.status.reader().disconnects();
        let is_idle = self.config.ping_interval <= now.since(self.last_used);
        let Some(link) = self.link.as_mut().filter(|_| is_idle || disconnects != self.reader_disconnects) else {
            return;
        };
        match link.ping() {
            Ok(()) => {
                self.last_used = self.clock.now();
                self.status.writer().on_answer(self.last_used);
                self.reader_disconnects = disconnects;
            }
            Err(error) => {
                self.notify_reader(&error);
                self.fail(&error);
                // It was good until now, so the first attempt need not wait.
                self.retry = now;
            }
        }
    }

    /// One round trip with all that is pending.
    fn publish_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let Some(mut link) = self.link.take() else { return };
        if link.is_replica() {
            self.refuse_pending(Refusal::ReadOnly);
            self.link = Some(link);
            return;
        }
        self.commands.clear();
        let script = self.pending.iter().find_map(|queued| queued.request.script).filter(|_| !self.knows_script);
        self.commands.extend_from_slice(&load(script));
        for queued in &self.pending {
            queued.request.write(&mut self.commands);
        }
        link.write_role_question(&mut self.commands);
        let sent = link.send(&self.commands);
        self.commands.clear();
        self.commands.shrink_to(BATCH_BYTES_MAX);
        if let Err(failed) = sent {
            // Closed between the look at it and the write: whatever is pending can still be sent elsewhere.
            let is_first_time = self.config.backoff_min <= self.clock.now().since(self.opened);
            if !failed.is_unsent {
                self.abandon_pending();
            }
            self.fail(&failed.error.into());
            if failed.is_unsent && is_first_time {
                self.retry = self.clock.now();
            }
            return;
        }
        let outcome = self.receive_answers(&mut link, script);
        self.pass_on_elsewhere();
        self.last_used = self.clock.now();
        match outcome {
            Ok(()) => {
                self.status.writer().on_answer(self.last_used);
                self.link = Some(link);
            }
            Err(error) => {
                self.abandon_pending();
                self.notify_reader(&error);
                self.fail(&error);
            }
        }
    }

    /// Answers [`PublishFailed::Unknown`]: some of what was sent may have reached the server and may have been delivered. What the
    /// server refused stays refused.
    fn abandon_pending(&mut self) {
        for (queued, receipt) in self.answered.drain(..) {
            queued.answer(receipt.and(Err(PublishFailed::Unknown)));
        }
        while let Some(queued) = self.pending_pop() {
            queued.answer(Err(PublishFailed::Unknown));
        }
    }

    /// Gives the router what this node did not take. It did nothing with it, whatever became of the rest of the batch.
    fn pass_on_elsewhere(&mut self) {
        let Some(router) = self.router.as_ref().filter(|_| !self.elsewhere.is_empty()) else { return };
        for (queued, elsewhere) in self.elsewhere.drain(..) {
            match elsewhere {
                Elsewhere::Moved(moved) => router.on_moved(queued, &moved),
                Elsewhere::Unserved => router.on_unserved(queued),
            }
        }
    }

    fn give_back_pending(&mut self) {
        let Some(router) = self.router.clone() else { return };
        while let Some(queued) = self.pending_pop() {
            router.on_unsent(queued);
        }
    }

    fn refuse_pending(&mut self, refusal: Refusal) {
        while let Some(queued) = self.pending_pop() {
            queued.answer(Err(PublishFailed::Refused(refusal)));
        }
    }

    /// The answers come in the order of the publications. One at a time, because the client library's own pipeline would
    /// wait out the timeout once for each of them. The last one says whether the server may be believed.
    fn receive_answers(&mut self, link: &mut WriterLink, loaded: Option<&Script>) -> Result<(), RedisError> {
        let deadline = self.clock.now() + self.config.publish_timeout;
        if loaded.is_some() {
            // Whether it was allowed shows when the script is called.
            link.skip_answer()?;
            self.knows_script = true;
        }
        let mut unknown = VecDeque::new();
        let mut outdated = None;
        while !self.pending.is_empty() {
            let answer = link.receive_answer()?;
            let Some(queued) = self.pending_pop() else { break };
            match answer {
                PublishAnswer::Taken(id) => {
                    self.status.on_publish_taken(Some(&queued.topic));
                    self.answered.push((queued, Ok(id)));
                }
                // The server has dropped its scripts (`SCRIPT FLUSH`); nothing was done, so it may be sent again.
                PublishAnswer::NoScript if loaded.is_none() => {
                    self.knows_script = false;
                    unknown.push_back(queued);
                }
                PublishAnswer::NoScript => {
                    let text = "it does not keep scripts".to_owned();
                    let refused =
                        RefusedPublication { refusal: Refusal::Other, text, is_outdated: false, elsewhere: None };
                    self.refuse(queued, &refused);
                }
                PublishAnswer::Refused(RefusedPublication { elsewhere: Some(elsewhere), .. })
                    if self.router.is_some() =>
                {
                    self.elsewhere.push((queued, elsewhere));
                }
                PublishAnswer::Refused(refused) => {
                    self.refuse(queued, &refused);
                    outdated = outdated.or_else(|| Some(refused).filter(|refused| refused.is_outdated));
                }
            }
            if deadline <= self.clock.now() && !self.pending.is_empty() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        link.receive_role()?;
        self.answered.drain(..).for_each(|(queued, receipt)| queued.answer(receipt));
        unknown.into_iter().for_each(|queued| self.pending_push(Some(queued)));
        match outdated {
            Some(refused) => Err((redis::ErrorKind::Client, "the server takes no publications", refused.text).into()),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, queued: QueuedPublication, refused: &RefusedPublication) {
        let now = self.clock.now();
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, topic = queued.topic.as_str(), "the server refuses a publication: {}", refused.text);
        }
        self.status.on_publish_refused(Some(&queued.topic), &refused.text, is_of_command(&refused.text), now);
        self.answered.push((queued, Err(PublishFailed::Refused(refused.refusal))));
    }

    /// A server that has become a replica may be the master again before the reader asks it.
    fn notify_reader(&self, error: &RedisError) {
        if is_read_only(error) {
            self.view.report_demotion();
        }
    }

    fn fail(&mut self, error: &RedisError) {
        let now = self.clock.now();
        self.link = None;
        self.refusal = is_lasting(error).then_some(match is_read_only(error) {
            true => Refusal::ReadOnly,
            false => Refusal::Forbidden,
        });
        self.retry = now + self.backoff.next_delay(rand::random());
        self.status.writer().on_failure(&error.to_string(), now);
        self.router.iter().for_each(|router| router.on_node_lost());
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "cannot publish through {}: {error}", self.config.url);
        }
    }
}

/// The command that makes the server know `script`.
fn load(script: Option<&Script>) -> Vec<u8> {
    let mut command = Vec::new();
    if let Some(script) = script {
        script.write_load(&mut command);
    }
    command
}
