use super::Tally;

/// A line of a log: the event of this number, that took so long.
fn line(event: u32, latency_ms: f64) -> String {
    let event = format!(r#"{{"event_id":"e{event}","sequence":{event},"published_at_ms":{}}}"#, 1000 + event);
    format!(r#"{{"client":1,"received_at_ms":5,"latency_ms":{latency_ms},"event":{event}}}"#) + "\n"
}

/// The log of a client that has seen these events.
fn log(events: &[u32]) -> String {
    events.iter().map(|&event| line(event, 10.0)).collect()
}

fn report(logs: &[String], clients: Option<u64>, events: Option<u64>) -> Result<String, String> {
    let mut tally = Tally::new();
    logs.iter().try_for_each(|log| tally.read_log("x.log".as_ref(), log.as_bytes()))?;
    tally.sum_up(clients, events).map(|report| report.to_string())
}

#[track_caller]
fn check(logs: &[String], (clients, events): (Option<u64>, Option<u64>), counts: &str) {
    let report = report(logs, clients, events).expect("the logs are well-formed");
    let [clients, events, expected, received, dropped] = {
        let mut numbers = counts.split(' ');
        [(); 5].map(|()| numbers.next().expect("five numbers at least"))
    };
    let head = format!(
        "Clients: {clients}\nEvents: {events}\nExpected deliveries: {expected}\nReceived deliveries: {received}\n\
         Dropped deliveries: {dropped}\n"
    );
    assert!(report.starts_with(&head), "{counts}: {report}");
    let more: Vec<&str> = counts.split(' ').skip(5).collect();
    let told: Vec<&str> = report[head.len()..].lines().take_while(|line| !line.starts_with("Latency")).collect();
    assert_eq!(told.iter().map(|line| line.split_once(": ").expect("a count").1).collect::<Vec<_>>(), more, "{report}");
}

#[test]
fn what_is_missing_is_counted() {
    check(&[log(&[1, 2, 3]), log(&[1, 2, 3])], (None, None), "2 3 6 6 0");
    check(&[log(&[1, 3]), log(&[1, 2, 3])], (None, None), "2 3 6 5 1");
    check(&[log(&[1]), log(&[])], (None, None), "2 1 2 1 1");
    check(&[log(&[1])], (Some(3), Some(4)), "3 4 12 1 11");
    check(&[log(&[])], (None, None), "1 0 0 0 0");
}

#[test]
fn duplicates_hide_nothing() {
    check(&[log(&[1, 1, 1]), log(&[1, 2, 3])], (None, None), "2 3 6 4 2 2");
    check(&[log(&[2, 1, 3, 1])], (None, None), "1 3 3 3 0 1 1");
}

#[test]
fn numbers_tell_what_nobody_received() {
    let log = |numbers: &[u32]| {
        let line =
            |number: &u32| format!(r#"{{"event":{{"source":"s","sequence":{number},"published_at_ms":7}}}}"#) + "\n";
        numbers.iter().map(line).collect::<String>()
    };
    // All were made in the same millisecond: only their numbers have an order.
    check(&[log(&[1, 2, 5]), log(&[1, 2, 5])], (None, None), "2 3 6 6 0 4");
    check(&[log(&[1, 3, 2, 3, 5])], (None, None), "1 4 4 4 0 1 1 1");
}

#[test]
fn what_was_being_written_is_no_error() {
    let cut = log(&[1, 2]) + &line(3, 1.0)[..20];
    check(&[cut], (None, None), "1 2 2 2 0 1");
}

#[test]
fn bad_lines_are_named() {
    let bad = log(&[1]) + "hello\n" + &log(&[2]);
    let error = report(&[bad], None, None).expect_err("the second line is none");
    assert!(error.starts_with("x.log:2: "), "{error}");
}

#[test]
fn logs_of_other_runs_are_noticed() {
    let logs = [log(&[1, 2]), log(&[1, 2])];
    assert!(report(&logs, Some(1), None).expect_err("two logs").contains("--clients 1"));
    assert!(report(&logs, None, Some(1)).expect_err("two events").contains("--events 1"));
}

#[test]
fn percentiles_of_a_known_distribution() {
    // 1 to 1,000 ms, once each.
    let lines: String = (1..=1000).rev().map(|ms| line(ms, f64::from(ms))).collect();
    let report = report(&[lines], None, None).expect("well-formed");
    let latency = report.split_once("Latency (ms):\n").expect("there is one").1;
    let numbers = latency.lines().map(|line| line.split_once(": ").expect("a figure").1.parse::<f64>());
    let numbers: Vec<f64> = numbers.map(|number| number.expect("a number")).collect();
    for (number, expected) in numbers.iter().zip([500.0, 950.0, 990.0, 1000.0]) {
        // Three digits are kept.
        assert!((number - expected).abs() <= expected / 1000.0, "{numbers:?}");
    }
    assert_eq!(numbers.len(), 4);
}

#[test]
fn events_without_names_or_times() {
    let log = |payloads: &[&str]| payloads.iter().map(|it| format!("{{\"event\":{it}}}\n")).collect::<String>();
    check(&[log(&["1", "\"a\"", "{}"]), log(&["1"])], (None, None), "2 3 6 4 2");
    let report = report(&[log(&["1"])], None, None).expect("well-formed");
    assert!(report.ends_with("Latency: no event says when it was published"), "{report}");
}
