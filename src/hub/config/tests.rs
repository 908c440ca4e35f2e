mod secrets;
mod sources;

use std::{env, fs, path::PathBuf, process, time::Duration};

use super::{keys::KEYS, *};

/// A file that goes when the test does.
pub(super) struct ConfigFile(pub(super) PathBuf);

impl ConfigFile {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let path = env::temp_dir().join(format!("fanfare-config-{}-{name}", process::id()));
        fs::write(&path, text).expect("the folder for temporary files takes files");
        Self(path)
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn load_text(name: &str, text: &str) -> Result<Config, ConfigError> {
    let file = ConfigFile::new(name, text);
    load(Some(&file.0), [].into_iter(), &[])
}

fn load_variable(name: &str, value: &str) -> Result<Config, String> {
    load(None, [(name.to_owned(), value.to_owned())].into_iter(), &[]).map_err(|error| error.to_string())
}

/// By what `Debug` shows, which is all but passwords.
fn assert_same(one: &Config, other: &Config) {
    assert_eq!(format!("{one:#?}"), format!("{other:#?}"));
}

fn is_default(config: &Config) -> bool {
    format!("{config:?}") == format!("{:?}", Config::default())
}

fn flag(key: &'static str, value: &str) -> Override {
    Override { flag: "--flag", key, value: value.to_owned() }
}

#[test]
fn nothing_given_is_the_default() {
    assert_same(&load(None, [].into_iter(), &[]).expect("no problems"), &Config::default());
}

#[test]
fn the_default_file_reads_back_to_the_defaults() {
    let text = default_file();
    assert_same(&load_text("default", &text).expect("no problems"), &Config::default());
    for key in KEYS {
        let name = key.path.rsplit('.').next().expect("a path has a name");
        assert!(text.contains(key.help) || key.path == "topics.class", "{} is explained", key.path);
        assert!(text.contains(name), "{} is listed", key.path);
    }
}

/// Every line of it can be changed without another one noticing: no two keys share a place.
#[test]
fn every_key_has_a_place_of_its_own() {
    let defaults = show(None, [].into_iter(), &[]).expect("no problems");
    // These need a table, a file, or each another key; and there is one policy only.
    let apart = [
        "topics.class",
        "quota",
        "redis.url_file",
        "store.url_file",
        "redis.sentinel_password_file",
        "redis.certificate_file",
        "redis.key_file",
        "nats.url_file",
        "nats.certificate_file",
        "nats.key_file",
        "bridge.map",
        "cors.allow_credentials",
        "proxy.proxy_protocol",
        "topics.policy",
        "topics.log",
        "topics.source",
        "api_keys",
        "auth.rule",
        "auth.mode",
        "auth.secret",
        "auth.secret_file",
        "auth.public_key_file",
        "auth.private_key_file",
        "auth.jwks_file",
        "auth.jwks_url",
        "auth.discovery",
        "users.file",
        "auth.deny_file",
    ];
    for key in KEYS.iter().filter(|key| !apart.contains(&key.path)) {
        let changed = other_value(key);
        let shown = show(None, [].into_iter(), &[flag(key.path, &changed)]).map_err(|error| error.to_string());
        let shown = shown.unwrap_or_else(|error| panic!("{} = {changed}: {error}", key.path));
        let different = defaults.lines().zip(shown.lines()).filter(|(before, after)| before != after).count();
        assert_eq!(different, 1, "{} = {changed}", key.path);
        let file = ConfigFile::new("shown", &shown);
        assert_eq!(show(Some(&file.0), [].into_iter(), &[]).expect("no problems"), shown, "{}", key.path);
    }
}

/// Whoever looks up one key reads its comment alone.
#[test]
fn each_comment_can_be_read_alone() {
    let mut seen = std::collections::HashSet::new();
    for key in KEYS {
        assert!(seen.insert(key.help), "{}: another key has the same comment", key.path);
        assert!(key.help.ends_with('.') && 20 < key.help.len(), "{}: {:?} is no sentence", key.path, key.help);
        for word in ["The same", "As above", "Such ", "Those", "That ", "Their", "Then:"] {
            assert!(!key.help.starts_with(word), "{}: `{word}` refers to another comment", key.path);
        }
    }
}

/// A valid value that is not the default.
pub(super) fn other_value(key: &keys::Key<raw::RawConfig>) -> String {
    use field::Field;
    match ((key.field)(&mut raw::RawConfig::default()), key.path) {
        // A name would need the source that it names.
        (_, "ready.require") => "".into(),
        (_, "redis.url") => "redis://localhost/3".into(),
        (_, "redis.cluster_pubsub") => "classic".into(),
        (_, "redis.backoff_min" | "nats.backoff_min") => "50ms".into(),
        (_, "redis.ping_interval" | "nats.ping_interval") => "7s".into(),
        (_, "nats.url") => "nats://localhost:4223".into(),
        (_, "store.url") => "postgres://db/wells".into(),
        (_, "store.backoff_min") => "50ms".into(),
        // Shown as such, whatever it is.
        (_, "redis.sentinel_password" | "nats.password" | "nats.token") => "***".into(),
        (_, "auth.algorithms") => "HS384,ES256".into(),
        (_, "auth.cookie_same_site") => "lax".into(),
        (_, "auth.token_bytes_max") => "9KiB".into(),
        (_, "log.format") => "json".into(),
        (_, "log.level") => "debug".into(),
        (_, "server.socket_mode" | "admin.socket_mode") => "0660".into(),
        (_, "server.listen" | "admin.listen") => "127.0.0.1:1,unix:/run/x".into(),
        (_, "proxy.trusted") => "10.0.0.0/8,::1,unix".into(),
        (_, "cors.allow_origins") => "https://a.example,https://b.example:8443".into(),
        // With the broadcaster, lest server.default_topics change too.
        (_, "compat") => "broadcaster,esp".into(),
        (_, "audit.to") => "audit.jsonl".into(),
        (_, "audit.leave_out") => "peer,refusal".into(),
        (_, "audit.text_bytes_max") => "77".into(),
        (_, "esp.namespaces") => "/,/field".into(),
        (_, "topics.key") => "/sensor".into(),
        (_, "topics.policy") => "skip".into(),
        (_, "server.memory_budget") => "8MiB".into(),
        (Field::Signed(_), _) => "-3".into(),
        (Field::Flag(value), _) => (!*value).to_string(),
        (Field::Count { .. } | Field::Small { .. }, _) => "7".into(),
        (Field::Size { .. }, _) => "8KiB".into(),
        (Field::Duration { .. }, _) => "77s".into(),
        (Field::Pin(_), _) => "0,2-4".into(),
        (
            Field::Scalar(_)
            | Field::ScalarList(_)
            | Field::Classes { .. }
            | Field::ClaimRules(_)
            | Field::ApiKeys(_)
            | Field::Quotas(_),
            _,
        ) => "some.thing".into(),
    }
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let file =
        ConfigFile::new("layers", "[drain]\nwindow = \"1s\"\n[sse]\nheartbeat = \"5s\"\n[server]\nreactors = 1\n");
    let environment = [("FANFARE_DRAIN__WINDOW", "2s"), ("FANFARE_SSE__HEARTBEAT", "6s"), ("PATH", "/bin")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = load(Some(&file.0), environment.into_iter(), &[flag("drain.window", "3s")]).expect("no problems");
    assert_eq!(config.drain.window, Duration::from_secs(3));
    assert_eq!(config.sse.heartbeat, Duration::from_secs(6));
    assert_eq!(config.server.reactors, 1);
}

#[test]
fn variables() {
    let check = |name: &str, value: &str, right: fn(&Config) -> bool| {
        let config = load_variable(name, value).unwrap_or_else(|error| panic!("{name}={value}: {error}"));
        assert!(right(&config), "{name}={value}");
    };
    check("FANFARE_SERVER__REACTORS", "3", |config| config.server.reactors == 3);
    check("FANFARE_SERVER__PIN", "true", |config| config.server.pin == Pin::Automatic);
    check("FANFARE_SERVER__PIN", "1,3-4", |config| config.server.pin == Pin::Cores(vec![1, 3, 4]));
    check("FANFARE_SERVER__PIN", "1,3", |config| config.server.reactors == 2);
    check("FANFARE_SERVER__INSECURE", "true", |config| config.server.insecure);
    check("FANFARE_SERVER__LISTEN", "127.0.0.1:0, unix:/run/f.sock", |config| {
        config.server.listen == [Address::loopback(0), Address::Unix("/run/f.sock".into())]
    });
    check("FANFARE_SERVER__LISTEN", "[\"[::1]:1\", \"[::1]:2\"]", |config| config.server.listen.len() == 2);
    check("FANFARE_SERVER__LISTEN", "[::1]:1", |config| config.server.listen[0].is_local());
    check("FANFARE_SERVER__LISTEN", "[::1]:1,[::1]:2", |config| config.server.listen.len() == 2);
    check("FANFARE_SERVER__DEFAULT_TOPICS", "", |config| config.server.default_topics.is_empty());
    check("FANFARE_PROXY__TRUSTED", "10.0.0.1, fd00::/8", |config| {
        let peer = |address: &str| Some(address.parse().expect("an address"));
        let trusted = &config.proxy.trusted;
        trusted.contains(peer("10.0.0.1")) && trusted.contains(peer("fd00::7")) && !trusted.contains(None)
    });
    check("FANFARE_LIMITS__BODY_BYTES_MAX", "2000", |config| config.limits.http.body_bytes_max == 2000);
    check("FANFARE_TOPICS__HISTORY__COUNT", "5", |config| config.topics.default.retention.history.count == 5);
    check("FANFARE_TOPICS__CLASS", "[{ match = \"a.*\", lag.count = 9 }]", |config| {
        config.topics.classes[0].1.retention.lag.count == 9
    });
    // What Kubernetes tells every container about a service called fanfare.
    check("FANFARE_SERVICE_HOST", "10.0.0.1", is_default);
    check("FANFARE_PORT", "tcp://10.0.0.1:80", is_default);
}

#[test]
fn quotas() {
    let rule = "[[quota]]\nname = \"sensors\"\nwho = \"role:sensor\"\ntopics = [\"wells.**\"]\nbytes_held = \"1MiB\"\n";
    let file = ConfigFile::new("quotas", rule);
    let shown = show(Some(&file.0), [].into_iter(), &[]).expect("no problems");
    let shown_file = ConfigFile::new("quotas-shown", &shown);
    assert_eq!(show(Some(&shown_file.0), [].into_iter(), &[]).expect("no problems"), shown);
    assert!(shown.contains("who = \"role:sensor\"\ntopics = [\"wells.**\"]\npublish_per_second = 0\n"), "{shown}");
    let check = |text: &str, expected: &str| {
        let file = ConfigFile::new("quotas-wrong", text);
        let wrong = show(Some(&file.0), [].into_iter(), &[]).expect_err("it is wrong").to_string();
        assert!(wrong.contains(expected), "{text}: {wrong}");
    };
    check("[[quota]]\nwho = \"*\"\nconnections = 1", "needs a `name`");
    check("[[quota]]\nname = \"a\"\nconnections = 1", "lacks `who`");
    check("[[quota]]\nname = \"a\"\nwho = \"*\"", "bounds nothing");
    check("[[quota]]\nname = \"a\"\nwho = \"alice\"\nconnections = 1", "names nobody");
    check("[[quota]]\nname = \"a\"\nwho = \"*\"\nconnection = 1", "did you mean `connections`?");
    check(&(rule.to_owned() + rule), "two quotas named `sensors`");
}

#[test]
fn rules_for_claims() {
    const JWT: &str = "[auth]\nmode = \"jwt\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n";
    let rule = "[[auth.rule]]\nclaim = \"realm_access.roles\"\nvalue = \"operator\"\n\
                subscribe = [\"wells.**\", \"users.{sub}.*\"]\npublish = [\"wells.{tenant}.x\"]\nrole = \"ops\"\n";
    let file = ConfigFile::new("claim-rules", &format!("{JWT}{rule}"));
    let config = load(Some(&file.0), [].into_iter(), &[]).expect("no problems");
    let [found] = &config.auth.settings().rules[..] else { panic!("one rule") };
    assert_eq!(
        (found.claim.as_str(), found.value.as_str(), found.role.as_str()),
        ("realm_access.roles", "operator", "ops")
    );
    assert_eq!(found.subscribe.iter().map(ToString::to_string).collect::<Vec<_>>(), ["wells.**", "users.{sub}.*"]);
    // What is shown is the same, but for the secret, which is masked.
    let shown = show(Some(&file.0), [].into_iter(), &[]).expect("no problems");
    let rule_shown = shown.split_once("[[auth.rule]]").expect("it is shown").1;
    for line in rule.lines().skip(1) {
        assert!(rule_shown.contains(line), "{line}: {rule_shown}");
    }
    let check = |text: &str, expected: &str| {
        let wrong =
            load_text("claim-rules", &format!("{JWT}[[auth.rule]]\n{text}")).expect_err("it is wrong").to_string();
        assert!(wrong.contains(expected), "{text}: {wrong}");
    };
    check("value = \"x\"\nrole = \"x\"", "lacks `claim`");
    check("claim = \"sub\"", "gives nothing");
    check("claim = \"sub\"\nsubscribe = [\"a.{\"]", "write the name of a claim between { and }");
    check("claim = \"sub\"\nsubscribe = [\"*{sub}\"]", "with `x` for each claim");
    check("claims = \"sub\"\nrole = \"x\"", "did you mean `claim`?");
    let unused = load_text("claim-rules", rule).expect_err("nobody is asked").to_string();
    assert!(unused.contains("nobody is asked for it"), "{unused}");
}

/// Each text is refused with a message that has all of these parts.
#[test]
fn what_is_refused() {
    let check = |text: &str, parts: &[&str]| {
        let error = load_text("refused", text).expect_err(text).to_string();
        for part in parts {
            assert!(error.contains(part), "{text:?} should say {part:?}, but says:\n{error}");
        }
    };
    check(
        "[server]\nreactorz = 2",
        &[":2:1: unknown key `server.reactorz`; did you mean `server.reactors`?", "^^^^^^^^"],
    );
    check("[sever]\nreactors = 2", &[":1:2: unknown key `sever`; did you mean `server`?"]);
    check("nonsense = 1", &[":1:1: unknown key `nonsense`", "config default"]);
    check("server = 1", &["`server` is a table of keys"]);
    check("[server]\nreactors = -1", &[":2:12: -1 is below 0"]);
    check("[server]\nreactors = \"2\"", &["expected a whole number, found a string"]);
    check("[server]\nreactors = 2.5", &["expected a whole number, found a float"]);
    check("[server]\nreactors = 99999999999999999999", &["too large"]);
    check("[server]\nmax_connections = 0", &["0 is below the least, 1"]);
    check("[server]\nlisten = []", &[":2:1: the hub needs an address"]);
    check("[server]\nlisten = \"127.0.0.1:1\"", &["expected a list of texts"]);
    check("[server]\nlisten = [\"127.0.0.1\"]", &[":2:11: ", "lacks a port"]);
    check("[server]\nlisten = [\":80\"]", &["0.0.0.0:80 for all"]);
    check("[server]\nlisten = [\"unix:run\"]", &["absolute path"]);
    check("[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", &["127.0.0.1:1 is listed twice"]);
    check("[server]\nlisten = [\"0.0.0.0:1\"]", &[":2:1: ", "can reach 0.0.0.0:1", "--insecure"]);
    check("[admin]\nlisten = [\"[::]:1\"]", &["can reach [::]:1", "server.insecure"]);
    check("[server]\npin = \"0-\"", &["not a list of cores"]);
    check("[server]\npin = \"1,0-2\"", &["core 1 stands twice"]);
    check("[server]\npin = \"0\"\nreactors = 2", &["2 reactors need as many cores, not 1"]);
    check("[server]\ndefault_topics = [\"a\", \"b..c\"]", &[":2:24: `b..c`", "empty segment"]);
    check("[sse]\nheartbeat = 25", &["expected a duration such as \"25s\", found an integer"]);
    check("[sse]\nheartbeat = \"25\"", &["`25` is not a duration"]);
    check("[sse]\nheartbeat = \"1ms\"", &["1ms is below the least, 1s"]);
    check("[limits]\nbody_bytes_max = \"1MB\"", &["`1MB` is not a size"]);
    check("[limits]\nbody_bytes_max = true", &["expected a size such as \"64KiB\", found a boolean"]);
    check("[topics]\npolicy = \"drop\"", &[":2:10: ", "`close`", "`skip`", "`latest`"]);
    check("[topics]\nkey = \"sensor\"", &[":2:7: ", "`/sensor`"]);
    check("[topics]\npriority = 200", &[":2:12: ", "-128 to 127"]);
    check("[topics]\nlog = \"disk\"", &[":2:7: ", "`redis-stream`"]);
    check("[[topics.class]]\nlag.count = 1", &[":1:1: the class lacks `match`"]);
    check("[[topics.class]]\nmatch = \"a..b\"", &["empty segment"]);
    check(
        "[[topics.class]]\nmatch = \"a\"\nhistry = { count = 1 }",
        &["unknown key `histry`; did you mean `history`?"],
    );
    check("[topics]\nclass = 1", &["[[topics.class]]"]);
    check("[topics]\nclass = [1]", &["[[topics.class]]"]);
    check("[redis]\nurl = \"http://x\"", &["not a Redis URL"]);
    check("[redis]\nurl = \"redis://x\"\nurl_file = \"y\"", &[":3:1: ", "keep one"]);
    check("[redis]\nurl_file = \"no-such-file\"", &["cannot read", "no-such-file"]);
    check("[redis]\nbackoff_min = \"9s\"", &["redis.backoff_max"]);
    check("[redis]\nping_interval = \"11s\"", &["redis.proof_age_max"]);
    check(
        "[redis]\nurl = \"redis://x\"\nsentinel_password = \"geheim\"\nsentinel_password_file = \"y\"",
        &[":4:1: ", "keep one"],
    );
    check("[redis]\nurl = \"redis://x\"\nkey_file = \"k\"", &[":3:1: ", "go together"]);
    check("[proxy]\ntrusted = [\"10.0.0.1/8\"]", &[":2:12: ", "the network is 10.0.0.0/8"]);
    check("[proxy]\ntrusted = [\"localhost\"]", &["`localhost` is neither an address"]);
    check("[proxy]\nproxy_protocol = true", &[":2:1: name the proxies in `proxy.trusted`"]);
    check("[proxy]\nheader_bytes_max = 100", &["is below the least, 232"]);
    check("[cors]\nallow_origins = [\"example.org\"]", &["`example.org` is not an origin"]);
    check("[cors]\nallow_origins = [\"https://example.org/\"]", &["is not an origin"]);
    check("[cors]\nallow_credentials = true", &["each origin must be named"]);
    check("[log]\nformat = \"xml\"", &["`text` or `json`"]);
    check("[log]\nlevel = \"a=b=c\"", &["neither a level"]);
    check("[log\nlevel = \"info\"", &[":1:5: "]);
    check("[log]\nlevel = \"info\"\nlevel = \"warn\"", &[":3:1: ", "duplicate key"]);
}

#[test]
fn namespaces_begin_with_a_slash() {
    for bad in ["field", "", "/a,/b"] {
        let text = format!("[esp]\nnamespaces = [\"/\", \"{bad}\"]");
        let error = load_text("refused", &text).expect_err(bad).to_string();
        assert!(error.contains(&format!("`{bad}` is no namespace")), "{error}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = "[server]\nzzz = 1\n[log]\nformat = 3\n[server2]\n";
    let error = load_text("many", text).expect_err("three faults").to_string();
    let sources: Vec<_> = [":2:1:", ":4:10:", ":5:2:"].iter().map(|source| error.find(source)).collect();
    assert!(sources.iter().all(Option::is_some) && sources.is_sorted(), "{error}");
}

#[test]
fn a_wrong_variable_and_a_wrong_flag_are_named() {
    let error = load_variable("FANFARE_DRAIN__WINDO", "3s").expect_err("no such key");
    assert_eq!(error, "FANFARE_DRAIN__WINDO: unknown key `drain.windo`; did you mean `drain.window`?");
    let error = load_variable("FANFARE_SERVER__REACTORS", "many").expect_err("not a number");
    assert_eq!(error, "FANFARE_SERVER__REACTORS: expected a whole number, found a string");
    let error = load(None, [].into_iter(), &[flag("drain.window", "3")]).expect_err("no unit").to_string();
    assert!(error.starts_with("--flag: `3` is not a duration"), "{error}");
}

#[test]
fn a_file_that_is_not_there() {
    let error = load(Some(Path::new("no-such-file.toml")), [].into_iter(), &[]).expect_err("no file").to_string();
    assert!(error.contains("cannot read the configuration no-such-file.toml"), "{error}");
}

#[test]
fn origins_may_be_all_of_a_domain() {
    let check = |origin: &str, expected: bool| {
        let outcome = load_variable("FANFARE_CORS__ALLOW_ORIGINS", origin);
        assert_eq!(outcome.is_ok(), expected, "{origin}: {outcome:?}");
    };
    check("https://*.example.org", true);
    check("https://*.example.org:8443", true);
    check("https://*", false);
    check("https://*.", false);
    check("https://a.*.example.org", false);
    check("https://a*.example.org", false);
    check("*.example.org", false);
}
