//! No memory is allocated per delivery: an event to a thousand listeners allocates what an event to ten does. And what a topic
//! takes is what it is charged for.

#[path = "../../bench/deliveries/rig.rs"]
mod rig;
#[path = "../../bench/deliveries/stub.rs"]
mod stub;

use std::sync::Arc;

use fanfare::{
    budget::Budget,
    bus::{Bus, Config, Outlets},
    topic::Topic,
};
use rig::{Rig, Transport};

/// What one event itself may cost: the event, its frame, and the boxes around them. Socket.IO needs the most: a payload that
/// is no JSON becomes a JSON string first.
const ALLOCATIONS_PER_EVENT_MAX: u64 = 10;
/// Enough for everything that grows to have grown.
const WARM_UP_ROUNDS: u32 = 40;

#[test]
fn nothing_is_allocated_per_delivery() {
    for transport in [Transport::Ws, Transport::Sse, Transport::SocketIo] {
        for chokes in [false, true] {
            for together in [1, 16] {
                check(transport, chokes, together);
            }
        }
    }
}

fn check(transport: Transport, chokes: bool, together: u32) {
    let case = format!("{transport:?}, choking: {chokes}, {together} at a time");
    let few = count(10, transport, chokes, together);
    let many = count(1000, transport, chokes, together);
    assert_eq!(few, many, "to 10 and to 1000 listeners: {case}");
    assert!((1..=ALLOCATIONS_PER_EVENT_MAX * u64::from(together)).contains(&many), "{many} for the events: {case}");
}

/// Allocations of `together` events to so many listeners.
fn count(connections: u32, transport: Transport, chokes: bool, together: u32) -> u64 {
    let mut rig = Rig::new(connections, transport, chokes).expect("the network is made up");
    rig.publish(WARM_UP_ROUNDS * together, together, 200).expect("the network is made up");
    let before = rig.written.calls();
    let counted = allocation_counter::measure(|| rig.publish(together, together, 200).expect("the network is made up"));
    assert!(u64::from(connections) <= rig.written.calls() - before, "every listener was written to");
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
    let bus = Bus::new(Config { budget: Arc::clone(&budget), ..Config::default() }, Vec::new(), Outlets::default());
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
