//! Pages of listings, by name. The cost of a page is bounded by its limit, not by what the hub holds.

use std::ops::Bound;

use crate::{
    bus::TopicState,
    endpoint::{Context, gate::access},
    protocol::http::{Request, Response},
    topic::Topic,
};

/// The most topics taken from the table under one lock.
const LOOKS_AT_ONCE_MAX: usize = 256;
/// The fewest, at the start and after a jump: a client that may see few topics needs few of the next ones.
const LOOKS_AT_ONCE_MIN: usize = 16;

/// The page of a listing that a request asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::endpoint) struct PageQuery<'a> {
    /// The prefix of all names.
    pub(in crate::endpoint) prefix: &'a str,
    /// The name after which the page begins.
    pub(in crate::endpoint) after: Option<&'a str>,
    /// The most topics to look at: `limits.topics_per_page_max`, or less.
    pub(in crate::endpoint) limit: usize,
}

impl<'a> PageQuery<'a> {
    /// Reads `?prefix=&after=&limit=`, all of them optional. `Err`: the response to a bad limit.
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

/// The message for a bad limit.
pub(in crate::endpoint) const BAD_LIMIT: &str = "limit takes a whole number from 1 on";

/// Calls `visit` with the topics from `from` on that begin with `prefix` and that the client may subscribe to, in the order of
/// names. Looks at `looks` topics at most, including those that the client may not see. Skips topics between two names that the
/// client's grants have. Returns the last topic looked at if there may be more.
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
            // Skips to the next name that a grant has.
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
