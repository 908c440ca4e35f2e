//! Replays whose archive is asked and answers step by step.

use std::sync::Arc;

use fanfare::bus::{ArchivePage, ArchiveRequest};
use fanfare_core::{
    event::{Event, Start},
    log::Policy,
};

use crate::{
    plan::{Plan, TopicPlan},
    scenarios::{add_entries, calm_plan, connect, work_off},
    world::World,
};

/// An entry that the log has passed is deleted at the broker, and the log goes on before its reader can join it: the next page is
/// asked for behind the event that came last, with its content. An id alone could be one of another stream.
#[test]
fn a_replay_goes_on_behind_the_event_that_came_last() {
    let plan = calm_plan(Policy::Close);
    let topics = vec![TopicPlan { history_events: 3, lag_events: 0, is_stream: true, ..plan.topics[0] }];
    let mut world = World::new(Plan { topics, ..plan }, 1);
    connect(&mut world, b"GET /sse?topic=topic.0 HTTP/1.1\r\nHost: h\r\n\r\n");
    add_entries(&mut world, 0..8);
    work_off(&mut world);
    let wire = connect(&mut world, b"GET /sse?topic=topic.0 HTTP/1.1\r\nHost: h\r\nLast-Event-ID: 0-0\r\n\r\n");
    let ArchiveRequest { topic, start, upto, reply, .. } = world.broker.next_request().expect("a replay");
    assert_eq!((start, upto), (Start::First, Some(world.truth.entry(0, 4).id)));
    add_entries(&mut world, 8..10);
    work_off(&mut world);
    let event = |index: usize| {
        let entry = world.truth.entry(0, index);
        Arc::new(Event::new(topic.clone(), entry.id, 0, None, entry.data.clone(), world.clock.now()))
    };
    let events: Vec<Arc<Event>> = (0..4).map(event).collect();
    let expected = (Start::After(events[3].id), events[3].digest());
    reply(Ok(ArchivePage { events, is_complete: true, gap: None }));
    while world.turn_any() {
        // It reads what has come.
        wire.lock().take(usize::MAX);
    }
    let ArchiveRequest { start, content, upto, .. } = world.broker.next_request().expect("the next page");
    assert_eq!(upto, Some(world.truth.entry(0, 6).id));
    assert_eq!((start, content), expected);
}
