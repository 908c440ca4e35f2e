//! The hubs on this hub's broker, as `GET /stats` shows them.

use serde_json::{Value, json};

use crate::{
    clock::Moment,
    endpoint::{Hub, ShutdownPhase},
    fleet::{Fleet, Heartbeat},
    version::VERSION,
};

/// What the hub says of itself.
pub(crate) fn own_heartbeat(hub: &Hub) -> Heartbeat {
    Heartbeat {
        version: VERSION.to_owned(),
        connections: hub.metrics.reactors.iter().map(|reactor| reactor.open()).sum(),
        topics: hub.bus.topic_count() as u64,
        draining: hub.is_leaving() || hub.phase() != ShutdownPhase::Serving,
        ..hub.extension::<Fleet>().own()
    }
}

/// All hubs: this one first, the others in the order of their ids.
pub(super) fn list(hub: &Hub, now: Moment) -> Value {
    let describe = |heartbeat: Heartbeat, age_s: f64| {
        let Heartbeat { id, name, version, connections, topics, draining, gone: _ } = heartbeat;
        json!({
            "id": id, "name": name, "version": version, "connections": connections, "topics": topics,
            "draining": draining, "age_s": age_s,
        })
    };
    let others = hub.extension::<Fleet>().others(now).into_iter();
    let others = others.map(|(heartbeat, age)| describe(heartbeat, age.as_secs_f64()));
    [describe(own_heartbeat(hub), 0.0)].into_iter().chain(others).collect()
}
