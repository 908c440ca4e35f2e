//! The figures as text, for `GET /metrics`.

use prometheus_client::registry::Registry;

use super::{
    Figure, Metrics, Snapshot, Transport,
    family::{Families, Family, Value},
};
use crate::{
    bus::Bus,
    exposition::ExpositionFormat,
    version::{COMMIT, VERSION},
};

impl Metrics {
    /// All figures of the hub over `bus`, and `further` ones of its other parts, as text.
    pub(crate) fn exposition(
        &self,
        bus: &Bus,
        quotas: &QuotaFigures,
        maxima: &Maxima,
        further: Vec<Figure>,
        format: ExpositionFormat,
    ) -> String {
        let mut registry = Registry::default();
        let mut rows = self.rows(bus);
        rows.extend(quota_rows(quotas));
        rows.extend(maxima.rows());
        rows.extend(further.into_iter().map(Family::from));
        registry.register_collector(Box::new(Families { rows }));
        format.encode(&registry)
    }

    fn rows(&self, bus: &Bus) -> Vec<Family> {
        let mut rows = self.transport_rows();
        rows.extend(self.dashboard_rows());
        rows.extend(self.source_rows(bus));
        rows.extend(self.sources.iter().flat_map(|source| source.figures()).map(Family::from));
        rows.extend(self.reactor_rows());
        rows.extend(self.bus_rows(bus));
        rows.extend(process_rows());
        rows
    }

    /// The names that dashboards of earlier systems read.
    fn dashboard_rows(&self) -> Vec<Family> {
        let mut durations = Snapshot::default();
        self.reactors.iter().for_each(|reactor| reactor.publish_durations.merge_into(&mut durations));
        let by_sources = self.sources.iter().filter_map(|source| source.publish_durations());
        by_sources.for_each(|histogram| histogram.merge_into(&mut durations));
        let [websocket, socketio] = [Transport::WebSocket, Transport::SocketIo].map(|transport| self.totals(transport));
        vec![
            Family::gauge("websocket_connections", "Open WebSocket connections and Socket.IO sessions")
                .of(websocket.open + socketio.open),
            Family::gauge("sse_connections", "Open Server-Sent Events streams").of(self.totals(Transport::Sse).open),
            Family::counter("websocket_messages", "Events sent to WebSocket and Socket.IO clients")
                .of(websocket.deliveries + socketio.deliveries),
            Family::counter(
                "websocket_errors",
                "WebSocket connections and Socket.IO sessions that ended with an error or were refused their namespace",
            )
            .of(self.sum(|reactor| &reactor.websocket_errors)),
            Family::counter("realtime_publishes", "Events published through the hub").of(durations.count()),
            Family::histogram("realtime_publish_duration_seconds", "From a publish request to its answer")
                .with(Vec::new(), Value::Histogram(Box::new(durations))),
        ]
    }

    fn source_rows(&self, bus: &Bus) -> Vec<Family> {
        let now = self.clock.now();
        let mut received = Family::counter("fanfare_events_received", "Events that arrived from a source");
        let mut up = Family::gauge("fanfare_source_up", "Whether the source delivers");
        let mut age = Family::gauge("fanfare_source_last_event_age_seconds", "Time since the last event of the source");
        let mut probe =
            Family::gauge("fanfare_source_probe_seconds", "Duration of the last proof that the source delivers");
        let mut reconnects = Family::counter("fanfare_source_reconnects", "Lost connections to the source");
        let mut losses = Family::counter("fanfare_source_losses", "Times the source may have lost events of a topic");
        let mut refused = Family::gauge(
            "fanfare_source_refused_subscriptions",
            "Topics and patterns that the broker refuses to deliver at present",
        );
        let mut unpublished =
            Family::counter("fanfare_source_refused_publications", "Publications that the broker refused");
        let mut unasked =
            Family::counter("fanfare_source_unasked", "Messages dropped because their channel is not subscribed");
        let mut rejected = Family::counter(
            "fanfare_source_rejected_messages",
            "Messages that are no event: their channel is no topic's name, or the hub cannot carry the payload",
        );
        for source in &self.sources {
            let labels = || vec![("source", source.name().to_owned())];
            rejected.add(labels(), Value::Number(source.rejected_messages_total()));
            refused.add(labels(), Value::Number(source.refused_subscriptions()));
            unpublished.add(labels(), Value::Number(source.refused_publications_total()));
            unasked.add(labels(), Value::Number(source.unasked_total()));
            losses.add(labels(), Value::Number(source.losses_total()));
            received.add(labels(), Value::Number(source.received_total()));
            up.add(labels(), Value::Number(u64::from(source.check(now).is_ok())));
            reconnects.add(labels(), Value::Number(source.reconnects_total()));
            if let Some(span) = source.probe() {
                probe.add(labels(), Value::Decimal(span.as_secs_f64()));
            }
            if let Some(last) = source.last_event() {
                age.add(labels(), Value::Decimal(now.since(last).as_secs_f64()));
            }
        }
        let from_sources: u64 = self.sources.iter().map(|source| source.received_total()).sum();
        let at_the_hub = bus.received_total().saturating_sub(from_sources);
        received.add(vec![("source", "hub".to_owned())], Value::Number(at_the_hub));
        vec![received, up, age, probe, reconnects, losses, refused, unpublished, unasked, rejected]
    }

    fn bus_rows(&self, bus: &Bus) -> Vec<Family> {
        vec![
            Family::counter("fanfare_events", "Events accepted from all sources").of(bus.received_total()),
            Family::gauge("fanfare_topics", "Topics that exist").of(bus.topic_count() as u64),
            Family::gauge("fanfare_log_bytes", "Memory of all retained events").of(bus.log_bytes() as u64),
            Family::gauge(
                "fanfare_budget_used_bytes",
                "Memory held by topics, logs, subscriptions, answers and unfinished requests",
            )
            .of(bus.budget().used() as u64),
            Family::gauge("fanfare_budget_bytes", "The memory budget").of(bus.budget().limit() as u64),
            Family::counter(
                "fanfare_reserved_types",
                "Events whose type some transport reserves, shown as message there",
            )
            .of(bus.reserved_kinds_total()),
            Family::counter("fanfare_losses", "Times a source may have lost events of a topic").of(bus.losses_total()),
            Family::counter("fanfare_resyncs", "Times a full inbox caused a resync").of(bus.resyncs_total()),
            Family::counter("fanfare_wakeups", "Sleeping reactors woken for events").of(bus.wakeups_total()),
            Family::gauge("fanfare_build_info", "The version that runs, and the commit it was built from")
                .with(vec![("version", VERSION.to_owned()), ("commit", COMMIT.to_owned())], Value::Number(1)),
        ]
    }
}

/// Configured limits that have a gauge beside them. 0: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Maxima {
    /// Connections of the public listeners: `server.max_connections`, or as many as the process has descriptors for.
    pub connections: usize,
    /// Connections of the admin listeners, by the same rule. Without such listeners they count among the others.
    pub(crate) admin_connections: usize,
    /// Connections of one address.
    pub(crate) connections_per_address: usize,
    /// Connections held until they are refused.
    pub refusals: usize,
    /// Engine.IO sessions in no namespace.
    pub(crate) pending_sessions: usize,
    /// Tenants remembered.
    pub(crate) tenants: usize,
}

impl Maxima {
    fn rows(&self) -> Vec<Family> {
        let mut connections = Family::gauge("fanfare_connections_max", "Connections that may be open at a time");
        for (listener, most) in [("server", self.connections), ("admin", self.admin_connections)] {
            connections.add(vec![("listener", listener.to_owned())], Value::Number(most as u64));
        }
        let gauge = |name, help, most: usize| Family::gauge(name, help).of(most as u64);
        vec![
            connections,
            gauge(
                "fanfare_connections_per_address_max",
                "Connections that one address may have open; 0 stands for no limit",
                self.connections_per_address,
            ),
            gauge("fanfare_refusals_max", "Connections that may be held until they are refused", self.refusals),
            gauge(
                "fanfare_pending_sessions_max",
                "Engine.IO sessions that may be in no namespace",
                self.pending_sessions,
            ),
            gauge("fanfare_quota_tenants_max", "Tenants that may be remembered", self.tenants),
        ]
    }
}

/// The refusals of quotas, and the tenants that they remember.
#[derive(Debug)]
pub(crate) struct QuotaFigures {
    /// The number of refusals by the names of rule and limit. Operators name the rules, so no name is a user's.
    pub refusals: Vec<(&'static str, &'static str, u64)>,
    /// Tenants remembered.
    pub(crate) tenants: u64,
}

fn quota_rows(quotas: &QuotaFigures) -> Vec<Family> {
    let mut refusals = Family::counter("fanfare_quota_refusals", "Requests that quotas refused, by rule and limit");
    for (rule, limit, count) in &quotas.refusals {
        let labels = vec![("rule", (*rule).to_owned()), ("limit", (*limit).to_owned())];
        refusals.add(labels, Value::Number(*count));
    }
    let tenants = Family::gauge("fanfare_quota_tenants", "Subjects, API keys and addresses whose use is remembered");
    vec![refusals, tenants.of(quotas.tenants)]
}

/// Figures from `/proc/self`; none where it does not exist.
fn process_rows() -> Vec<Family> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident_kib: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok());
    vec![
        Family::gauge("process_resident_memory_bytes", "Resident memory").of(resident_kib.unwrap_or(0) * 1024),
        Family::gauge("process_open_fds", "Open descriptors").of(open_descriptors()),
        Family::gauge("process_max_fds", "Descriptors that may be open").of(descriptors_max()),
        Family::counter("process_cpu_seconds", "Processor time, user and system")
            .with(Vec::new(), Value::Decimal(cpu_seconds())),
    ]
}

/// Since Linux 6.2 the folder's size is the number of descriptors. Before that they are counted one by one.
fn open_descriptors() -> u64 {
    match std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len()) {
        0 => std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        count => count,
    }
}

/// The limit in force, from `/proc/self/limits`. 0: unknown, or no limit.
fn descriptors_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    files.and_then(|values| values.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The sum over all threads of the first number in `/proc/self/task/*/schedstat`: nanoseconds on a processor.
fn cpu_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds: u64 = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanoseconds as f64 / 1e9
}
