//! The compatibility APIs: those of systems that the hub replaces, each of which can be switched off. A route of an API that is off
//! is no route. Native protocols (SSE, WebSocket, Socket.IO, publishing), signing in, and topics are part of none of them.

pub(super) mod esp;
pub(super) mod event_streams;
pub(super) mod iot_pods;

use std::{fmt, str::FromStr};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompatApi {
    /// The event broadcaster. All its paths are native ones; its own is what a WebSocket listens to that names no topic.
    Broadcaster,
    /// The event streaming service: `/api/v1/events` and `/api/v1/broadcast-demo`, its generators, and broadcasts to all streams.
    EventStreams,
    /// The ESP IoT platform: wells by SSE, telemetry, alerts and diagnostics in and out, their database, and over Socket.IO the
    /// greeting `connected` and wells by `well_id`.
    Esp,
    /// The IoT pods: `/{pod}/events/changes`.
    IotPods,
}

impl CompatApi {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Broadcaster, Self::EventStreams, Self::Esp, Self::IotPods];

    /// The name, as the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broadcaster => "broadcaster",
            Self::EventStreams => "event-streams",
            Self::Esp => "esp",
            Self::IotPods => "iot-pods",
        }
    }
}

impl fmt::Display for CompatApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CompatApi {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|api| api.name() == text).ok_or(())
    }
}

/// Those that are served; by default all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompatApis(pub Vec<CompatApi>);

impl CompatApis {
    /// Whether `api` is.
    pub fn has(&self, api: CompatApi) -> bool {
        self.0.contains(&api)
    }
}

impl Default for CompatApis {
    fn default() -> Self {
        Self(CompatApi::ALL.to_vec())
    }
}
