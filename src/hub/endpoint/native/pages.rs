//! Listings in pages, by name: what a page costs is bounded by its limit, not by what the hub holds.

use std::ops::Bound;

use crate::{
    bus::TopicState,
    endpoint::{Context, gate::access},
    protocol::http::{Request, Response},
    topic::Topic,
};

/// Topics taken from the table under one lock, at most.
const LOOKS_AT_ONCE_MAX: usize = 256;
/// The same where a search begins, or goes on after a jump: who may see few topics needs few of those that come next.
const LOOKS_AT_ONCE_MIN: usize = 16;

/// Which page of a listing a request asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::endpoint) struct PageQuery<'a> {
    /// What all names begin with.
    pub(in crate::endpoint) prefix: &'a str,
    /// The name behind which the page begins.
    pub(in crate::endpoint) after: Option<&'a str>,
    /// Topics looked at, at most `limits.topics_per_page_max`.
    pub(in crate::endpoint) limit: usize,
}

impl<'a> PageQuery<'a> {
    /// Reads `?prefix=&after=&limit=`, each of which may be absent; or the answer to a limit that is none.
    pub(in crate::endpoint) fn read(request: &'a Request, context: &Context<'_>) -> Result<Self, Response> {
        let most = context.config.topics_per_page_max;
        let limit = match request.query("limit").map(str::parse::<usize>) {
            None => most,
            Some(Ok(limit @ 1..)) => limit.min(most),
            Some(_) => {
                return Err(Response::error(400, "bad_limit", BAD_LIMIT, Some("limit")));
            }
        };
        Ok(Self { prefix: request.query("prefix").unwrap_or_default(), after: request.query("after"), limit })
    }

    /// Where the page begins.
    pub(in crate::endpoint) fn from(&self) -> Bound<String> {
        match self.after {
            Some(after) if self.prefix <= after => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(self.prefix.to_owned()),
        }
    }
}

/// What a limit has to be.
pub(in crate::endpoint) const BAD_LIMIT: &str = "limit takes a whole number from 1 on";

/// Calls `visit` with the topics from `from` on that begin with `prefix` and that the client may listen to, in the order of names.
/// Looks at most at `looks` topics, whether the client may see them or not; topics between two that the client's grants name are
/// not looked at. Returns the last topic looked at if there may be more behind it.
pub(in crate::endpoint) fn look_through(
    prefix: &str,
    mut from: Bound<String>,
    mut looks: usize,
    context: &Context<'_>,
    mut visit: impl FnMut(&TopicState),
) -> Option<Topic> {
    let mut at_once = LOOKS_AT_ONCE_MIN;
    while 0 < looks {
        let most = looks.min(at_once);
        at_once = LOOKS_AT_ONCE_MAX.min(2 * at_once);
        let states = context.hub.bus.topics_from(from.as_ref().map(String::as_str), most);
        let (mut jump, mut last_looked_at) = (None, None);
        let mut rest = &states[..];
        while let [state, behind @ ..] = rest {
            let name = state.topic.as_str();
            if !name.starts_with(prefix) {
                return None;
            }
            looks -= 1;
            last_looked_at = Some(&state.topic);
            rest = behind;
            if access::may_subscribe(context.identity, &state.topic).is_ok() {
                visit(state);
                continue;
            }
            // None of those between this one and the next name that a grant has.
            let next = context.identity?.next_subscribable(name)?;
            rest = &rest[rest.partition_point(|state| state.topic.as_str() < next.as_str())..];
            jump = rest.is_empty().then_some(next);
        }
        let last = states.last().filter(|_| states.len() == most)?;
        let last_name = last.topic.as_str();
        if looks == 0 {
            return last_looked_at.cloned();
        }
        from = match jump {
            Some(jump) if last_name < jump.as_str() => {
                at_once = LOOKS_AT_ONCE_MIN;
                Bound::Included(jump)
            }
            _ => Bound::Excluded(last_name.to_owned()),
        };
    }
    None
}
