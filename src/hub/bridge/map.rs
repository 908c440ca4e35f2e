//! Which topics a bridge carries, and what they are called on the other side.

use std::{fmt, str::FromStr};

use crate::{
    bus::is_hub_command,
    topic::{Pattern, Topic},
};

/// A pattern, and what the names under it become: `a.*` keeps them, `a.*=>b.*` renames them. What a wildcard stands for on the
/// left stands at the same wildcard on the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMap {
    from: Pattern,
    to: Pattern,
}

impl TopicMap {
    /// The topics that it is about.
    pub(crate) fn from(&self) -> &Pattern {
        &self.from
    }

    /// What they are called on the other side.
    pub(super) fn to(&self) -> &Pattern {
        &self.to
    }

    /// What `topic` is called on the other side. `None`: it is not one of these, its name there would be too long, or it would be a
    /// command of hubs, which no client may give, renamed or not.
    pub(super) fn translate(&self, topic: &Topic) -> Option<Topic> {
        if !self.from.matches(topic) {
            return None;
        }
        let mut names = topic.as_str();
        let mut standing = Vec::new();
        for wanted in self.from.as_str().split('.') {
            let (name, rest) = names.split_once('.').unwrap_or((names, ""));
            match wanted {
                "**" => standing.push(names),
                "*" => standing.push(name),
                _ => {}
            }
            names = rest;
        }
        let mut standing = standing.into_iter();
        let segments = self.to.as_str().split('.').map(|segment| match segment {
            "*" | "**" => standing.next().unwrap_or_default(),
            plain => plain,
        });
        let target = Topic::parse(&segments.collect::<Vec<_>>().join(".")).ok();
        target.filter(|target| !is_hub_command(target))
    }
}

impl FromStr for TopicMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("=>").unwrap_or((text, text));
        let (from, to) = (Pattern::parse(from.trim())?, Pattern::parse(to.trim())?);
        let wildcards = |pattern: &Pattern| {
            let segments = pattern.as_str().split('.').filter(|segment| segment.starts_with('*'));
            segments.map(str::to_owned).collect::<Vec<_>>()
        };
        if wildcards(&from) != wildcards(&to) {
            return Err(format!("`{text}`: both sides need the same wildcards, in the same order"));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for TopicMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { self.from.fmt(f) } else { write!(f, "{}=>{}", self.from, self.to) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        let check = |map: &str, name: &str, expected: Option<&str>| {
            let map: TopicMap = map.parse().expect("a map");
            let topic = Topic::parse(name).expect("a good name");
            assert_eq!(map.translate(&topic).as_ref().map(Topic::as_str), expected, "{map} {name}");
            assert_eq!(map.to_string().parse(), Ok(map), "{name}");
        };
        check("conversations.*", "conversations.7", Some("conversations.7"));
        check("conversations.*", "conversations.7.8", None);
        check("conversations.*", "conversations", None);
        check("a.*=>b.*", "a.x", Some("b.x"));
        check("a.*.c.* => *.b.*.d", "a.x.c.y", Some("x.b.y.d"));
        check("a.**=>x.y.**", "a.b.c", Some("x.y.b.c"));
        check("*.**=>b.*.**", "p.q.r.s", Some("b.p.q.r.s"));
        check("**", "p.q", Some("p.q"));
        check("a=>b", "a", Some("b"));
        check("a=>b", "b", None);
        check("x.**=>**", "x.fanfare.orders.losses", None);
        check("x.**=>**", "x.fanfare.orders", Some("fanfare.orders"));
        let (long, name) = (format!("a.*=>{}.*", "x".repeat(200)), format!("a.{}", "y".repeat(100)));
        check(&long, &name, None);
    }

    #[test]
    fn maps_without_a_meaning_are_refused() {
        let check = |text: &str, expected: &str| {
            let error = text.parse::<TopicMap>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("", "empty segment");
        check("a.*=>b", "same wildcards");
        check("a=>b.*", "same wildcards");
        check("a.*=>b.**", "same wildcards");
        check("a.*.**=>**.*", "must come last");
        check("a=>b=>c", "use a whole");
        check("a b", "use a whole");
    }
}
