//! `fanfare health`: asks a hub whether it is ready, where there is no other program to ask with, such as in a container.

use std::{sync::mpsc, thread, time::Duration};

use clap::Args;
use serde::Deserialize;

use super::client::{AccessOptions, Client, HubUrl, Response, describe_refusal, unshown};
use crate::{duration::parse_duration, stdio};

/// Which hub is asked, and for what.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare health                                   the hub at port 8080 of this machine
  fanfare health unix:/run/fanfare/admin.sock      one with admin.listen answers there and nowhere else
  fanfare health --live http://127.0.0.1:9090

Exit codes: 0 it is, 1 it is not or does not answer, 2 invalid arguments.")]
pub struct Options {
    /// URL of the hub, or of its admin.listen: http://host:port, https://host:port or unix:/path
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = unshown(str::parse::<HubUrl>))]
    url: HubUrl,
    /// Ask whether the process lives and its reactors turn (/health), not whether clients may be sent to it (/ready)
    #[arg(long)]
    live: bool,
    /// Take no answer within TIME for a no
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    access: AccessOptions,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).filter(|timeout| !timeout.is_zero());
    timeout.ok_or_else(|| "not a time above 0, such as 500ms or 4s".to_owned())
}

/// Asks, and prints what a hub says that is well. Fails if it is not, and says why.
pub fn run(options: &Options) -> Result<(), String> {
    let Options { url, live, timeout, access } = options;
    let (path, question) = if *live { ("/health", "alive") } else { ("/ready", "ready") };
    let hub = access.hub(url)?;
    let (sender, receiver) = mpsc::channel();
    // A thread of its own, because looking up a name cannot be given up. It ends with the process.
    thread::spawn(move || sender.send(Client::new(hub).get(path)));
    let answer = receiver.recv_timeout(*timeout).map_err(|_| format!("{url}: no answer within {timeout:?}"))??;
    match refusal(&answer) {
        None => stdio::print(format_args!("{url} is {question}\n")),
        Some(why) => Err(format!("{url} is not {question}: {why}")),
    }
}

/// Why an answer is a no.
fn refusal(answer: &Response) -> Option<String> {
    /// What a hub says that is not ready.
    #[derive(Deserialize)]
    struct Unready {
        failed: Vec<String>,
    }
    match (answer.status, serde_json::from_slice::<Unready>(&answer.body)) {
        (200, _) => None,
        (503, Ok(Unready { failed })) if !failed.is_empty() => Some(failed.join("; ")),
        (404, _) => {
            Some("the server there does not know the path; a hub with admin.listen answers at that address".into())
        }
        _ => Some(describe_refusal(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says() {
        let check = |status: u16, body: &str, expected: Option<&str>| {
            let answer = Response { status, body: body.as_bytes().to_vec() };
            assert_eq!(refusal(&answer).as_deref(), expected, "{status} {body}");
        };
        check(200, r#"{"ready":true,"failed":[],"degraded":["a topic"]}"#, None);
        check(200, "", None);
        check(503, r#"{"ready":false,"failed":["redis: away","the hub drains"]}"#, Some("redis: away; the hub drains"));
        check(503, r#"{"ready":false,"failed":[]}"#, Some(r#"the hub answered 503: {"ready":false,"failed":[]}"#));
        check(503, r#"{"error":{"message":"overloaded"}}"#, Some("the hub answered 503: overloaded"));
        check(403, "no", Some("the hub answered 403: no"));
        let other = "the server there does not know the path; a hub with admin.listen answers at that address";
        check(404, "", Some(other));
    }

    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "0s", "-1s", "x", "4"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
