//! Engine.IO requests, the hub's Socket.IO application, and connection state recovery.

pub(super) mod application;
pub(super) mod engine_io;
pub(super) mod events;
pub(super) mod recovery;

use crate::{
    endpoint::{Handler, Route, route::public_route},
    label::RouteLabel,
    protocol::http::Method,
};

pub(super) static ROUTES: &[Route] = &[
    public_route("/socket.io/", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
    public_route("/socket.io", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
];

const SOCKET_IO: &[(Method, Handler)] =
    &[(Method::Get, engine_io::open_socket_io), (Method::Post, engine_io::open_socket_io)];
