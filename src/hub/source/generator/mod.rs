//! Generators: simulated events, for demonstration. One thread with a queue of timers makes the events of all streams. Endpoints
//! command it through a bounded queue ([`crate::bus::Generators`]). It publishes as a client does: through the event sink of the
//! topic's source if there is one.

mod control;
mod scheduler;
mod simulation;
mod thread;

use std::time::Duration;

pub(super) use thread::open;

/// How often events are generated, and for how many streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratorConfig {
    /// Between two events of a stream called `default` or `demo-default`, about so long; each time up to a quarter more
    /// or less.
    pub default_interval: Duration,
    /// The same for `system`.
    pub system_interval: Duration,
    /// The same for `user-activity`.
    pub user_activity_interval: Duration,
    /// The same for `notifications`.
    pub notifications_interval: Duration,
    /// The same for streams of any other name.
    pub custom_interval: Duration,
    /// At most so many streams at a time.
    pub streams_max: usize,
    /// Commands that may wait.
    pub queue_max: usize,
    /// How long a hub that has died keeps others on its broker from generating the streams that each of them would. Zero: the
    /// hub asks nobody.
    pub lease: Duration,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            default_interval: Duration::from_secs(3),
            system_interval: Duration::from_secs(2),
            user_activity_interval: Duration::from_secs(4),
            notifications_interval: Duration::from_secs(8),
            custom_interval: Duration::from_secs(3),
            streams_max: 100,
            queue_max: 1024,
            lease: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests;
