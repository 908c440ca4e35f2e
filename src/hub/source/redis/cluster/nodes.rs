//! What every source on a cluster has: the thread that asks which node has which slots, and the threads that publish.

use std::{io, sync::Arc};

use crossbeam_channel::bounded;

use super::{
    router::{ClusterPublisher, Router},
    status::ClusterStatus,
    view::ClusterView,
    watch::ClusterWatch,
};
use crate::{
    bus::SourceName,
    clock::Clock,
    source::redis::{ClusterPubSub, PublicationIntake, PublishEncoder, RedisConfig},
};

/// The nodes of a cluster, as one source sees them, and its writers at the masters.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterNodes {
    pub(in crate::source::redis) view: Arc<ClusterView>,
    pub(in crate::source::redis) status: Arc<ClusterStatus>,
    publisher: ClusterPublisher,
    watch: ClusterWatch,
}

impl ClusterNodes {
    /// Begins to ask the cluster which node has which slots, and to publish in the form that `encoder` gives. The key of a topic is
    /// `prefix` and its name. `reads` says whether the source reads from each master, or classic channels from any. Fails if `config` names
    /// files that cannot be used.
    pub(in crate::source::redis) fn open(
        config: &RedisConfig,
        name: SourceName,
        reads: ClusterPubSub,
        prefix: &str,
        encoder: Arc<dyn PublishEncoder>,
        clock: Clock,
    ) -> io::Result<Self> {
        let (requests, requested) = bounded(1);
        let view = Arc::new(ClusterView::new(requests));
        let status = Arc::new(ClusterStatus::new(name, reads, clock));
        let router = Router::new(
            config.clone(),
            prefix.to_owned(),
            encoder.least_version(),
            clock,
            Arc::clone(&view),
            Arc::clone(&status),
        )?;
        let router = Arc::new(router);
        let intake = PublicationIntake::new(config, encoder, clock, status.common());
        let publisher = ClusterPublisher { intake, router: Arc::clone(&router) };
        let (watched, shown) = (Arc::clone(&view), Arc::clone(&status));
        let watch = ClusterWatch::start(config.clone(), clock, watched, shown, router, requested)?;
        Ok(Self { view, status, publisher, watch })
    }

    pub(in crate::source::redis) fn publisher(&self) -> ClusterPublisher {
        self.publisher.clone()
    }

    /// Lets the thread that asks the cluster end soon.
    pub(in crate::source::redis) fn signal_stop(&self) {
        self.watch.signal_stop();
    }

    /// Sends what is queued, if the nodes take it, and waits for the threads to end. Every publication is answered.
    pub(in crate::source::redis) fn stop(self) {
        self.publisher.router.stop();
        self.watch.stop();
    }
}
