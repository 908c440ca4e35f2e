//! A rolling restart: hubs behind nginx, ended and started again one after the other.

use crate::{
    scene::{self, HASTY},
    support::{
        hub::Hub,
        nginx::Nginx,
        redis::RedisServer,
        swarm::{Account, Dialect, Plan, Publisher, Record, Route, Steady, Swarm, settle, shared_ids},
    },
};

/// Not 127.0.0.1: the port must be free again when the hub is, and outgoing connections take theirs from that address.
const LISTEN: &str = "127.0.0.3:0";

const TOPICS: usize = 10;

/// Subscribers, and events a second: in either form 4,000 deliveries a second.
const SHORT: (usize, u32) = (1000, 40);
const IN_FULL: (usize, u32) = (5000, 8);

/// When a hub that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    AtOnce,
    /// When all its subscribers are at other hubs.
    Later,
}

/// Restarts each of `count` hubs under all the subscribers, and settles.
#[track_caller]
fn restart_all(
    count: usize,
    prefix: &str,
    settings: &[(&str, &str)],
    again: Again,
    route: impl Fn(&RedisServer, &Nginx) -> Route,
) -> Rolled {
    fanfare_platform::os::raise_descriptor_limit().expect("a process may use what it is given");
    let server = RedisServer::start();
    let settings = [&HASTY[..], &[("drain.window", "3s")], settings].concat();
    let start = |address: &str| Hub::start_at(address, &["--redis", &server.url()], &settings);
    let hubs: Vec<Hub> = (0..count).map(|_| start(LISTEN)).collect();
    hubs.iter().for_each(scene::wait_until_ready);
    let nginx = Nginx::start(&hubs.iter().map(Hub::address).collect::<Vec<_>>());
    let (size, events_per_second) = if scene::in_full() { IN_FULL } else { SHORT };
    let subscribers = (0..size).map(|number| (Dialect::Sse, vec![number % TOPICS])).collect();
    let plan = Plan::of(prefix, TOPICS, subscribers);
    let steady = Steady { topics: plan.topics.clone(), events_per_second, padding_bytes: 0, origin: plan.origin };
    let swarm = Swarm::open(plan, &nginx.address());
    let publisher = Publisher::start(steady, route(&server, &nginx));
    // Each topic has its turn: who has seen an event has a place to come back to.
    publisher.wait_for_more(2 * TOPICS as u32);
    let mut restarted = Vec::new();
    for hub in hubs {
        let address = hub.address().to_owned();
        assert!(hub.terminate().success(), "a drained hub ends well");
        if again == Again::Later {
            swarm.wait_until_open(size);
        }
        let hub = start(&address);
        scene::wait_until_ready(&hub);
        restarted.push(hub);
        swarm.wait_until_open(size);
    }
    let truth = publisher.finish();
    swarm.wait_until_seen(&truth);
    let records = swarm.finish();
    let account = settle(&truth, &records);
    eprintln!("{account}");
    account.must_add_up();
    Rolled { account, records, moves_max: count as u32 }
}

/// What is left of it.
struct Rolled {
    account: Account,
    records: Vec<Record>,
    /// As often as there are hubs that end.
    moves_max: u32,
}

impl Rolled {
    /// Each hub's end moved its own subscribers to another one, and nobody else.
    #[track_caller]
    fn all_moved(&self) {
        let Self { account, records, moves_max } = self;
        assert!(records.iter().all(|record| (1..=*moves_max).contains(&record.reconnects)), "{account}");
        assert_eq!(account.refusals, 0, "there was always a hub to go to: {account}");
    }
}

#[test]
fn each_restart_leaves_one_gap_at_most() {
    let _machine = scene::share_the_machine();
    let rolled = restart_all(2, "roll", &[], Again::AtOnce, |server, _| Route::Redis(server.socket_path()));
    rolled.all_moved();
    let Rolled { account, records, .. } = rolled;
    assert_eq!(account.gaps_of("epoch"), account.gaps.values().sum::<u64>(), "{account}");
    for record in &records {
        let gaps = record.topics.iter().flat_map(|(_, marks)| marks).filter(|mark| mark.is_gap()).count();
        assert!(gaps <= record.reconnects as usize, "{record}");
    }
}

/// On Redis Pub/Sub a client goes on at another hub if that has the topic from its start, and was started before the client's last event.
#[test]
fn next_to_nothing_is_missing_where_each_hub_has_every_channel() {
    let _machine = scene::share_the_machine();
    // Longer than a round of the topics.
    let held = [("redis.subscribe", "*"), ("ready.delay", "5s")];
    let rolled = restart_all(3, "held", &held, Again::Later, |server, _| Route::Redis(server.socket_path()));
    rolled.all_moved();
    let account = &rolled.account;
    assert!(account.announced * 1000 <= account.owed, "{account}");
}

#[test]
#[ignore = "it takes long: scripts/check --all runs it"]
fn nothing_is_lost_where_redis_keeps_the_log() {
    let _machine = scene::share_the_machine();
    let kept = [("topics.log", "redis-stream"), ("topics.history.count", "5000")];
    let rolled = restart_all(2, "kept", &kept, Again::AtOnce, |_, nginx| Route::Http(nginx.address()));
    rolled.all_moved();
    assert_eq!((rolled.account.gaps.len(), rolled.account.announced), (0, 0), "{}", rolled.account);
    let shared = shared_ids(&rolled.records);
    assert!(shared.is_empty(), "ids of more than one event: {shared:?}");
}
