//! Frames (RFC 6455 section 5.2). tungstenite reads and writes the header; what it lets through is refused here.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::close::Close;

use super::{Message, mask};

/// A whole ping frame, without payload, from a server.
pub const PING: &[u8] = &[0x89, 0];

/// No control frame carries more (RFC 6455 section 5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// The longest header: two bytes, a 64-bit length, a mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

/// A close frame's reason has what the code leaves of [`CONTROL_BYTES_MAX`].
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The whole frame of one text message from a server, in one allocation of exactly its size. `payload` must be UTF-8.
pub fn encode_text(payload: &[u8]) -> Vec<u8> {
    encode(OpCode::Data(Data::Text), payload)
}

/// The whole frame of one binary message from a server, in one allocation of exactly its size.
pub fn encode_binary(payload: &[u8]) -> Vec<u8> {
    encode(OpCode::Data(Data::Binary), payload)
}

/// Appends a server's frame of one text message that consists of `parts`, each of them UTF-8.
pub(crate) fn write_text(parts: &[&[u8]], out: &mut Vec<u8>) {
    let payload_bytes = parts.iter().map(|part| part.len()).sum();
    out.reserve(HEADER_BYTES_MAX + payload_bytes);
    write_header(OpCode::Data(Data::Text), None, payload_bytes, out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a server's frame of one binary message.
pub fn write_binary(payload: &[u8], out: &mut Vec<u8>) {
    write(OpCode::Data(Data::Binary), payload, out);
}

/// A whole frame as this encoder writes it for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedFrame<'a> {
    pub kind: EncodedKind,
    pub payload: &'a [u8],
    /// How many bytes the frame takes, header included.
    pub frame_bytes: usize,
}

/// What a [`EncodedFrame`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedKind {
    /// A whole text message.
    Text,
    /// A whole binary message.
    Binary,
    /// A ping, a pong or a close.
    Control,
}

impl<'a> EncodedFrame<'a> {
    /// The frame at the start of `frames`; `None` if it is not all there, or none that this encoder writes for a server.
    pub fn first(frames: &'a [u8]) -> Option<Self> {
        let header = FrameHead::parse(frames).ok().flatten()?;
        let kind = match header.kind {
            FrameKind::Text => EncodedKind::Text,
            FrameKind::Binary => EncodedKind::Binary,
            FrameKind::Control(_) => EncodedKind::Control,
            FrameKind::Continuation => return None,
        };
        let ours = header.is_final && header.mask.is_none();
        let payload = frames.get(header.header_bytes..header.frame_bytes()).filter(|_| ours)?;
        Some(Self { kind, payload, frame_bytes: header.frame_bytes() })
    }
}

/// Appends a server's close frame (RFC 6455 section 5.5.1). A reason over 123 bytes is cut at a character's end.
pub fn write_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    write(OpCode::Control(Control::Close), &close_payload(code, reason), out);
}

/// Appends the close frame that goes with `close`, the end of a session: the peer's own code, or none, if the peer closed;
/// else the code that `close` has, and `reason`. Nothing after [`Close::Done`], for both have closed.
pub fn write_end(close: Close, reason: &str, out: &mut Vec<u8>) {
    match close {
        Close::Done => {}
        //= RFC 6455 section 5.5.1: "the endpoint MUST send a Close frame in response"
        Close::PeerClosed(None) => write(OpCode::Control(Control::Close), &[], out),
        Close::PeerClosed(Some(code)) => write_close(code, "", out),
        _ => write_close(close.websocket_code(), reason, out),
    }
}

/// Appends a server's frame with the whole of `message`; a ping or pong without payload for these.
pub fn write_message(message: &Message, out: &mut Vec<u8>) {
    match message {
        //= RFC 6455 section 6.1: "MUST encapsulate the /data/ in a WebSocket frame as defined in Section 5.2."
        //= RFC 6455 section 6.1: "MUST be set to the appropriate value from Section 5.2 for data that is to be
        //=   interpreted by the recipient as text or binary data."
        Message::Text(text) => write(OpCode::Data(Data::Text), text.as_bytes(), out),
        Message::Binary(payload) => write(OpCode::Data(Data::Binary), payload, out),
        Message::Ping => write(OpCode::Control(Control::Ping), b"", out),
        Message::Pong => write_pong(b"", out),
    }
}

/// Appends a server's pong (RFC 6455 section 5.5.3). `payload`, the ping's own, has at most 125 bytes.
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= CONTROL_BYTES_MAX);
    write(OpCode::Control(Control::Pong), payload, out);
}

/// Appends a client's frame.
pub(super) fn write_masked(opcode: OpCode, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    //= RFC 6455 section 5.1: "a client MUST mask all frames that it sends to the server"
    //= RFC 6455 section 6.1: "If the data is being sent by the client, the frame(s) MUST be masked as defined in
    //=   Section 5.3."
    write_header(opcode, Some(key), payload.len(), out);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[payload_start..], key, 0);
}

pub(super) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

fn encode(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let header_bytes = FrameHeader::default().len(payload.len() as u64);
    let mut frame = Vec::with_capacity(header_bytes + payload.len());
    write(opcode, payload, &mut frame);
    frame
}

fn write(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    //= RFC 6455 section 5.1: "A server MUST NOT mask any frames that it sends to the client."
    write_header(opcode, None, payload.len(), out);
    out.extend_from_slice(payload);
}

fn write_header(opcode: OpCode, mask: Option<[u8; 4]>, payload_bytes: usize, out: &mut Vec<u8>) {
    //= RFC 6455 section 5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values."
    //= RFC 6455 section 5.3: "A masked frame MUST have the field frame-masked set to 1"
    //= RFC 6455 section 6.1: "The FIN bit (frame-fin) of the last frame containing the data MUST be set to 1"
    let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
    header.format(payload_bytes as u64, out).expect("a Vec takes every write");
}

/// A frame's header, checked against the rules that need nothing but the header itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub(super) kind: FrameKind,
    pub(super) is_final: bool,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) header_bytes: usize,
    pub(super) payload_bytes: usize,
}

/// The six opcodes that exist (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Continuation,
    Text,
    Binary,
    Control(ControlKind),
}

/// The opcodes of control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlKind {
    Close,
    Ping,
    Pong,
}

impl FrameHead {
    /// The header at the start of `bytes`; `None` if it is not all there yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Close> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Close::BadFrame("reserved opcode"))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        let header_bytes = header.len(length);
        //= RFC 6455 section 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length"
        if cursor.position() != header_bytes as u64 {
            return Err(Close::BadFrame("a payload length must be in its shortest form"));
        }
        //= RFC 6455 section 5.2: "(the most significant bit MUST be 0)"
        if (i64::MAX as u64) < length {
            return Err(Close::BadFrame("the highest bit of a payload length must be zero"));
        }
        //= RFC 6455 section 5.2: "the negotiated extensions defines the meaning of such a nonzero value, the receiving
        //=   endpoint MUST _Fail the WebSocket Connection_."
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Close::BadFrame("reserved bits are set, but no extension was agreed on"));
        }
        let kind = FrameKind::of(header.opcode)?;
        check_control(kind, header.is_final, length)?;
        let payload_bytes = usize::try_from(length).map_err(|_| Close::MessageTooBig)?;
        Ok(Some(Self { kind, is_final: header.is_final, mask: header.mask, header_bytes, payload_bytes }))
    }

    /// How many bytes the whole frame takes.
    pub(super) fn frame_bytes(&self) -> usize {
        self.header_bytes.saturating_add(self.payload_bytes)
    }
}

impl FrameKind {
    fn of(opcode: OpCode) -> Result<Self, Close> {
        Ok(match opcode {
            OpCode::Data(Data::Continue) => Self::Continuation,
            OpCode::Data(Data::Text) => Self::Text,
            OpCode::Data(Data::Binary) => Self::Binary,
            OpCode::Control(Control::Close) => Self::Control(ControlKind::Close),
            OpCode::Control(Control::Ping) => Self::Control(ControlKind::Ping),
            OpCode::Control(Control::Pong) => Self::Control(ControlKind::Pong),
            //= RFC 6455 section 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
            //=   Connection_."
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                return Err(Close::BadFrame("reserved opcode"));
            }
        })
    }
}

fn check_control(kind: FrameKind, is_final: bool, payload_bytes: u64) -> Result<(), Close> {
    if !matches!(kind, FrameKind::Control(_)) {
        return Ok(());
    }
    //= RFC 6455 section 5.4: "Control frames themselves MUST NOT be fragmented."
    if !is_final {
        return Err(Close::BadFrame("control frames must not be fragmented"));
    }
    //= RFC 6455 section 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be
    //=   fragmented."
    if (CONTROL_BYTES_MAX as u64) < payload_bytes {
        return Err(Close::BadFrame("control frames have at most 125 bytes of payload"));
    }
    Ok(())
}

/// The code of a received close frame, its payload checked (RFC 6455 sections 5.5.1 and 7.4); `None` if it has none.
pub(super) fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        //= RFC 6455 section 5.5.1: "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
        //=   integer"
        [_] => return Err(Close::BadFrame("a close frame's payload has a whole code or nothing")),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    // Section 7.4.2, and the IANA registry for 1012 to 1014. 1004, 1005, 1006 and 1015 never stand in a frame.
    //= RFC 6455 section 7.4.1: "is a reserved value and MUST NOT be set as a status code in a Close control frame by an
    //=   endpoint."
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Close::BadFrame("this close code must not be sent"));
    }
    //= RFC 6455 section 8.1: "that endpoint MUST _Fail the WebSocket Connection_."
    simdutf8::basic::from_utf8(reason).map_err(|_| Close::BadUtf8)?;
    Ok(Some(code))
}
