//! Lines, limits and the writer.

use std::{
    env,
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process,
    sync::atomic::AtomicUsize,
};

use serde_json::{Value, json};

use super::{limits::Limits, writer::Output, *};
use crate::{
    auth::{Credential, Identity},
    clock::Moment,
    label::RouteLabel,
    transport::Transport,
};

/// A file's name that no other test has. Removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(env::temp_dir().join(format!("fanfare-audit-{}-{number}", process::id())))
    }

    fn target(&self) -> AuditTarget {
        AuditTarget::File(self.0.clone())
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.0).expect("it is there, and UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line))).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn who() -> Identity {
    Identity {
        subject: "ann".into(),
        username: Some("Ann".into()),
        role: Some("ops".into()),
        issuer: Some("https://id.example".into()),
        key_id: Some("k1".into()),
        rules: [2, 3].into(),
        claims: Some("{\"secret\":1}".into()),
        credential: Credential::Token { key: Default::default(), id: Some("t1".into()) },
        ..Identity::default()
    }
}

fn line<'a>(who: &'a Identity) -> AuditLine<'a> {
    AuditLine {
        who: Some(who),
        peer: Some([192, 0, 2, 7].into()),
        transport: Some(Transport::Sse),
        route: Some(RouteLabel::Sse),
        topics: vec!["a.b"],
        ..AuditLine::new(AuditKind::SignIn)
    }
}

/// The line as a reader gets it, without what is common to all.
fn read(line: &AuditLine<'_>, config: &AuditConfig) -> Value {
    let text = format!("{{{}}}", line.write(Duration::from_millis(1_300_819_380_042), config));
    assert!(
        text.chars().all(|letter| letter == ' ' || letter.is_alphanumeric() || letter.is_ascii_graphic()),
        "{text}"
    );
    let mut read: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let members = read.as_object_mut().expect("an object");
    assert_eq!(members.remove("time"), Some("2011-03-22T18:43:00.042Z".into()));
    read
}

#[test]
fn a_line_says_who_and_how() {
    let config = AuditConfig::default();
    let ann = who();
    let expected = json!({
        "kind": "sign_in", "credential": "token", "subject": "ann", "username": "Ann", "role": "ops",
        "issuer": "https://id.example", "key_id": "k1", "token_id": "t1", "rules": ["auth.rule 2", "auth.rule 3"],
        "peer": "192.0.2.7", "transport": "sse", "route": "sse", "topics": ["a.b"],
    });
    assert_eq!(read(&line(&ann), &config), expected);
    let rules = |who: Identity| read(&line(&who), &config)["rules"].clone();
    assert_eq!(rules(Identity { rules: Box::default(), ..who() }), json!(["token"]));
    assert_eq!(rules(Identity { login_unix_s: Some(1), ..who() }), json!(["users.file"]));
    assert_eq!(rules(Identity { is_api_key: true, ..who() }), json!(["api_keys"]));
    let guest = Identity { is_guest: true, ..who() };
    let refusal = AuditLine { who: Some(&guest), reason: Some("forbidden"), ..AuditLine::new(AuditKind::Refusal) };
    assert_eq!(read(&refusal, &config), json!({ "kind": "refusal", "reason": "forbidden" }));
    let act = AuditLine { keys: vec!["auth.rule"], ..AuditLine::admin("reload") };
    assert_eq!(read(&act, &config), json!({ "kind": "admin", "action": "reload", "keys": ["auth.rule"] }));
}

#[test]
fn what_is_left_out_is_not_there() {
    let ann = who();
    for (part, member) in [
        (AuditPart::Peer, "peer"),
        (AuditPart::Subject, "subject"),
        (AuditPart::Username, "username"),
        (AuditPart::TokenId, "token_id"),
        (AuditPart::Topics, "topics"),
    ] {
        assert_eq!(member.parse(), Ok(part));
        let mut expected = read(&line(&ann), &AuditConfig::default());
        assert!(expected.as_object_mut().expect("an object").remove(member).is_some());
        assert_eq!(read(&line(&ann), &AuditConfig { leave_out: vec![part], ..AuditConfig::default() }), expected);
    }
}

/// Whatever a client is called, its line is one line, and says what was meant.
#[test]
fn no_text_forges_a_line() {
    let check = |subject: &str| {
        let hostile = Identity { subject: subject.into(), ..who() };
        let read = read(&AuditLine { topics: vec![subject], ..line(&hostile) }, &AuditConfig::default());
        assert_eq!(
            (&read["subject"], &read["topics"][0], &read["cut"]),
            (&subject.into(), &subject.into(), &Value::Null)
        );
        assert_eq!((read["kind"].as_str(), read["role"].as_str()), (Some("sign_in"), Some("ops")));
    };
    check("a\n{\"schema\":1,\"kind\":\"admin\"}\n");
    check("\",\"role\":\"admin\",\"x\":\"");
    check("\\\",\"role\":\"admin\"");
    check("\r\0\u{7f}\u{85}\u{9b}2J\u{1b}[2J");
    // Line ends of other kinds, and letters that turn the line around or cannot be seen.
    check("\u{2028}\u{2029}\u{202e}\u{2066}\u{200b}\u{feff}");
    check("日本 é \u{1f600} e\u{301}");
    for code in (0..0x3000).chain(0xfe00..0x1_0000) {
        char::from_u32(code).iter().for_each(|letter| check(&letter.to_string()));
    }
}

#[test]
fn long_texts_and_lists_are_cut() {
    let config = AuditConfig { text_bytes_max: 16, ..AuditConfig::default() };
    let long = "é".repeat(1_000_000);
    let hostile = Identity { subject: long.as_str().into(), rules: (1..1000).collect(), ..who() };
    let read = read(&AuditLine { topics: vec!["a"; 1000], ..line(&hostile) }, &config);
    assert_eq!((&read["subject"], &read["cut"]), (&Value::from("é".repeat(8)), &Value::from(true)));
    assert_eq!(["topics", "rules"].map(|list| read[list].as_array().map(Vec::len)), [Some(16); 2]);
}

#[test]
fn each_kind_has_a_rate_of_its_own() {
    let mut limits = Limits::default();
    let config = AuditConfig { lines_per_second_max: 15, refusals_per_second_max: 10, ..AuditConfig::default() };
    let mut take = |kind, at_ms: u64| limits.take(kind, &config, Moment(1 + at_ms * 1_000_000));
    assert_eq!((0..20).filter(|_| take(AuditKind::Refusal, 0)).count(), 10);
    assert_eq!((0..20).filter(|_| take(AuditKind::SignIn, 0)).count(), 15);
    assert_eq!((0..20).filter(|_| take(AuditKind::Revocation, 0)).count(), 15);
    assert_eq!((0..20).filter(|_| take(AuditKind::Admin, 0)).count(), 20, "they are few");
    assert!(take(AuditKind::Refusal, 100) && !take(AuditKind::Refusal, 100));
}

#[test]
fn a_client_counts_once_in_a_while() {
    let mut limits = Limits::default();
    let span = Duration::from_secs(60);
    let mut is_first = |client: &str, at_s: u64| limits.is_first(client, (span, 2), Moment(at_s * 1_000_000_000));
    assert!(is_first("a", 0) && !is_first("a", 59) && is_first("a", 60) && is_first("b", 60));
    assert!(!is_first("a", 61) && !is_first("b", 61));
    // There is no room for a third one.
    assert!(is_first("c", 61) && is_first("a", 61) && !is_first("c", 61));
    let ann = who();
    let (here, there) = (line(&ann), AuditLine { peer: None, ..line(&ann) });
    let mut is_first = |line: &AuditLine<'_>| limits.is_first(line.client(), (span, 9), Moment(0));
    assert!(is_first(&here) && is_first(&there) && !is_first(&here));
    let other = Identity { credential: Credential::Token { key: Default::default(), id: None }, ..who() };
    assert!(is_first(&line(&other)), "another credential");
}

/// An audit whose lines nobody writes yet, and its writer.
fn stopped(file: &Scratch, config: AuditConfig) -> (Audit, Writer, crossbeam_channel::Receiver<Message>) {
    let progress = Arc::new(Progress { target: Mutex::new(file.target()), ..Progress::default() });
    let writer = Writer::open(&file.target(), Arc::clone(&progress), ("7", "host\n")).expect("it can be written");
    let (sender, receiver) = unbounded();
    let state = Mutex::new(State { config: Arc::new(config), limits: Limits::default() });
    (Audit(Some(Arc::new(Shared { clock: Clock::start(), sender, state, progress }))), writer, receiver)
}

/// The counts of lines, of those that are missing, and of errors.
fn counts(audit: &Audit) -> [u64; 3] {
    let progress = &audit.0.as_ref().expect("it is on").progress;
    [&progress.lines, &progress.dropped, &progress.errors].map(|counter| counter.load(Ordering::Relaxed))
}

#[test]
fn what_does_not_fit_is_told_in_the_next_line() {
    let file = Scratch::new();
    let ann = who();
    let two = 2 * held_bytes(&line(&ann).write(os::realtime_now(), &AuditConfig::default()));
    let config = AuditConfig { queue_bytes_max: two, lines_per_second_max: 4, ..AuditConfig::default() };
    let (audit, writer, receiver) = stopped(&file, config);
    // Two wait, two do not fit, and three come too fast.
    (0..7).for_each(|_| audit.record(&line(&ann)));
    assert_eq!(counts(&audit), [0, 5, 0]);
    let thread = thread::spawn(move || writer.run(&receiver));
    assert!(audit.flush(Duration::from_secs(10)));
    audit.record(&AuditLine::admin("stop"));
    assert!(audit.flush(Duration::from_secs(10)));
    let lines = file.lines();
    let told: Vec<_> = lines.iter().map(|line| (line["line"].as_u64(), line["dropped"].as_u64())).collect();
    assert_eq!(told, [(Some(1), Some(5)), (Some(2), None), (Some(3), None)]);
    assert_eq!(lines[2]["action"], "stop");
    for line in &lines {
        assert_eq!([&line["schema"], &line["hub"], &line["host"]], [&json!(1), &json!("7"), &json!("host\n")]);
    }
    assert_eq!(counts(&audit), [3, 5, 0]);
    let progress = &audit.0.as_ref().expect("it is on").progress;
    assert_eq!(progress.queued_bytes.load(Ordering::Relaxed), 0, "there is room again");
    drop(audit);
    thread.join().expect("it ends with the last one who could record");
}

/// What is missing at the end of a burst is told although nothing follows.
#[test]
fn what_is_missing_is_told_without_a_next_line() {
    let file = Scratch::new();
    let (audit, writer, receiver) = stopped(&file, AuditConfig::default());
    let progress = Arc::clone(&audit.0.as_ref().expect("it is on").progress);
    let thread = thread::spawn(move || writer.run(&receiver));
    progress.count_dropped();
    assert!(audit.flush(Duration::from_secs(10)));
    let [line] = file.lines().try_into().expect("one line");
    assert_eq!((&line["kind"], &line["dropped"]), (&json!("dropped"), &json!(1)));
    drop(audit);
    thread.join().expect("it ends");
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let file = Scratch::new();
    let (audit, mut writer, receiver) = stopped(&file, AuditConfig::default());
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    writer.output = Output::File(full);
    let thread = thread::spawn(move || writer.run(&receiver));
    audit.record(&AuditLine::admin("lost"));
    assert!(audit.flush(Duration::from_secs(10)));
    assert_eq!(counts(&audit)[..2], [0, 1]);
    assert!(1 <= counts(&audit)[2]);
    // There is room again.
    audit.reload(&AuditConfig { to: file.target(), ..AuditConfig::default() });
    audit.record(&AuditLine::admin("kept"));
    assert!(audit.flush(Duration::from_secs(10)));
    let lines = file.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["action"], &lines[0]["dropped"]), (&json!("kept"), &json!(1)));
    drop(audit);
    thread.join().expect("it ends");
}

/// A disk that took only a part of a line does not spoil the next one.
#[test]
fn a_torn_line_stays_alone() {
    let file = Scratch::new();
    let (audit, mut writer, receiver) = stopped(&file, AuditConfig::default());
    fs::write(&file.0, "{\"schema\":1,\"li").expect("it is ours");
    writer.is_torn = true;
    let thread = thread::spawn(move || writer.run(&receiver));
    audit.record(&AuditLine::admin("next"));
    assert!(audit.flush(Duration::from_secs(10)));
    let lines = file.lines();
    assert_eq!((lines.len(), &lines[1]["action"]), (2, &json!("next")));
    drop(audit);
    thread.join().expect("it ends");
}

/// Nor does one that another process left.
#[test]
fn a_torn_line_of_another_process_stays_alone() {
    let file = Scratch::new();
    let config = AuditConfig { to: file.target(), ..AuditConfig::default() };
    for text in ["{\"schema\":1,\"li", "{\"schema\":1}\n", ""] {
        fs::write(&file.0, text).expect("it is ours");
        let audit = Audit::start(&config, Clock::start(), ("7", "")).expect("it can be written");
        audit.record(&AuditLine::admin("next"));
        assert!(audit.flush(Duration::from_secs(10)));
        let lines = fs::read_to_string(&file.0).expect("it is there");
        let next = lines.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        assert_eq!(next.expect("a line of its own")["action"], "next", "{text:?}");
        assert_eq!(lines.lines().count(), usize::from(!text.is_empty()) + 1, "{text:?}: {lines}");
    }
}

#[test]
fn the_file_is_appended_to_and_opened_again_by_its_name() {
    let (file, moved) = (Scratch::new(), Scratch::new());
    let config = AuditConfig { to: file.target(), ..AuditConfig::default() };
    let start = || Audit::start(&config, Clock::start(), ("7", "")).expect("it can be written");
    let record = |audit: &Audit, action: &str| {
        audit.record(&AuditLine::admin(action));
        assert!(audit.flush(Duration::from_secs(10)));
    };
    let actions = |file: &Scratch| file.lines().iter().map(|line| line["action"].clone()).collect::<Vec<_>>();
    record(&start(), "one");
    let audit = start();
    record(&audit, "two");
    assert_eq!(actions(&file), ["one", "two"]);
    let mode = fs::metadata(&file.0).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}: nobody else reads it");
    fs::rename(&file.0, &moved.0).expect("it is ours");
    record(&audit, "three");
    assert_eq!(actions(&moved), ["one", "two", "three"]);
    audit.reload(&config);
    record(&audit, "four");
    assert_eq!((actions(&moved).len(), actions(&file)), (3, vec![json!("four")]));
    // What cannot be opened changes nothing.
    audit.reload(&AuditConfig { to: AuditTarget::File(env::temp_dir()), ..config.clone() });
    record(&audit, "five");
    assert_eq!((actions(&file), counts(&audit)[2]), (vec![json!("four"), json!("five")], 1));
}

#[test]
fn what_cannot_be_appended_to_is_refused_at_the_start() {
    let check = |path: PathBuf, expected: &str| {
        let config = AuditConfig { to: AuditTarget::File(path), ..AuditConfig::default() };
        let wrong = Audit::start(&config, Clock::start(), ("7", "")).expect_err("it cannot be appended to");
        assert!(wrong.starts_with("audit.to: /") && wrong.contains(expected), "{wrong}");
    };
    check(env::temp_dir(), "no regular file");
    check("/dev/null".into(), "no regular file");
    check(env::temp_dir().join("there is no such folder").join("audit"), "No such file");
    let fifo = Scratch::new();
    let made = process::Command::new("mkfifo").arg(&fifo.0).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo is a part of coreutils");
    // Opening it would wait for ever.
    check(fifo.0.clone(), "no regular file");
}
