//! SIGHUP: reads the configuration again, and applies what can change while the hub runs.

use std::{
    sync::{Arc, PoisonError},
    thread,
};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use tracing::{Level, info, warn};

use super::{Server, bridge::topic_classes, endpoint_config, maxima, reactor_config};
use crate::{
    audit::AuditLine,
    bus::{Class, LogKind},
    clock::Moment,
    config::{Config, ConfigReload, KeyChange, LogGuard},
    source::is_server_key,
};

type ReadConfig = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reads the configuration, and all files that it names, on a thread of its own: a file system may hang, and the thread that
/// waits for signals must not. At most one such thread runs.
pub(super) struct ConfigReader {
    read: ReadConfig,
    /// Woken when a read is complete.
    waker: Arc<mio::Waker>,
    /// The result of the thread that reads.
    reading: Option<Receiver<Result<Config, String>>>,
    /// Whether a SIGHUP came during the read, whose result may be out of date by then.
    again: bool,
}

impl ConfigReader {
    /// A reader that reads nothing yet.
    pub(super) fn new(read: ReadConfig, waker: Arc<mio::Waker>) -> Self {
        Self { read, waker, reading: None, again: false }
    }

    /// Starts a read. If one is under way, another follows it.
    pub(super) fn begin(&mut self) {
        if self.reading.is_some() {
            info!("the configuration is still being read since an earlier SIGHUP; it is read once more afterwards");
            self.again = true;
            return;
        }
        let (sender, receiver) = bounded(1);
        let (read, waker) = (Arc::clone(&self.read), Arc::clone(&self.waker));
        let thread = thread::Builder::new().name("config-reader".to_owned()).spawn(move || {
            // Fails only when the hub ends, and nobody needs the result any more.
            let _ = sender.send(read());
            let _ = waker.wake();
        });
        match thread {
            Ok(_) => self.reading = Some(receiver),
            Err(error) => warn!(%error, "the configuration is not read: there is no thread for it; send SIGHUP again"),
        }
    }

    /// The result of a read, once it is complete.
    pub(super) fn take(&mut self) -> Option<Result<Config, String>> {
        let read = match self.reading.as_ref()?.try_recv() {
            Ok(read) => read,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that reads it has ended early".to_owned()),
        };
        self.reading = None;
        if std::mem::take(&mut self.again) {
            self.begin();
        }
        Some(read)
    }
}

impl Server {
    /// Applies `reloaded` key by key, and logs each change and each key that needs a restart. If anything in `reloaded` is wrong,
    /// nothing changes. `config` is the configuration in force, before and after.
    pub(super) fn reload(&self, reloaded: Result<Config, String>, config: &mut Config, log: &LogGuard, now: Moment) {
        let reload = reloaded.and_then(|reloaded| config.reload(&reloaded).map_err(str::to_owned));
        let ConfigReload { config: next, changes } = match reload {
            Ok(reload) => reload,
            Err(error) => {
                // The file may have been moved away all the same.
                self.hub.audit.reload(&config.audit);
                self.audit("reload_refused");
                return warn!(%error, "the configuration is wrong now; nothing is taken over");
            }
        };
        self.take_over(config, &next, now);
        self.hub.audit.reload(&next.audit);
        let keys = changes.iter().filter(|change| change.takes_effect).map(|change| change.key).collect();
        self.hub.audit.record(&AuditLine { keys, ..AuditLine::admin("reload") });
        next.warnings.iter().for_each(|warning| warn!("{warning}"));
        // If only one of the two levels lets the log line through, it is written at that level.
        let reports_first = tracing::enabled!(Level::INFO);
        if reports_first {
            report(&changes);
        }
        if let Err(error) = log.set_level(&next.log.level) {
            warn!(%error, "the log's level stays as it is");
        }
        if !reports_first {
            report(&changes);
        }
        *config = next;
    }

    fn take_over(&self, former: &Config, config: &Config, now: Moment) {
        if let Some(sources) = &self.sources {
            sources.reload_credentials(&former.sources, &config.sources);
        }
        if let (Some(store), Some(former)) = (&config.store, &former.store) {
            store.replace_login(former);
        }
        // The reactors check open streams, and count them by the new quotas, once they are woken.
        self.hub.auth.replace(&config.auth);
        self.hub.quotas.replace(&config.quotas, now);
        let classes = topic_classes(config);
        let is_in_memory = |class: &Class| class.log == LogKind::Memory;
        if classes.listed.iter().all(|(_, class)| is_in_memory(class)) && is_in_memory(&classes.default) {
            self.hub.bus.replace_classes(classes.default, classes.listed);
        }
        self.hub.config.replace(endpoint_config(config));
        *self.hub.maxima.lock().unwrap_or_else(PoisonError::into_inner) = maxima(config, self.shares);
        // Each reactor keeps its own listeners.
        self.live.replace(reactor_config(config, self.shares, usize::MAX));
        self.notify_reactors();
    }
}

/// Keys, users and API keys are read from files. The log names the file's key if only the file has changed.
fn report(changes: &[KeyChange]) {
    for KeyChange { key, shown, takes_effect } in changes {
        let change = (!shown.is_empty()).then_some(shown.as_str());
        if *takes_effect && key.starts_with("topics.") {
            info!(key, change, "a key of the configuration has another value, which takes effect for topics to come");
        } else if *takes_effect && (is_server_key(key) || key.starts_with("store.")) {
            info!(
                key,
                change, "a key of the configuration has another value, which takes effect for connections to come"
            );
        } else if *takes_effect {
            info!(key, change, "a key of the configuration has another value, which takes effect");
        } else {
            warn!(key, change, "a key of the configuration has another value, which waits for a restart");
        }
    }
    let effective = changes.iter().filter(|change| change.takes_effect).count();
    info!(effective, waiting = changes.len() - effective, "the configuration is read anew");
}
