//! `fanfare bench --processes`: several clients count as one.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Folder, hub::Hub, send_signal, stdout_of, wait_until};

fn bench(hub: &Hub, json: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bench", "--url", hub.url(0), "--warmup", "300ms", "--quiet", "--json", json]).args(arguments);
    command.stdin(Stdio::null());
    command
}

/// The report of a run that lost nothing.
fn report(hub: &Hub, arguments: &[&str]) -> (Value, String) {
    let folder = Folder::new();
    let json = folder.path("a.json");
    let text = stdout_of(&bench(hub, &json, arguments).output().expect("it was just built"));
    (serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON"), text)
}

#[test]
fn two_processes_count_what_one_counts() {
    let hub = Hub::start();
    let scenario = ["--subscribers", "21", "--rate", "50", "--duration", "1s", "--transport", "sse", "--stalled", "3"];
    let more = ["--second-topic", "other", "--second-subscribers", "1", "--churn", "40", "--churn-stay", "200ms"];
    let scenario = [&scenario[..], &more].concat();
    let (one, _) = report(&hub, &scenario);
    let (two, text) = report(&hub, &[&scenario[..], &["--processes", "2", "--pin", "0,0"]].concat());
    let check = |pointer: &str, expected: u64| {
        for report in [&one, &two] {
            assert_eq!(report.pointer(pointer).and_then(Value::as_u64), Some(expected), "{pointer}: {report}");
        }
    };
    for (topic, subscribers) in [(0, 21), (1, 1)] {
        check(&format!("/topics/{topic}/events"), 50);
        check(&format!("/topics/{topic}/deliveries"), 50 * subscribers);
        check(&format!("/topics/{topic}/read/count"), 50 * subscribers);
        check(&format!("/topics/{topic}/event_last/count"), 50);
        check(&format!("/topics/{topic}/opening/count"), subscribers);
        for fault in
            ["faults/lost", "faults/repeated", "faults/reordered", "faults/foreign", "closed", "events_incomplete"]
        {
            check(&format!("/topics/{topic}/{fault}"), 0);
        }
    }
    let slices = two["topics"][0]["slices"].as_array().expect("slices");
    assert_eq!(slices.iter().filter_map(|slice| slice["deliveries"].as_u64()).sum::<u64>(), 50 * 21);
    // All processes count time from the same moment. Otherwise latencies would be negative, shown as 0, or seconds.
    let read = &two["topics"][0]["read"];
    assert!(1.0 < read["min"].as_f64().expect("a latency") && read["p50"].as_f64().expect("one") < 1e6, "{read}");
    let visits = |report: &Value| report["churn"]["began"].as_u64().expect("visitors came");
    assert!(visits(&one).abs_diff(visits(&two)) < 25 && two["churn"]["failed"] == 0, "{one} {two}");
    check_processes(&two["client"], &text);
    assert_eq!(one["client"]["processes"], Value::Array(Vec::new()));
}

#[test]
fn topics_are_dealt_out_across_processes() {
    let hub = Hub::start();
    // 13 subscribers for 5 topics, 7 in one process and 6 in the other. No topic has as many in one as in the other.
    let scenario = ["--topics", "5", "--subscribers", "13", "--rate", "50", "--duration", "1s", "--transport", "sse"];
    let (one, _) = report(&hub, &scenario);
    let (two, _) = report(&hub, &[&scenario[..], &["--processes", "2"]].concat());
    for report in [&one, &two] {
        let topic = &report["topics"][0];
        assert_eq!(topic["deliveries"], 10 * 13, "{topic}");
        let faults = ["lost", "repeated", "reordered", "foreign"].map(|fault| &topic["faults"][fault]);
        assert_eq!(faults, [0, 0, 0, 0], "{topic}");
    }
}

#[track_caller]
fn check_processes(client: &Value, text: &str) {
    let processes = client["processes"].as_array().expect("processes");
    let of_each = |key: &str| processes.iter().map(|process| process[key].clone()).collect::<Vec<_>>();
    assert_eq!(of_each("subscribers"), [0, 12, 10]);
    assert_eq!(of_each("core"), [0, 0, 0]);
    // The warm-up's events, and the measured.
    assert_eq!(of_each("deliveries"), [0, 65 * 12, 65 * 10]);
    let shares: f64 = of_each("cpu_share").iter().filter_map(Value::as_f64).sum();
    let all = client["cpu_share"].as_f64().expect("a share");
    assert!(0.0 < all && (all - shares).abs() < 1e-9, "{client}");
    assert_eq!(client["fleet_cpu_shares"].as_array().map(Vec::len), Some(4), "two topics in two processes");
    assert!(text.contains("         process 2 of 2 on core 0: ") && text.contains(", 10 subscribers, "), "{text}");
}

#[test]
fn a_ladder_has_several_processes_at_each_step() {
    let arguments = ["--subscribers", "4", "--rate", "20", "--duration", "500ms", "--processes", "2", "--ladder"];
    let limits = ["--ladder-warmup", "200ms", "--ladder-max", "25"];
    let hub = Hub::start();
    let folder = Folder::new();
    let json = folder.path("a.json");
    // On a busy machine a step may fail that passes elsewhere. It is run all the same.
    bench(&hub, &json, &[&arguments[..], &limits].concat()).output().expect("it was just built");
    let climb: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    let steps = climb["steps"].as_array().expect("steps");
    for step in steps {
        let report = &step["report"];
        let rate = step["rate_hz"].as_f64().expect("a rate");
        assert_eq!(report["topics"][0]["rate_hz"], rate, "{climb}");
        // The workers follow the schedule of the present step, not of the first one.
        assert_eq!(report["topics"][0]["faults"]["lost"], 0, "{climb}");
        assert_eq!(report["client"]["processes"].as_array().map(Vec::len), Some(3), "{climb}");
    }
    assert!(!steps.is_empty());
}

#[test]
fn a_process_that_dies_makes_the_run_void() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let json = folder.path("a.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bench", "--url", hub.url(0), "--subscribers", "4", "--rate", "50", "--duration", "10m"]);
    command.args(["--warmup", "200ms", "--processes", "2", "--json", &json]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was just built");
    let stderr = child.stderr.take().expect("it was just asked for");
    let mut killed = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // Live figures show that it has begun to measure.
        if line.starts_with("measuring") && line.contains("p99") && killed.is_empty() {
            killed = children_of(child.id());
            assert_eq!(killed.len(), 2, "{killed:?}");
            send_signal("KILL", killed[1]);
        }
    }
    let output = child.wait_with_output().expect("a child of ours");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    let reason = report["void"][0].as_str().expect("a reason");
    let expected = format!("client process 2 of 2 (pid {}) died (signal: 9 (SIGKILL))", killed[1]);
    assert!(reason.contains(&expected) && text.contains(&format!("VOID     {reason}\n")), "{text}");
    // The share of the other process is in the report.
    assert!(report["topics"][0]["deliveries"].as_u64().is_some_and(|count| 0 < count), "{report}");
    assert_eq!(report["topics"][0]["faults"]["lost"], 0, "{report}");
    check_gone(&killed);
}

/// No process is left.
fn check_gone(pids: &[u32]) {
    wait_until("the members end", || pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

/// The processes that `pid` has started.
fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the process lives");
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn an_interrupted_run_takes_its_processes_along() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let json = folder.path("a.json");
    let mut command = bench(&hub, &json, &["--subscribers", "4", "--duration", "2m", "--processes", "2"]);
    let child = command.stdout(Stdio::null()).spawn().expect("it was just built");
    hub.wait_for_listeners("bench", 4);
    let members = children_of(child.id());
    // The probes, and the warm-up of three events to each: then it is measured.
    let delivered = || hub.metric(r#"fanfare_deliveries_total{transport="websocket"}"#) as u64;
    wait_until("the measured span begins", || (60 < delivered()).then_some(()));
    send_signal("INT", child.id());
    let output = child.wait_with_output().expect("a child of ours");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    assert!(report["void"][0].as_str().is_some_and(|reason| reason.starts_with("interrupted after ")), "{report}");
    assert_eq!(report["topics"][0]["faults"]["lost"], 0, "{report}");
    check_gone(&members);
}

#[test]
fn senseless_flags_are_reported() {
    let check = |arguments: &[&str], expected: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        let output = command.arg("bench").args(arguments).output().expect("it was just built");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(expected), "{error}");
    };
    check(&["--processes", "0"], "0 is not in 1..");
    check(&["--processes", "3", "--subscribers", "2"], "--processes 3: there are fewer subscribers, 2");
    check(&["--processes", "3", "--pin", "0,1"], "--pin: 2 cores for 3 processes: name one, or one for each");
    check(&["--processes", "2", "--transport", "sse", "--storm", "5"], "cannot be used with");
}
