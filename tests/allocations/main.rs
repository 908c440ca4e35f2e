//! No memory is allocated per delivery: a broadcast to a thousand allocates what a broadcast to ten does.

#[path = "../../bench/deliveries/rig.rs"]
mod rig;
#[path = "../../bench/deliveries/stub.rs"]
mod stub;

use rig::{Rig, Transport};

/// Allocations of `events` events to so many subscribers, once everything that grows has grown.
fn count(connections: u32, transport: Transport, chokes: bool, together: u32) -> u64 {
    let mut rig = Rig::new(connections, transport, chokes).expect("the network is made up");
    rig.publish(EVENTS, together, 200).expect("the network is made up");
    let before = rig.written.calls();
    let allocations =
        allocation_counter::measure(|| rig.publish(EVENTS, together, 200).expect("the network is made up"));
    let visits = u64::from(EVENTS / together * connections);
    assert!(visits <= rig.written.calls() - before, "every subscriber was written to");
    allocations.count_total
}

/// Enough to fill the log: it then drops one event for each that comes.
const EVENTS: u32 = 20_000;
const FEW: u32 = 4;
const MANY: u32 = 40;

#[test]
fn nothing_is_allocated_per_delivery() {
    for (transport, chokes, together) in [
        (Transport::Ws, false, 1),
        (Transport::Sse, false, 1),
        (Transport::Ws, false, 4),
        (Transport::Sse, true, 1),
        (Transport::Ws, true, 1),
    ] {
        let few = count(FEW, transport, chokes, together);
        let many = count(MANY, transport, chokes, together);
        let case = format!("{transport:?}, choking: {chokes}, {together} at a time: {few} and {many}");
        // The difference is 720,000 deliveries; some hundred may come from buffers that grow late.
        assert!(many.abs_diff(few) < 200, "{case}");
        assert!(few <= 8 * u64::from(EVENTS), "an event itself costs a few: {case}");
    }
}
