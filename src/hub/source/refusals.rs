//! What the broker refuses at present, for `/ready` to name.
//!
//! A refusal that concerns one topic leaves the source ready; one that concerns every subscription, or every publication,
//! does not. Written by the source's threads, and bounded whatever they meet.

use std::{collections::HashMap, time::Duration};

use crate::{clock::Moment, topic::Topic};

/// Topics and patterns that are named; the others are counted.
pub(super) const NAMED_MAX: usize = 10;
/// Topics whose refused publications are remembered.
const PUBLICATIONS_MAX: usize = 64;
/// How long a refused publication is remembered unless another one follows: nobody may ever publish there again.
const PUBLICATION_LIFE: Duration = Duration::from_secs(60);
/// What is kept of a broker's own words, in bytes.
const TEXT_BYTES_MAX: usize = 160;

/// A refusal, since when it is known, and when it was last met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) text: Box<str>,
    pub(super) since: Moment,
    pub(super) last: Moment,
}

/// All that is refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Some of the subscriptions that are refused, by the name of the topic or the pattern.
    subscriptions: Vec<(String, Refused)>,
    /// How many there are.
    subscriptions_total: usize,
    publications: HashMap<Topic, Refused>,
    /// Set while the broker lets the hub subscribe to nothing.
    every_subscription: Option<Refused>,
    /// The same for publishing.
    every_publication: Option<Refused>,
}

impl Refused {
    pub(super) fn new(text: &str, now: Moment) -> Self {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        Self { text: text[..end].into(), since: now, last: now }
    }

    /// Keeps the time since which the refusal is known.
    fn renew(self, known: Option<&Self>) -> Self {
        Self { since: known.map_or(self.since, |known| known.since), ..self }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.last) <= PUBLICATION_LIFE
    }
}

impl Refusals {
    /// All refused subscriptions: some by name, and how many there are.
    pub(super) fn set_subscriptions(&mut self, named: Vec<(String, Refused)>, total: usize) {
        self.subscriptions = named;
        self.subscriptions_total = total;
    }

    pub(super) fn set_every_subscription(&mut self, refused: Option<Refused>) {
        self.every_subscription = refused;
    }

    /// A publication was refused, and not only to this topic if `is_any`.
    pub(super) fn add_publication(&mut self, topic: Option<&Topic>, refused: Refused, is_any: bool) {
        if is_any {
            self.every_publication = Some(refused.clone().renew(self.every_publication.as_ref()));
        }
        let Some(topic) = topic else { return };
        let now = refused.last;
        self.publications.retain(|_, known| known.is_fresh(now));
        if self.publications.len() < PUBLICATIONS_MAX || self.publications.contains_key(topic) {
            let refused = refused.renew(self.publications.get(topic));
            self.publications.insert(topic.clone(), refused);
        }
    }

    /// The broker took a publication.
    pub(super) fn remove_publication(&mut self, topic: Option<&Topic>) {
        self.every_publication = None;
        if let Some(topic) = topic {
            self.publications.remove(topic);
        }
    }

    /// Whether [`Self::remove_publication`] has anything to do.
    pub(super) fn has_publications(&self) -> bool {
        self.every_publication.is_some() || !self.publications.is_empty()
    }

    /// What makes the whole source useless, and since when.
    pub(super) fn whole(&self, now: Moment) -> Option<(Moment, String)> {
        let describe = |what: &str, refused: &Refused| {
            (refused.since, format!("{what} are refused for {}: {}", seconds(refused, now), refused.text))
        };
        let subscribing = self.every_subscription.as_ref().map(|refused| describe("all subscriptions", refused));
        let every = self.every_publication.as_ref().filter(|refused| refused.is_fresh(now));
        subscribing.or_else(|| every.map(|refused| describe("all publications", refused)))
    }

    /// What concerns single topics.
    pub(super) fn single(&self, now: Moment) -> Vec<String> {
        let describe = |what: &str, name: &str, refused: &Refused| {
            format!("{what} `{name}` is refused for {}: {}", seconds(refused, now), refused.text)
        };
        let subscriptions = self.subscriptions.iter().map(|(name, refused)| describe("subscribing to", name, refused));
        let mut all: Vec<String> = subscriptions.collect();
        all.extend(more(self.subscriptions_total - self.subscriptions.len(), "subscriptions"));
        let mut publications: Vec<_> = self.publications.iter().filter(|(_, refused)| refused.is_fresh(now)).collect();
        publications.sort_by_key(|(topic, _)| *topic);
        let named = publications.iter().take(NAMED_MAX);
        all.extend(named.map(|(topic, refused)| describe("publishing to", topic.as_str(), refused)));
        all.extend(more(publications.len().saturating_sub(NAMED_MAX), "publications"));
        all
    }
}

fn more(count: usize, what: &str) -> Option<String> {
    (count != 0).then(|| format!("{count} more {what} are refused"))
}

fn seconds(refused: &Refused, now: Moment) -> String {
    format!("{:.1} s", now.since(refused.since).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment(second * 1_000_000_000)
    }

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect("a good name")
    }

    #[test]
    fn a_refused_publication_is_named_until_one_is_taken_or_a_minute_has_passed() {
        let mut refusals = Refusals::default();
        refusals.add_publication(Some(&topic("a")), Refused::new("NOPERM no", at(1)), false);
        refusals.add_publication(Some(&topic("a")), Refused::new("NOPERM no", at(5)), false);
        assert_eq!(refusals.single(at(11)), ["publishing to `a` is refused for 10.0 s: NOPERM no"]);
        assert_eq!(refusals.whole(at(11)), None);
        assert_eq!(refusals.single(at(66)), Vec::<String>::new(), "nobody has tried lately");
        refusals.add_publication(Some(&topic("b")), Refused::new("NOPERM no", at(67)), false);
        refusals.remove_publication(Some(&topic("b")));
        assert!(!refusals.has_publications());
    }

    #[test]
    fn what_is_refused_altogether_is_told_apart() {
        let mut refusals = Refusals::default();
        refusals.add_publication(None, Refused::new("NOPERM publish", at(1)), true);
        let (since, text) = refusals.whole(at(4)).expect("nothing can be published");
        assert_eq!((since, text.as_str()), (at(1), "all publications are refused for 3.0 s: NOPERM publish"));
        refusals.remove_publication(None);
        assert_eq!(refusals.whole(at(4)), None);
        refusals.set_every_subscription(Some(Refused::new("NOPERM subscribe", at(2))));
        assert!(refusals.whole(at(4)).is_some_and(|(_, text)| text.starts_with("all subscriptions are refused")));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut refusals = Refusals::default();
        for number in 0..1000 {
            let text = "é".repeat(1000);
            refusals.add_publication(Some(&topic(&format!("t{number}"))), Refused::new(&text, at(1)), false);
        }
        let all = refusals.single(at(1));
        assert_eq!((all.len(), all[NAMED_MAX].as_str()), (NAMED_MAX + 1, "54 more publications are refused"));
        assert!(all.iter().all(|line| line.len() < 300), "{all:?}");
    }
}
