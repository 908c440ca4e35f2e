//! The bus: the very files of `src/bus`, over the locks and queues of [`sync`]. `mod.rs` alone is this one instead.

#[path = "../../src/bus/inbox.rs"]
mod inbox;
#[path = "../../src/bus/publish.rs"]
mod publish;
#[path = "../../src/bus/reactors.rs"]
mod reactors;
#[path = "sync.rs"]
pub(crate) mod sync;
#[path = "../../src/bus/topics.rs"]
mod topics;

pub use fanfare::bus::{Class, Config};
pub use inbox::{AnswerForm, Doorbell, Inbox, Mail, Note, Waiting, Wake};
pub use publish::{Feed, Outlet, Publication, PublishFailed, PublishRefused, Receipt, Reply};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use topics::{Attachment, Bus, Interest, TopicKey, TopicState, TopicSummary};
