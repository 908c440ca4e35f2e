//! Headers that the hub owns: those of a message that came, and those of one that it publishes.

use std::borrow::Cow;

use bytes::Bytes;

use crate::protocol::nats::HeaderBlock;

/// Headers by name, as one block of bytes. What came from elsewhere may hold anything (see [`HeaderBlock`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Headers(Bytes);

impl Headers {
    /// What came.
    pub(super) fn received(block: Bytes) -> Self {
        Self(block)
    }

    /// Headers to publish. A line end in a name or a value would end the header, so there must be none: it becomes a blank.
    pub(super) fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut block = b"NATS/1.0\r\n".to_vec();
        let blank = |byte: u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        for (name, value) in pairs {
            block.extend(name.bytes().map(blank));
            block.extend_from_slice(b": ");
            block.extend(value.bytes().map(blank));
            block.extend_from_slice(b"\r\n");
        }
        block.extend_from_slice(b"\r\n");
        Self::received(block.into())
    }

    /// The first value of `name`; `None` also if it is no text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.block().get(name)?).ok()
    }

    /// The first value of `name` as text, in which `%` and two hexadecimal digits stand for each byte that is none.
    pub(super) fn get_escaped(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.block().get(name)?;
        Some(match std::str::from_utf8(value) {
            Ok(text) => text.into(),
            Err(_) => {
                let escape = |chunk: std::str::Utf8Chunk<'_>| {
                    let bytes: String = chunk.invalid().iter().map(|byte| format!("%{byte:02X}")).collect();
                    chunk.valid().to_owned() + &bytes
                };
                value.utf8_chunks().map(escape).collect::<String>().into()
            }
        })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The block, as it stands in the protocol.
    fn block(&self) -> HeaderBlock<'_> {
        HeaderBlock::new(&self.0)
    }
}
