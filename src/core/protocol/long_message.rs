//! Client messages that are too long for one turn of a reactor: their JSON is checked in steps, and later messages of the client
//! wait meanwhile.

use super::socket_io::{DataCheck, SocketIoPacket};
use crate::{
    close::Close,
    json::{self, BadJson, Traits},
};

/// A long message and the state of its check.
#[derive(Debug)]
pub struct LongMessage {
    pub text: String,
    /// The kind of message, and the state of its check.
    pub check: LongCheck,
}

/// The kind of a long message, and the state of its check.
#[derive(Debug)]
pub enum LongCheck {
    /// A `fanfare.v1` command.
    Command(json::Checker),
    /// A Socket.IO packet.
    Packet {
        /// Its payload's check.
        check: DataCheck,
        /// Whether the packet was within the rate limit: otherwise it is checked and ignored.
        heeded: bool,
    },
}

/// The result of a check.
#[derive(Debug)]
pub enum Checked {
    Command(Result<Traits, BadJson>),
    /// A valid packet.
    Packet {
        /// Whether the packet was within the rate limit: otherwise it is checked and ignored.
        heeded: bool,
    },
    /// An invalid packet, which ends the session.
    Bad(Close),
}

impl LongMessage {
    /// A `fanfare.v1` command.
    pub fn command(text: String) -> Self {
        Self { check: LongCheck::Command(json::Checker::begin(&text)), text }
    }

    /// Checks the next `bytes`, or a little more. `None` if the check is not finished.
    pub fn advance(&mut self, bytes: usize) -> Option<Checked> {
        match &mut self.check {
            LongCheck::Command(checker) => checker.advance(&self.text, bytes).transpose().map(Checked::Command),
            LongCheck::Packet { check, heeded } => {
                // The head was read before: only what it says is asked for again.
                let packet = SocketIoPacket::parse_head(&self.text, usize::MAX);
                match packet.and_then(|packet| check.advance(&packet, bytes)) {
                    Ok(false) => None,
                    Ok(true) => Some(Checked::Packet { heeded: *heeded }),
                    Err(bad) => Some(Checked::Bad(Close::BadFrame(bad.0))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP_BYTES: usize = 16 * 1024;

    /// Whatever a long message looks like, no step reads much more of it than it may.
    #[test]
    fn a_check_takes_many_steps() {
        let check = |value: &str, part: &str| {
            let data = format!("[0,{}{value}]", part.repeat(1_000_000 / part.len()));
            let packet = format!("2[\"publish\",{data}]");
            let head = SocketIoPacket::parse_head(&packet, 0).expect("a packet");
            let packet_check = LongCheck::Packet { check: DataCheck::begin(&head), heeded: true };
            let messages = [
                LongMessage { check: packet_check, text: packet.clone() },
                LongMessage::command(format!("{{\"op\":\"publish\",\"data\":{data}}}")),
            ];
            for mut message in messages {
                let steps = (1..).find(|_| message.advance(STEP_BYTES).is_some()).unwrap_or_default();
                assert!(1_000_000 / STEP_BYTES <= steps, "{part}: {steps} steps");
            }
        };
        for part in ["{},", "[],", "0,", "\"\",", "null,", "{\"a\":[1,{}]},", " 0 ,"] {
            check("0", part);
        }
        check(&"]".repeat(500_000), "[");
        // Arguments of some length, a few to each step and no more steps than that takes.
        let packet = format!("2[\"a\"{}]", format!(",\"{}\"", "x".repeat(997)).repeat(1_000));
        let head = SocketIoPacket::parse_head(&packet, 0).expect("a packet");
        let check = LongCheck::Packet { check: DataCheck::begin(&head), heeded: true };
        let mut message = LongMessage { check, text: packet.clone() };
        let steps = (1..).find(|_| message.advance(STEP_BYTES).is_some()).unwrap_or_default();
        assert!((50..70).contains(&steps), "{steps} steps");
    }

    #[test]
    fn what_a_check_finds() {
        let check = |text: &str, is_good: bool| {
            let head = SocketIoPacket::parse_head(text, 10).expect("a packet");
            for bytes in [1, 7, 1_000] {
                let check = LongCheck::Packet { check: DataCheck::begin(&head), heeded: false };
                let mut message = LongMessage { check, text: text.to_owned() };
                let found = std::iter::from_fn(|| Some(message.advance(bytes))).flatten().next();
                match found {
                    Some(Checked::Packet { heeded: false }) => assert!(is_good, "{text}"),
                    Some(Checked::Bad(Close::BadFrame(_))) => assert!(!is_good, "{text}"),
                    other => panic!("{text}: {other:?}"),
                }
            }
            assert_eq!(head.check_data().is_ok(), is_good, "{text}");
        };
        check("2[\"a\",{\"b\":[1,2]}]", true);
        check("2/n,7[\"a\"]", true);
        check("2[7,1]", true);
        check(&format!("2[\"a\"{}]", ",1".repeat(1_024)), true);
        check(&format!("2[\"a\"{}]", ",1".repeat(1_025)), false);
        check("31[1,2]", true);
        check("2[]", false);
        check("2{}", false);
        check("2", false);
        check("2[\"disconnect\"]", false);
        check("2[\"a\",{\"b\":[1,2]]", false);
        check("2[\"a\"]]", false);
        check("3[1]", false);
        check("31{}", false);
    }
}
