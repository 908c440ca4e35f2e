//! Which streams there are, and how far others were carried into them: what a bridge asks.

use std::{collections::BTreeSet, io, time::Duration};

use redis::{RedisError, Value};

use super::{
    config::RedisStreamConfig,
    encoder::cursor_key,
    entry::BadAnswer,
    link::{LEAST_VERSION, StreamLink, accept, run_blocking},
};
use crate::{
    event::EventId,
    source::{
        CarriedUpto, LogCatalog,
        redis::{Directory, RedisConfig},
    },
    topic::{Pattern, Topic},
};

/// Keys that the server looks at in one step.
const KEYS_PER_SCAN: &str = "1000";

/// Asks through a connection of its own, which it opens when it needs one.
pub(super) struct StreamCatalog {
    directory: Directory,
    config: RedisStreamConfig,
    connect_timeout: Duration,
    timeout: Duration,
    link: Option<StreamLink>,
}

impl StreamCatalog {
    /// Fails if `redis` names files that cannot be used.
    pub(super) fn new(redis: &RedisConfig, config: &RedisStreamConfig) -> io::Result<Self> {
        Ok(Self {
            directory: redis.directory()?.with_least_version(LEAST_VERSION),
            config: config.clone(),
            connect_timeout: redis.connect_timeout,
            timeout: redis.ping_timeout,
            link: None,
        })
    }

    /// The id under `key`.
    fn read_id(&mut self, key: &str) -> Result<Option<EventId>, String> {
        match self.ask(|link| accept(link.ask_one(&["GET", key])?))? {
            Value::Nil => Ok(None),
            Value::BulkString(text) => {
                let id = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
                id.map(Some).ok_or_else(|| format!("the key `{key}` holds no id of an event"))
            }
            _ => Err(format!("the key `{key}` holds no id of an event")),
        }
    }

    /// Asks `question` through the link, or through another one if the server has closed it.
    fn ask<T>(&mut self, question: impl FnOnce(&mut StreamLink) -> Result<T, RedisError>) -> Result<T, String> {
        let is_usable = |link: &mut StreamLink| link.is_usable() && run_blocking(link.check_role()).is_ok();
        let opened = match self.link.take().and_then(|mut link| is_usable(&mut link).then_some(link)) {
            Some(link) => Ok(link),
            None => StreamLink::open(&self.directory, "fanfare-catalog", self.connect_timeout)
                .and_then(|link| link.set_timeout(self.timeout).map(|()| link)),
        };
        let mut link = opened.map_err(|error| error.to_string())?;
        let answer = question(&mut link).map_err(|error| error.to_string())?;
        self.link = Some(link);
        Ok(answer)
    }
}

impl LogCatalog for StreamCatalog {
    fn topics(&mut self, patterns: &[Pattern]) -> Result<Vec<Topic>, String> {
        let globs: Vec<String> = patterns.iter().map(|pattern| glob(&self.config.prefix, pattern)).collect();
        let prefix = self.config.prefix.clone();
        let mut found = BTreeSet::new();
        for glob in globs {
            let keys = self.ask(|link| scan(link, &glob))?;
            let topics = keys.iter().filter_map(|key| Topic::parse(key.strip_prefix(prefix.as_str())?).ok());
            found.extend(topics.filter(|topic| patterns.iter().any(|pattern| pattern.matches(topic))));
        }
        Ok(found.into_iter().collect())
    }

    fn carried(&mut self, topic: &Topic, origin: &str) -> Result<Option<CarriedUpto>, String> {
        let id = self.read_id(&cursor_key(&self.config.key(topic), origin))?;
        Ok(id.map(|id| CarriedUpto { id, content: None }))
    }

    fn remember(&mut self, target: &Topic, origin: &str, upto: EventId) -> Result<(), String> {
        let (key, upto) = (cursor_key(&elsewhere(target), origin), upto.to_string());
        self.ask(|link| accept(link.ask_one(&["SET", &key, &upto])?).map(drop))
    }

    fn remembered(&mut self, target: &Topic, origin: &str) -> Result<Option<EventId>, String> {
        self.read_id(&cursor_key(&elsewhere(target), origin))
    }
}

/// What stands for a log of another broker in a key.
fn elsewhere(target: &Topic) -> String {
    format!("elsewhere:{target}")
}

/// The keys of streams under `glob`. A key may come twice.
fn scan(link: &mut StreamLink, glob: &str) -> Result<Vec<String>, RedisError> {
    let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let words = ["SCAN", &cursor, "MATCH", glob, "COUNT", KEYS_PER_SCAN, "TYPE", "stream"];
        let Value::Array(parts) = accept(link.ask_one(&words)?)? else { return Err(BadAnswer.into()) };
        let [Value::BulkString(next), Value::Array(page)] = parts.as_slice() else { return Err(BadAnswer.into()) };
        // A key that is no text is no topic's.
        keys.extend(page.iter().filter_map(|key| match key {
            Value::BulkString(key) => String::from_utf8(key.clone()).ok(),
            _ => None,
        }));
        cursor = String::from_utf8(next.clone()).map_err(|_| BadAnswer)?;
        if cursor == "0" {
            return Ok(keys);
        }
    }
}

/// The pattern as Redis has them, behind `prefix`. It covers more: a `*` there stands for dots, too.
fn glob(prefix: &str, pattern: &Pattern) -> String {
    let escape = |letter: char| if "*?[]\\^".contains(letter) { vec!['\\', letter] } else { vec![letter] };
    let prefix: String = prefix.chars().flat_map(escape).collect();
    prefix + &pattern.as_str().replace("**", "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_globs_behind_the_prefix() {
        let check = |prefix: &str, pattern: &str, expected: &str| {
            assert_eq!(glob(prefix, &Pattern::parse(pattern).expect("a pattern")), expected);
        };
        check("", "a.*", "a.*");
        check("hub:", "a.**", "hub:a.*");
        check("a*[b]?", "x", r"a\*\[b\]\?x");
    }
}
