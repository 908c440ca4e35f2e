//! Which slot of a Redis Cluster a key or a sharded channel is in.

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// The slot of `key`: CRC-16 (XMODEM) modulo [`SLOTS`]. If the key has something between its first `{` and the next `}`, only that
/// counts, so that keys can be put into one slot.
///
/// Source: Redis Cluster Specification, "Key distribution model" and "Hash tags".
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key)) % SLOTS
}

/// What counts of `key`.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        Some(length) if length != 0 => &rest[..length],
        _ => key,
    }
}

/// CRC-16 with the polynomial 0x1021, the initial value 0, and nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The first is the specification's check value; the others are answers of `CLUSTER KEYSLOT` of Redis 7.0.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        let check = |key: &str, expected: u16| assert_eq!(key_slot(key.as_bytes()), expected, "{key:?}");
        check("", 0);
        check("a", 15_495);
        check("b", 3300);
        check("c", 7365);
        check("foo", 12_182);
        check("{user1000}.following", 3443);
        check("{user1000}.followers", 3443);
        check("user1000", 3443);
        check("foo{}{bar}", 8363);
        check("foo{{bar}}zap", 4015);
        check("foo{bar}{zap}", 5061);
        check("bar", 5061);
        check("foo{bar", 15_278);
        check("conversations.42", 6523);
    }
}
