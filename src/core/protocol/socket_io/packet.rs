//! The text of one packet: type, number of attachments, namespace, acknowledgement id and JSON, all but the first optional.

use super::{BadSocketIoPacket, args::EventCheck};
use crate::json;

/// The kind of a packet: the digit it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketIoPacketKind {
    /// Enter a namespace; from the server: entered.
    Connect = 0,
    /// Leave a namespace.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// The acknowledgement of an event that has an id.
    Ack = 3,
    /// From the server: the client was refused the namespace.
    ConnectError = 4,
    /// An event with attachments, which follow as binary messages.
    BinaryEvent = 5,
    /// An acknowledgement with attachments.
    BinaryAck = 6,
}

/// One packet, borrowed from its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketIoPacket<'a> {
    pub kind: SocketIoPacketKind,
    /// The number of binary messages that follow and belong to it; zero except for the binary kinds.
    pub attachments: usize,
    /// The namespace, `/` if none is given; without the query that some clients append to it.
    pub namespace: &'a str,
    /// The id that the acknowledgement has or is asked to have.
    pub ack: Option<u64>,
    /// The payload: valid JSON of the form that the kind asks for.
    pub data: Option<&'a str>,
}

impl<'a> SocketIoPacket<'a> {
    /// The packet in the data of an Engine.IO text message. More than `attachments_max` attachments are refused.
    pub fn parse(text: &'a str, attachments_max: usize) -> Result<Self, BadSocketIoPacket> {
        let packet = Self::parse_head(text, attachments_max)?;
        packet.check_data()?;
        Ok(packet)
    }

    /// The packet with its payload unchecked: enough to know its kind and its namespace. The cost does not depend on the
    /// payload's length. The caller must call [`SocketIoPacket::check_data`] before it uses the payload.
    pub(crate) fn parse_head(text: &'a str, attachments_max: usize) -> Result<Self, BadSocketIoPacket> {
        let digit = text.as_bytes().first().ok_or(BadSocketIoPacket("a packet begins with its type"))?;
        let kind = SocketIoPacketKind::of(*digit).ok_or(BadSocketIoPacket("a packet's type is a digit from 0 to 6"))?;
        let (attachments, rest) = match kind.is_binary() {
            true => split_attachments(&text[1..], attachments_max)?,
            false => (0, &text[1..]),
        };
        let (namespace, rest) = split_namespace(rest);
        let (ack, rest) = split_ack(rest)?;
        let data = Some(rest.trim_matches(is_json_space)).filter(|data| !data.is_empty());
        Ok(Self { kind, attachments, namespace, ack, data })
    }

    /// The rules about the payload of each kind. Reads it once.
    pub(crate) fn check_data(&self) -> Result<(), BadSocketIoPacket> {
        let mut check = DataCheck::begin(self);
        while !check.advance(self, usize::MAX)? {}
        Ok(())
    }

    /// The rules about the payload of each kind but an event's, if it is JSON or nothing.
    fn check_form(&self) -> Result<(), BadSocketIoPacket> {
        let data = self.data.unwrap_or_default();
        let begins_with = |allowed: &[char]| data.starts_with(allowed);
        match self.kind {
            SocketIoPacketKind::Connect if !data.is_empty() && !begins_with(&['{']) => {
                Err(BadSocketIoPacket("the payload of a CONNECT is an object"))
            }
            SocketIoPacketKind::Disconnect if !data.is_empty() => Err(BadSocketIoPacket("a DISCONNECT has no payload")),
            //= Socket.IO 5 section Acknowledgement: "The payload is mandatory and MUST be an array (possibly empty)."
            SocketIoPacketKind::Ack | SocketIoPacketKind::BinaryAck if !begins_with(&['[']) => {
                Err(BadSocketIoPacket("the payload of an ACK is an array"))
            }
            SocketIoPacketKind::Ack | SocketIoPacketKind::BinaryAck if self.ack.is_none() => {
                Err(BadSocketIoPacket("an ACK has an id"))
            }
            SocketIoPacketKind::ConnectError if !begins_with(&['{', '"']) => {
                Err(BadSocketIoPacket("the payload of a CONNECT_ERROR is an object or a string"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a packet's payload in steps (`SocketIoPacket::check_data` does it at once).
#[derive(Clone, Debug)]
pub struct DataCheck(CheckState);

#[derive(Clone, Debug)]
enum CheckState {
    Event(EventCheck),
    Other(json::Checker),
}

impl DataCheck {
    /// Before the first byte of the payload of `packet`.
    pub fn begin(packet: &SocketIoPacket<'_>) -> Self {
        Self(match packet.kind {
            SocketIoPacketKind::Event | SocketIoPacketKind::BinaryEvent => CheckState::Event(EventCheck::default()),
            _ => CheckState::Other(json::Checker::begin(packet.data.unwrap_or_default())),
        })
    }

    /// Checks the next `bytes` of the payload of `packet`, always the same one, or a little more; `true`: all is checked. An error
    /// ends the check.
    pub fn advance(&mut self, packet: &SocketIoPacket<'_>, bytes: usize) -> Result<bool, BadSocketIoPacket> {
        let data = packet.data.unwrap_or_default();
        match &mut self.0 {
            CheckState::Event(check) => check.advance(data, bytes),
            CheckState::Other(checker) => {
                let is_checked = data.is_empty() || checker.advance(data, bytes).map_err(|_| NO_JSON)?.is_some();
                if is_checked {
                    packet.check_form()?;
                }
                Ok(is_checked)
            }
        }
    }
}

impl SocketIoPacketKind {
    fn of(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Ack,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAck,
            _ => return None,
        })
    }

    pub(super) fn digit(self) -> u8 {
        b'0' + self as u8
    }

    /// Whether binary messages follow.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }

    /// The same without attachments, and with them.
    pub(super) fn plain(self) -> Self {
        match self {
            Self::BinaryEvent => Self::Event,
            Self::BinaryAck => Self::Ack,
            other => other,
        }
    }

    pub(super) fn binary(self) -> Self {
        match self {
            Self::Event => Self::BinaryEvent,
            Self::Ack => Self::BinaryAck,
            other => other,
        }
    }
}

/// The payload cannot be read at all.
pub(super) const NO_JSON: BadSocketIoPacket = BadSocketIoPacket("a payload is JSON");

/// What JSON allows between its tokens (RFC 8259 section 2).
pub(super) fn is_json_space(character: char) -> bool {
    character.is_ascii() && json::is_space(character as u8)
}

fn split_attachments(text: &str, attachments_max: usize) -> Result<(usize, &str), BadSocketIoPacket> {
    let (digits, rest) =
        text.split_once('-').ok_or(BadSocketIoPacket("a binary packet gives its number of attachments"))?;
    match number(digits) {
        None | Some(0) => Err(BadSocketIoPacket("the number of attachments is a positive number")),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count <= attachments_max => Ok((count, rest)),
            _ => Err(BadSocketIoPacket("too many attachments")),
        },
    }
}

/// The comma that ends a namespace may be missing where nothing follows.
fn split_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    let (full, rest) = text.split_once(',').unwrap_or((text, ""));
    let namespace = full.split_once('?').map_or(full, |(path, _)| path);
    (namespace, rest)
}

fn split_ack(text: &str) -> Result<(Option<u64>, &str), BadSocketIoPacket> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok((None, text));
    }
    let ack = number(&text[..end]).ok_or(BadSocketIoPacket("an acknowledgement's id has at most 15 digits"))?;
    Ok((Some(ack), &text[end..]))
}

/// A number of decimal digits only, at most 15 of them: such a number is exact in every client, also where numbers have 53 bits.
fn number(digits: &str) -> Option<u64> {
    const DIGITS_MAX: usize = 15;
    let plausible = digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    plausible.then(|| digits.parse().ok()).flatten()
}
