//! The compatibility APIs of the systems that the hub replaces. Each can be switched off; its routes then do not exist. SSE,
//! WebSocket, Socket.IO, publishing, signing in and the topics are part of none of them.

pub(super) mod esp;
pub(super) mod event_streams;
pub(super) mod iot_pods;

use std::{fmt, str::FromStr};

/// The API of a system that the hub replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompatApi {
    /// The event broadcaster. All its paths are native ones; it only sets the topics of a WebSocket that names none.
    Broadcaster,
    /// The event streaming service: `/api/v1/events` and `/api/v1/broadcast-demo`, with generators and broadcasts to all streams.
    EventStreams,
    /// The ESP IoT platform: wells over SSE; telemetry, alerts and diagnostics in and out, with their database; and over
    /// Socket.IO the greeting `connected` and wells by `well_id`.
    Esp,
    /// The IoT pods: `/{pod}/events/changes`.
    IotPods,
}

impl CompatApi {
    pub const ALL: [Self; 4] = [Self::Broadcaster, Self::EventStreams, Self::Esp, Self::IotPods];

    /// The name in the configuration.
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

/// The APIs that are served; by default all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompatApis(pub Vec<CompatApi>);

impl CompatApis {
    /// Whether `api` is served.
    pub fn has(&self, api: CompatApi) -> bool {
        self.0.contains(&api)
    }
}

impl Default for CompatApis {
    fn default() -> Self {
        Self(CompatApi::ALL.to_vec())
    }
}
