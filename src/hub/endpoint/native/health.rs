//! `/health`, `/ready`, `/stats`, `/metrics` and `/`, for operators.

use std::sync::PoisonError;

use serde_json::{Map, Value, json};

use super::fleet;
use crate::{
    clock::Moment,
    endpoint::{Answer, Context, Hub, Route, ShutdownPhase},
    exposition::ExpositionFormat,
    fleet::Fleet,
    metrics::{Metrics, QuotaFigures, Transport},
    protocol::http::{Request, Response},
    version::{COMMIT, FULL_VERSION, VERSION},
};

/// 200 if every reactor turns, else 503.
pub(in crate::endpoint) fn show_health(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let metrics = &context.hub.metrics;
    let stuck = metrics.stuck_reactors(context.now, context.config.stuck_after);
    let status = if stuck.is_empty() { "ok" } else { "stuck" };
    let body = json!({
        "status": status,
        "version": VERSION,
        "commit": COMMIT,
        "uptime_s": context.now.since(Moment(0)).as_secs(),
        "reactors": metrics.reactors.len(),
        "stuck_reactors": stuck,
    });
    Response::json(if stuck.is_empty() { 200 } else { 503 }, &body).into()
}

/// 200 if every required source delivers, and has done so for `ready.delay` once, every reactor turns, and the hub does not shut
/// down. Else 503. Each source shows what is wrong, and for how many seconds it has been in its state (`for_s`). Problems of single
/// topics, and of sources that `ready.require` does not name, are listed as `degraded` and do not count.
pub(in crate::endpoint) fn show_ready(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let mut failed = Vec::new();
    let mut degraded = Vec::new();
    let mut sources = Map::new();
    let mut delivers_since = Moment(0);
    for source in &context.hub.metrics.sources {
        let outcome = source.check(context.now);
        let since = source.since(context.now);
        let for_s = since.map(|since| context.now.since(since).as_secs_f64());
        let is_required = is_required(&context.config.ready_require, source.name());
        if let Some(since) = since.filter(|_| is_required) {
            delivers_since = delivers_since.max(since);
        }
        let description = json!({
            "ok": outcome.is_ok(), "for_s": for_s, "reason": outcome.clone().err(), "required": is_required,
        });
        sources.insert(source.name().to_owned(), description);
        let lines = if is_required { &mut failed } else { &mut degraded };
        lines.extend(outcome.err().map(|reason| format!("{}: {reason}", source.name())));
        degraded.extend(source.degraded(context.now).iter().map(|line| format!("{}: {line}", source.name())));
    }
    if failed.is_empty() {
        let heard = context.now.since(context.hub.delivers_since(delivers_since));
        let left = context.config.ready_delay.saturating_sub(heard);
        if !left.is_zero() {
            failed.push(format!(
                "the hub has heard its sources for {:.1} s: it is ready {:.1} s later (ready.delay)",
                heard.as_secs_f64(),
                left.as_secs_f64()
            ));
        }
    }
    if context.hub.is_leaving() || context.hub.phase() != ShutdownPhase::Serving {
        failed.push("the hub shuts down".to_owned());
    }
    let stuck = context.hub.metrics.stuck_reactors(context.now, context.config.stuck_after);
    failed.extend(stuck.iter().map(|reactor| format!("reactor {reactor} does not turn")));
    let status = if failed.is_empty() { 200 } else { 503 };
    let body = json!({ "ready": failed.is_empty(), "failed": failed, "degraded": degraded, "sources": sources });
    Response::json(status, &body).with("Cache-Control", "no-store").into()
}

/// Whether `require` names the source `name`, or all sources by `*`.
fn is_required(require: &[String], name: &str) -> bool {
    require.iter().any(|required| required == "*" || required == name)
}

/// The main figures, and the hubs on this hub's broker. Messages that ask for the figures get those without the hubs, of which
/// there may be many.
pub(in crate::endpoint) fn show_stats(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let mut stats = stats(context);
    stats["fleet"] = fleet::list(context.hub, context.now);
    Response::json(200, &stats).with("Cache-Control", "no-store").into()
}

/// The main figures. `connected_clients` and `events_received` have the names that the event broadcaster gave them.
pub(in crate::endpoint) fn stats(context: &Context<'_>) -> Value {
    let Metrics { reactors, sources, .. } = &*context.hub.metrics;
    let uptime_s = context.now.since(Moment(0)).as_secs_f64();
    let totals = Transport::ALL.map(|transport| (transport, context.hub.metrics.totals(transport)));
    let streams = || totals.iter().filter(|(transport, _)| transport.is_stream()).map(|(_, totals)| totals);
    let connections: Map<String, Value> =
        totals.iter().map(|(transport, totals)| (transport.label().to_owned(), totals.open.into())).collect();
    let received = context.hub.bus.received_total();
    let delivered: u64 = streams().map(|totals| totals.deliveries).sum();
    let latencies = context.hub.metrics.latencies();
    let quantile_ms = |fraction: f64| latencies.quantile(fraction).as_secs_f64() * 1e3;
    let received_by_source: Map<String, Value> =
        sources.iter().map(|source| (source.name().to_owned(), source.received_total().into())).collect();
    json!({
        "uptime_s": uptime_s,
        "connected_clients": streams().map(|totals| totals.open).sum::<u64>(),
        "connections": connections,
        "events_received": received,
        "events_received_by_source": received_by_source,
        "events_per_s": received as f64 / uptime_s.max(1.0),
        "deliveries": delivered,
        "deliveries_per_s": delivered as f64 / uptime_s.max(1.0),
        "reactors": reactors.iter().map(|reactor| reactor.open()).collect::<Vec<u64>>(),
        "delivery_ms": {
            "count": latencies.count(), "p50": quantile_ms(0.5), "p90": quantile_ms(0.9),
            "p99": quantile_ms(0.99), "p999": quantile_ms(0.999), "max": quantile_ms(1.0),
        },
    })
}

/// All metrics, in the text format that the scraper asks for.
pub(in crate::endpoint) fn show_metrics(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let Hub { metrics, bus, quotas, maxima, .. } = context.hub;
    let refusals = quotas.refusals().into_iter().map(|(rule, limit, count)| (rule, limit.name(), count)).collect();
    let quotas = QuotaFigures { refusals, tenants: quotas.tenant_count() as u64 };
    let format = ExpositionFormat::negotiate(request.header_values("accept"));
    let mut further = context.hub.extension::<Fleet>().figures(context.now);
    further.extend(context.hub.audit.figures());
    let maxima = *maxima.lock().unwrap_or_else(PoisonError::into_inner);
    let body = metrics.exposition(bus, &quotas, &maxima, further, format).into_bytes();
    let headers = vec![("Content-Type", format.content_type().to_owned()), ("Vary", "Accept".to_owned())];
    Response { status: 200, headers, body }.into()
}

/// The version and the routes, for people who open the hub in a browser.
pub(in crate::endpoint) fn show_index(_: &Request, _: &str, context: &Context<'_>) -> Answer {
    let mut text = format!("Fanfare {FULL_VERSION}\n\n");
    let mut last = "";
    let is_off = |route: &Route| route.compat.is_some_and(|api| !context.config.compat.has(api));
    let routes = context.hub.application().routes.iter().flat_map(|table| table.iter());
    for route in routes.filter(|route| !is_off(route)) {
        // The same path may have one route at public listeners and another at admin listeners.
        if std::mem::replace(&mut last, route.pattern) == route.pattern {
            continue;
        }
        let methods: Vec<&str> = route.methods.iter().map(|(method, _)| method.as_str()).collect();
        text.push_str(&format!("{:5} {}\n", methods.join(","), route.pattern));
    }
    Response::text(200, &text).into()
}
