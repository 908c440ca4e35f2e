//! Tests of the account itself: it finds each kind of fault, and none where there is none.

use fanfare_core::event::EventId;

use super::{
    Account, Dialect, Mark, Outcome, Record, Truth,
    payload::{Origin, Payload},
    settle,
};

fn id(minor: u64) -> EventId {
    EventId::new(7, minor)
}

/// `1 2 [2-4 overflow] 5`, and `fresh`; an event's id is its number.
fn marks(script: &str) -> Vec<Mark> {
    let words = script.split_whitespace();
    words
        .map(|word| match word.strip_prefix('[').and_then(|gap| gap.strip_suffix(']')) {
            None if word == "fresh" => Mark::Fresh,
            None => {
                let number: u32 = word.parse().expect("a number");
                Mark::Event { number, id: Some(id(u64::from(number))) }
            }
            Some(gap) => {
                let (from, to) = gap.split_once('-').expect("from-to");
                let parse = |text: &str| text.parse().ok().map(id);
                Mark::Gap { from: parse(from), to: parse(to), reason: "overflow".to_owned() }
            }
        })
        .collect()
}

/// One topic whose events became `outcomes` (`a`cknowledged, `r`efused, `u`nknown), and one subscriber for each script.
fn account(outcomes: &str, scripts: &[&str]) -> Account {
    let outcome = |letter| match letter {
        'a' => Outcome::Acknowledged(None),
        'r' => Outcome::Refused("503".to_owned()),
        _ => Outcome::Unknown,
    };
    let truth = Truth { topics: vec![outcomes.chars().map(outcome).collect()], unhelpful: 0 };
    let record = |script: &&str| Record { topics: vec![(0, marks(script))], ..Record::new(Dialect::Sse, &[0]) };
    settle(&truth, &scripts.iter().map(record).collect::<Vec<_>>())
}

#[test]
fn what_adds_up() {
    let check = |outcomes: &str, scripts: &[&str], announced: u64, unclaimed: u64, empty_gaps: u64| {
        let account = account(outcomes, scripts);
        account.must_add_up();
        let got = (account.announced, account.unclaimed, account.empty_gaps);
        assert_eq!(got, (announced, unclaimed, empty_gaps), "{outcomes} {scripts:?}: {account}");
    };
    check("aaa", &["1 2 3"], 0, 0, 0);
    check("aaa", &["1 2 3", "1 2 3"], 0, 0, 0);
    check("ara", &["1 3"], 0, 0, 0);
    check("aua", &["1 3"], 0, 0, 0);
    check("aua", &["1 2 3", "1 2 3"], 0, 0, 0);
    check("aaaaa", &["1 2 [2-4] 5"], 2, 0, 0);
    check("aaaaa", &["1 [1-2] [2-4] 5"], 3, 0, 0);
    check("aaaaa", &["1 2 3 4 [4-x] 5"], 0, 0, 1);
    check("aaa", &["1 2 3 [3-4]"], 0, 0, 1);
    check("aaaa", &["1 fresh 4"], 0, 2, 0);
    check("aaaa", &["1 2 [2-4]", "1 2 3 4"], 2, 0, 0);
}

#[test]
fn what_does_not() {
    let check = |outcomes: &str, scripts: &[&str], expected: &str| {
        let account = account(outcomes, scripts);
        assert!(account.faults.iter().any(|fault| fault.contains(expected)), "{expected}: {account}");
    };
    check("aaa", &["1 3"], "2 to 2 missing after 1, and no gap reported");
    check("aaa", &["1 2"], "3 to 3 missing after 2, and no gap reported");
    check("aua", &["1 3", "1 2 3"], "2 to 2 missing after 1");
    check("aaa", &["1 2 2 3"], "2 twice");
    check("aaa", &["1 3 2"], "2 after 3");
    check("ara", &["1 2 3"], "2 had been refused");
    check("aaa", &["1 2 3 4"], "4 was never sent");
    check("aaaaa", &["[0-1] 2 4 5"], "3 to 3 missing");
    check("aaaaa", &["1 2 [1-4] 5"], "a gap from 7-1 after 7-2");
    check("aaaaa", &["1 2 [2-3] 5", "1 2 3 4 5"], "4 ([EventId { major: 7, minor: 4 }]) is missing outside");
}

#[test]
fn payloads() {
    let payload = Payload { topic: 3, number: 17, sent_us: Origin::now().elapsed_us() };
    for padding_bytes in [0, 1, 1000] {
        let text = payload.write(padding_bytes);
        assert!(padding_bytes <= text.len());
        assert_eq!(Payload::read(&text).as_ref(), Some(&payload));
    }
    assert_eq!(Payload::read(b"{}"), None);
}
