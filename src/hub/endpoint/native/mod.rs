//! The hub's own API: streams, publishing, topics, `fanfare.v1`, signing in, and what operators ask for.

pub(super) mod command;
pub(super) mod health;
pub(super) mod pages;
pub(super) mod publish;
pub(super) mod query;
pub(super) mod sign_in;
pub(super) mod stream;
pub(super) mod topics;

use crate::{protocol::http::Response, topic::Topic};

/// The topic that a query or a body names, or the 400 that says what is wrong with it.
pub(super) fn parse_topic(name: &str, field: &str) -> Result<Topic, Response> {
    Topic::parse(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some(field)))
}

/// The same for a topic that a path names.
pub(super) fn parse_topic_in_path(name: &str) -> Result<Topic, Response> {
    Topic::parse_in_path(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some("topic")))
}
