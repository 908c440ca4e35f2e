//! The bus: the files of `src/hub/bus`, with the locks and queues of [`sync`]. Only `mod.rs` is replaced, by this file.

#[path = "../../src/hub/bus/archive.rs"]
mod archive;
#[path = "../../src/hub/bus/attach.rs"]
mod attach;
#[path = "../../src/hub/bus/follower.rs"]
mod follower;
#[path = "../../src/hub/bus/hub_commands.rs"]
mod hub_commands;
#[path = "../../src/hub/bus/idempotency.rs"]
mod idempotency;
#[path = "../../src/hub/bus/inbox.rs"]
mod inbox;
#[path = "../../src/hub/bus/listing.rs"]
mod listing;
#[path = "../../src/hub/bus/publish.rs"]
mod publish;
#[path = "../../src/hub/bus/reactors.rs"]
mod reactors;
#[path = "../../src/hub/bus/retired.rs"]
mod retired;
#[path = "../../src/hub/bus/sink.rs"]
mod sink;
#[path = "../../src/hub/bus/sources.rs"]
mod sources;
#[path = "../../src/hub/bus/sweep.rs"]
mod sweep;
#[path = "sync.rs"]
pub(crate) mod sync;
#[path = "../../src/hub/bus/table.rs"]
mod table;
#[path = "../../src/hub/bus/topic.rs"]
mod topic;
#[path = "../../src/hub/bus/topics.rs"]
mod topics;

pub use archive::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest};
pub use attach::LogSnapshot;
pub use fanfare::bus::{Class, Config, LogKind, SourceName};
pub(crate) use follower::Follower;
pub(crate) use hub_commands::{HUB_COMMANDS, HubCommands, is_hub_command, losses_payload, losses_topic};
pub(crate) use inbox::ControlMessage;
pub use inbox::{EventMessage, Inbox, Notifier, Wake};
pub use listing::{HistoryPage, TopicSummary};
pub use publish::{Feed, PublishRefused};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use sink::{EventSink, Publication, PublishFailed, Receipt, ReceiptCallback};
pub use sources::{BrokerLog, Interest, SourcePort};
pub use topic::{TopicKey, TopicState};
pub use topics::Bus;
