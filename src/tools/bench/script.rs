//! What a WebSocket subscriber sends to a server with a protocol of its own until it is subscribed, and its answers from
//! then on: the flags `--send`, `--await` and `--answer`.
//!
//! A message may consist of several lines, which some servers join; each line is handled by itself.

use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

use super::{payload::Stamp, topics::fill, wire_event::WireEvent};
use crate::{
    client::{Item, Reader},
    protocol::websocket::client::write_masked_text,
    topic::Topic,
};

/// Steps in order, and answers at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    steps: Vec<Step>,
    /// The second text is the answer to a message that contains the first.
    answers: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Send(String),
    /// Waits for a message that contains this text.
    Await(String),
}

/// One subscriber's progress through the script, and the messages after it.
#[derive(Debug)]
pub(super) struct ScriptRun {
    reader: Reader,
    cursor: ScriptCursor,
}

/// The position in the script.
#[derive(Debug, Default)]
struct ScriptCursor {
    script: Arc<Script>,
    /// The next step: an `Await`, or the end.
    next: usize,
}

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.answers.is_empty()
    }

    /// The script for `topic`, with its name in place of `{topic}`.
    pub(super) fn for_topic(&self, topic: &Topic) -> Self {
        let step = |step: &Step| match step {
            Step::Send(text) => Step::Send(fill(text, topic)),
            Step::Await(text) => Step::Await(fill(text, topic)),
        };
        let answer = |(when, text): &(String, String)| (fill(when, topic), fill(text, topic));
        Self { steps: self.steps.iter().map(step).collect(), answers: self.answers.iter().map(answer).collect() }
    }
}

impl ScriptRun {
    /// Before the upgrade is granted.
    pub(super) fn new(script: Arc<Script>) -> Self {
        Self { reader: Reader::websocket(), cursor: ScriptCursor { script, next: 0 } }
    }

    /// Takes what the server sent. With the upgrade, the script begins.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        on_event: &mut impl FnMut(WireEvent<'_>),
    ) -> Result<(), String> {
        let Self { reader, cursor } = self;
        reader.receive(bytes, reply, &mut |item, reply| {
            match item.payload()? {
                Some(message) => {
                    let lines = message.split(|&byte| byte == b'\n');
                    lines.filter(|line| !line.is_empty()).for_each(|line| cursor.receive_line(line, reply, on_event));
                }
                None if matches!(item, Item::Granted(_)) => cursor.advance(reply, on_event),
                None => {}
            }
            Ok(())
        })
    }
}

impl ScriptCursor {
    /// Sends all texts up to the next `Await`. At the end of the script the subscriber is subscribed.
    fn advance(&mut self, reply: &mut Vec<u8>, on_event: &mut impl FnMut(WireEvent<'_>)) {
        while let Some(Step::Send(text)) = self.script.steps.get(self.next) {
            write_masked_text(text.as_bytes(), rand::random(), reply);
            self.next += 1;
        }
        match self.script.steps.get(self.next) {
            Some(Step::Await(text) | Step::Send(text)) => on_event(WireEvent::Awaiting(text)),
            None => on_event(WireEvent::Opened),
        }
    }

    /// Takes one line. A line that was awaited is not answered as well, and an event is never answered: its envelope may
    /// contain the text of a ping.
    fn receive_line(&mut self, line: &[u8], reply: &mut Vec<u8>, on_event: &mut impl FnMut(WireEvent<'_>)) {
        let awaited = self.script.steps.get(self.next);
        if let Some(Step::Await(text)) = awaited
            && contains(line, text)
        {
            self.next += 1;
            return self.advance(reply, on_event);
        }
        let is_subscribed = awaited.is_none();
        if (is_subscribed && self.script.answers.is_empty()) || Stamp::find(line).is_some() {
            return on_event(WireEvent::Message(line));
        }
        if let Some((_, text)) = self.script.answers.iter().find(|(when, _)| contains(line, when)) {
            return write_masked_text(text.as_bytes(), rand::random(), reply);
        }
        on_event(if is_subscribed { WireEvent::Message(line) } else { WireEvent::Other(line) });
    }
}

fn contains(line: &[u8], text: &str) -> bool {
    memchr::memmem::find(line, text.as_bytes()).is_some()
}

/// How `--help` groups the flags of subscribers.
pub(super) const SUBSCRIBING: &str = "Subscribers";

/// A flag of the script: its name, its value's name, and its help.
type Flag = (&'static str, &'static str, &'static str);

const SEND: Flag = (
    "send",
    "TEXT",
    "Text that WebSocket subscribers send once connected, with {topic} for the topic's name; may be repeated, in turn with --await",
);
const AWAIT: Flag = (
    "await",
    "TEXT",
    "Wait for a message that contains TEXT; after the last of these a subscriber is subscribed. May be repeated",
);
const ANSWER: Flag = (
    "answer",
    "WHEN=TEXT",
    "Send TEXT in answer to each message without an event that contains WHEN, such as a ping; may be repeated",
);

/// Parsed by hand, because the order of `--send` and `--await` on the command line counts.
impl Args for Script {
    fn augment_args(command: Command) -> Command {
        let flag = |(name, value, help): Flag| {
            let flag = Arg::new(name).long(name).value_name(value).help(help).help_heading(SUBSCRIBING);
            flag.action(ArgAction::Append).allow_hyphen_values(true)
        };
        command.args([flag(SEND), flag(AWAIT), flag(ANSWER)])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Script {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |(name, ..): Flag, step: fn(String) -> Step| {
            let places = matches.indices_of(name).into_iter().flatten();
            let texts = matches.get_many::<String>(name).into_iter().flatten();
            places.zip(texts.map(move |text| step(text.clone()))).collect::<Vec<_>>()
        };
        let mut steps = [typed(SEND, Step::Send), typed(AWAIT, Step::Await)].concat();
        steps.sort_by_key(|(place, _)| *place);
        let answers = matches.get_many::<String>(ANSWER.0).into_iter().flatten();
        Ok(Self {
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            answers: answers.map(|text| parse_answer(text)).collect::<Result<_, _>>()?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn parse_answer(text: &str) -> Result<(String, String), clap::Error> {
    match text.split_once('=') {
        Some((when, answer)) if !when.is_empty() => Ok((when.to_owned(), answer.to_owned())),
        _ => {
            let problem = format!("--answer {text}: expected WHEN=TEXT, with what a message contains before the =\n");
            Err(clap::Error::raw(ErrorKind::ValueValidation, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::protocol::websocket;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        script: Script,
    }

    fn script(arguments: &[&str]) -> Result<Script, clap::Error> {
        Ok(CommandLine::try_parse_from(["bench"].iter().chain(arguments))?.script)
    }

    #[test]
    fn the_order_is_that_of_the_command_line() {
        let typed = ["--send", "a {topic}", "--await", "-b", "--answer", "p=q=r", "--send=c", "--send", "d"];
        let made = script(&typed).expect("well-formed").for_topic(&Topic::parse("x.y").expect("a topic"));
        let (send, wait) = (|text: &str| Step::Send(text.into()), |text: &str| Step::Await(text.into()));
        assert_eq!(made.steps, [send("a x.y"), wait("-b"), send("c"), send("d")]);
        assert_eq!(made.answers, [("p".to_owned(), "q=r".to_owned())]);
        assert!(script(&[]).expect("nothing").is_empty());
        for bad in ["p", "=q"] {
            let problem = script(&["--answer", bad]).expect_err("no answer").to_string();
            assert!(problem.contains("expected WHEN=TEXT"), "{problem}");
        }
    }

    const GRANT: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    /// What a subscriber receives and sends while the server sends these messages, in pieces of any size.
    fn check(arguments: &[&str], messages: &[&str], received: &[&str], said: &[&str]) {
        let script = Arc::new(script(arguments).expect("well-formed"));
        let frames = messages.iter().map(|message| websocket::encode_text(message.as_bytes()).to_vec());
        let bytes = [GRANT.to_vec()].into_iter().chain(frames).collect::<Vec<_>>().concat();
        for piece_bytes in 1..=bytes.len() {
            let (mut run, mut reply, mut events) = (ScriptRun::new(Arc::clone(&script)), Vec::new(), Vec::new());
            let mut on_event = |what: WireEvent<'_>| match what {
                WireEvent::Opened => events.push("<open>".to_owned()),
                WireEvent::Message(line) => events.push(String::from_utf8_lossy(line).into_owned()),
                WireEvent::Awaiting(_) => {}
                WireEvent::Other(line) => events.push(format!("({})", String::from_utf8_lossy(line))),
                WireEvent::Response(status) => events.push(status.to_string()),
            };
            for piece in bytes.chunks(piece_bytes) {
                run.receive(piece, &mut reply, &mut on_event).expect("well-formed");
            }
            assert_eq!(events, received, "in pieces of {piece_bytes}");
            assert_eq!(texts(&reply), said, "in pieces of {piece_bytes}");
        }
    }

    /// Unmasks what a client sent.
    fn texts(mut bytes: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let [0x81, length, a, b, c, d, rest @ ..] = bytes {
            let (payload, behind) = rest.split_at(usize::from(length & 0x7f));
            let mask = [a, b, c, d];
            let text = payload.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect();
            texts.push(String::from_utf8(text).expect("ASCII"));
            bytes = behind;
        }
        assert!(bytes.is_empty(), "{bytes:?}");
        texts
    }

    #[test]
    fn who_has_heard_all_is_subscribed() {
        let script = ["--send", "hello", "--await", "welcome", "--send", "join", "--send", "now", "--await", "joined"];
        check(&script, &["hm", "joined"], &["(hm)", "(joined)"], &["hello"]);
        let messages = ["you are welcome", "who?", "joined x", "joined y"];
        check(&script, &messages, &["(who?)", "<open>", "joined y"], &["hello", "join", "now"]);
        check(&["--send", "join"], &["a"], &["<open>", "a"], &["join"]);
        check(&["--await", "b"], &["a", "b", "c"], &["(a)", "<open>", "c"], &[]);
    }

    #[test]
    fn lines_are_taken_one_by_one() {
        let script = ["--send", "1", "--await", "one", "--send", "2", "--await", "two"];
        check(&script, &["one\ntwo\na", "b\n\nc\n"], &["<open>", "a", "b", "c"], &["1", "2"]);
    }

    #[test]
    fn pings_are_answered_and_events_are_not() {
        let mut event = b"{\"x\":{},\"y\":".to_vec();
        Stamp { run: 1, sequence: 2, intended: crate::clock::Moment(3) }.write(100, &mut event);
        let event = String::from_utf8(event).expect("ASCII");
        let script = ["--await", "joined", "--answer", "{}={}", "--answer", "ping=pong"];
        let messages = ["{}", "joined {}", "{}\nping", &event, "else"];
        check(&script, &messages, &["<open>", &event, "else"], &["{}", "{}", "pong"]);
    }

    #[test]
    fn pings_of_the_protocol_are_no_lines() {
        let (mut run, mut reply) = (ScriptRun::new(Arc::default()), Vec::new());
        let received = run.receive(&[GRANT, websocket::PING].concat(), &mut reply, &mut |event| {
            assert!(matches!(event, WireEvent::Opened), "{event:?}");
        });
        assert!(received.is_ok() && !reply.is_empty());
    }
}
