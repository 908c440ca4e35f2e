//! Input of a client that is incomplete: a header, a frame or a message.

use crate::close::Close;

use super::{
    Message, WebSocketLimits,
    frame::{CONTROL_BYTES_MAX, FrameHead, FrameKind, HEADER_BYTES_MAX},
    mask,
    session::{Sink, parse_header},
    utf8::TextAssembly,
};

/// An incomplete header, frame and message, in any combination.
#[derive(Debug, Default)]
pub(super) struct PartialInput {
    /// The first bytes of an incomplete header.
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: usize,
    /// The frame with an incomplete payload.
    frame: Option<PartialFrame>,
    /// The incomplete data message.
    message: Option<MessageAssembly>,
    /// The payload so far of a control frame, which may come between a message's frames.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct PartialFrame {
    kind: FrameKind,
    is_final: bool,
    key: [u8; 4],
    received_bytes: usize,
    payload_bytes: usize,
}

impl PartialInput {
    /// Whether there is nothing unfinished: the memory can go.
    pub(super) fn is_nothing(&self) -> bool {
        self.head_bytes == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Memory for the incomplete message, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.control.len() + self.message.as_ref().map_or(0, MessageAssembly::len)
    }

    /// Receives the rest of a header, or a piece of payload. Returns the number of bytes taken.
    pub(super) fn receive(&mut self, bytes: &mut [u8], sink: &mut Sink<'_>) -> Result<usize, Close> {
        let consumed = match self.frame {
            None => self.receive_header(bytes, sink)?,
            Some(_) => self.receive_payload(bytes)?,
        };
        if let Some(frame) = self.frame.take_if(|frame| frame.received_bytes == frame.payload_bytes) {
            self.finish_frame(frame, sink)?;
        }
        Ok(consumed)
    }

    fn receive_header(&mut self, bytes: &[u8], sink: &Sink<'_>) -> Result<usize, Close> {
        let known_bytes = self.head_bytes;
        let taken = bytes.len().min(HEADER_BYTES_MAX - known_bytes);
        self.head[known_bytes..known_bytes + taken].copy_from_slice(&bytes[..taken]);
        let Some((header, key)) = parse_header(&self.head[..known_bytes + taken])? else {
            self.head_bytes += taken;
            return Ok(taken);
        };
        self.start_message_part(&header, sink.limits)?;
        let FrameHead { kind, is_final, payload_bytes, .. } = header;
        self.frame = Some(PartialFrame { kind, is_final, key, received_bytes: 0, payload_bytes });
        self.head_bytes = 0;
        Ok(header.header_bytes - known_bytes)
    }

    /// The rules on fragments (RFC 6455 section 5.4), and the limits, before anything is kept.
    fn start_message_part(&mut self, header: &FrameHead, limits: &WebSocketLimits) -> Result<(), Close> {
        //= RFC 6455 section 5.4: "Clients and servers MUST support receiving both fragmented and unfragmented
        //=   messages."
        match (header.kind, &self.message) {
            //= RFC 6455 section 5.4: "An endpoint MUST be capable of handling control frames in the middle of a
            //=   fragmented message."
            (FrameKind::Control(_), _) => return Ok(()),
            (FrameKind::Continuation, None) => return Err(Close::BadFrame("there is no message to continue")),
            //= RFC 6455 section 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of
            //=   another message"
            (FrameKind::Text | FrameKind::Binary, Some(_)) => {
                return Err(Close::BadFrame("the last message is not finished"));
            }
            //= RFC 6455 section 6.2: "the endpoint MUST note the /type/ of the data as defined by the opcode"
            (FrameKind::Text, None) => {
                self.message = Some(MessageAssembly::new(PayloadAssembly::Text(TextAssembly::default())))
            }
            (FrameKind::Binary, None) => self.message = Some(MessageAssembly::new(PayloadAssembly::Binary(Vec::new()))),
            (FrameKind::Continuation, Some(_)) => {}
        }
        match &mut self.message {
            Some(message) => message.claim(header.payload_bytes, limits),
            None => Ok(()),
        }
    }

    fn receive_payload(&mut self, bytes: &mut [u8]) -> Result<usize, Close> {
        let Some(frame) = &mut self.frame else { return Ok(0) };
        let taken = bytes.len().min(frame.payload_bytes - frame.received_bytes);
        let piece = &mut bytes[..taken];
        //= RFC 6455 section 6.2: "A server MUST remove masking for data frames received from a client as described in
        //=   Section 5.3."
        mask::apply(piece, frame.key, frame.received_bytes);
        frame.received_bytes += taken;
        match (frame.kind, &mut self.message) {
            (FrameKind::Control(_), _) => {
                debug_assert!(self.control.len() + taken <= CONTROL_BYTES_MAX);
                self.control.extend_from_slice(piece);
            }
            //= RFC 6455 section 5.4: "Message fragments MUST be delivered to the recipient in the order sent by the
            //=   sender."
            (_, Some(message)) => message.push(piece)?,
            (_, None) => return Err(Close::Internal("a data frame without its message")),
        }
        Ok(taken)
    }

    fn finish_frame(&mut self, frame: PartialFrame, sink: &mut Sink<'_>) -> Result<(), Close> {
        if let FrameKind::Control(kind) = frame.kind {
            let payload = std::mem::take(&mut self.control);
            return sink.take_control(kind, &payload);
        }
        if frame.is_final
            //= RFC 6455 section 6.2: "Subsequent data frames MUST be interpreted as belonging to a new WebSocket
            //=   message."
            && let Some(message) = self.message.take()
        {
            sink.messages.push(message.finish()?);
        }
        Ok(())
    }
}

/// An incomplete data message. It grows with what arrives, not with the length in a header.
#[derive(Debug)]
struct MessageAssembly {
    payload: PayloadAssembly,
    fragments: u32,
}

#[derive(Debug)]
enum PayloadAssembly {
    Text(TextAssembly),
    Binary(Vec<u8>),
}

impl MessageAssembly {
    fn new(payload: PayloadAssembly) -> Self {
        Self { payload, fragments: 0 }
    }

    /// Counts a frame of `payload_bytes`, if the limits allow it.
    fn claim(&mut self, payload_bytes: usize, limits: &WebSocketLimits) -> Result<(), Close> {
        self.fragments += 1;
        let room_bytes = limits.message_bytes_max.saturating_sub(self.len());
        //= RFC 6455 section 10.4: "MUST protect themselves against exceeding those limits."
        if limits.fragments_max < self.fragments || room_bytes < payload_bytes {
            return Err(Close::MessageTooBig);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        match &self.payload {
            PayloadAssembly::Text(text) => text.len(),
            PayloadAssembly::Binary(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Close> {
        match &mut self.payload {
            PayloadAssembly::Text(text) => text.push(piece)?,
            PayloadAssembly::Binary(bytes) => bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, Close> {
        Ok(match self.payload {
            PayloadAssembly::Text(text) => Message::Text(text.finish()?),
            PayloadAssembly::Binary(bytes) => Message::Binary(bytes),
        })
    }
}
