//! The forms of each release: what hubs write for each other to read. `tests/forms/VERSION` keeps what a release writes and what it
//! means, because hubs of two releases are on one broker while an installation is upgraded.
//!
//! A test for each kind of form holds that this code reads the forms of every kept release as they were meant, that it does so
//! with what a later release may add to them, that it writes exactly the newest kept ones, and that these only add to those of the
//! release before. With `FANFARE_BLESS=1` the forms of a new version are kept; those that are there never change.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// What a hub writes at one occasion, in parts: words of a command, headers, lines or members.
type Parts = Vec<Vec<u8>>;

/// One form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    /// The occasion.
    name: String,
    parts: Parts,
    /// How the release that wrote it reads it.
    means: String,
}

/// A kind of forms.
pub(crate) struct FormKind<'a> {
    /// The name of its file.
    pub(crate) name: &'a str,
    /// What this code writes at each occasion.
    pub(crate) written: Vec<(&'a str, Parts)>,
    /// What this code understands of a form.
    pub(crate) read: &'a dyn Fn(&[Vec<u8>]) -> String,
    /// Adds what a later release may add. `None`: to this kind nothing may ever be added.
    pub(crate) extend: Option<&'a dyn Fn(&mut Parts)>,
}

/// Checks the forms of a kind against those that are kept.
#[track_caller]
pub(crate) fn check_forms(kind: &FormKind<'_>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/forms");
    let written = kind.written.iter().map(|(name, parts)| Form {
        name: (*name).to_owned(),
        parts: parts.clone(),
        means: (kind.read)(parts),
    });
    let written: Vec<Form> = written.collect();
    if std::env::var_os("FANFARE_BLESS").is_some() {
        keep(&root.join(env!("CARGO_PKG_VERSION")), kind.name, &written);
    }
    let releases = kept(&root, kind.name);
    for (version, form) in releases.iter().flat_map(|(version, forms)| forms.iter().map(move |form| (version, form))) {
        let what = format!("{} of {version}: {}", kind.name, form.name);
        assert_eq!((kind.read)(&form.parts), form.means, "{what}");
        if let Some(extend) = kind.extend {
            let mut later = form.parts.clone();
            extend(&mut later);
            assert_ne!(later, form.parts, "{what}: nothing was added");
            assert_eq!((kind.read)(&later), form.means, "{what}, as a later release may write it");
        }
    }
    for pair in releases.windows(2) {
        let wrong = unread(&pair[0].1, &pair[1].1);
        assert!(
            wrong.is_empty(),
            "{}: a hub of {} cannot read what {} writes: {wrong:?}",
            kind.name,
            pair[0].0,
            pair[1].0
        );
    }
    let hint = "a form only gains parts, in a new version: raise the version and keep it with FANFARE_BLESS=1";
    let (version, newest) = releases.last().unwrap_or_else(|| panic!("no forms of {} are kept: {hint}", kind.name));
    assert_eq!(show(&written), show(newest), "{} of {version} changed: {hint}", kind.name);
}

/// The names of the forms in `after` that lack a part which every form of that name in `before` has. A release that no longer needs
/// a part keeps a second form of the same name without it; the next release may leave the part out.
fn unread(before: &[Form], after: &[Form]) -> Vec<String> {
    let is_read = |form: &&Form| {
        let mut same = before.iter().filter(|known| known.name == form.name).peekable();
        same.peek().is_none() || same.any(|known| known.parts.iter().all(|part| form.parts.contains(part)))
    };
    after.iter().filter(|form| !is_read(form)).map(|form| form.name.clone()).collect()
}

/// The forms that are kept of each release that has such, the oldest release first.
fn kept(root: &Path, kind: &str) -> Vec<(String, Vec<Form>)> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root).expect("tests/forms is there").map(|entry| entry.expect("an entry").path()).collect();
    let version = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    folders.sort_by_key(|path| numbers(&version(path)));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(path.join(format!("{kind}.txt"))).ok()?;
        Some((version(&path), parse(&text)))
    };
    folders.into_iter().filter_map(read).collect()
}

fn numbers(version: &str) -> Vec<u64> {
    version
        .split('.')
        .map(|number| number.parse().unwrap_or_else(|_| panic!("tests/forms/{version} is no version")))
        .collect()
}

/// Keeps forms, unless there are such.
fn keep(folder: &Path, kind: &str, forms: &[Form]) {
    let path = folder.join(format!("{kind}.txt"));
    if !path.exists() {
        fs::create_dir_all(folder).expect("the folder can be made");
        fs::write(path, show(forms)).expect("the file can be written");
    }
}

/// A block for each form: its name, its parts and its meaning. Bytes that are no text, control characters and `\` are escaped.
fn show(forms: &[Form]) -> String {
    let mut text = String::new();
    for Form { name, parts, means } in forms {
        let parts: String = parts.iter().map(|part| format!("  part: {}\n", escape(part))).collect();
        writeln!(text, "{name}\n{parts}  means: {}\n", escape(means.as_bytes())).expect("a String takes it");
    }
    text
}

fn escape(bytes: &[u8]) -> String {
    let escape = |letter: char| match letter {
        '\\' | '\n' | '\r' | '\t' => letter.escape_default().to_string(),
        _ if letter.is_ascii_control() => format!("\\x{:02x}", u32::from(letter)),
        _ => letter.to_string(),
    };
    let chunks = bytes.utf8_chunks();
    chunks
        .map(|chunk| {
            chunk.valid().chars().map(escape).collect::<String>() + &chunk.invalid().escape_ascii().to_string()
        })
        .collect()
}

fn parse(text: &str) -> Vec<Form> {
    let block = |block: &str| {
        let (name, rest) = block.split_once('\n')?;
        let (parts, means) = rest.split_once("  means: ")?;
        let parts = parts.lines().map(|line| unescape(line.strip_prefix("  part: ")?)).collect::<Option<_>>()?;
        let means = String::from_utf8(unescape(means.trim_end_matches('\n'))?).ok()?;
        Some(Form { name: name.to_owned(), parts, means })
    };
    let blocks = text.split("\n\n").filter(|text| !text.trim().is_empty());
    blocks.map(|text| block(text).unwrap_or_else(|| panic!("this is no form: {text:?}"))).collect()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let (byte, used) = match (first, behind.first()) {
            (b'\\', Some(b'x')) => (u8::from_str_radix(str::from_utf8(behind.get(1..3)?).ok()?, 16).ok()?, 4),
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'\\')) => (b'\\', 2),
            (b'\\', _) => return None,
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[used..];
    }
    Some(bytes)
}

/// Text as a single part.
pub(crate) fn part(text: impl AsRef<[u8]>) -> Parts {
    vec![text.as_ref().to_vec()]
}

/// The first part as text.
pub(crate) fn text(parts: &[Vec<u8>]) -> &str {
    str::from_utf8(&parts[0]).expect("the first part is text")
}

/// The members of a JSON object as parts, by their names: their order says nothing.
pub(crate) fn members(object: &[u8]) -> Parts {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(object).expect("a JSON object");
    object.iter().map(|(name, value)| format!("{}:{value}", serde_json::json!(name)).into_bytes()).collect()
}

/// The object with these members.
pub(crate) fn object(members: &[Vec<u8>]) -> Vec<u8> {
    [b"{".as_slice(), &members.join(&b","[..]), b"}"].concat()
}

/// A member that a later release may add to an object.
pub(crate) const LATER_MEMBER: &[u8] = br#""later":{"a":[1,null,"b"]}"#;

#[test]
fn forms_are_read_as_they_were_kept() {
    let parts = vec![b"\xFF\xC3a\n\0\\\"'\\n".to_vec(), Vec::new(), "größe\t\r".into()];
    let form = |name: &str, means: &str| Form { name: name.to_owned(), parts: parts.clone(), means: means.to_owned() };
    let forms = [form("one", r#"a "b" \ c"#), form("other", "")];
    assert_eq!(parse(&show(&forms)), forms, "{}", show(&forms));
}

#[test]
fn a_release_only_adds_to_what_the_one_before_reads() {
    let form = |name: &str, parts: &str| Form {
        name: name.to_owned(),
        parts: parts.split_terminator(' ').map(|part| part.as_bytes().to_vec()).collect(),
        means: String::new(),
    };
    let forms = |all: &[(&str, &str)]| all.iter().map(|(name, parts)| form(name, parts)).collect::<Vec<_>>();
    let check = |before: &[(&str, &str)], after: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(unread(&forms(before), &forms(after)), expected, "{before:?} {after:?}");
    };
    check(&[("e", "a b")], &[("e", "a b")], &[]);
    check(&[("e", "a b")], &[("e", "a later b")], &[]);
    check(&[("e", "a b")], &[("e", "a c")], &["e"]);
    check(&[("e", "a b")], &[("e", "a")], &["e"]);
    check(&[("e", "a b"), ("e", "a")], &[("e", "a")], &[]);
    check(&[("e", "a")], &[("f", "b")], &[]);
}

#[test]
fn what_is_kept_never_changes() {
    let root = std::env::temp_dir().join(format!("fanfare-forms-{}-{:x}", std::process::id(), rand::random::<u64>()));
    let forms = |name: &str| [Form { name: name.to_owned(), parts: part("p"), means: "m".to_owned() }];
    keep(&root.join("0.10.0"), "kind", &forms("newer"));
    keep(&root.join("0.9.0"), "kind", &forms("older"));
    keep(&root.join("0.9.0"), "kind", &forms("changed"));
    keep(&root.join("0.9.1"), "another kind", &forms("another"));
    let expected =
        [("0.9.0", "older"), ("0.10.0", "newer")].map(|(version, name)| (version.to_owned(), forms(name).to_vec()));
    assert_eq!(kept(&root, "kind"), expected);
    fs::remove_dir_all(root).expect("the folder can be removed");
}
