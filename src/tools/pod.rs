//! The hub and the pod of sensors that `produce` and `subscribe` use by default.

use crate::topic::Topic;

/// The URL of the hub, if none is given.
pub(crate) const DEFAULT_URL: &str = "http://localhost:8080";
/// The pod, if none is given. Banners leave it out.
pub(crate) const DEFAULT_POD: &str = "alice";

/// Parses the name of a pod: one segment of a topic's name.
pub(crate) fn parse_pod(text: &str) -> Result<String, String> {
    if text.contains(['.', '/']) {
        return Err("the name of a pod has neither dots nor slashes".into());
    }
    Topic::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods() {
        assert_eq!(parse_pod("alice-2"), Ok("alice-2".into()));
        for bad in ["", "a.b", "a/b", "a b"] {
            assert!(parse_pod(bad).is_err(), "{bad}");
        }
    }
}
