//! A message over the size limit: how many bytes to skip, read from the message's head alone.

/// The head of a message whose payload is over the limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Oversize<'a> {
    /// The pattern it came through, if it did.
    pub(super) pattern: Option<&'a [u8]>,
    pub(super) channel: &'a [u8],
    /// What the whole message takes in the stream, head and line ends included.
    pub(super) bytes: usize,
}

/// Reads the head of a message (`*3` or `>3`: kind, channel, payload; four with a pattern) up to its payload's length.
/// `None` if something else stands there, or a channel's name is as long as that.
pub(super) fn measure(bytes: &[u8], bulk_bytes_max: usize) -> Option<Oversize<'_>> {
    let (kind, head) = line(bytes)?;
    let names = match kind {
        b"*3" | b">3" => 2,
        b"*4" | b">4" => 3,
        _ => return None,
    };
    let mut rest = head;
    let mut channel: &[u8] = &[];
    let mut pattern = None;
    for index in 0..names {
        // The kind, then the pattern if there is one, then the channel.
        pattern = (index == 2).then_some(channel);
        (channel, rest) = bulk(rest, bulk_bytes_max)?;
    }
    let (payload_bytes, rest) = length(rest)?;
    let bytes = (bytes.len() - rest.len()).checked_add(payload_bytes)?.checked_add(2)?;
    (bulk_bytes_max < payload_bytes).then_some(Oversize { pattern, channel, bytes })
}

fn bulk(bytes: &[u8], bulk_bytes_max: usize) -> Option<(&[u8], &[u8])> {
    let (bulk_bytes, rest) = length(bytes)?;
    if bulk_bytes_max < bulk_bytes {
        return None;
    }
    let (bulk, rest) = rest.split_at_checked(bulk_bytes)?;
    Some((bulk, rest.strip_prefix(b"\r\n")?))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = line(bytes)?;
    Some((std::str::from_utf8(length.strip_prefix(b"$")?).ok()?.parse().ok()?, rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', bytes)?;
    Some((&bytes[..end], bytes[end..].strip_prefix(b"\r\n")?))
}
