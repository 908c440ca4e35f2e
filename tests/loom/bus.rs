//! The bus: the very files of `src/bus`, over the locks and queues of [`sync`]. `mod.rs` alone is this one instead.

#[path = "../../src/bus/archive.rs"]
mod archive;
#[path = "../../src/bus/idempotency.rs"]
mod idempotency;
#[path = "../../src/bus/inbox.rs"]
mod inbox;
#[path = "../../src/bus/listing.rs"]
mod listing;
#[path = "../../src/bus/orders.rs"]
mod orders;
#[path = "../../src/bus/publish.rs"]
mod publish;
#[path = "../../src/bus/reactors.rs"]
mod reactors;
#[path = "../../src/bus/retired.rs"]
mod retired;
#[path = "../../src/bus/sweep.rs"]
mod sweep;
#[path = "sync.rs"]
pub(crate) mod sync;
#[path = "../../src/bus/table.rs"]
mod table;
#[path = "../../src/bus/topics.rs"]
mod topics;

pub use archive::{Archive, ArchiveFailed, ArchivePage, ArchiveReply, ArchiveRequest};
pub use fanfare::bus::{Class, Config, LogKind};
pub use inbox::{AnswerForm, Answered, Complete, CompleteFrames, Doorbell, Inbox, Mail, Note, Waiting, Wake};
pub use listing::{HistoryPage, TopicSummary};
pub use orders::{ORDERS, Orders, is_order};
pub use publish::{Feed, Outlet, Publication, PublishFailed, PublishRefused, Receipt, Reply};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use topics::{Attachment, Bus, Interest, TopicKey, TopicState};

/// The ways out of the hub: none.
#[derive(Debug, Default)]
pub struct Outlets {
    pub shared: Option<Box<dyn Outlet>>,
    pub stream: Option<Box<dyn Outlet>>,
    pub archive: Option<Box<dyn Archive>>,
}
