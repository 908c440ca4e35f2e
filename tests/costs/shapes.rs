//! Inputs that are dear to read, of about so many bytes.

/// `part` over and over, between `open` and `close`.
pub(super) fn repeated(open: &str, part: &str, close: &str, bytes: usize) -> String {
    let count = bytes.saturating_sub(open.len() + close.len()) / part.len();
    [open, &part.repeat(count.max(1)), close].concat()
}

/// JSON values of many shapes, each of about so many bytes.
pub(super) fn json(bytes: usize) -> Vec<(&'static str, String)> {
    let depth = bytes / 2;
    vec![
        ("empty objects", repeated("[{}", ",{}", "]", bytes)),
        ("empty arrays", repeated("[[]", ",[]", "]", bytes)),
        ("numbers", repeated("[1", ",1", "]", bytes)),
        ("short strings", repeated("[\"\"", ",\"a\"", "]", bytes)),
        ("escapes", repeated("\"", "\\u00e9", "\"", bytes)),
        ("quotes", repeated("\"", "\\\"", "\"", bytes)),
        ("spaces", repeated("[", " ", "]", bytes)),
        ("digits", repeated("1", "1", "", bytes)),
        ("deep arrays", ["[".repeat(depth), "]".repeat(depth)].concat()),
        ("deep objects", ["{\"a\":".repeat(bytes / 6), "1".into(), "}".repeat(bytes / 6)].concat()),
        ("members", repeated("{\"a\":1", ",\"a\":1", "}", bytes)),
        ("nested binaries", ["{\"$binary\":".repeat(bytes / 12), "1".into(), "}".repeat(bytes / 12)].concat()),
        ("binaries", repeated("[{\"$binary\":\"\"}", ",{\"$binary\":\"\"}", "]", bytes)),
        ("bad binaries", repeated("[{\"$binary\":\"A\"}", ",{\"$binary\":\"A\"}", "]", bytes)),
        ("half binaries", repeated("[{\"$binary\":\"\",\"\":1}", ",{\"$binary\":\"\",\"\":1}", "]", bytes)),
        ("half placeholders", repeated("[{\"_placeholder\":true}", ",{\"_placeholder\":true}", "]", bytes)),
        ("placeholder keys", ["{\"num\":".repeat(bytes / 8), "1".into(), "}".repeat(bytes / 8)].concat()),
        ("lines", repeated("[\n", "\n", "1]", bytes)),
    ]
}
