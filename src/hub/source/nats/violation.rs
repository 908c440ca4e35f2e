//! What a server's error says of permissions: `Permissions Violation for Subscription to "a.b"`.

/// What the server's permissions deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation<'a> {
    /// To subscribe to this subject, which may have wildcards.
    Subscribe(&'a str),
    /// To publish to this subject.
    Publish(&'a str),
}

impl<'a> Violation<'a> {
    /// Reads the text of an `-ERR`; `None`: it is about something else. What follows the subject, such as a queue or the id of the
    /// subscription, does not matter.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("Permissions Violation for ")?;
        let (make, rest): (fn(&'a str) -> Self, &str) = match rest.strip_prefix("Subscription to \"") {
            Some(rest) => (Self::Subscribe, rest),
            None => (Self::Publish, rest.strip_prefix("Publish to \"")?),
        };
        rest.split_once('"').map(|(subject, _)| make(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read() {
        let check =
            |text: &str, expected: Option<Violation<'_>>| assert_eq!(Violation::parse(text), expected, "{text}");
        let (subscribe, publish) = (Violation::Subscribe, Violation::Publish);
        check("Permissions Violation for Subscription to \"a.B\"", Some(subscribe("a.B")));
        check("Permissions Violation for Subscription to \"a.>\" using queue \"q\"", Some(subscribe("a.>")));
        check("Permissions Violation for Subscription to \"a\" (sid \"7\")", Some(subscribe("a")));
        check("Permissions Violation for Publish to \"a/b:c\"", Some(publish("a/b:c")));
        check("Permissions Violation for Publish to \"a", None);
        check("Permissions Violation", None);
        check("maximum subscriptions exceeded", None);
        check("", None);
    }
}
