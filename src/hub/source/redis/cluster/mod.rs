//! Redis Cluster: Pub/Sub over several servers, each of which has some of the slots. A topic is the sharded channel of its name; or an
//! ordinary one, which is read from any one master (`redis.cluster_pubsub`), as from a single server. What follows is about the first.
//!
//! **Threads.** One asks the nodes who has which slots ([`watch`]) and tells the others ([`view`]). One reads from all masters
//! ([`reader`]), by one connection and one table of subscriptions for each, and hands a topic from one to the other when its slot moves.
//! With a thread for each master, topics would cross threads, and their order would need an agreement. Publishing blocks, so it has a
//! thread for each master ([`router`]): one that hangs holds up only its own topics.
//!
//! **How a move shows.** The node ends the subscription (`sunsubscribe`), it answers `MOVED`, or the nodes say so when they are asked
//! (`CLUSTER SLOTS`). `MOVED` is believed at once, and once for each slot between two questions: two nodes that name each other must not
//! keep the hub busy. A master knows best which slots it has; the others hear of a change later. Where none claims a slot, most nodes
//! decide. Where two do, the former keeps it for `redis.ping_timeout`: until it knows better it takes publications, which whoever had left
//! it would miss, behind the gap that tells of the move ([`slots`]).
//!
//! **What is lost.** A topic that moves gets a gap once its new master confirms it: nobody can prove that nothing was published between
//! the end of the one subscription and the beginning of the other.
//!
//! **Order.** Each publication has a serial number. What a node did not take comes back, and what came later waits, until nothing of the
//! slot is under way to the old node.
//!
//! **`ASK` is not followed.** A node answers it while it gives a slot away, to a script whose key it has not. The other node would run
//! the script, and would publish to nobody: the subscribers are at the first one until the slot has moved. So the publication waits.
//!
//! **Streams** on a cluster are another source ([`stream`](super::stream)), with the same view of the cluster, the same status and the same
//! threads that publish ([`nodes`]).
//!
//! **Readiness.** Each master has a status of its own ([`status`]). One that is away is degraded; all together are not ready. At its start
//! a hub is not ready before it has tried each.

mod nodes;
mod reader;
mod router;
mod slots;
mod source;
mod status;
mod view;
mod watch;

pub(super) use nodes::ClusterNodes;
pub(super) use router::{Flight, Router};
pub(super) use slots::{SlotMap, slot_of_key};
pub(super) use source::ClusterSource;
pub(super) use status::ClusterStatus;
pub(super) use view::{ClusterPlace, ClusterView};
