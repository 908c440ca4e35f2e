//! No memory is allocated per delivery, whatever the form: an event to hundreds of listeners allocates what an event to ten does.
//! And what a topic takes is what it is charged for.

#[path = "../../bench/deliveries/rig.rs"]
mod rig;
#[path = "../../bench/deliveries/stub.rs"]
mod stub;

use std::sync::Arc;

use fanfare::bus::{Bus, Config};
use fanfare_core::{budget::Budget, topic::Topic};
use rig::{Form, Rig, Transport};

/// What one event itself may cost: the event, its frame, and the boxes around them. Socket.IO needs the most: a payload that
/// is no JSON becomes a JSON string first; and the key that an event has is read from its payload.
const ALLOCATIONS_PER_EVENT_MAX: u64 = 20;
/// Enough for everything that grows to have grown.
const WARM_UP_ROUNDS: u32 = 40;
const FEW: u32 = 10;
/// More than one slice of a round has.
const MANY: u32 = 300;

#[test]
fn nothing_is_allocated_per_delivery() {
    for transport in [Transport::Ws, Transport::V1, Transport::Sse, Transport::SocketIo] {
        check(one_topic(transport), Blocked::HoldsNothing);
    }
}

#[test]
fn nor_where_readers_that_are_behind_get_the_newest_of_each_key() {
    for transport in [Transport::Ws, Transport::V1, Transport::Sse, Transport::SocketIo] {
        check(Form { latest: true, ..one_topic(transport) }, Blocked::HoldsNothing);
    }
}

#[test]
fn nor_to_connections_that_listen_to_several_topics() {
    for transport in [Transport::Ws, Transport::V1, Transport::Sse, Transport::SocketIo] {
        let blocked = if transport == Transport::Sse { Blocked::MayHoldACopy } else { Blocked::HoldsNothing };
        for (topics, active) in [(2, 1), (2, 2), (8, 8)] {
            check(Form { topics, active, ..one_topic(transport) }, blocked);
        }
        check(Form { topics: 2, active: 2, latest: true, ..one_topic(transport) }, blocked);
    }
}

#[test]
fn nor_to_socket_io_clients_with_recovery_or_in_other_namespaces() {
    let form = one_topic(Transport::SocketIo);
    check(Form { recovery: true, ..form }, Blocked::HoldsNothing);
    check(Form { namespace: true, ..form }, Blocked::MayHoldACopy);
    for (topics, active) in [(2, 1), (8, 8)] {
        check(Form { topics, active, recovery: true, ..form }, Blocked::MayHoldACopy);
        check(Form { topics, active, namespace: true, ..form }, Blocked::MayHoldACopy);
        check(Form { topics, active, namespace: true, recovery: true, latest: true, ..form }, Blocked::MayHoldACopy);
    }
}

/// The simplest form of a transport.
fn one_topic(transport: Transport) -> Form {
    Form { transport, topics: 1, active: 1, recovery: false, namespace: false, latest: false }
}

/// What a full socket leaves with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// A reference to the event.
    HoldsNothing,
    /// A copy of what is left of one frame, if that frame is not all of what its connection shares with every other.
    MayHoldACopy,
}

fn check(form: Form, blocked: Blocked) {
    for chokes in [false, true] {
        for together in [1, 16] {
            let case = format!("{form:?}, choking: {chokes}, {together} at a time");
            let few = count(FEW, form, chokes, together);
            let many = count(MANY, form, chokes, together);
            if chokes && blocked == Blocked::MayHoldACopy {
                let copies = u64::from(MANY - FEW);
                assert!((few..=few + copies).contains(&many), "{few} to {FEW}, {many} to {MANY} listeners: {case}");
                continue;
            }
            assert_eq!(few, many, "to {FEW} and to {MANY} listeners: {case}");
            assert!(
                (1..=ALLOCATIONS_PER_EVENT_MAX * u64::from(together)).contains(&many),
                "{many} for the events: {case}"
            );
        }
    }
}

/// Allocations of `together` events to so many listeners.
fn count(connections: u32, form: Form, chokes: bool, together: u32) -> u64 {
    let mut rig = Rig::new(connections, form, chokes).expect("the network is made up");
    rig.publish(WARM_UP_ROUNDS * together, together, 200).expect("the network is made up");
    let before = rig.written.calls();
    let counted = allocation_counter::measure(|| rig.publish(together, together, 200).expect("the network is made up"));
    let calls = rig.written.calls() - before;
    assert!(u64::from(connections) <= calls, "every listener was written to");
    assert!(chokes || calls == u64::from(connections), "{calls} calls to {connections} listeners: {form:?}");
    counted.count_total
}

/// Topics that are counted at once: the tables grow by doubling, so that this many fill them about as well as any number does on
/// the average.
const TOPICS: usize = 48_000;
/// What the allocator adds to each of a topic's blocks: its head, and the rest to its next size.
const BLOCK_BYTES: usize = 16;

#[test]
fn a_topic_is_charged_for_what_it_takes() {
    let budget = Arc::new(Budget::unlimited());
    let bus = Bus::new(Config { budget: Arc::clone(&budget), ..Config::default() }, Vec::new(), Vec::new());
    let counted = allocation_counter::measure(|| {
        for number in 0..TOPICS {
            let topic = Topic::parse(&format!("sensors.{number}")).expect("a good name");
            bus.mark_stale(&topic);
        }
    });
    let blocks = usize::try_from(counted.count_current).expect("they are kept");
    let taken = usize::try_from(counted.bytes_current).expect("they are kept") + blocks * BLOCK_BYTES;
    let (taken, charged) = (taken / TOPICS, budget.used() / TOPICS);
    assert!((charged * 2 / 3..=charged).contains(&taken), "{taken} bytes a topic, and {charged} are charged");
}
