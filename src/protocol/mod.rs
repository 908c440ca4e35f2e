//! What peers speak. Pure: bytes, events and `now` in; bytes, asks and deadlines out.

pub mod fanfare_v1;
pub mod http;
pub mod resp;
pub mod sse;
pub mod websocket;
