//! The client's side: what the load generator and the other tools speak. Frames are read where they lie.

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::close::Close;

pub use super::handshake::{check_accept, encode_key, write_upgrade};

use super::{
    WebSocketLimits,
    frame::{self, ControlKind, FrameHead, FrameKind},
};

/// Appends a masked text message. `payload` must be UTF-8; `mask` should be unpredictable (RFC 6455 section 5.3), which
/// only protects proxies on the way.
pub fn write_masked_text(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    frame::write_masked(OpCode::Data(Data::Text), payload, mask, out);
}

/// Appends a masked binary message.
pub fn write_masked_binary(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    frame::write_masked(OpCode::Data(Data::Binary), payload, mask, out);
}

/// Appends a masked ping. `payload` has at most 125 bytes.
pub fn write_masked_ping(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    frame::write_masked(OpCode::Control(Control::Ping), payload, mask, out);
}

/// Appends a masked pong. `payload` is that of the ping it answers.
pub fn write_masked_pong(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    frame::write_masked(OpCode::Control(Control::Pong), payload, mask, out);
}

/// Appends a masked close frame. A reason over 123 bytes is cut at a character's end.
pub fn write_masked_close(code: u16, reason: &str, mask: [u8; 4], out: &mut Vec<u8>) {
    frame::write_masked(OpCode::Control(Control::Close), &frame::close_payload(code, reason), mask, out);
}

/// The first byte of a text message in one frame.
const WHOLE_TEXT: u8 = 0x81;

/// What a server sent, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// A whole text message. Whether it is UTF-8 is left to its reader.
    Text(&'a [u8]),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong(&'a [u8]),
    /// The end: to be answered with a close frame.
    Close {
        /// Why (RFC 6455 section 7.4).
        code: Option<u16>,
        /// Why, in words.
        reason: &'a str,
    },
}

/// Cuts what a server sends into frames. Owns memory only for a frame or message that is not all there.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The first bytes of a frame that is not all there.
    partial: Vec<u8>,
    /// The fragments so far of a message.
    message: Option<Box<Fragments>>,
}

#[derive(Debug)]
struct Fragments {
    is_text: bool,
    count: u32,
    payload: Vec<u8>,
}

impl FrameReader {
    /// Nothing received, nothing allocated.
    pub const fn new() -> Self {
        Self { partial: Vec::new(), message: None }
    }

    /// Takes `piece`, all of it, and calls `each` with every frame that it completes. A frame that lies whole in `piece`
    /// is not copied. After an error the connection is of no more use.
    pub fn receive(
        &mut self,
        mut piece: &[u8],
        limits: &WebSocketLimits,
        mut each: impl FnMut(ServerFrame<'_>),
    ) -> Result<(), Close> {
        if !self.partial.is_empty() {
            piece = self.complete_partial(piece, limits, &mut each)?;
        }
        while !piece.is_empty() {
            if let Some((payload, behind)) = self.split_text(piece, limits) {
                each(ServerFrame::Text(payload));
                piece = behind;
                continue;
            }
            let Some(header) = parse_header(piece, limits)? else { break };
            let Some(payload) = piece.get(header.header_bytes..header.frame_bytes()) else { break };
            self.take_frame(&header, payload, limits, &mut each)?;
            piece = &piece[header.frame_bytes()..];
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }

    /// The short way for what nearly every frame is: one whole, small text message. `None` sends the rest, and all that
    /// is wrong, the long way.
    fn split_text<'a>(&self, piece: &'a [u8], limits: &WebSocketLimits) -> Option<(&'a [u8], &'a [u8])> {
        let (payload_bytes, rest) = match *piece {
            [WHOLE_TEXT, length @ ..126, ref rest @ ..] => (usize::from(length), rest),
            // The long form of a small length is wrong.
            [WHOLE_TEXT, 126, 0, 0..126, ..] => return None,
            [WHOLE_TEXT, 126, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
            _ => return None,
        };
        if self.message.is_some() || limits.message_bytes_max < payload_bytes {
            return None;
        }
        rest.split_at_checked(payload_bytes)
    }

    /// Brings the frame begun earlier to its end, if `piece` reaches so far; returns what lies behind it.
    fn complete_partial<'a>(
        &mut self,
        piece: &'a [u8],
        limits: &WebSocketLimits,
        each: &mut impl FnMut(ServerFrame<'_>),
    ) -> Result<&'a [u8], Close> {
        let mut rest = piece;
        let header = loop {
            if let Some(header) = parse_header(&self.partial, limits)? {
                break header;
            }
            let Some((byte, behind)) = rest.split_first() else { return Ok(rest) };
            self.partial.push(*byte);
            rest = behind;
        };
        let missing_bytes = header.frame_bytes() - self.partial.len();
        let Some((last, behind)) = rest.split_at_checked(missing_bytes) else {
            self.partial.extend_from_slice(rest);
            return Ok(&[]);
        };
        self.partial.extend_from_slice(last);
        let whole = std::mem::take(&mut self.partial);
        self.take_frame(&header, &whole[header.header_bytes..], limits, each)?;
        Ok(behind)
    }

    fn take_frame(
        &mut self,
        header: &FrameHead,
        payload: &[u8],
        limits: &WebSocketLimits,
        each: &mut impl FnMut(ServerFrame<'_>),
    ) -> Result<(), Close> {
        //= RFC 6455 section 5.4: "Clients and servers MUST support receiving both fragmented and unfragmented
        //=   messages."
        match (header.kind, &self.message) {
            (FrameKind::Control(kind), _) => each(control_frame(kind, payload)?),
            (FrameKind::Text, None) if header.is_final => each(ServerFrame::Text(payload)),
            (FrameKind::Binary, None) if header.is_final => each(ServerFrame::Binary(payload)),
            //= RFC 6455 section 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
            //=   another message"
            (FrameKind::Text | FrameKind::Binary, Some(_)) => {
                return Err(Close::BadFrame("the last message is not finished"));
            }
            (FrameKind::Continuation, None) => return Err(Close::BadFrame("there is no message to continue")),
            _ => self.take_fragment(header, payload, limits, each)?,
        }
        Ok(())
    }

    fn take_fragment(
        &mut self,
        header: &FrameHead,
        payload: &[u8],
        limits: &WebSocketLimits,
        each: &mut impl FnMut(ServerFrame<'_>),
    ) -> Result<(), Close> {
        let is_text = header.kind == FrameKind::Text;
        let message =
            self.message.get_or_insert_with(|| Box::new(Fragments { is_text, count: 0, payload: Vec::new() }));
        message.count += 1;
        let room_bytes = limits.message_bytes_max.saturating_sub(message.payload.len());
        if limits.fragments_max < message.count || room_bytes < payload.len() {
            return Err(Close::MessageTooBig);
        }
        message.payload.extend_from_slice(payload);
        if header.is_final
            && let Some(message) = self.message.take()
        {
            let payload = &message.payload;
            each(if message.is_text { ServerFrame::Text(payload) } else { ServerFrame::Binary(payload) });
        }
        Ok(())
    }
}

/// A server's header, which carries no mask (RFC 6455 section 5.1).
fn parse_header(bytes: &[u8], limits: &WebSocketLimits) -> Result<Option<FrameHead>, Close> {
    //= RFC 6455 section 10.7: "Incoming data MUST always be validated by both clients and servers."
    let Some(header) = FrameHead::parse(bytes)? else { return Ok(None) };
    //= RFC 6455 section 5.1: "A client MUST close a connection if it detects a masked frame."
    if header.mask.is_some() {
        return Err(Close::BadFrame("server frames must not be masked"));
    }
    if limits.message_bytes_max < header.payload_bytes && !matches!(header.kind, FrameKind::Control(_)) {
        return Err(Close::MessageTooBig);
    }
    Ok(Some(header))
}

fn control_frame(kind: ControlKind, payload: &[u8]) -> Result<ServerFrame<'_>, Close> {
    Ok(match kind {
        ControlKind::Ping => ServerFrame::Ping(payload),
        ControlKind::Pong => ServerFrame::Pong(payload),
        ControlKind::Close => {
            let code = frame::close_code(payload)?;
            let reason = payload.get(2..).unwrap_or_default();
            ServerFrame::Close { code, reason: std::str::from_utf8(reason).map_err(|_| Close::BadUtf8)? }
        }
    })
}

#[cfg(test)]
mod tests;
