//! A broker that does not do what it was asked, and what that costs.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use super::{
    harness::{Hub, quick, wait_until},
    topic,
};
use crate::source::redis::RedisConfig;

/// A broker that lets everybody in as a master does and confirms every subscription. When the channel `go` is subscribed,
/// it sends what `attack` writes, and after that a good message on `go`. Its threads end with the process.
fn hostile_broker(attack: impl Fn(&mut dyn Write) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a bound socket").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let attack = attack.clone();
            // A hub that hangs up ends the thread.
            std::thread::spawn(move || drop(serve(stream, &attack)));
        }
    });
    format!("redis://127.0.0.1:{port}")
}

fn serve(stream: TcpStream, attack: &dyn Fn(&mut dyn Write)) -> std::io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(head) = lines.next() {
        let count: usize = head.trim_start_matches('*').parse().expect("a command");
        // Each word is announced by its length.
        let words: Vec<String> = (0..count).filter_map(|_| lines.nth(1)).collect();
        match words[0].as_str() {
            "HELLO" => answers.write_all(b"%1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n")?,
            "ROLE" => answers.write_all(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")?,
            "PUBLISH" => {
                answers.write_all(b":1\r\n")?;
                answers.write_all(message(&words[1], &words[2]).as_bytes())?;
            }
            verb @ ("SUBSCRIBE" | "PSUBSCRIBE") => {
                for name in &words[1..] {
                    let kind = verb.to_lowercase();
                    let (kind_bytes, name_bytes) = (kind.len(), name.len());
                    write!(answers, ">3\r\n${kind_bytes}\r\n{kind}\r\n${name_bytes}\r\n{name}\r\n:1\r\n")?;
                }
                if words[1..].iter().any(|name| name == "go") {
                    attack(&mut answers);
                    answers.write_all(message("go", "the end").as_bytes())?;
                }
            }
            _ => answers.write_all(b"+OK\r\n")?,
        }
    }
    Ok(())
}

fn message(channel: &str, payload: &str) -> String {
    let (channel_bytes, payload_bytes) = (channel.len(), payload.len());
    format!(">3\r\n$7\r\nmessage\r\n${channel_bytes}\r\n{channel}\r\n${payload_bytes}\r\n{payload}\r\n")
}

fn pattern_message(pattern: &str, channel: &str) -> String {
    let (pattern_bytes, channel_bytes) = (pattern.len(), channel.len());
    let head = format!(">4\r\n$8\r\npmessage\r\n${pattern_bytes}\r\n{pattern}\r\n");
    format!("{head}${channel_bytes}\r\n{channel}\r\n$1\r\nx\r\n")
}

#[test]
fn what_nobody_asked_for_is_dropped_and_counted_and_makes_no_topic() {
    const COUNT: u64 = 20_000;
    let url = hostile_broker(|out| {
        let large = "x".repeat(2_000);
        for number in 0..COUNT / 4 {
            let mut parcel = message(&format!("unasked.{number}"), &large);
            parcel += &pattern_message("p.*", &format!("unasked.{number}"));
            parcel += &pattern_message("unknown.*", &format!("unknown.{number}"));
            parcel += &message(&format!("fanfare.probe.{number:016x}"), "1");
            // The hub may have hung up.
            let _ = out.write_all(parcel.as_bytes());
        }
        // Longer than any message may be: its readers would be told of a loss, but there are none.
        let _ = out.write_all(message("too.big", &"x".repeat(20_000)).as_bytes());
    });
    let config = RedisConfig { subscribe: vec!["p.*".to_owned()], message_bytes_max: 3_000, ..quick(&url) };
    let hub = Hub::ready(&config);
    hub.listen("go");
    assert_eq!(hub.payloads(1), ["the end"]);
    // Events of the last read are counted after the messages that were dropped.
    let counted = || (hub.status.snapshot().unasked, hub.status.snapshot().received);
    wait_until("all is counted", || counted() == (COUNT + 1, 1));
    let topics: Vec<_> = hub.bus.summaries(hub.clock.now()).into_iter().map(|summary| summary.topic).collect();
    assert_eq!(topics, [topic("go")]);
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.received, snapshot.refused, snapshot.losses, snapshot.reconnects), (1, 0, 0, 0));
}

#[test]
fn a_reply_without_end_is_given_up_before_it_is_all_kept() {
    let url = hostile_broker(|out| {
        let mut parcel = b"*4000\r\n".to_vec();
        for _ in 0..4000 {
            parcel.extend_from_slice(format!("$3000\r\n{}\r\n", "x".repeat(3_000)).as_bytes());
        }
        let _ = out.write_all(&parcel);
    });
    let hub = Hub::ready(&RedisConfig { message_bytes_max: 3_000, backoff_min: Duration::from_secs(5), ..quick(&url) });
    hub.bus.attach(&topic("go"), 0);
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("it is given up", || reason().contains("a reply is over its limit"));
}
