//! The payloads of a load test: tokens, probes and ends of conversations. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One event of a load test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Message {
    /// The run's number, so that two runs at the same hub do not mistake each other's tokens.
    pub(super) run: u64,
    /// Counted from 1, as in the topic's name.
    pub(super) conversation: u32,
    pub(super) content: Content,
}

/// The content of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Content {
    /// A token.
    Token {
        /// Counted from 1.
        sequence: u32,
        /// When it was due, as a Unix time.
        due: Duration,
        /// When the conversation's first token was due: a stream that opened later has missed tokens.
        began: Duration,
    },
    /// A probe, which is not counted.
    Probe,
    /// The end of the conversation, with its number of tokens.
    End(u32),
}

/// Its JSON form.
#[derive(Deserialize, Serialize)]
struct Written<'a> {
    /// Sixteen hexadecimal digits: not every language has numbers of that size.
    run: &'a str,
    conversation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// The type of all such events.
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_at_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u32>,
}

/// Sample text of a language model, one word per token.
const WORDS: [&str; 12] =
    ["The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", " and", " rests", "."];

impl Message {
    /// Writes the payload.
    pub(super) fn write(&self) -> Vec<u8> {
        let run = format!("{:016x}", self.run);
        let conversation = self.conversation;
        let nothing = Written {
            run: &run,
            conversation,
            sequence: None,
            token: None,
            published_at_ms: None,
            began_at_ms: None,
            probe: None,
            end: None,
        };
        let written = match self.content {
            Content::Token { sequence, due, began } => Written {
                sequence: Some(sequence),
                token: Some(WORDS[sequence as usize % WORDS.len()]),
                published_at_ms: Some(unix_ms(due)),
                began_at_ms: Some(unix_ms(began)),
                ..nothing
            },
            Content::Probe => Written { probe: Some(true), ..nothing },
            Content::End(count) => Written { end: Some(count), ..nothing },
        };
        serde_json::to_vec(&written).expect("a struct of texts and finite numbers has a JSON form")
    }

    /// Parses a payload; `None` if it is not of a load test.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let written: Written<'_> = serde_json::from_slice(payload).ok()?;
        let span = |ms: Option<f64>| Duration::try_from_secs_f64(ms? / 1e3).ok();
        let content = match (written.sequence, written.end, written.probe) {
            (Some(sequence @ 1..), None, None) => {
                Content::Token { sequence, due: span(written.published_at_ms)?, began: span(written.began_at_ms)? }
            }
            (None, Some(count), None) => Content::End(count),
            (None, None, Some(true)) => Content::Probe,
            _ => return None,
        };
        let run = u64::from_str_radix(written.run, 16).ok()?;
        Some(Self { run, conversation: written.conversation, content })
    }
}

/// In ms, to the microsecond.
fn unix_ms(moment: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact for centuries")]
    let ms = moment.as_micros() as f64 / 1e3;
    ms
}
