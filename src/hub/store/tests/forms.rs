//! What hubs of several releases keep in one database.

use super::super::*;
use crate::tests::{FormKind, check_forms};

/// A step that was applied somewhere stays as it is. Its statements are the parts; so a database has all of them, whichever release made
/// it, and what a later release adds comes behind.
#[test]
fn steps() {
    let names: Vec<String> = (1..=schema::STEPS.len()).map(|number| format!("step {number}")).collect();
    let lines = |step: &str| step.lines().map(Into::into).collect();
    let written = names.iter().zip(schema::STEPS).map(|(name, step)| (name.as_str(), lines(step))).collect();
    let read = |parts: &[Vec<u8>]| {
        let text = String::from_utf8(parts.join(&b'\n')).expect("text") + "\n";
        let number = schema::STEPS.iter().position(|step| **step == text);
        number
            .map_or_else(|| "no step of this release".to_owned(), |number| format!("applied as number {}", number + 1))
    };
    check_forms(&FormKind { name: "database-steps", written, read: &read, extend: None });
}

/// What one hub has stored and not published, another one publishes.
#[test]
fn codes() {
    let written = Kind::ALL.map(|kind| (kind.event(), vec![kind.code().to_string().into_bytes()])).to_vec();
    let read = |parts: &[Vec<u8>]| {
        let code = String::from_utf8_lossy(&parts[0]).parse().expect("a number");
        let kind = Kind::of_code(code).expect("a kind");
        format!("`{}` of the member `{}`, numbered by `{}`", kind.event(), kind.member(), kind.id_name())
    };
    check_forms(&FormKind { name: "database-kinds", written, read: &read, extend: None });
}
