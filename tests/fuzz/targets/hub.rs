//! A hub without threads and sockets, for what endpoints do with a request.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use fanfare::{
    bus::{self, Bus, Inbox, Notifier, Wake},
    endpoint::{self, Answer, Context, Cors, HUB, Hub},
    metrics::{Metrics, ReactorMetrics},
};
use fanfare_core::{
    clock::{Clock, Moment},
    protocol::http::{HttpLimits, Request},
};

/// A fresh bus with one reactor behind it, whose inbox is never emptied.
pub(super) fn build(payload_bytes_max: usize) -> Hub {
    let config = bus::Config { epoch: EPOCH, payload_bytes_max, ..bus::Config::default() };
    let inbox = Inbox::new(16, Arc::new(Notifier::new(Arc::new(Nobody))));
    Hub::new(&HUB, Arc::new(Bus::new(config, vec![inbox], Vec::new())), Arc::clone(&METRICS), ENDPOINTS.clone())
}

pub(super) const EPOCH: u64 = 1000;
pub(super) const TOPICS_MAX: usize = 8;
pub(super) const NOW: Moment = Moment(1_000_000_000);

static ENDPOINTS: LazyLock<endpoint::Config> = LazyLock::new(|| endpoint::Config {
    default_topics: Vec::new(),
    topics_per_connection_max: TOPICS_MAX,
    cors: Cors::open(),
    admin_apart: false,
    stuck_after: Duration::from_secs(5),
    ..endpoint::Config::default()
});

/// Histograms are large, and what they count is of no interest here.
static METRICS: LazyLock<Arc<Metrics>> = LazyLock::new(|| {
    let reactors = vec![Arc::new(ReactorMetrics::default())];
    Arc::new(Metrics { reactors, sources: Vec::new(), clock: Clock::start() })
});

#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// Where every request comes from.
pub(super) fn context(hub: &Hub) -> Context<'_> {
    Context {
        hub,
        config: &ENDPOINTS,
        reactor: 0,
        token: 0,
        now: NOW,
        admin: false,
        overload: None,
        identity: None,
        peer: None,
        audited: None,
    }
}

/// What `hub` answers to a request of this head; `None` if the head itself is refused.
pub(super) fn ask(hub: &Hub, head: &[u8], body: &[u8]) -> Option<Answer> {
    let limits = HttpLimits { head_bytes_max: usize::MAX, headers_max: 64, ..HttpLimits::default() };
    let mut request = Request::parse(head, &limits).ok()?;
    request.body = body.to_vec();
    let (_, answer) = endpoint::answer(&request, &context(hub));
    Some(answer)
}
