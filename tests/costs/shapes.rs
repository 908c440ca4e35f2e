//! Inputs that are dear to read, of about so many bytes.

/// `part` over and over, between `open` and `close`.
pub(super) fn repeated(open: &str, part: &str, close: &str, bytes: usize) -> String {
    let count = bytes.saturating_sub(open.len() + close.len()) / part.len();
    [open, &part.repeat(count.max(1)), close].concat()
}

/// A value of about so many bytes.
pub(super) type Shape = fn(usize) -> String;

/// JSON values of many shapes.
pub(super) const JSON: &[(&str, Shape)] = &[
    ("empty objects", |bytes| repeated("[{}", ",{}", "]", bytes)),
    ("empty arrays", |bytes| repeated("[[]", ",[]", "]", bytes)),
    ("numbers", |bytes| repeated("[1", ",1", "]", bytes)),
    ("short strings", |bytes| repeated("[\"\"", ",\"a\"", "]", bytes)),
    ("escapes", |bytes| repeated("\"", "\\u00e9", "\"", bytes)),
    ("quotes", |bytes| repeated("\"", "\\\"", "\"", bytes)),
    ("spaces", |bytes| repeated("[", " ", "]", bytes)),
    ("digits", |bytes| repeated("1", "1", "", bytes)),
    ("deep arrays", |bytes| nested("[", "", "]", bytes)),
    ("deep objects", |bytes| nested("{\"a\":", "1", "}", bytes)),
    ("members", |bytes| repeated("{\"a\":1", ",\"a\":1", "}", bytes)),
    ("nested binaries", |bytes| nested("{\"$binary\":", "1", "}", bytes)),
    ("binaries", |bytes| repeated("[{\"$binary\":\"\"}", ",{\"$binary\":\"\"}", "]", bytes)),
    ("bad binaries", |bytes| repeated("[{\"$binary\":\"A\"}", ",{\"$binary\":\"A\"}", "]", bytes)),
    ("half binaries", |bytes| repeated("[{\"$binary\":\"\",\"\":1}", ",{\"$binary\":\"\",\"\":1}", "]", bytes)),
    ("half placeholders", |bytes| repeated("[{\"_placeholder\":true}", ",{\"_placeholder\":true}", "]", bytes)),
    ("placeholder keys", |bytes| nested("{\"num\":", "1", "}", bytes)),
    ("lines", |bytes| repeated("[\n", "\n", "1]", bytes)),
];

/// `open` over and over, then `core`, then as many times `close`.
fn nested(open: &str, core: &str, close: &str, bytes: usize) -> String {
    let depth = bytes / (open.len() + close.len());
    [&open.repeat(depth), core, &close.repeat(depth)].concat()
}
