//! The topics that a client may use, by pattern.

use std::cmp::Ordering;

use crate::topic::{Pattern, Topic};

/// A set of patterns. Whether one of them fits a topic, and where the next name is that could, takes a search per segment of the
/// name, not a look at each pattern: who sends many names under many patterns pays for both, and not for each with each.
///
/// Where patterns have `*` and a name at the same place both are followed; at worst that goes once through all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Each once, segment by segment in the order of these, so that those which begin with the same segments stand together.
    patterns: Box<[Pattern]>,
    /// Indices of `patterns`, in the order of what all names that fall under a pattern begin with.
    by_prefix: Box<[u32]>,
}

impl Grants {
    /// Those that fall under one of `patterns`.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        let mut patterns: Vec<Pattern> = patterns.into_iter().collect();
        patterns.sort_unstable_by(|one, other| one.as_str().split('.').cmp(other.as_str().split('.')));
        patterns.dedup();
        // A token is far shorter than that.
        let mut by_prefix: Vec<u32> = (0..u32::try_from(patterns.len()).unwrap_or(u32::MAX)).collect();
        by_prefix.sort_unstable_by_key(|index| patterns[*index as usize].literal_prefix());
        Self { patterns: patterns.into(), by_prefix: by_prefix.into() }
    }

    /// Reads each of `patterns`, or says what is wrong with the first that is none.
    pub fn parse(patterns: &[String]) -> Result<Self, String> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self::new(patterns))
    }

    /// The patterns, each once.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter()
    }

    /// Whether `topic` is one of them.
    pub fn allow(&self, topic: &Topic) -> bool {
        fits_one(&self.patterns, 0, topic.as_str())
    }

    /// The first text from `name` on, in the order of texts, that could be the name of one of them; `None`: nothing from there on
    /// is.
    pub(crate) fn next_from<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let prefix = |index: &u32| self.patterns[*index as usize].literal_prefix();
        // What stands ahead of a star is empty, or ends with a dot.
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'.', name.as_bytes()).map(|dot| dot + 1));
        for start in starts {
            if self.by_prefix.binary_search_by_key(&&name[..start], prefix).is_ok() {
                return Some(name);
            }
        }
        let next = self.by_prefix.partition_point(|index| prefix(index) < name);
        self.by_prefix.get(next).map(prefix)
    }

    /// What it holds in the heap, in bytes, as an allocator gives it.
    pub(super) fn held_bytes(&self) -> usize {
        /// Two words, an index, and what an allocator takes besides the text.
        const PATTERN_BYTES: usize = size_of::<Pattern>() + size_of::<u32>() + 16;
        self.patterns.iter().map(|pattern| PATTERN_BYTES + pattern.as_str().len()).sum()
    }
}

/// Whether one of `patterns` fits a name that goes on with `rest`. All of them have the same text before `at`, where a segment
/// begins, and that has fitted the name so far.
fn fits_one(patterns: &[Pattern], at: usize, rest: &str) -> bool {
    if !of_segment(patterns, at, "**").is_empty() {
        return true;
    }
    let (segment, rest) = rest.split_once('.').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
    ["*", segment].into_iter().any(|wanted| {
        let same = of_segment(patterns, at, wanted);
        let end = at + wanted.len();
        // A pattern that ends here stands ahead of those that go on.
        let (ends, longer) = match same.first() {
            None => return false,
            Some(first) if first.as_str().len() == end => (true, &same[1..]),
            Some(_) => (false, same),
        };
        rest.map_or(ends, |rest| fits_one(longer, end + 1, rest))
    })
}

/// Those of `patterns` whose segment that begins at `at` is `wanted`.
fn of_segment<'a>(patterns: &'a [Pattern], at: usize, wanted: &str) -> &'a [Pattern] {
    let order = |pattern: &Pattern| {
        let rest = &pattern.as_str()[at..];
        rest[..memchr::memchr(b'.', rest.as_bytes()).unwrap_or(rest.len())].cmp(wanted)
    };
    let start = patterns.partition_point(|pattern| order(pattern) == Ordering::Less);
    let count = patterns[start..].partition_point(|pattern| order(pattern) == Ordering::Equal);
    &patterns[start..start + count]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(patterns: &str) -> Grants {
        Grants::new(patterns.split_whitespace().map(|text| Pattern::parse(text).expect("a good pattern")))
    }

    #[test]
    fn what_fits() {
        let check = |patterns: &str, topic: &str, expected: bool| {
            let topic = Topic::parse(topic).expect("a good name");
            assert_eq!(grants(patterns).allow(&topic), expected, "{topic:?} under {patterns}");
        };
        check("", "a", false);
        check("a", "a", true);
        check("a-b a.b a", "a.b", true);
        check("a-b a.b", "a", false);
        check("a.b", "a.b.c", false);
        check("a.b.c", "a.b", false);
        check("*", "a", true);
        check("*", "a.b", false);
        check("a.**", "a", false);
        check("a.** b", "a.b.c", true);
        check("** a", "x.y", true);
        // Either way leads on, and only one of them to the end.
        check("a.*.c *.b.d", "a.b.d", true);
        check("a.*.c *.b.d", "a.b.c", true);
        check("a.*.c *.b.d", "a.x.d", false);
        check("*.*.x a.b.y a.*.z", "a.b.z", true);
        check("*.*.x a.b.y a.*.z", "a.b.w", false);
    }

    #[test]
    fn where_the_next_is() {
        let check = |patterns: &str, name: &str, expected: Option<&str>| {
            assert_eq!(grants(patterns).next_from(name), expected, "from {name} under {patterns}");
        };
        check("", "a", None);
        check("orders.**", "alpha", Some("orders."));
        check("orders.**", "orders.eu", Some("orders.eu"));
        check("orders.**", "orders", Some("orders."));
        check("orders.**", "zulu", None);
        check("orders.eu", "orders.eu", Some("orders.eu"));
        check("orders.eu", "orders.eu.1", None);
        check("orders.eu wells.* b", "orders.eu.1", Some("wells."));
        check("a.b.*", "a.b", Some("a.b."));
        check("a.b.*", "a.b.c.d", Some("a.b.c.d"));
        check("a.b.*", "a.bc", None);
        check("*.x", "zulu", Some("zulu"));
    }

    proptest::proptest! {
        /// A set says what its patterns say one by one.
        #[test]
        fn a_set_is_its_patterns(
            patterns in proptest::collection::vec("(a|b|-|\\*)(\\.(a|b|-|\\*)){0,3}(\\.\\*\\*)?", 0..12),
            names in proptest::collection::vec("(a|b|-|ab)(\\.(a|b|-|ab)){0,4}", 1..12),
        ) {
            let set = grants(&patterns.join(" "));
            let each: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text).expect("a good pattern")).collect();
            let topics: Vec<Topic> = names.iter().map(|name| Topic::parse(name).expect("a good name")).collect();
            for topic in &topics {
                let allowed = each.iter().any(|pattern| pattern.matches(topic));
                assert_eq!(set.allow(topic), allowed, "{topic:?} under {patterns:?}");
                // Nothing that is allowed is passed over, from whichever name the search begins.
                for from in topics.iter().filter(|from| allowed && from <= &topic) {
                    let next = set.next_from(from.as_str());
                    assert!(next.is_some_and(|next| from.as_str() <= next && next <= topic.as_str()), "{next:?} from {from:?} to {topic:?} under {patterns:?}");
                }
            }
        }
    }
}
