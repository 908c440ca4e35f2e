//! No memory is allocated per delivery: an event to a thousand listeners allocates what an event to ten does.

#[path = "../../bench/deliveries/rig.rs"]
mod rig;
#[path = "../../bench/deliveries/stub.rs"]
mod stub;

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
