//! Classes of topics, and where their events come from.

use super::*;
use crate::{
    log::{Bounds, Retention},
    topic::Topic,
};

#[test]
fn classes() {
    let text = "[topics]\nhistory.age = \"1h\"\n\
                [[topics.class]]\nmatch = \"orders.*\"\nhistory = { count = 5 }\n\
                [[topics.class]]\nmatch = \"orders.**\"\nhistory.bytes = \"2KiB\"\nlag = { count = 7 }\n";
    let file = ConfigFile::new("classes", text);
    let topics = load(Some(&file.0), [].into_iter(), &[flag("topics.history.age", "2h")]).expect("no problems").topics;
    let class = |name: &str| {
        let topic = Topic::parse(name).expect("a good name");
        let found = topics.classes.iter().find(|(pattern, _)| pattern.matches(&topic));
        found.map_or(&topics.default, |(_, class)| class).retention
    };
    let check = |name: &str, count: usize, bytes: usize, lag_count: usize| {
        let Retention { history, lag } = class(name);
        assert_eq!(history, Bounds { count, bytes, age: Duration::from_secs(7200) }, "{name}");
        assert_eq!(lag, Bounds { count: lag_count, ..Retention::default().lag }, "{name}");
    };
    let lag_count = Retention::default().lag.count;
    check("orders.eu", 5, 1 << 20, lag_count);
    check("orders.eu.1", 100, 2048, 7);
    check("other", 100, 1 << 20, lag_count);
    let shown = show(Some(&file.0), [].into_iter(), &[]).expect("no problems");
    let shown_file = ConfigFile::new("classes-shown", &shown);
    let reread = load(Some(&shown_file.0), [].into_iter(), &[]).expect("no problems");
    assert_same(&reread, &load(Some(&file.0), [].into_iter(), &[]).expect("no problems"));
}

#[test]
fn a_log_at_a_broker_needs_the_broker() {
    for text in ["[topics]\nlog = \"redis-stream\"", "[[topics.class]]\nmatch = \"a\"\nlog = \"redis-stream\""] {
        let error = load_text("refused", text).expect_err(text).to_string();
        assert!(error.contains("needs a Redis server") && error.contains("redis.url"), "{text:?}: {error}");
        assert!(load_text("taken", &format!("{text}\n[redis]\nurl = \"redis://localhost\"")).is_ok(), "{text:?}");
    }
}

/// What JetStream would refuse at the start, or would keep of NATS' own.
#[test]
fn classes_that_jetstream_cannot_keep_are_found() {
    let check = |text: &str, expected: Option<&str>| {
        let outcome = load_text("streams", &format!("{text}\n[nats]\nurl = \"nats://h\"\n")).map(drop);
        match (outcome.map_err(|error| error.to_string()), expected) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) if error.contains(part) => {}
            (outcome, _) => panic!("{text:?}: {outcome:?}, not {expected:?}"),
        }
    };
    let class = |pattern: &str| format!("[[topics.class]]\nmatch = \"{pattern}\"\nlog = \"jetstream\"\n");
    check(&(class("a.*") + &class("b.**")), None);
    check(&(class("a.*") + &class("a.b")), Some(":1:10: the classes `a.*` and `a.b`"));
    check(&class("_INBOX.**"), Some("NATS' own subjects `_INBOX.>` fall under it"));
    check(&class("**"), Some("NATS' own subjects"));
    check("[topics]\nlog = \"jetstream\"", Some(":2:1: JetStream keeps no topics of every name"));
}

/// Each class says by `log` or by `source` where its events come from, and only what is configured counts.
#[test]
fn classes_may_have_different_sources() {
    let class = |keys: &str| format!("[[topics.class]]\nmatch = \"a.*\"\n{keys}\n");
    let check = |servers: &[&str], text: &str, expected: Result<Option<&str>, &str>| {
        let urls: String = servers.iter().map(|name| format!("[{name}]\nurl = \"{name}://h\"\n")).collect();
        match (load_text("sources", &format!("{text}{urls}")).map_err(|error| error.to_string()), expected) {
            (Ok(config), Ok(source)) => {
                let found = config.topics.classes.first().and_then(|(_, class)| class.source);
                assert_eq!(found.map(|source| source.0), source, "{text} {servers:?}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text} {servers:?}: {error}"),
            (found, expected) => panic!("{text} {servers:?}: {:?}, not {expected:?}", found.map(drop)),
        }
    };
    let both = ["redis", "nats"];
    let default = "topics.source = \"redis\"\n";
    check(&both, &format!("{default}{}", class("source = \"nats\"")), Ok(Some("nats")));
    check(&both, &format!("{default}{}", class("log = \"jetstream\"")), Ok(Some("jetstream")));
    check(&both, &format!("{default}{}", class("log = \"redis-stream\"")), Ok(Some("redis_stream")));
    check(&both, &format!("{default}{}", class("source = \"hub\"")), Ok(Some("hub")));
    check(&both, &format!("topics.source = \"hub\"\n{}", class("priority = 1")), Ok(None));
    check(&both, &class("source = \"nats\""), Err("say which of them has the topics"));
    check(&["redis"], &class("source = \"hub\""), Ok(Some("hub")));
    check(&["redis"], &class("source = \"nats\""), Err("a source of topics needs a NATS server"));
    check(&["redis"], &class("log = \"jetstream\""), Err("a log kept by jetstream needs a NATS server"));
    check(&["nats"], &class("log = \"redis-stream\""), Err("a log kept by redis-stream needs a Redis server"));
    check(&["nats"], &class("log = \"jetstream\"\nsource = \"nats\""), Err("leave out `source`"));
    check(&["redis"], "topics.source = \"nats\"\n", Err("needs a NATS server"));
    check(&["redis"], &class("source = \"kafka\""), Err("a source is `redis`, `nats` or `hub`"));
}

#[test]
fn what_is_required_must_be_there() {
    let check = |text: &str, expected: Option<&str>| {
        let error = load_text("required", text).err().map(|error| error.to_string());
        assert_eq!(error.is_some(), expected.is_some(), "{text:?}: {error:?}");
        let expected = expected.unwrap_or_default();
        assert!(error.is_none_or(|error| error.contains(":2:") && error.contains(expected)), "{text:?}: {expected}");
    };
    check(
        "[ready]\nrequire = [\"rediss\"]",
        Some("`rediss` is no source: there are redis, redis_stream, nats, jetstream, store"),
    );
    check("[ready]\nrequire = [\"redis\"]", Some("`redis` is required, but redis.url is not set"));
    check("[ready]\nrequire = [\"store\"]", Some("`store` is required, but store.url is not set"));
    check("[ready]\nrequire = [\"nats\"]", Some("`nats` is required, but nats.url is not set"));
    check("[ready]\nrequire = [\"nats\"]\n[nats]\nurl = \"nats://localhost\"", None);
    let redis = "[redis]\nurl = \"redis://localhost\"";
    check(&format!("[ready]\nrequire = [\"redis\"]\n{redis}"), None);
    check(&format!("[ready]\nrequire = [\"redis_stream\"]\n{redis}"), Some("no class of topics has log ="));
    check("[ready]\nrequire = [\"jetstream\"]\n[nats]\nurl = \"nats://h\"", Some("no class of topics has log ="));
    check("[ready]\nrequire = []", None);
    check("[ready]\nrequire = [\"*\"]", None);
}
