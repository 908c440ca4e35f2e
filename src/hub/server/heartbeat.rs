//! The thread that publishes this hub's heartbeats for the other hubs on its broker.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::{
    bus::Publication,
    clock::Clock,
    endpoint::{Hub, own_heartbeat},
    fleet::{Fleet, Heartbeat, heartbeat_topic},
};

/// Where Linux has the name of the host.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The thread. To be [stopped](Self::stop) before the sources.
pub(super) struct HeartbeatHandle {
    /// Dropped to stop the thread. A message makes it publish at once.
    news: Sender<()>,
    thread: JoinHandle<()>,
}

struct Worker {
    hub: Arc<Hub>,
    fleet: Arc<Fleet>,
    clock: Clock,
    /// Whether the last heartbeat is not answered yet. While the broker is away they must not pile up.
    is_waiting: Arc<AtomicBool>,
}

/// The name of the host; empty if it is not known.
pub(super) fn host_name() -> String {
    fs::read_to_string(HOST_NAME_FILE).map(|name| name.trim().to_owned()).unwrap_or_default()
}

impl HeartbeatHandle {
    /// Begins to publish a heartbeat every `interval` to the default source, which has an event sink.
    pub(super) fn start(hub: &Arc<Hub>, clock: Clock, interval: Duration) -> io::Result<Self> {
        let (news, receiver) = bounded(1);
        let fleet = hub.extension::<Fleet>();
        let worker = Worker { hub: Arc::clone(hub), fleet, clock, is_waiting: Arc::default() };
        let thread =
            thread::Builder::new().name("heartbeat".to_owned()).spawn(move || worker.run(&receiver, interval))?;
        Ok(Self { news, thread })
    }

    /// Publishes a heartbeat at once, because the hub's state has changed.
    pub(super) fn announce(&self) {
        // If it is full, the thread is about to publish anyway.
        let _ = self.news.try_send(());
    }

    /// Publishes the last heartbeat, and ends.
    pub(super) fn stop(self) {
        drop(self.news);
        // A panic has ended the process.
        let _ = self.thread.join();
    }
}

impl Worker {
    fn run(&self, news: &Receiver<()>, interval: Duration) {
        loop {
            self.fleet.forget(self.clock.now());
            if !self.is_waiting.load(Ordering::Acquire) {
                self.publish(&own_heartbeat(&self.hub));
            }
            if news.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.publish(&Heartbeat { gone: true, ..own_heartbeat(&self.hub) });
    }

    /// Nobody is told if it fails: the next one follows.
    fn publish(&self, heartbeat: &Heartbeat) {
        let Some(sink) = self.hub.bus.default_sink() else { return };
        self.is_waiting.store(true, Ordering::Release);
        let is_waiting = Arc::clone(&self.is_waiting);
        let reply = Box::new(move |_| is_waiting.store(false, Ordering::Release));
        let (topic, data) = (heartbeat_topic(), heartbeat.write());
        sink.publish(Publication { topic, kind: None, data, idempotency_key: None, bridged: None, reply });
    }
}
