//! A lease among the processes on one NATS server, or cluster: of all that ask for it, one has it at a time. NATS keeps nothing for
//! that, so they settle it among themselves ([`election`]) on a subject of hub commands.

mod election;

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use election::{Election, Statement};
use tracing::warn;

use super::{
    Connections, Connector, Fault, Link, NatsConfig, ThreadWaker, Violation,
    link::{Arrivals, LinkEvent},
    unless_before,
};
use crate::{
    bus::HUB_COMMANDS,
    clock::{Clock, Moment},
    source::{Backoff, Lease},
};

/// A lease. Its thread, with a connection of its own, asks for it until it is dropped, which gives it back.
#[derive(Debug)]
pub(super) struct NatsLease {
    held_until: Arc<AtomicU64>,
    waker: Arc<ThreadWaker>,
    thread: Option<JoinHandle<()>>,
}

impl NatsLease {
    /// Begins to ask for the lease called `name`, which lasts so long.
    pub(super) fn start(
        config: &NatsConfig,
        connector: Connector,
        clock: Clock,
        name: &str,
        lasts: Duration,
    ) -> io::Result<Self> {
        let (held_until, waker) = (Arc::new(AtomicU64::new(0)), Arc::<ThreadWaker>::default());
        let mut keeper = Keeper {
            connector,
            clock,
            subject: subject(name),
            election: Election::new(rand::random(), lasts),
            held_until: Arc::clone(&held_until),
            waker: Arc::clone(&waker),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            backoff_max: config.backoff_max,
            retry: clock.now(),
            has_failed: false,
        };
        let thread = std::thread::Builder::new().name("nats-lease".to_owned()).spawn(move || keeper.live_on())?;
        Ok(Self { held_until, waker, thread: Some(thread) })
    }
}

/// The subject for the lease `name`, in which any bytes may be.
pub(super) fn subject(name: &str) -> String {
    let mut subject = format!("{HUB_COMMANDS}lease.");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            subject.push(char::from(byte));
        } else {
            subject.push_str(&format!("_{byte:02X}"));
        }
    }
    subject
}

impl Lease for NatsLease {
    fn is_held(&self, now: Moment) -> bool {
        now.0 < self.held_until.load(Ordering::Acquire)
    }
}

impl Drop for NatsLease {
    fn drop(&mut self) {
        self.waker.stop();
        // A panic has ended the process.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

struct Keeper {
    connector: Connector,
    clock: Clock,
    subject: String,
    election: Election,
    held_until: Arc<AtomicU64>,
    waker: Arc<ThreadWaker>,
    backoff: Backoff,
    backoff_max: Duration,
    /// When to try the next connection.
    retry: Moment,
    /// Whether the log has said that there is no lease at present.
    has_failed: bool,
}

impl Keeper {
    async fn turn(&mut self, link: &mut Link<()>) -> Result<(), Fault> {
        let now = self.clock.now();
        if self.election.is_silent(now) {
            return Err(Fault::Silent);
        }
        if let Some(statement) = self.election.speak(now) {
            say(link, &self.subject, statement)?;
        }
        let Arrivals { messages, events } = link.next(self.waker.notify(), self.election.due().since(now)).await;
        let now = self.clock.now();
        for message in messages.into_iter().flat_map(|((), messages)| messages) {
            // Anybody with access to the server may publish here; what is no statement says nothing.
            let statement = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok());
            statement.into_iter().for_each(|statement| self.election.hear(statement, now));
        }
        let held_until = self.election.held_until();
        self.held_until.store(held_until.0, Ordering::Release);
        if self.election.is_heard() {
            self.has_failed = false;
            self.backoff.reset();
        }
        for event in events {
            match event {
                LinkEvent::Closed(why) => return Err(Fault::Closed(why)),
                LinkEvent::Broken(why) => return Err(Fault::Broken(why)),
                LinkEvent::Error(text) if Violation::parse(&text).is_some() => return Err(Fault::Rejected(text)),
                LinkEvent::Error(_) => {}
            }
        }
        Ok(())
    }
}

impl Connections for Keeper {
    const NAME: &str = "a lease";

    fn waker(&self) -> &ThreadWaker {
        &self.waker
    }

    fn backoff_max(&self) -> Duration {
        self.backoff_max
    }

    async fn live(&mut self) -> Result<(), Fault> {
        // Woken, it is dropped.
        let wait = self.retry.since(self.clock.now());
        let _ = tokio::time::timeout(wait, self.waker.notify().notified()).await;
        if self.waker.is_stopped() {
            return Ok(());
        }
        let login = self.connector.login();
        let connected = {
            let connecting = pin!(self.connector.connect::<()>(&login));
            unless_before(connecting, self.waker.notify().notified()).await
        };
        let mut link = match connected {
            None => return Ok(()),
            Some(Ok(link)) => link,
            Some(Err(fault)) => {
                if fault.is_refused_login() {
                    self.connector.logins().renew(&login);
                }
                return Err(fault);
            }
        };
        link.subscribe((), &self.subject)?;
        self.election.on_connected(self.clock.now());
        while !self.waker.is_stopped() {
            self.turn(&mut link).await?;
        }
        if let Some(statement) = self.election.leave(self.clock.now()) {
            say(&mut link, &self.subject, statement)?;
            // Sends it, as far as the server takes it. Otherwise the lease ends by itself.
            link.next(self.waker.notify(), Duration::ZERO).await;
        }
        Ok(())
    }

    fn fail(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.has_failed, true) {
            let subject = &self.subject;
            warn!(subject, "no lease can be had through NATS; who waits for it stands by: {fault}");
        }
        self.retry = self.clock.now() + self.backoff.next_delay(rand::random());
    }
}

fn say(link: &mut Link<()>, subject: &str, statement: Statement) -> Result<(), Fault> {
    let published = link.publish(subject, None, None, statement.to_string());
    published.map_err(|problem| Fault::Closed(Some(format!("`{subject}` cannot be published to: {problem:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lease_has_a_subject_of_its_own() {
        assert_eq!(subject("generators"), "fanfare.orders.lease.generators");
        assert_eq!(subject("bridge.nats a.*=>b_c"), "fanfare.orders.lease.bridge_2Enats_20a_2E_2A_3D_3Eb_5Fc");
    }
}
