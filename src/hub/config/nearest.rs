//! Which of the known words somebody meant.

/// The word of `known` nearest to `wrong`, if it is near enough to be a slip: at most a third of its letters differ.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|scalar| (distance(wrong, scalar), scalar)).min()?;
    (near.0 <= wrong.chars().count().max(3) / 3).then_some(near.1)
}

/// How many letters must be put in, taken out, changed, or swapped with their neighbour to turn `from` into `to` (the
/// optimal string alignment distance).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut next = vec![i + 1];
        for j in 0..to.len() {
            let changed = row[j] + usize::from(from[i] != to[j]);
            let mut best = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if 0 < i && 0 < j && from[i] == to[j - 1] && from[i - 1] == to[j] {
                best = best.min(above[j - 1] + 1);
            }
            next.push(best);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let check = |from: &str, to: &str, expected: usize| {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        };
        check("", "", 0);
        check("", "abc", 3);
        check("window", "window", 0);
        check("windo", "window", 1);
        check("widnow", "window", 1);
        check("kitten", "sitting", 3);
    }

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
