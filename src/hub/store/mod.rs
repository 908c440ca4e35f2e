//! Telemetry kept in PostgreSQL, as TimescaleDB's hypertable where there is one.
//!
//! One thread writes, a few read, and no reactor waits for the database. Records wait in a bounded queue, are committed in
//! batches, and are published afterwards. Each batch also writes its rows to an *outbox*: if the hub or the broker fails between
//! commit and publication, any hub publishes the row later. So an acknowledged record is stored exactly once and published at
//! least once. Repeated publications have the same idempotency key.

mod address;
mod announcer;
mod backlog;
mod batch;
mod config;
mod fault;
mod link;
mod login;
mod query;
mod reader;
mod record;
mod schema;
mod status;
mod writer;

use std::{io, sync::Arc};

pub(crate) use address::StoreUrl;
pub(crate) use backlog::Held;
pub(crate) use config::Config;
pub(crate) use login::StoreLogin;
pub(crate) use query::{Order, Page, Query, ReadFailed, ReadReply, ReadingCursor};
pub(crate) use record::{FIELDS, KeepFailed, KeepReply, Kept, Kind, Record, whole_second, write_time};
pub(crate) use status::StoreStatus;

use self::{announcer::Announcer, backlog::Backlog, link::Connector, reader::Readers, writer::WriterHandle};
use crate::{budget::ChargeRefused, bus::Bus, clock::Clock, share::Owners};

/// A handle of the store's threads. Cheap to clone. Never blocks.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    backlog: Backlog,
    readers: Readers,
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct StoreHandle {
    store: Store,
    writer: WriterHandle,
}

/// Starts the threads. The database need not be reachable yet: `status` shows when it is.
pub(crate) fn start_store(
    config: &Config,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<StoreStatus>,
) -> io::Result<StoreHandle> {
    let connector = Connector::new(config)?;
    let (backlog, queued) = backlog::queue(config, Arc::clone(bus.budget()), clock, Arc::clone(&status));
    let (announcer, marks) = Announcer::new(bus, clock, Arc::clone(&status), config.queue_rows_max);
    let writer = writer::start_writer(config, connector.clone(), clock, status, queued, announcer, marks)?;
    let readers = reader::start_readers(config, &connector, clock)?;
    Ok(StoreHandle { store: Store { backlog, readers }, writer })
}

impl Store {
    /// Charges the memory of `records` to the memory budget and to the shares of their `owners`; `None`: no owners. The charge is
    /// released when the records are stored or refused. Then their events count for the owners.
    pub(crate) fn hold(&self, records: &[Record], owners: Option<Owners>) -> Result<Held, ChargeRefused> {
        self.backlog.hold(records, owners)
    }

    /// Stores `records`, all of them or none, then publishes them, and calls `reply` with the outcome of each, in order. `held` is
    /// the charge that [`Self::hold`] made for them.
    pub(crate) fn keep(&self, mut records: Vec<Record>, held: Held, reply: KeepReply) {
        // If the answer to a commit is lost, the database recognizes the record by this key.
        for record in &mut records {
            record.key.get_or_insert_with(|| format!("{:032x}", rand::random::<u128>()).into());
        }
        self.backlog.push(records, held, reply);
    }

    /// Queries readings, and calls `reply` with them.
    pub(crate) fn read(&self, query: Query, reply: ReadReply) {
        self.readers.ask(query, reply);
    }
}

impl StoreHandle {
    /// The handle for records and queries.
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Stores the queued records if the database is reachable, and waits until the writer ends. Readers end with the last
    /// [`Store`].
    pub(crate) fn stop(self) {
        self.writer.stop();
    }
}

#[cfg(test)]
mod tests;
