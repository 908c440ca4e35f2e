//! Engine.IO requests, and the Socket.IO application: what clients may do, and who of them may come back.

pub(super) mod application;
pub(super) mod engine_io;
pub(super) mod events;
pub(super) mod recovery;

use crate::{
    endpoint::{Handler, Route, route::public_route},
    label::RouteLabel,
    protocol::http::Method,
};

/// The routes of Socket.IO.
pub(super) static ROUTES: &[Route] = &[
    public_route("/socket.io/", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
    public_route("/socket.io", RouteLabel::SocketIo, SOCKET_IO).for_sessions(),
];

const SOCKET_IO: &[(Method, Handler)] =
    &[(Method::Get, engine_io::open_socket_io), (Method::Post, engine_io::open_socket_io)];
