//! Masking (RFC 6455 section 5.3): the same operation hides and reveals.

/// XORs `bytes` with the key, repeated; `offset` says how many bytes of the payload came before.
pub(super) fn apply(bytes: &mut [u8], key: [u8; 4], offset: usize) {
    let key = rotate(key, offset);
    let wide_key = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide_key).to_ne_bytes();
    }
    for (byte, key_byte) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key_byte;
    }
}

fn rotate(mut key: [u8; 4], offset: usize) -> [u8; 4] {
    key.rotate_left(offset % 4);
    key
}
