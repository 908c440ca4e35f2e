//! The client's address in the fields of a request from a trusted proxy.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::protocol::http::Request;

use super::Trusted;

/// The client that sent `request` through a trusted proxy: the rightmost address of the list that is not itself trusted, or the
/// leftmost if all are. Addresses left of it may be forged.
///
/// `X-Forwarded-For` decides if it is present, and `Forwarded` (RFC 7239) is ignored then: nearly every proxy adds to the
/// former, and few remove the latter. So a proxy that adds `Forwarded` must remove `X-Forwarded-For`. `None` if neither is
/// present or the deciding entry is not an address.
pub fn client_address(request: &Request, trusted: &Trusted) -> Option<IpAddr> {
    let mut lists = request.header_values("x-forwarded-for").peekable();
    if lists.peek().is_some() {
        let items: Vec<&[u8]> = lists.flat_map(|list| list.split(|byte| *byte == b',')).collect();
        return rightmost(items.into_iter().rev().map(read_node), trusted);
    }
    let lists: Vec<&[u8]> = request.header_values("forwarded").collect();
    let elements: Vec<&[u8]> = lists.iter().flat_map(|list| split_quoted(list, b',')).collect();
    rightmost(elements.into_iter().rev().map(read_element), trusted)
}

/// The first of `nodes` (nearest first) that is not trusted, else the farthest.
fn rightmost(nodes: impl Iterator<Item = Option<IpAddr>>, trusted: &Trusted) -> Option<IpAddr> {
    let mut farthest = None;
    for node in nodes {
        farthest = Some(node?);
        if !trusted.contains(farthest) {
            break;
        }
    }
    farthest
}

/// The `for` of one element, such as `for="[2001:db8::1]:4711";proto=https` (RFC 7239 section 4).
fn read_element(element: &[u8]) -> Option<IpAddr> {
    let pairs = split_quoted(element, b';');
    let mut named = pairs.iter().filter_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at(at);
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value[1..].trim_ascii())
    });
    let node = named.next()?;
    // A parameter must not occur twice in an element.
    if named.next().is_some() { None } else { read_node(unquoted(node)) }
}

/// An address, with or without a port; IPv6 also in brackets (RFC 7239 section 6). Neither a name nor `unknown`.
fn read_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|node| node.ip());
    bare().or_else(bracketed).or_else(with_port).map(|address| address.to_canonical())
}

/// Splits at `separator`, except within quotes.
fn split_quoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = |byte: &u8| {
        let ends = *byte == separator && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && quoted && !escaped;
        ends
    };
    text.split(is_separator).collect()
}

/// No address has anything in it that would have to be escaped.
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}
