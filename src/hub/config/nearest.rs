//! Suggests the known word that a misspelt one was probably meant to be.

/// The word of `known` nearest to `wrong`, if at most a third of its letters differ: each inserted, left out, replaced, or swapped
/// with its neighbour.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|word| (strsim::osa_distance(wrong, word), word)).min()?;
    (near.0 <= wrong.chars().count().max(3) / 3).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let check = |wrong: &str, expected: Option<&str>| {
            let known = ["server.listen", "server.reactors", "drain.window", "log.level"];
            assert_eq!(nearest(wrong, known.into_iter()), expected, "{wrong}");
        };
        check("server.reactorz", Some("server.reactors"));
        check("server.listne", Some("server.listen"));
        check("drain.windows", Some("drain.window"));
        check("log.lvl", Some("log.level"));
        check("completely.else", None);
        check("x", None);
    }
}
