//! Frames: an event's complete bytes in one wire form, encoded once per process and shared by every connection.

use std::sync::OnceLock;

use crate::transport::Transport;

/// Everything that changes an event's bytes on the wire. Two peers that need different bytes use two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Sse(SseForm),
    /// One WebSocket text message: the payload, verbatim.
    WebSocketRaw,
    /// One WebSocket text message: the `fanfare.v1` envelope.
    FanfareV1,
    /// WebSocket messages: an event of Socket.IO in the namespace `/`. A session that polls carry gets the same messages
    /// in another wrapping.
    SocketIo(SocketIoForm),
}

/// The variants of the Socket.IO form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketIoForm {
    /// With the place in the topic as the last argument, by which a client may come back.
    pub offset: bool,
    /// A session gets frames of its own, made from those without a place; sessions of the same clients at the same places share
    /// them.
    pub own: bool,
}

/// A [`Format`] in one byte, for what is looked at once per delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormatCode(u8);

impl FormatCode {
    const INDEX: u8 = 0x0f;
    const SEVERAL: u8 = 0x20;
    const OFFSET: u8 = 0x40;
    const OWN: u8 = 0x80;

    /// The format's place in a [`FrameCache`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0 & Self::INDEX)
    }

    /// As [`Format::is_shared`].
    #[inline]
    pub fn is_shared(self) -> bool {
        self.0 & Self::OWN == 0
    }

    /// The same format, of a connection that is written to from all its topics at once.
    pub fn several(self) -> Self {
        Self(self.0 | Self::SEVERAL)
    }

    /// Whether it is of a connection that is written to from all its topics at once.
    #[inline]
    pub fn is_several(self) -> bool {
        self.0 & Self::SEVERAL != 0
    }

    /// The byte itself: different formats have different ones.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The format it stands for.
    pub fn format(self) -> Format {
        match self.0 & Self::INDEX {
            0 => Format::WebSocketRaw,
            1 => Format::FanfareV1,
            index @ 2..10 => {
                let bits = index - 2;
                let [named, chunked, with_id] = [1, 2, 4].map(|bit| bits & bit != 0);
                Format::Sse(SseForm { named, chunked, with_id })
            }
            _ => Format::SocketIo(SocketIoForm { offset: self.0 & Self::OFFSET != 0, own: !self.is_shared() }),
        }
    }
}

impl From<Format> for FormatCode {
    fn from(format: Format) -> Self {
        let offset = matches!(format, Format::SocketIo(SocketIoForm { offset: true, .. }));
        let own = !format.is_shared();
        // At most FORMAT_COUNT, which has room in four bits.
        Self(format.index() as u8 | if offset { Self::OFFSET } else { 0 } | if own { Self::OWN } else { 0 })
    }
}

/// The variants of the Server-Sent Events form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SseForm {
    /// With an `event:` line, if the event has a type. `named=0` leaves it out: everything arrives at `onmessage`.
    pub named: bool,
    /// Wrapped in one HTTP/1.1 chunk; to HTTP/1.0 and to proxies the bytes go bare.
    pub chunked: bool,
    /// With the `id:` line. A stream over several topics gets its own (a cursor vector) ahead of the shared frame.
    pub with_id: bool,
}

/// How many formats there are.
pub const FORMAT_COUNT: usize = 12;

impl Format {
    /// The format's place in a [`FrameCache`].
    pub fn index(self) -> usize {
        match self {
            Self::WebSocketRaw => 0,
            Self::FanfareV1 => 1,
            Self::Sse(form) => {
                2 + usize::from(form.named) + 2 * usize::from(form.chunked) + 4 * usize::from(form.with_id)
            }
            Self::SocketIo(form) => 10 + usize::from(form.offset && !form.own),
        }
    }

    /// Whether it has a form for a hole in the log. A connection in another format ends there.
    #[inline]
    pub fn has_gaps(self) -> bool {
        self != Self::WebSocketRaw
    }

    /// What a connection speaks that is written to in this format.
    pub fn transport(self) -> Transport {
        match self {
            Self::Sse(_) => Transport::Sse,
            Self::WebSocketRaw | Self::FanfareV1 => Transport::WebSocket,
            Self::SocketIo(_) => Transport::SocketIo,
        }
    }

    /// Whether a frame is all that a reader in this format gets of an event, so that readers may share it.
    #[inline]
    pub fn is_shared(self) -> bool {
        match self {
            Self::WebSocketRaw | Self::FanfareV1 => true,
            Self::Sse(form) => form.with_id,
            Self::SocketIo(form) => !form.own,
        }
    }
}

/// The frames of one event, each made by whoever asks first.
#[derive(Debug, Default)]
pub struct FrameCache {
    slots: [OnceLock<Box<[u8]>>; FORMAT_COUNT],
}

impl FrameCache {
    /// The frame in `format`, if somebody has asked for it before.
    #[inline]
    pub fn existing(&self, format: Format) -> Option<&[u8]> {
        self.slots[format.index()].get().map(AsRef::as_ref)
    }

    /// The frame in `format`; `encode` is called if nobody in the process has asked for it yet.
    #[inline]
    pub fn frame(&self, format: Format, encode: impl FnOnce() -> Vec<u8>) -> &[u8] {
        self.slots[format.index()].get_or_init(|| encode().into_boxed_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_place_of_its_own() {
        let mut places = vec![Format::WebSocketRaw.index(), Format::FanfareV1.index()];
        for bits in 0..8 {
            let form = SseForm { named: bits & 1 != 0, chunked: bits & 2 != 0, with_id: bits & 4 != 0 };
            places.push(Format::Sse(form).index());
        }
        for offset in [false, true] {
            places.push(Format::SocketIo(SocketIoForm { offset, own: false }).index());
        }
        places.sort_unstable();
        assert_eq!(places, (0..FORMAT_COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_code_stands_for_its_format() {
        let sse = (0..8)
            .map(|bits| Format::Sse(SseForm { named: bits & 1 != 0, chunked: bits & 2 != 0, with_id: bits & 4 != 0 }));
        let socket_io = (0..4).map(|bits| Format::SocketIo(SocketIoForm { offset: bits & 1 != 0, own: bits & 2 != 0 }));
        for format in sse.chain(socket_io).chain([Format::WebSocketRaw, Format::FanfareV1]) {
            let code = FormatCode::from(format);
            assert_eq!(code.format(), format);
            assert_eq!((code.index(), code.is_shared()), (format.index(), format.is_shared()), "{format:?}");
            let several = code.several();
            assert_eq!((code.is_several(), several.is_several()), (false, true), "{format:?}");
            assert_eq!(
                (several.format(), several.index(), several.is_shared()),
                (format, code.index(), code.is_shared())
            );
        }
    }

    #[test]
    fn encodes_once() {
        let cache = FrameCache::default();
        assert_eq!(cache.frame(Format::WebSocketRaw, || b"first".to_vec()), b"first");
        assert_eq!(cache.frame(Format::WebSocketRaw, || unreachable!()), b"first");
    }
}
