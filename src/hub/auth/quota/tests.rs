use super::*;
use crate::topic::Pattern;

const SECOND: u64 = 1_000_000_000;

fn rule(name: &str, who: &str, topics: &[&str], limits: &[(Limit, usize)]) -> QuotaRule {
    let mut all = [0; Limit::ALL.len()];
    limits.iter().for_each(|(limit, most)| all[*limit as usize] = *most);
    let topics = topics.iter().map(|text| Pattern::parse(text).expect("a good pattern")).collect();
    QuotaRule { name: name.to_owned(), who: who.parse().expect("somebody"), topics, limits: all }
}

fn quotas(default_rate: usize, rules: Vec<QuotaRule>) -> Quotas {
    let mut config = QuotaConfig { rules, ..QuotaConfig::unlimited() };
    config.default_limits[Limit::PublishPerSecond as usize] = default_rate;
    Quotas::new(&config, 1000)
}

/// `alice`, `alice/sensor` with a role, `key:ingest`, an address, or `alice@1.2.3.4`.
fn ask<T>(who: &str, act: impl FnOnce(Requester<'_>) -> T) -> T {
    let (name, address) = match who.split_once('@') {
        Some((name, address)) => (Some(name), address.parse().ok()),
        None => who.parse().map_or((Some(who), None), |address| (None, Some(address))),
    };
    let identity = name.map(|name| {
        let (name, role) = name.split_once('/').map_or((name, None), |(name, role)| (name, Some(role.into())));
        let (name, is_api_key) = name.strip_prefix("key:").map_or((name, false), |name| (name, true));
        Identity { subject: name.into(), role, is_api_key, ..Identity::default() }
    });
    act(Requester { identity: identity.as_ref(), address })
}

/// Asks for events of so many bytes.
fn admit(
    quotas: &Quotas,
    requester: Requester<'_>,
    topic: &Topic,
    bytes: &[usize],
    now: Moment,
) -> Result<Option<Owners>, QuotaRefused> {
    let mut tally = PublishTotals::default();
    bytes.iter().for_each(|bytes| quotas.add(&mut tally, requester, PublishRequest { topic, bytes: *bytes }));
    quotas.admit(requester, &tally, now)
}

fn publish(quotas: &Quotas, who: &str, topic: &str, bytes: &[usize], at_ms: u64) -> Result<(), &'static str> {
    let topic = Topic::parse(topic).expect("a good name");
    let now = Moment(SECOND + at_ms * 1_000_000);
    ask(who, |requester| admit(quotas, requester, &topic, bytes, now)).map(drop).map_err(|refused| refused.rule)
}

#[test]
fn each_tenant_has_its_own_and_the_tightest_rule_decides() {
    let per_second = |name, who, topics, most| rule(name, who, topics, &[(Limit::PublishPerSecond, most)]);
    // The number of publications admitted at one moment, and the rule that refuses the next one.
    let check = |rules: Vec<QuotaRule>, who: &str, topic: &str, expected: (usize, Option<&str>)| {
        let quotas = quotas(5, rules);
        let outcomes: Vec<_> = (0..12).map(|_| publish(&quotas, who, topic, &[1], 0)).collect();
        let passed = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert_eq!((passed, outcomes.get(passed).and_then(|outcome| outcome.err())), expected, "{who} {topic}");
        assert_eq!(publish(&quotas, "somebody-else", "else", &[1], 0), Ok(()), "others have their own");
    };
    check(vec![], "alice", "t", (5, Some("default")));
    check(vec![], "key:ingest", "t", (5, Some("default")));
    check(vec![], "9.9.9.9", "t", (5, Some("default")));
    check(vec![], "127.0.0.1", "t", (12, None));
    check(vec![], "::1", "t", (12, None));
    check(vec![], "alice@127.0.0.1", "t", (5, Some("default")));
    check(vec![per_second("more", "sub:alice", &[], 9)], "alice", "t", (9, Some("more")));
    check(vec![per_second("more", "sub:alice", &[], 9)], "key:alice", "t", (5, Some("default")));
    check(vec![per_second("key", "api_key:ingest", &[], 3)], "key:ingest", "t", (3, Some("key")));
    check(vec![per_second("key", "api_key:ingest", &[], 3)], "key:other", "t", (5, Some("default")));
    check(vec![per_second("role", "role:sensor", &[], 2)], "alice/sensor", "t", (2, Some("role")));
    let two = || vec![per_second("all", "*", &[], 8), per_second("orders", "sub:alice", &["orders.**"], 4)];
    check(two(), "alice", "orders.eu", (4, Some("orders")));
    check(two(), "alice", "t", (8, Some("all")));
    check(two(), "bob", "orders.eu", (8, Some("all")));
    check(vec![per_second("mapped", "address:::ffff:10.0.0.0/104", &[], 2)], "10.1.2.3", "t", (2, Some("mapped")));
    let nearby = || vec![per_second("nearby", "address:127.0.0.0/8", &[], 3)];
    check(nearby(), "127.0.0.1", "t", (3, Some("nearby")));
    check(nearby(), "alice@127.1.2.3", "t", (3, Some("nearby")));
    check(nearby(), "alice@9.9.9.9", "t", (5, Some("default")));
    let tight_first = || vec![per_second("tight", "*", &[], 2), per_second("wide", "sub:alice", &[], 8)];
    check(tight_first(), "alice", "t", (2, Some("tight")));
    let of_bytes = || vec![rule("bytes", "*", &[], &[(Limit::BytesPerSecond, 3)]), per_second("count", "*", &[], 8)];
    check(of_bytes(), "alice", "t", (3, Some("bytes")));
}

/// If the rules are replaced between the lookup of the rules and the entry of the owner, the reload does not find the owner.
#[test]
fn an_owner_made_by_rules_of_before_is_counted_by_those_of_now() {
    let held = |name, who| rule(name, who, &[], &[(Limit::BytesHeld, 100)]);
    let config = |rules: Vec<QuotaRule>| QuotaConfig { rules, ..QuotaConfig::unlimited() };
    let quotas = Quotas::new(&config(vec![held("before", "*")]), 1000);
    let of_before = quotas.table();
    quotas.replace(&config(vec![held("now", "sub:alice"), held("other", "*")]), Moment(0));
    let owner = ask("alice", |requester| {
        let set = of_before.candidates(requester, &TenantIds::of(requester));
        quotas.owner(&of_before, requester, set, Moment(0))
    });
    let rule = |bytes: usize| owner.try_take_bytes(bytes).map_err(|refused| refused.rule);
    assert_eq!(rule(100), Ok(()));
    assert_eq!(rule(1), Err("now"));
    owner.return_bytes(100);
}

#[test]
fn what_is_counted_together() {
    let check = |first: &str, second: &str, is_same: bool| {
        let quotas = quotas(1, vec![]);
        assert_eq!(publish(&quotas, first, "t", &[1], 0), Ok(()));
        assert_eq!(publish(&quotas, second, "t", &[1], 0).is_err(), is_same, "{first} {second}");
    };
    check("alice", "alice", true);
    check("alice@1.1.1.1", "alice@2.2.2.2", true);
    check("alice@1.1.1.1", "bob@1.1.1.1", false);
    check("alice", "key:alice", false);
    check("1.1.1.1", "::ffff:1.1.1.1", true);
    check("fd00:1:2:3::1", "fd00:1:2:3:ffff::9", true);
    check("fd00:1:2:3::1", "fd00:1:2:4::1", false);
}

#[test]
fn a_refused_batch_takes_nothing_and_says_when_to_come_back() {
    let limits = [(Limit::PublishPerSecond, 10), (Limit::BytesPerSecond, 1000)];
    let quotas = quotas(0, vec![rule("slow", "*", &[], &limits)]);
    assert_eq!(publish(&quotas, "alice", "t", &[100; 6], 0), Ok(()));
    assert_eq!(publish(&quotas, "alice", "t", &[100; 6], 0), Err("slow"));
    assert_eq!(publish(&quotas, "alice", "t", &[100; 4], 0), Ok(()), "the refused six took nothing");
    let topic = Topic::parse("t").expect("a good name");
    let refused = ask("alice", |requester| admit(&quotas, requester, &topic, &[3000], Moment(SECOND)));
    let refused = refused.expect_err("the bucket is full");
    assert_eq!((refused.limit, refused.retry_after_s), (Limit::BytesPerSecond, 1));
    assert_eq!(publish(&quotas, "alice", "t", &[3000], 1000), Ok(()), "more than a second's worth, by an empty bucket");
    assert_eq!(publish(&quotas, "alice", "t", &[1], 3000), Err("slow"));
    let refusals: Vec<_> = quotas.refusals().into_iter().filter(|(.., count)| 0 < *count).collect();
    assert_eq!(refusals, [("slow", Limit::PublishPerSecond, 1), ("slow", Limit::BytesPerSecond, 2)]);
}

#[test]
fn what_is_held_is_held_by_the_one_who_published_it() {
    let config = QuotaConfig { share_percent: 25, ..QuotaConfig::unlimited() };
    let quotas = Quotas::new(&config, 1000);
    let topic = Topic::parse("t").expect("a good name");
    let owner = |who: &str| {
        let owners = ask(who, |requester| admit(&quotas, requester, &topic, &[1], Moment(0)));
        owners.expect("nothing is refused").and_then(|owners| owners.of(0).cloned())
    };
    // A tenant that holds nothing may be forgotten when another one comes.
    let alice = owner("alice").expect("a tenant");
    assert!(Arc::ptr_eq(&alice, &owner("alice").expect("a tenant")), "all her events share it");
    assert_eq!(alice.try_take_bytes(250), Ok(()));
    assert_eq!(
        alice.try_take_bytes(1).map_err(|refused| refused.to_string()),
        Err("quota `default`: bytes_held is used up; try again in 2 s".to_owned())
    );
    let bob = owner("bob").expect("a tenant");
    assert_eq!(bob.try_take_bytes(250), Ok(()));
    assert!(owner("127.0.0.1").is_none(), "no tenant");
}

#[test]
fn the_table_is_bounded_and_forgets() {
    let config = QuotaConfig { tenants_max: 64, ..QuotaConfig::default() };
    let quotas = Quotas::new(&config, 1 << 20);
    let address = |number: u32| core::net::Ipv4Addr::from_bits(0x0900_0000 + number).to_string();
    for number in 0..10_000 {
        let _ = publish(&quotas, &address(number), "t", &[1], 0);
    }
    assert!(quotas.tenant_count() <= 64 + 16, "{}", quotas.tenant_count());
    for number in 0..1000 {
        assert_eq!(publish(&quotas, &address(number), "t", &[1], 2000 + u64::from(number)), Ok(()));
    }
    let held = publish(&quotas, "alice", "t", &[1], 100_000);
    assert_eq!(held, Ok(()));
    for number in 0..1000 {
        assert_eq!(publish(&quotas, &address(number), "t", &[1], 200_000 + 2000 * u64::from(number)), Ok(()));
    }
    assert!(quotas.tenant_count() <= 32, "those that use nothing are forgotten: {}", quotas.tenant_count());
}

#[test]
fn who_is_read_and_written() {
    for good in
        ["*", "sub:alice", "role:sensor", "api_key:ingest", "address:10.0.0.0/8", "address:1.2.3.4", "address:fd00::/8"]
    {
        assert_eq!(good.parse::<TenantSelector>().map(|who| who.to_string()), Ok(good.to_owned()));
    }
    for bad in ["", "alice", "sub:", "user:alice", "address:10.0.0.1/8", "address:nowhere", "address:1.2.3.4/33"] {
        assert!(bad.parse::<TenantSelector>().is_err(), "{bad}");
    }
}

/// A rule before and after a reload. Limits in this order: publications, bytes, bytes held, topics held, streams.
#[test]
fn a_reload_keeps_what_tenants_have_used_and_hold() {
    let per_second = |name, most| rule(name, "*", &[], &[(Limit::PublishPerSecond, most)]);
    let config = |rules: Vec<QuotaRule>| QuotaConfig { rules, ..QuotaConfig::unlimited() };
    // `used` publications at once before the reload. Then the number that pass in the next second, of one each millisecond.
    let check = |before: Vec<QuotaRule>, used: usize, after: Vec<QuotaRule>, expected: usize| {
        let quotas = Quotas::new(&config(before), 1000);
        assert_eq!(publish(&quotas, "alice", "t", &vec![1; used], 0), Ok(()));
        quotas.replace(&config(after.clone()), Moment(SECOND));
        let passed = (0..1000).filter(|at_ms| publish(&quotas, "alice", "t", &[1], *at_ms).is_ok()).count();
        assert_eq!(passed, expected, "{used}, then {after:?}");
    };
    check(vec![per_second("a", 10)], 10, vec![per_second("a", 10)], 9);
    // Ten are in the bucket: at 100 a second there is room for 90, and for one more each 10 ms.
    check(vec![per_second("a", 10)], 10, vec![per_second("a", 100)], 189);
    check(vec![per_second("a", 100)], 100, vec![per_second("a", 10)], 0);
    check(vec![per_second("a", 10)], 10, vec![], 1000);
    // Another name, and the same rule.
    check(vec![per_second("a", 10)], 10, vec![per_second("b", 10)], 9);
    check(vec![per_second("a", 10)], 10, vec![per_second("b", 100)], 189);
    check(vec![per_second("a", 10)], 10, vec![rule("b", "sub:alice", &[], &[(Limit::PublishPerSecond, 10)])], 19);
    check(vec![per_second("a", 10)], 10, vec![per_second("b", 10), per_second("a", 10)], 9);
    check(vec![], 10, vec![per_second("a", 10)], 19);
    // The order of rules has no effect.
    let other = || rule("other", "sub:bob", &[], &[(Limit::PublishPerSecond, 1)]);
    check(vec![per_second("a", 10)], 10, vec![other(), per_second("a", 10)], 9);
}

#[test]
fn new_limits_hold_for_what_is_held_already() {
    let held = |bytes| rule("held", "*", &[], &[(Limit::BytesHeld, bytes), (Limit::Connections, bytes / 100)]);
    let config = |rules: Vec<QuotaRule>| QuotaConfig { rules, ..QuotaConfig::unlimited() };
    let quotas = Quotas::new(&config(vec![held(200)]), 1000);
    let topic = Topic::parse("t").expect("a good name");
    let owner = || {
        let owners = ask("alice", |requester| admit(&quotas, requester, &topic, &[1], Moment(0)));
        owners.expect("nothing is refused").and_then(|owners| owners.of(0).cloned()).expect("a share is bounded")
    };
    let open = || ask("alice", |requester| quotas.open(requester, Moment(0)));
    let before = owner();
    assert_eq!(before.try_take_bytes(150), Ok(()));
    let streams = [open(), open()].map(|reservation| reservation.expect("two are allowed").expect("they are bounded"));
    assert!(open().is_err());
    quotas.replace(&config(vec![rule("first", "sub:bob", &[], &[(Limit::TopicsHeld, 1)]), held(100)]), Moment(0));
    assert!(owner().try_take_bytes(1).is_err() && before.try_take_bytes(1).is_err(), "150 are held, of 100");
    before.return_bytes(100);
    assert_eq!(owner().try_take_bytes(50), Ok(()));
    let [first, second] = streams;
    drop(first);
    assert!(open().is_err(), "one is allowed, and one is left");
    quotas.replace(&config(vec![]), Moment(0));
    assert_eq!(before.try_take_bytes(1000), Ok(()), "a rule that is gone bounds nothing");
    before.return_bytes(1000);
    quotas.replace(&config(vec![held(100)]), Moment(0));
    assert!(owner().try_take_bytes(1).is_err() && open().is_err(), "what was held under its name still is");
    drop(second);
    assert!(open().is_ok());
    let refusals: Vec<_> = quotas.refusals().into_iter().filter(|(.., count)| 0 < *count).collect();
    assert_eq!(refusals, [("held", Limit::Connections, 3)], "counters never fall");
}

/// After any change of the rules, what is held counts under the rules that apply to it, and is released from them.
#[test]
fn what_is_held_is_counted_by_the_rules_of_now() {
    let limits = [(Limit::BytesHeld, 200), (Limit::TopicsHeld, 2), (Limit::Connections, 2)];
    let held = |name, who, topics: &[&str]| rule(name, who, topics, &limits);
    let config = |rules: Vec<QuotaRule>| QuotaConfig { rules, ..QuotaConfig::unlimited() };
    let topic = Topic::parse("orders.eu").expect("a good name");
    let check = |rules: &[Vec<QuotaRule>], is_counted: bool| {
        let quotas = Quotas::new(&config(rules[0].clone()), 1000);
        let owner =
            || ask("alice", |requester| quotas.topic_owner(requester, &topic, Moment(0))).expect("a share is bounded");
        let open = || ask("alice", |requester| quotas.open(requester, Moment(0)));
        let before = owner();
        assert_eq!(before.try_take_bytes(150), Ok(()));
        let topics = [QuotaReservation::topic(&before), QuotaReservation::topic(&before)]
            .map(|reservation| reservation.expect("two are allowed"));
        let streams = [open(), open()].map(|reservation| reservation.expect("two are allowed"));
        rules[1..].iter().for_each(|rules| quotas.replace(&config(rules.clone()), Moment(0)));
        let now = owner();
        assert_eq!(now.try_take_bytes(51).is_err(), is_counted, "{rules:?}");
        assert_eq!(QuotaReservation::topic(&now).is_err(), is_counted, "{rules:?}");
        if !is_counted {
            now.return_bytes(51);
        }
        before.return_bytes(150);
        drop((topics, streams));
        assert_eq!(now.try_take_bytes(200), Ok(()), "{rules:?}");
        assert!(now.try_take_bytes(1).is_err(), "{rules:?}");
        now.return_bytes(200);
        assert!(open().is_ok_and(|reservation| reservation.is_some()));
        assert!(before.is_empty() && now.is_empty());
    };
    let [first, renamed] = ["a", "b"].map(|name| vec![held(name, "*", &[])]);
    check(&[first.clone(), first.clone()], true);
    check(&[first.clone(), renamed.clone()], true);
    check(&[first.clone(), vec![], renamed.clone()], true);
    check(&[first.clone(), vec![held("b", "sub:alice", &[])]], true);
    check(&[first.clone(), vec![held("b", "sub:alice", &[]), held("c", "*", &[])]], true);
    check(&[vec![held("a", "*", &["orders.**"])], renamed], true);
    check(&[vec![held("a", "*", &["orders.**"])], vec![held("b", "sub:alice", &["orders.**"])]], true);
    // It is unknown whether the bytes belong to these topics.
    check(&[first, vec![held("b", "*", &["orders.**"])]], false);
}

/// Streams without a limit when they were opened are counted when they are claimed, even beyond the limit.
#[test]
fn streams_that_are_open_are_claimed() {
    let quotas = Quotas::new(&QuotaConfig::unlimited(), 1000);
    let open = || ask("alice", |requester| quotas.open(requester, Moment(0)));
    let claim = || ask("alice", |requester| quotas.claim(requester, Moment(0)));
    assert!(open().is_ok_and(|reservation| reservation.is_none()) && claim().is_none());
    let generation = quotas.generation();
    let rules = vec![rule("streams", "*", &[], &[(Limit::Connections, 2)])];
    quotas.replace(&QuotaConfig { rules, ..QuotaConfig::unlimited() }, Moment(0));
    assert_ne!(quotas.generation(), generation);
    let [first, second, third] = [claim(), claim(), claim()];
    assert!(open().is_err());
    drop((first, second));
    assert!(open().is_ok_and(|reservation| reservation.is_some()));
    drop(third);
}

/// The owners of many events take no more memory than that of one, if the owner is the same.
#[test]
fn owners_in_a_row_are_one_entry() {
    let config = QuotaConfig { share_percent: 25, ..QuotaConfig::unlimited() };
    let quotas = Quotas::new(&config, 1000);
    let topic = Topic::parse("t").expect("a good name");
    let owners = ask("alice", |requester| admit(&quotas, requester, &topic, &[1; 100_000], Moment(0)));
    let owners = owners.expect("nothing is refused").expect("a tenant");
    assert!(owners.held_bytes() < 256, "{}", owners.held_bytes());
    let first = owners.of(0).expect("there is one");
    assert!(owners.of(99_999).is_some_and(|last| Arc::ptr_eq(first, last)));
    assert!(owners.of(100_000).is_none());
}

/// If different rules apply to different topics, each event has its own owner.
#[test]
fn owners_of_several_rules_are_told_apart() {
    let limits = [(Limit::BytesHeld, 1000)];
    let quotas = quotas(0, vec![rule("a", "*", &["a"], &limits), rule("b", "*", &["b"], &limits)]);
    let topics = ["a", "a", "b", "a"].map(|name| Topic::parse(name).expect("a good name"));
    let owners = ask("alice", |requester| {
        let mut tally = PublishTotals::default();
        topics.iter().for_each(|topic| quotas.add(&mut tally, requester, PublishRequest { topic, bytes: 1 }));
        quotas.admit(requester, &tally, Moment(0))
    });
    let owners = owners.expect("nothing is refused").expect("a tenant");
    let is_same = |left, right| Arc::ptr_eq(owners.of(left).expect("one"), owners.of(right).expect("one"));
    assert!(is_same(0, 1) && !is_same(1, 2) && !is_same(2, 3) && is_same(0, 3));
}

#[test]
fn an_owner_is_kept_where_something_bounds_what_is_held() {
    let topic = |name: &str| Topic::parse(name).expect("a good name");
    // Whether there is an owner for publications, for a topic, and for an unfinished request.
    let check = |rules: Vec<QuotaRule>, expected: [bool; 3]| {
        let quotas = quotas(5, rules);
        let found = ask("alice", |requester| {
            let admitted = admit(&quotas, requester, &topic("t"), &[1], Moment(0)).expect("nothing is refused");
            let of_topic = quotas.topic_owner(requester, &topic("t"), Moment(0));
            [admitted.is_some(), of_topic.is_some(), quotas.sender(requester, Moment(0)).is_some()]
        });
        assert_eq!(found, expected);
    };
    let held = |who, topics: &[&str]| rule("held", who, topics, &[(Limit::BytesHeld, 100)]);
    check(vec![], [false; 3]);
    check(vec![rule("rate", "*", &[], &[(Limit::BytesPerSecond, 1000)])], [false; 3]);
    check(vec![held("*", &[])], [true; 3]);
    check(vec![held("sub:bob", &[])], [false; 3]);
    check(vec![held("*", &["t"])], [true, true, false]);
    check(vec![held("*", &["other"])], [true, false, false]);
    check(vec![rule("topics", "*", &[], &[(Limit::TopicsHeld, 100)])], [true, true, false]);
    check(vec![rule("rate", "*", &[], &[(Limit::BytesPerSecond, 1000)]), held("sub:alice", &[])], [true; 3]);
}

#[test]
fn an_owner_is_an_address_s_where_a_rule_asks_for_it() {
    let check = |who: &str, is_same: bool| {
        let quotas = quotas(0, vec![rule("held", who, &[], &[(Limit::BytesHeld, 100)])]);
        let [one, other] = ["alice@10.0.0.1", "alice@10.0.0.2"]
            .map(|asks| ask(asks, |requester| quotas.sender(requester, Moment(0))).expect("a share is bounded"));
        assert_eq!(Arc::ptr_eq(&one, &other), is_same, "{who}");
        assert_eq!(one.try_take_bytes(100), Ok(()));
        assert_eq!(other.try_take_bytes(1).is_err(), is_same, "{who}");
    };
    check("sub:alice", true);
    check("address:10.0.0.0/8", false);
}

#[test]
fn no_limits_are_none() {
    let config = QuotaConfig::unlimited();
    assert_eq!((config.default_limits, config.share_percent), ([0; Limit::ALL.len()], 100));
    let quotas = Quotas::unlimited();
    assert_eq!(publish(&quotas, "alice", "t", &[100_000_000; 100], 0), Ok(()));
}

#[test]
fn tenants_are_counted_one_by_one() {
    let quotas = quotas(100, vec![]);
    assert_eq!(quotas.tenant_count(), 0);
    for number in 1..=2000_usize {
        assert_eq!(publish(&quotas, &format!("name{number}"), "t", &[1], 0), Ok(()));
        assert_eq!(quotas.tenant_count(), number);
    }
}

/// A batch of many events may change its rules with each of them.
#[test]
fn what_a_batch_takes_is_counted() {
    let limits = [(Limit::BytesHeld, 1000)];
    let quotas = quotas(0, vec![rule("a", "*", &["a"], &limits), rule("b", "*", &["b"], &limits)]);
    let topics = ["a", "b"].map(|name| Topic::parse(name).expect("a good name"));
    let mut totals = PublishTotals::default();
    assert_eq!(totals.held_bytes(), 0);
    ask("alice", |requester| {
        (0..1000)
            .for_each(|at| quotas.add(&mut totals, requester, PublishRequest { topic: &topics[at % 2], bytes: 1 }));
    });
    assert!((16_000..40_000).contains(&totals.held_bytes()), "{}", totals.held_bytes());
}
