//! Version 1: one line of text (section 2.1 of the specification).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::close::Close;

use super::header::{BAD_HEADER, ProxyHeader};

/// What a header begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line, with CR LF.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, Close> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(line_end) = memchr::memchr(b'\n', window) else {
        return if window.len() == LINE_BYTES_MAX { Err(BAD_HEADER) } else { Ok(None) };
    };
    let text = window[..line_end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let fields = text.and_then(|line| line.strip_prefix("PROXY ")).ok_or(BAD_HEADER)?;
    Ok(Some(ProxyHeader { source: read_source(fields).ok_or(BAD_HEADER)?, bytes: line_end + 1 }))
}

/// The fields behind `PROXY`, separated by one space each; the outer `None`: they are malformed.
fn read_source(fields: &str) -> Option<Option<IpAddr>> {
    let fields: Vec<&str> = fields.split(' ').collect();
    match fields[..] {
        // The receiver must ignore what follows.
        ["UNKNOWN", ..] => Some(None),
        ["TCP4", source, destination, source_port, destination_port] => {
            let (source, _) = (source.parse::<Ipv4Addr>().ok()?, destination.parse::<Ipv4Addr>().ok()?);
            are_ports([source_port, destination_port]).then_some(Some(source.into()))
        }
        ["TCP6", source, destination, source_port, destination_port] => {
            let (source, _) = (source.parse::<Ipv6Addr>().ok()?, destination.parse::<Ipv6Addr>().ok()?);
            are_ports([source_port, destination_port]).then_some(Some(source.to_canonical()))
        }
        _ => None,
    }
}

/// Decimal, without a sign or leading zeros.
fn are_ports(texts: [&str; 2]) -> bool {
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port.to_string() == text);
    texts.into_iter().all(is_port)
}
