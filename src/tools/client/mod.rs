//! The client library of the tools, the bench and the tests.
//!
//! `HubAccess` is a hub with what each request needs to be accepted: its URL, credentials, headers and TLS. Flags make one
//! (`AccessOptions`). Over it:
//!
//! - `Client` sends HTTP requests, one after the other;
//! - `Connection` is one blocking connection, `Link` one that never blocks;
//! - [`Reader`] cuts what a server sends to one subscriber into messages: pure;
//! - `Stream` reads such messages as a hub means them, over Server-Sent Events, WebSocket or `fanfare.v1`: pure;
//! - `SocketIoHandshake` and `SocketIoReader` do the same for Socket.IO;
//! - `ClientPool` keeps many such streams open on one thread, and resumes each behind its last event.
//!
//! Publishing to Redis: `RedisChannel` is one blocking publisher; `RedisTarget` opens a connection for pipelined commands, whose
//! replies `Replies` reads, as it does those of HTTP and NATS.
//!
//! What is public serves the tests, whose subscribers open sockets and read streams as the tools do.

mod access;
mod connection;
mod credential;
mod flag;
mod link;
mod options;
mod pool;
mod reader;
mod redis;
mod redis_channel;
mod redis_cluster;
mod replies;
mod request;
mod socket;
mod socket_io;
mod stream;
mod tls;
mod url;

pub(crate) use self::{
    access::HubAccess,
    connection::{Connection, Incoming},
    credential::{Credential, CredentialOptions, parse_header},
    flag::unshown,
    options::AccessOptions,
    pool::{BusyTime, ClientEvent, ClientPool, ClientSpec, PoolCounts},
    redis::{RedisTarget, RedisUrl},
    redis_channel::RedisChannel,
    replies::{Replies, Reply},
    request::{Client, Response, describe_refusal},
    socket_io::{ServerPacket, SocketIoHandshake, SocketIoOptions, SocketIoReader, SocketIoSteps},
    stream::{Received, Stream, StreamEnd, Transport},
    tls::{MaybeTlsStream, TlsClient, TlsOptions},
    url::{HubUrl, bare_host},
};
pub use self::{
    reader::{Item, ProtocolError, Reader},
    socket::{begin_connect, is_connected, open_socket},
};
pub(crate) use tls::advice as tls_advice;
