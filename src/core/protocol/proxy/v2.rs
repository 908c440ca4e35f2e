//! Version 2: binary (section 2.2 of the specification).

use core::net::IpAddr;

use crate::close::Close;

use super::header::{BAD_HEADER, ProxyHeader};

/// What a header begins with.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, and the length of the rest.
const FIXED_BYTES: usize = 16;

/// The version, in the high half of its byte.
const VERSION: u8 = 0x20;
/// Commands, in the low half of the same byte.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Address families, in the high half of their byte, and what each one's addresses take: source, destination, ports.
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

/// Transport protocols run to this, in the low half: unspecified, stream, datagram.
const TRANSPORT_MAX: u8 = 2;

pub(super) fn parse(bytes: &[u8], header_bytes_max: usize) -> Result<Option<ProxyHeader>, Close> {
    // Each byte is judged as it comes.
    let version_command = bytes.get(12).copied().unwrap_or(VERSION | LOCAL);
    let family_transport = bytes.get(13).copied().unwrap_or(UNSPECIFIED);
    let (command, family) = (version_command & 0x0f, family_transport >> 4);
    let known = PROXY >= command && UNIX >= family && TRANSPORT_MAX >= family_transport & 0x0f;
    if version_command & 0xf0 != VERSION || !known {
        return Err(BAD_HEADER);
    }
    let (Some(high), Some(low)) = (bytes.get(14), bytes.get(15)) else { return Ok(None) };
    let header_bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if header_bytes_max < header_bytes {
        return Err(Close::BadRequest("the PROXY protocol header is too large"));
    }
    let Some(rest) = bytes.get(FIXED_BYTES..header_bytes) else { return Ok(None) };
    let source = if command == LOCAL { None } else { read_source(family, rest)? };
    Ok(Some(ProxyHeader { source, bytes: header_bytes }))
}

/// The source address at the start of `rest`. Behind the addresses there may be fields of all kinds, which say nothing
/// about it.
fn read_source(family: u8, rest: &[u8]) -> Result<Option<IpAddr>, Close> {
    let address_bytes = match family {
        INET => INET_BYTES,
        INET6 => INET6_BYTES,
        UNIX => UNIX_BYTES,
        _ => 0,
    };
    if rest.len() < address_bytes {
        return Err(BAD_HEADER);
    }
    Ok(match family {
        INET => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        INET6 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets).to_canonical()),
        _ => None,
    })
}
