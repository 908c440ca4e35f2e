//! Topics and subjects. A topic is the subject of the same name, letter for letter.
//!
//! Every topic's name is a subject: its bytes (`A–Z a–z 0–9 . _ - : /`) are all allowed there, `.` separates segments as it
//! separates tokens, and neither may be empty. `/` and `:` are bytes of a token like any other, to both. So the mapping is total
//! and reversible, and whoever publishes with another client writes the topic's name.
//!
//! The other way round, a subject is a topic if it is a topic's name. `*` and `>` are no bytes of a name, so no topic is a
//! pattern. Neither are `$`, as in the server's own `$SYS` and `$JS`, other bytes, and more than 255 of them: such a subject is no
//! topic.

use crate::{
    protocol::nats::SubjectPattern,
    source::subscriptions::ChannelPattern,
    topic::{NAME_BYTES_MAX, Topic},
};

/// The topic of the subject `subject`; `None`: it is the name of none.
pub(super) fn topic_of(subject: &str) -> Option<Topic> {
    if NAME_BYTES_MAX < subject.len() { None } else { Topic::parse(subject).ok() }
}

/// A subject to subscribe to, perhaps with wildcards: `*` stands for one token, `>` at the end for one or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubjectFilter(SubjectPattern);

/// What is wrong with `text` as a subject to subscribe to.
pub(crate) fn check_pattern(text: &str) -> Result<(), String> {
    SubjectFilter::parse(text).map(drop)
}

impl SubjectFilter {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        SubjectPattern::parse(text).map(Self).map_err(|bad| format!("`{text}` is no subject to subscribe to: {bad}"))
    }
}

/// Whether some subject falls under both of these patterns of NATS.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(token), Some(same)) if token == same => {}
            _ => return false,
        }
    }
}

impl ChannelPattern for SubjectFilter {
    fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn matches(&self, subject: &[u8]) -> bool {
        let mut tokens = subject.split(|byte| *byte == b'.');
        for wanted in self.0.as_str().as_bytes().split(|byte| *byte == b'.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (b">", Some(_)) => return true,
                (b"*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                (_, Some(_)) => return false,
            }
        }
        tokens.next().is_none()
    }

    /// A NATS server answers for each subject, and never for the right to subscribe as such.
    fn is_of_every(_: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::nats::Subject;

    /// Each name there and back, and as a subject that the protocol can carry.
    #[test]
    fn every_topic_is_a_subject() {
        let long = "a".repeat(NAME_BYTES_MAX);
        let names = [
            "a",
            "A.b-c_d",
            "orders/eu:7",
            "/",
            ":",
            "a/",
            "/a.:b",
            "-",
            "_INBOX.x",
            "a.b/c.d:e",
            "0.0",
            "a//b",
            "::",
            &long,
        ];
        for name in names {
            let topic = Topic::parse(name).expect("a topic's name");
            assert!(Subject::parse(topic.as_str()).is_ok(), "{name}");
            assert_eq!(topic_of(topic.as_str()).as_ref(), Some(&topic), "{name}");
        }
        let every = (0..=u8::MAX).filter_map(|byte| Topic::parse(&format!("a{}b", char::from(byte))).ok());
        let every: Vec<Topic> = every.collect();
        assert_eq!(every.len(), 62 + 5, "letters, digits, . _ - : /");
        assert!(every.iter().all(|topic| Subject::parse(topic.as_str()).is_ok()), "{every:?}");
    }

    #[test]
    fn a_subject_that_is_no_name_is_no_topic() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for subject in
            ["", "$SYS.ACCOUNT", "$JS.API.INFO", "a b", "größe", "a,b", "a.*", "a.>", "a%2E", "a\0", "a..b", &long]
        {
            assert_eq!(topic_of(subject), None, "{subject:?}");
        }
    }

    #[test]
    fn patterns_overlap_or_not() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!([overlap(one, other), overlap(other, one)], [expected; 2], "{one} {other}");
        };
        check("a.b", "a.b", true);
        check("a.b", "a.c", false);
        check("a.b", "a", false);
        check("a.*", "a.b", true);
        check("a.*", "*.b", true);
        check("a.*", "b.*", false);
        check("a.*", "a", false);
        check("a.>", "a.b.c", true);
        check("a.>", "a.*", true);
        check("a.>", "a", false);
        check("*.c", "a.>", true);
        check("*.*.c", "a.b", false);
        check(">", "a", true);
    }

    #[test]
    fn wildcards_stand_for_tokens() {
        let check = |pattern: &str, subject: &str, expected: bool| {
            let filter = SubjectFilter::parse(pattern).expect("a pattern");
            assert_eq!(filter.matches(subject.as_bytes()), expected, "{pattern} {subject}");
        };
        check("a.b", "a.b", true);
        check("a.b", "a.b.c", false);
        check("a.b", "a", false);
        check("a.*", "a.b", true);
        check("a.*", "a", false);
        check("a.*", "a.b.c", false);
        check("*.b", "a/x.b", true);
        check("*", "a/b:c", true);
        check("a.>", "a.b", true);
        check("a.>", "a.b.c", true);
        check("a.>", "a", false);
        check(">", "a", true);
        check("a.*.c", "a.b.c", true);
        check("a.*.>", "a.b", false);
        for bad in ["", "a..b", "a.>.b", "a b", "a*"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }
}
