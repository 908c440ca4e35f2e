//! What is JSON and what is not, beside serde's readers of whole texts.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

/// Texts of which each is good or bad, and none like the other.
const TEXTS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "10",
    "-1.50",
    "1e5",
    "1E+5",
    "2.5e-07",
    "\"\"",
    "\"é🎺\"",
    "{}",
    "[]",
    " [ ] ",
    "[1,2]",
    "[1, \"2\" ,{\"a\":[true,null]}]",
    "{\"a\":{\"b\":{}},\"c\":[[],[[]]]}",
    "{ \"a\" : 1 , \"b\" : 2 }\r\n\t",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u00e9\\u0000\\uD83C\\uDFBA\"",
    "\"]},{[\"",
    "{\"]\":\"}\\\"\"}",
    "[[[]]]",
    "123456789012345678901234567890",
    "1.7976931348623157e308",
    "1e-320",
    "\"a string of more than eight bytes\"",
    // None of these is JSON.
    "",
    " ",
    "nul",
    "nulll",
    "tru",
    "truefalse",
    "+1",
    "01",
    "-",
    "1.",
    ".5",
    "1e",
    "1e+",
    "0x1",
    "1 2",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "{\"a\":1]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{1:1}",
    "{,}",
    "[1]]",
    "{}{}",
    "\"",
    "\"a",
    "\"\\",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\n\"",
    "\"\u{1}\"",
    "'a'",
    "\"a\"b",
    "\u{a0}1",
    "[\"aaaaaaaaaaaaaaa\n\"]",
    "NaN",
    "-Infinity",
];

/// Each of them, each cut of each, and many that differ from one in a byte.
fn inputs() -> Vec<String> {
    let mut all: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    for text in TEXTS {
        all.extend(text.char_indices().map(|(cut, _)| text[..cut].to_owned()));
        for (at, changed) in text.char_indices() {
            for other in ['"', '\\', '{', '}', '[', ']', ',', ':', '1', 'e', '.', ' ', 'u', '\u{1f}'] {
                all.push(format!("{}{other}{}", &text[..at], &text[at + changed.len_utf8()..]));
            }
        }
    }
    all
}

#[test]
fn the_same_is_json_as_for_serde() {
    for text in inputs() {
        let is_good = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        assert_eq!(is_json(&text), is_good, "{text}: {:?}", check(&text));
        let is_strict = check(&text).is_ok_and(Traits::is_strict);
        assert_eq!(is_strict, serde_json::from_str::<Value>(&text).is_ok(), "{text}: {:?}", check(&text));
        // Whatever the text is, these come to an end.
        let _ = (skip(&text, 0), elements(&text).count(), Members::of(&text).map(Iterator::count), decode(&text));
        write_compact(&text, &mut String::new());
    }
}

#[test]
fn a_check_stops_and_goes_on() {
    for text in inputs() {
        let whole = Scanner::begin(&text, 0).advance(&text, usize::MAX).map(|scanned| scanned.expect("all of it"));
        for bytes in [1, 2, 7, 64] {
            let (mut scanner, mut steps) = (Scanner::begin(&text, 0), 0);
            let scanned = loop {
                steps += 1;
                match scanner.advance(&text, bytes) {
                    Ok(None) => assert!(steps <= text.len(), "{text}: no end"),
                    Ok(Some(scanned)) => break Ok(scanned),
                    Err(bad) => break Err(bad),
                }
            };
            assert_eq!(scanned, whole, "{text} by {bytes}");
        }
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    let mut scanner = Scanner::begin(&deep, 0);
    assert_eq!(scanner.advance(&deep, 10), Ok(None));
    assert_eq!(scanner.advance(&deep, 1000).map(|scanned| scanned.map(|scanned| scanned.end)), Ok(Some(200)));
}

#[test]
fn parts_make_the_same_values_as_serde_does() {
    for text in inputs().iter().filter(|text| check(text).is_ok_and(Traits::is_strict)) {
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        let parse = |part: &str| serde_json::from_str::<Value>(part).expect("a part of JSON is JSON");
        let start = skip_space(text, 0);
        assert_eq!(parse(&text[start..skip(text, start)]), value, "{text}");
        let mut compact = String::new();
        write_compact(text, &mut compact);
        assert_eq!(parse(&compact), value, "{text}");
        match &value {
            Value::Array(values) => assert_eq!(&elements(text).map(parse).collect::<Vec<_>>(), values, "{text}"),
            Value::Object(object) => {
                let members = Members::of(text).expect("it is an object");
                let named = |(name, value)| (decode(name).expect("a name is text").into_owned(), parse(value));
                assert_eq!(&members.map(named).collect::<serde_json::Map<_, _>>(), object, "{text}");
            }
            Value::String(string) => assert_eq!(decode(text.trim()).as_deref(), Some(&**string), "{text}"),
            _ => {}
        }
    }
}

#[test]
fn what_not_everybody_reads() {
    let check = |text: &str, expected: Traits| assert_eq!(check(text), Ok(expected), "{text}");
    let plain = Traits::default();
    check("1", plain);
    check("[[],{\"a\":[1]}]", Traits { depth: 3, ..plain });
    check(" 1", Traits { has_space: true, ..plain });
    check("\" \"", plain);
    check("\"\\u0000\"", Traits { has_nul: true, ..plain });
    check("{\"\\u0000\":1}", Traits { has_nul: true, depth: 1, ..plain });
    let half = Traits { has_half_character: true, ..plain };
    for text in
        ["\"\\ud800\"", "\"\\udc00\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\udc00\\ud800\""]
    {
        check(text, half);
        assert_eq!(decode(text), None, "{text}");
    }
    check("\"\\ud800\\ud83c\\udfba\"", half);
    let wide = Traits { has_wide_number: true, ..plain };
    for text in
        ["1e309", "-1.8e308", "1e-401", "1e99999999999999999999", &"1".repeat(310), &format!("0.{}", "1".repeat(800))]
    {
        check(text, wide);
    }
    for text in ["1e308", "-1.7e308", "1e-400", &"1".repeat(308), &format!("0.{}", "1".repeat(798)), "0e999999"] {
        let expected = if text.starts_with("0e") { plain } else { Traits { has_wide_number: false, ..plain } };
        check(text, expected);
    }
}

/// Deep ones take a bit for each level.
#[test]
fn deep_values() {
    for depth in [1, 63, 64, 65, 127, 128, 129, 1000, 100_000] {
        let (open, close) = ("[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2));
        let text = format!("{open}{}{}{close}", "[".repeat(depth % 2), "]".repeat(depth % 2)).replace(":}", ":1}");
        assert_eq!(check(&text).map(|traits| traits.depth), Ok(depth));
        assert_eq!(skip(&text, 0), text.len());
        let counted = allocation_counter::measure(|| assert!(is_json(&text)));
        assert!(counted.bytes_max <= depth as u64 / 2 + 64, "{depth}: {counted:?}");
        let unclosed = text.strip_suffix(']').unwrap_or(&text);
        assert!(!is_json(unclosed));
    }
}

#[test]
fn pointers() {
    let text = r#" {"a":{"b":[10, {"c/d":"x","m~n":"y"}],"":0},"a\u0062":[],"twice":1,"twice":2,"01":7} "#;
    let check = |pointer: &str, expected: Option<&str>| {
        assert_eq!(find(text, pointer), expected, "{pointer}");
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        let parsed = expected.map(|text| serde_json::from_str::<Value>(text).expect("so is a part"));
        assert_eq!(value.pointer(pointer).cloned(), parsed, "{pointer}");
    };
    check("", Some(text.trim()));
    check("/a/b/0", Some("10"));
    check("/a/b/1/c~1d", Some("\"x\""));
    check("/a/b/1/m~0n", Some("\"y\""));
    check("/a/", Some("0"));
    check("/ab", Some("[]"));
    check("/twice", Some("2"));
    check("/01", Some("7"));
    for missing in ["a", "/b", "/a/b/2", "/a/b/00", "/a/b/+0", "/a/b/-", "/a/b/0/0", "/ab/0", "/A"] {
        check(missing, None);
    }
}

/// Reading takes no memory but for what is deep, and for text that is escaped.
#[test]
fn nothing_is_built() {
    let members = format!("{{{}\"z\":[{}1]}}", "\"a\": [1,{\"b\":\"\\u00e9\"}],".repeat(1000), "{},".repeat(1000));
    let counted = allocation_counter::measure(|| {
        assert!(is_json(&members));
        let names = Members::of(&members).expect("it is an object").filter(|(name, _)| decode(name).is_some());
        assert_eq!(names.count(), 1001);
        assert_eq!(find(&members, "/z").map(|value| elements(value).count()), Some(1001));
    });
    assert!(counted.count_total <= 2, "{counted:?}");
}
