//! Query parameters of the native routes. A misspelt parameter is refused: ignoring it would answer with everything instead of a
//! part, or open a stream of other topics, without telling the client.

use crate::protocol::http::{Request, Response};

/// The parameters of a route's query.
#[derive(Debug)]
pub(in crate::endpoint) struct Parameters {
    /// The owner of the parameters in messages, such as `the history`.
    pub(in crate::endpoint) of: &'static str,
    /// Parameters that may be given once.
    pub(in crate::endpoint) once: &'static [&'static str],
    /// Parameters that may be given several times.
    pub(in crate::endpoint) several: &'static [&'static str],
    /// Words that count as misspelt parameters if they differ from them by one letter, each with the parameter.
    pub(in crate::endpoint) nearly: &'static [(&'static str, &'static str)],
    /// Other words for a parameter, each with the parameter. Compared without case, `_` and `-`.
    pub(in crate::endpoint) synonyms: &'static [(&'static str, &'static str)],
    /// Whether an unknown name is refused, too. If not, it is ignored: a proxy or an analytics tool may have added it.
    pub(in crate::endpoint) is_strict: bool,
}

/// How much of a parameter's name a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 64;

impl Parameters {
    /// Refuses, with 400, a misspelt name, an unknown name if the route is strict, and a parameter given twice that may be given
    /// once.
    pub(in crate::endpoint) fn check(&self, request: &Request) -> Result<(), Response> {
        for (index, (name, _)) in request.query.iter().enumerate() {
            let is_own = self.once.contains(&name.as_str());
            if is_own && request.query[..index].iter().any(|(earlier, _)| earlier == name) {
                let message = format!("`{name}` is given twice: give it once");
                return Err(Response::error(400, "repeated_parameter", &message, Some(name)));
            }
            if is_own || self.several.contains(&name.as_str()) || is_everybodys(name) {
                continue;
            }
            let meant = self.meant(name);
            if meant.is_some() || self.is_strict {
                return Err(self.refuse(name, meant));
            }
        }
        Ok(())
    }

    fn refuse(&self, name: &str, meant: Option<&str>) -> Response {
        let shown = &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)];
        let what = match meant {
            Some(meant) if self.several.contains(&meant) => {
                format!("write `{meant}`, once for each: {meant}=A&{meant}=B")
            }
            Some(meant) => format!("write `{meant}`"),
            None => self.list(),
        };
        let code = if self.is_strict { "unknown_parameter" } else { "bad_parameter" };
        let message = format!("{} has no parameter `{shown}`: {what}", self.of);
        Response::error(400, code, &message, Some(shown))
    }

    fn list(&self) -> String {
        let names: Vec<String> = self.several.iter().chain(self.once).map(|name| format!("`{name}`")).collect();
        match names.as_slice() {
            [] => "it has none".to_owned(),
            [one] => format!("its only one is {one}"),
            [ahead @ .., last] => format!("its parameters are {} and {last}", ahead.join(", ")),
        }
    }

    /// The parameter that was meant by `name`, which is none of them: in another case, as a plural, in brackets as lists are
    /// written elsewhere, a synonym, or with one typing error.
    fn meant(&self, name: &str) -> Option<&'static str> {
        let word = name.split('[').next().unwrap_or_default();
        let word = word.to_ascii_lowercase().replace(['_', '-'], "");
        let synonym = self.synonyms.iter().find(|(other, _)| *other == word);
        synonym.or_else(|| self.nearly.iter().find(|(own, _)| is_nearly(&word, own))).map(|(_, meant)| *meant)
    }
}

/// Whether `name` may be added to any URL: a token, and what libraries of browsers and campaigns add.
fn is_everybodys(name: &str) -> bool {
    matches!(name, "token" | "_" | "t") || name.starts_with("utm_")
}

/// Whether one letter inserted, removed, changed, or swapped with its neighbour makes `own` of `word`, or none is needed.
fn is_nearly(word: &str, own: &str) -> bool {
    let (word, own) = (word.as_bytes(), own.as_bytes());
    let ahead = word.iter().zip(own).take_while(|(a, b)| a == b).count();
    let (word, own) = (&word[ahead..], &own[ahead..]);
    let behind = word.iter().rev().zip(own.iter().rev()).take_while(|(a, b)| a == b).count();
    let (word, own) = (&word[..word.len() - behind], &own[..own.len() - behind]);
    match (word, own) {
        ([a, b], [c, d]) => (a, b) == (d, c),
        (word, own) => word.len() <= 1 && own.len() <= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{publish, stream, topics},
        *,
    };
    use crate::protocol::http::HttpLimits;

    /// The code and the message of the refusal of `query`, both empty if it passes.
    fn check(parameters: &Parameters, query: &str) -> (String, String) {
        let head = format!("GET /x?{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        let request = Request::parse(head.as_bytes(), &HttpLimits::default()).expect("a valid head");
        let Err(refused) = parameters.check(&request) else { return Default::default() };
        assert_eq!(refused.status, 400, "{query}");
        let body: serde_json::Value = serde_json::from_slice(&refused.body).expect("JSON");
        let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }

    #[test]
    fn names_that_are_nearly_a_streams_own() {
        let check = |names: &[&str], meant: Option<&str>| {
            for name in names {
                let is_own = stream::PARAMETERS.once.contains(name) || stream::PARAMETERS.several.contains(name);
                let found = if is_own { None } else { stream::PARAMETERS.meant(name) };
                assert_eq!(found, meant, "{name}");
            }
        };
        check(
            &["topics", "topic[]", "topic[0]", "topics[]", "Topic", "TOPIC", "topc", "tpoic", "toppic"],
            Some("topic"),
        );
        check(&["channel", "channels", "channel[]", "Channel", "topic_name", "topicId"], Some("topic"));
        check(&["Last-Event-ID", "last-event-id", "lastEventID", "lasteventid", "last_id"], Some("last_event_id"));
        check(&["Since", "sinse", "sicne"], Some("since"));
        check(&["Named"], Some("named"));
        check(&["topic", "last_event_id", "lastEventId", "since", "named", "token"], None);
        check(
            &["", "_", "t", "utm_source", "id", "name", "from", "v", "cb", "EIO", "[]", "top", "é", "time", "size"],
            None,
        );
    }

    #[test]
    fn refusals() {
        let check = |parameters: &Parameters, query: &str, code: &str, says: &str| {
            let (found, message) = check(parameters, query);
            assert!(found == code && message.contains(says), "{query}: {found}: {message}");
        };
        let (strict, lenient, twice) = ("unknown_parameter", "bad_parameter", "repeated_parameter");
        let history = &topics::HISTORY_PARAMETERS;
        check(history, "after=1", strict, "the history has no parameter `after`: write `since`");
        check(history, "Last-Event-Id=1", strict, "write `since`");
        check(history, "sinc=1", strict, "write `since`");
        check(history, "page_size=1", strict, "write `limit`");
        check(history, "prefix=1", strict, "its parameters are `since` and `limit`");
        check(history, "limit=1&since=1&limit=2", twice, "`limit` is given twice");
        check(history, "since=1&since=1", twice, "`since` is given twice");
        check(history, "since=1&limit=2&_=1&_=2&t=1&utm_source=x&token=x", "", "");
        let list = &topics::LIST_PARAMETERS;
        check(list, "since=a", strict, "a listing of topics has no parameter `since`: write `after`");
        check(list, "prefx=a", strict, "write `prefix`");
        check(list, "count=3", strict, "write `limit`");
        check(list, "order=x", strict, "its parameters are `prefix`, `after` and `limit`");
        check(list, "prefix=a&prefix=b", twice, "`prefix` is given twice");
        check(list, "prefix=a&after=b&limit=1", "", "");
        check(&topics::TOPIC_PARAMETERS, "limit=1", strict, "it has none");
        let stream = &stream::PARAMETERS;
        check(stream, "topics=a", lenient, "write `topic`, once for each: topic=A&topic=B");
        check(stream, "since=1&since=2", twice, "`since` is given twice");
        check(stream, "topic=a&topic=b&v=1&v=2", "", "");
        let publish = &publish::PARAMETERS;
        check(publish, "typ=x", lenient, "write `type`");
        check(publish, "event=x", lenient, "write `type`");
        check(publish, "type=x&type=y", twice, "`type` is given twice");
        check(publish, "type=x&v=1", "", "");
    }
}
