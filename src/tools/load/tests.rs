use std::time::Duration;

use clap::Parser;

use super::{
    Options, expand_single_dashes,
    faults::{Fault, Faults},
    options::{Mode, Plan, parse_duration},
    producer::Outcome,
    report::{Record, Report, Verdict, banner},
    tally::{Counts, Latency, Tally},
    token::{Content, Message},
};
use crate::client::{BusyTime, PoolCounts, RedisUrl};

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// What `fanfare load` makes of these words.
fn plan(words: &str) -> Result<Plan, String> {
    let line = ["fanfare", "load"].into_iter().chain(words.split_whitespace());
    let mut line = expand_single_dashes(line.map(Into::into).collect());
    line.remove(0);
    Plan::new(&CommandLine::try_parse_from(line).map_err(|error| error.to_string())?.options)
}

#[test]
fn the_documented_flags_in_every_spelling() {
    let expected = plan(
        "--mode producer --redis redis.svc:6380 --sse http://hub:80 --conversations 50 --tokens 100 --delay 20 \
         --duration 5m",
    );
    assert!(expected.is_ok(), "{expected:?}");
    let check = |words: &str| assert_eq!(plan(words), expected, "{words}");
    check(
        "-mode producer -redis redis.svc:6380 -sse http://hub:80 -conversations 50 -tokens 100 -delay 20 -duration 5m",
    );
    check("-mode=producer -redis=redis.svc:6380 -sse=hub -conversations=50 -tokens=100 -delay=20 -duration=300s");
    check(
        "--mode=producer --redis=redis://redis.svc:6380 --sse=hub:80 -c=50 -t=100 -d=20 --duration=0.5h -duration 5m",
    );
    check("-m producer -r redis.svc:6380 -s http://hub -c 50 -t 100 -d 20 --duration 4m60s");
    check(
        "--mode=both --redis=redis.svc:6380 --sse=http://hub:80 --conversations=50 --tokens=100 --duration=5m --mode=producer \
         --delay=20",
    );
    check("-mproducer -rredis.svc:6380 -shub -c50 -t100 -d20 -duration 5m0s");
    let defaults = plan("").expect("nothing is required");
    let spelt = "-m both -s http://127.0.0.1:8080 -c 5 -t 50 -d 50 --duration 30s --publish-url 127.0.0.1:8080";
    assert_eq!(plan(spelt).as_ref(), Ok(&defaults));
    assert_eq!(defaults.mode, Mode::Both);
}

#[test]
fn only_the_flags_of_load_get_a_second_dash() {
    let check = |line: &str, expected: &str| {
        let words = expand_single_dashes(line.split(' ').map(Into::into).collect());
        let words: Vec<&str> = words.iter().map(|word| word.to_str().expect("ASCII")).collect();
        assert_eq!(words.join(" "), expected);
    };
    check("fanfare load -redis a:1 -c=2 --tokens 3", "fanfare load --redis a:1 -c=2 --tokens 3");
    check("fanfare load -json=x -quiet -s u -d -5", "fanfare load --json=x --quiet -s u -d -5");
    check("fanfare load -redish a - -- -m", "fanfare load -redish a - -- -m");
    check("fanfare load -help -h -mode=both -- -mode both", "fanfare load --help -h --mode=both -- -mode both");
    check("fanfare serve -redis a:1", "fanfare serve -redis a:1");
    check("fanfare", "fanfare");
}

#[test]
fn mistakes_are_reported() {
    let check = |words: &str, expected: &str| {
        let problem = plan(words).expect_err(words);
        assert!(problem.contains(expected), "{words}: {problem}");
    };
    check("-m nobody", "[possible values: producer, consumer, both]");
    check("-c 0", "0 is not in 1..=100000");
    check("-t 1000001", "1000001 is not in 1..=1000000");
    check("-d 3600001", "3600001 is not in 0..=3600000");
    check("-c 100000 -t 1001", "the most is 100000000: make one of them smaller");
    check("-d 1.5", "invalid digit");
    check("--duration 30", "such as 500ms, 30s, 5m or 1h30m");
    check("-r rediss://a/#insecure", "--insecure-tls trusts any certificate");
    check("-r rediss://a --ca /nowhere/ca.pem", "--ca /nowhere/ca.pem: ");
    check("-r http://a", "write host:port, redis://… or rediss://");
    check("-r a -publish-url b", "cannot be used with");
    check("--token a\u{e9}", "printable ASCII");
    check("extra", "unexpected argument 'extra'");
}

#[test]
fn durations_as_go_writes_them() {
    let check = |text: &str, expected_ms: Option<u64>| {
        assert_eq!(parse_duration(text).ok(), expected_ms.map(Duration::from_millis), "{text}");
    };
    check("30s", Some(30_000));
    check("5m", Some(300_000));
    check("1h2m3s4ms", Some(3_723_004));
    check("1.5s", Some(1500));
    check(".5s", Some(500));
    check("2000us", Some(2));
    check("2000µs", Some(2));
    check("168h", Some(7 * 24 * 3_600_000));
    for bad in ["", "0s", "30", "s", "5x", "-5s", "1.2.3s", "1h 30m", "5m3", "169h", "1e9h"] {
        check(bad, None);
    }
}

#[test]
fn addresses_of_redis() {
    let check = |text: &str, expected: &str| {
        let url = text.parse::<RedisUrl>().map(|url| format!("{url:?}"));
        assert_eq!(url.as_deref(), Ok(expected), "{text}");
    };
    check("localhost:6379", "redis://localhost:6379/0");
    check("redis.redis-system", "redis://redis.redis-system:6379/0");
    check("redis://:secret@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3");
    check("redis://me:secret@host", "redis://host:6379/0");
    check("[::1]:6380", "redis://[::1]:6380/0");
    check("rediss://me:secret@host/3", "rediss://host:6379/3");
    check("rediss://[::1]:6380", "rediss://[::1]:6380/0");
    for bad in ["", "redis+unix:///a", "host:port", "redis://"] {
        assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
    }
}

#[test]
fn the_schedule_is_fixed_and_spread() {
    let plan = plan("-c 4 -t 3 -d 100").expect("a plan");
    let tokens: Vec<(u32, u32, u128)> = (0..plan.token_sum())
        .map(|index| plan.scheduled(index))
        .map(|token| (token.conversation, token.sequence, token.due.as_millis()))
        .collect();
    assert_eq!(tokens[..5], [(0, 1, 0), (1, 1, 25), (2, 1, 50), (3, 1, 75), (0, 2, 100)]);
    assert_eq!(tokens.last(), Some(&(3, 3, 275)));
}

#[test]
fn conversations_that_begin_anew_fill_the_duration() {
    let check = |words: &str, expected_sum: u64, expected_last: (u32, u32)| {
        let plan = plan(words).expect("a plan");
        let last = plan.scheduled(plan.token_sum() - 1);
        assert_eq!((plan.token_sum(), (last.conversation, last.sequence)), (expected_sum, expected_last), "{words}");
    };
    check("-c 2 -t 3 -d 100 --duration 1s", 6, (1, 3));
    // Due at 0 and 50, 100 and 150 … 900 and 950 ms.
    check("-c 2 -t 3 -d 100 --duration 1s -repeat", 20, (1, 10));
    check("-c 2 -t 3 -d 100 --duration 950ms --repeat", 19, (0, 10));
    check("-c 100 -t 200 -d 20 --duration 5m --repeat", 1_500_000, (99, 15_000));
    // As far as account is kept.
    check("-c 1 -t 1 -d 0 --duration 5m --repeat", 1_000_000, (0, 1_000_000));
    check("-c 100000 -t 1 -d 1 --duration 24h --repeat", 100_000_000, (99_999, 1000));
    let plan = plan("-c 2 -t 3 --repeat").expect("a plan");
    let completed: Vec<u64> = (0..=13).map(|sent| plan.completed(sent)).collect();
    assert_eq!(completed, [0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 4, 4]);
}

const RUN: u64 = 0xfeed_0000_0000_0001;
/// When the runs of these tests begin, as a Unix time.
const BEGAN: Duration = Duration::from_secs(1_800_000_000);

fn token(run: u64, conversation: u32, sequence: u32, due_ms: u64) -> Message {
    let due = BEGAN + Duration::from_millis(due_ms);
    Message { run, conversation, content: Content::Token { sequence, due, began: BEGAN } }
}

#[test]
fn payloads() {
    let check = |message: Message, expected: &str| {
        let payload = message.write();
        assert_eq!(String::from_utf8_lossy(&payload), expected);
        assert_eq!(Message::read(&payload), Some(message));
    };
    check(
        token(RUN, 3, 1, 250),
        r#"{"run":"feed000000000001","conversation":3,"sequence":1,"token":" quick","published_at_ms":1800000000250.0,"began_at_ms":1800000000000.0}"#,
    );
    let beside = |content| Message { run: 1, conversation: 2, content };
    check(beside(Content::Probe), r#"{"run":"0000000000000001","conversation":2,"probe":true}"#);
    check(beside(Content::End(7)), r#"{"run":"0000000000000001","conversation":2,"end":7}"#);
    for other in ["", "1", "{}", r#"{"run":"x","conversation":1,"probe":true}"#, r#"{"run":"1","conversation":1}"#] {
        assert_eq!(Message::read(other.as_bytes()), None, "{other}");
    }
    let without_number = r#"{"run":"1","conversation":1,"sequence":0,"published_at_ms":1,"began_at_ms":1}"#;
    assert_eq!(Message::read(without_number.as_bytes()), None);
}

/// What a test does to an account.
enum Act {
    /// The token of this number was taken.
    Publish(u32),
    /// It came on the stream of conversation 1, so many ms behind its time of ten ms a token.
    Arrive(u32, u64),
    /// The publisher says so many were all.
    End(u32),
    /// Something else came.
    Else(Message),
    Gap,
}

use Act::{Arrive, Else, End, Gap, Publish};

/// Lost, duplicates, out of order, received, foreign, misdelivered.
type Figures = [u64; 6];

fn account(own_run: Option<u64>, opened_ms: u64, acts: &[Act]) -> Tally {
    let mut tally = Tally::new(own_run, 2);
    tally.open(1, BEGAN + Duration::from_millis(opened_ms));
    for act in acts {
        let beside = |content| Message { run: RUN, conversation: 1, content };
        let (message, now_ms) = match act {
            Publish(sequence) => {
                tally.publish(RUN, 1, *sequence);
                continue;
            }
            Gap => {
                tally.note_gap();
                continue;
            }
            Arrive(sequence, late_ms) => {
                let due_ms = u64::from(sequence - 1) * 10;
                (token(RUN, 1, *sequence, due_ms), due_ms + late_ms)
            }
            End(count) => (beside(Content::End(*count)), 0),
            Else(message) => (*message, 0),
        };
        tally.receive(1, &message.write(), BEGAN + Duration::from_millis(now_ms));
    }
    tally
}

fn figures(tally: &Tally) -> Figures {
    let counts = tally.counts;
    let Counts { duplicates, out_of_order, received, foreign, misdelivered, .. } = counts;
    [tally.lost(), duplicates, out_of_order, received, foreign, misdelivered]
}

#[test]
fn what_was_published_against_what_arrived() {
    let check = |acts: &[Act], expected: Figures| {
        assert_eq!(figures(&account(Some(RUN), 0, acts)), expected);
    };
    let [p1, p2, p3] = [1, 2, 3].map(Publish);
    check(&[], [0, 0, 0, 0, 0, 0]);
    check(&[p1, Arrive(1, 0)], [0, 0, 0, 1, 0, 0]);
    // It may arrive before its publisher hears that it was taken.
    check(&[Arrive(1, 0), Publish(1)], [0, 0, 0, 1, 0, 0]);
    check(&[Publish(1), p2, p3, Arrive(1, 0), Arrive(3, 0)], [1, 0, 0, 2, 0, 0]);
    // The last ones are lost like any other.
    check(&[Publish(1), Publish(2)], [2, 0, 0, 0, 0, 0]);
    check(&[Publish(1), Arrive(1, 0), Arrive(1, 0), Arrive(1, 0)], [0, 2, 0, 1, 0, 0]);
    let swapped = [1, 3, 2, 4].map(|sequence| Arrive(sequence, 0));
    check(&swapped, [0, 0, 1, 4, 0, 0]);
    // A duplicate of an earlier one is no disorder.
    check(&[Arrive(1, 0), Arrive(2, 0), Arrive(1, 0)], [0, 1, 0, 2, 0, 0]);
    check(&[Else(token(RUN, 2, 1, 0)), Else(token(RUN + 1, 1, 1, 0))], [0, 0, 0, 0, 1, 1]);
    check(&[Else(token(RUN, 1, 1_000_001, 0))], [0, 0, 0, 0, 1, 0]);
}

#[test]
fn what_a_consumer_alone_can_tell() {
    let check = |opened_ms, acts: &[Act], expected: Figures, unended: u64| {
        let tally = account(None, opened_ms, acts);
        assert_eq!((figures(&tally), tally.unended()), (expected, unended));
    };
    // Conversation 2 never hears anything.
    check(0, &[Arrive(1, 0), Arrive(2, 0), End(2)], [0, 0, 0, 2, 0, 0], 1);
    check(0, &[Arrive(1, 0), Arrive(4, 0)], [2, 0, 0, 2, 0, 0], 2);
    check(0, &[Arrive(2, 0), End(5)], [4, 0, 0, 1, 0, 0], 1);
    // Who opened late has missed nothing that was before.
    check(15, &[Arrive(3, 0), Arrive(5, 0), End(6)], [2, 0, 0, 2, 0, 0], 1);
    check(15, &[Arrive(3, 0), Arrive(2, 0), End(3)], [0, 0, 1, 2, 0, 0], 1);
    // Two producers, each with tokens of its own.
    check(0, &[Arrive(1, 0), Else(token(7, 1, 1, 0)), End(1)], [0, 0, 0, 2, 0, 0], 2);
}

#[test]
fn latencies_are_those_of_first_arrivals() {
    let acts = [Arrive(1, 200), Arrive(2, 300), Arrive(2, 9000), Arrive(3, 400)];
    let figures = account(Some(RUN), 0, &acts).latency.figures().expect("three of them");
    assert_eq!((figures.min_ms, figures.avg_ms, figures.max_ms), (200.0, 300.0, 400.0));
    assert!((299.0..=301.0).contains(&figures.p50_ms), "{figures:?}");
    assert!((399.0..=400.0).contains(&figures.p99_ms), "{figures:?}");
    assert_eq!(account(Some(RUN), 0, &[]).latency.figures(), None);
}

/// What a producer did that sent so many tokens, of which some were late.
fn outcome(sent: u64, late: u64) -> Outcome {
    let mut lateness = Latency::new();
    (0..late).for_each(|_| lateness.record(Duration::from_millis(40)));
    (late..sent).for_each(|_| lateness.record(Duration::ZERO));
    Outcome { sent, late, lateness, unanswered: 0 }
}

/// A report of ten seconds. `busy_ms` is how long the loop was busy, in all and at once.
fn report_of(words: &str, acts: &[Act], outcome: &Outcome, busy_ms: [u64; 2], unheard: u64) -> String {
    let plan = plan(words).expect("a plan");
    let [sum, longest] = busy_ms.map(Duration::from_millis);
    let report = Report::new(&Record {
        plan: &plan,
        tally: &account(plan.mode.publishes().then_some(RUN), 0, acts),
        streams: Some((PoolCounts::default(), BusyTime { sum, longest })),
        outcome: plan.mode.publishes().then_some(outcome),
        faults: &Faults::default(),
        notes: &[],
        unheard,
        measured: Duration::from_secs(10),
        is_interrupted: false,
    });
    report.to_string()
}

#[test]
fn what_to_know_before_believing_the_figures() {
    let check = |text: String, expected: &str| {
        let notes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Note: ")).collect();
        let is_expected =
            if expected.is_empty() { notes.is_empty() } else { notes.len() == 1 && notes[0].contains(expected) };
        assert!(is_expected, "{expected}: {text}");
    };
    let of_outcome = |sent, late| report_of("", &[], &outcome(sent, late), [0, 0], 0);
    check(of_outcome(250, 2), "");
    check(of_outcome(250, 5), "a bottleneck: 2.0 % of the tokens were sent more than 10 ms late (p99 40");
    check(of_outcome(249, 0), "249 of 250 tokens were sent when --duration was over");
    let of_repeats = |words, sent| report_of(words, &[], &outcome(sent, 0), [0, 0], 0);
    let second = "-c 2 -t 3 -d 20 --duration 1s --repeat";
    check(of_repeats(second, 100), "");
    // The last one was due half a pause before the end.
    check(of_repeats(second, 99), "");
    check(of_repeats(second, 90), "90 of 100 tokens were sent when --duration was over");
    check(of_repeats("-c 1 -t 3 -d 0 --repeat", 90), "");
    check(of_repeats("-c 1 -t 3 -d 0 --repeat", 1_000_000), "no account is kept of more than 1000000 tokens");
    let of_loop = |busy_ms| report_of("", &[], &outcome(250, 0), busy_ms, 0);
    check(of_loop([7900, 99]), "");
    check(of_loop([8000, 10]), "its loop was busy 80.0 % of the time, for 10 ms at once");
    check(of_loop([100, 100]), "busy 1.0 % of the time, for 100 ms at once");
    let of_acts = |words, acts: &[Act], unheard| report_of(words, acts, &outcome(250, 0), [0, 0], unheard);
    check(of_acts("", &[], 3), "nobody was subscribed at Redis to 3 tokens");
    check(of_acts("-m consumer", &[Arrive(1, 0), End(1)], 0), "1 conversation did not hear an end");
    check(of_acts("", &[Else(token(RUN, 1, 1, 60_000))], 0), "1 token came before it was due");
}

fn report(words: &str, acts: &[Act], fault: Option<Fault>, is_interrupted: bool) -> Report {
    let plan = plan(words).expect("a plan");
    let mut faults = Faults::default();
    if let Some(fault) = fault {
        faults.add(fault, "because");
    }
    Report::new(&Record {
        plan: &plan,
        tally: &account(plan.mode.publishes().then_some(RUN), 0, acts),
        streams: None,
        outcome: None,
        faults: &faults,
        notes: &[],
        unheard: 0,
        measured: Duration::from_secs(1),
        is_interrupted,
    })
}

#[test]
fn verdicts() {
    use Verdict::{Complete, Incomplete, Interrupted};
    let check = |words: &str, acts: &[Act], fault: Option<Fault>, expected: Verdict| {
        assert_eq!(report(words, acts, fault, false).verdict(), expected, "{words} {fault:?}");
        assert_eq!(report(words, acts, fault, true).verdict(), Interrupted, "{words} {fault:?}");
    };
    check("", &[Publish(1), Arrive(1, 0)], None, Complete);
    check("", &[Publish(1), Publish(2), Arrive(1, 0)], None, Incomplete);
    check("", &[Publish(1), Arrive(1, 0), Arrive(1, 0)], None, Incomplete);
    check("", &[Publish(1), Publish(2), Arrive(2, 0), Arrive(1, 0)], None, Incomplete);
    check("", &[Publish(1), Arrive(1, 0), Gap], None, Complete);
    check("", &[Publish(1), Arrive(1, 0)], Some(Fault::StreamCut), Complete);
    check("", &[Publish(1), Arrive(1, 0)], Some(Fault::Refused), Incomplete);
    check("", &[], None, Incomplete);
    check("-m producer", &[Publish(1)], None, Complete);
    check("-m producer", &[], None, Incomplete);
    check("-m producer", &[Publish(1)], Some(Fault::Publish), Incomplete);
    check("-m consumer", &[Arrive(1, 0)], None, Complete);
    check("-m consumer", &[Arrive(2, 0)], None, Incomplete);
    check("-m consumer", &[], None, Incomplete);
}

#[test]
fn reports_for_people() {
    let text = report("", &[Publish(1), Publish(2), Arrive(2, 5), Gap], Some(Fault::StreamCut), true).to_string();
    let expected = "\
=== Load test: producer and consumer, 5 conversations, 1.0 s ===
Tokens Published:    2 of 250
Tokens Received:     1
Tokens Lost:         1
Duplicates:          0
Out of Order:        0
Gaps Announced:      1
Errors:              1
  streams cut:       1 (the first: because)
Latency (min):       5.000 ms
Latency (avg):       5.000 ms
Latency (max):       5.000 ms
Latency (p50):       5.000 ms
Latency (p95):       5.000 ms
Latency (p99):       5.000 ms
Interrupted: the run was ended early.
";
    assert_eq!(text, expected);
    let text = report_of("-c 2 -t 1 -d 10 --duration 1s --repeat", &[Publish(1)], &outcome(3, 0), [0, 0], 0);
    assert!(text.contains("Tokens Published:    1 of 200\nConversations Ended: 3\n"), "{text}");
    let text = report_of("-d 0 --repeat", &[Publish(1)], &outcome(3, 0), [0, 0], 0);
    assert!(text.contains("Tokens Published:    1\nConversations Ended: 0\n"), "{text}");
    let text = report("-m producer", &[Publish(1)], None, false).to_string();
    assert!(text.contains("Tokens Published:    1 of 250\nErrors:              0\n"), "{text}");
    assert!(!text.contains("Received") && !text.contains("Latency"), "{text}");
}

#[test]
fn banners() {
    let check = |words: &str, expected: &str| assert_eq!(banner(&plan(words).expect("a plan")), expected);
    check(
        "-c 2 -t 3 -d 4 -r redis://:secret@a:1 -s b",
        "fanfare load: 2 conversations of 3 tokens, 4 ms apart, to redis://a:1, at http://b:80/sse",
    );
    check(
        "-m producer -c 1 --repeat --duration 5m",
        "fanfare load: 1 conversation of 50 tokens, 50 ms apart, again and again for 300s, to http://127.0.0.1:8080/publish",
    );
    check(
        "-m producer -c 1",
        "fanfare load: 1 conversation of 50 tokens, 50 ms apart, to http://127.0.0.1:8080/publish",
    );
}
