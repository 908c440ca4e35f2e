//! Engine.IO requests, and the Socket.IO application: what clients may do, and who of them may come back.

pub(super) mod application;
pub(super) mod engine_io;
pub(super) mod events;
pub(super) mod recovery;
