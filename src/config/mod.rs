//! File, environment and flags become one [`Config`]; flags win over the environment, which wins over the file.

mod address;
mod meant;
mod topics;

pub use address::{Address, Pin};
pub use meant::{
    Admin, Config, Cors, Drain, HttpLimits, Limits, Log, LogFormat, Redis, Server, Sse, WebSocket, WebSocketLimits,
};
pub use topics::{Class, History, Policy, Topics};
