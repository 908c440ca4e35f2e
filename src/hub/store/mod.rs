//! Telemetry kept in PostgreSQL, as TimescaleDB's hypertable where there is one.
//!
//! One thread writes, a few read; no reactor ever waits for the database. What is to be stored waits in a bounded
//! queue, is committed in batches, and is published afterwards. Each batch also leaves its rows in an *outbox*: a row that
//! was committed, but not published because the hub or the broker was gone, is published later, by whichever hub finds
//! it. So what was acknowledged is stored exactly once and published at least once; repeats of a publication carry the
//! same idempotency key.

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

/// The way to the store's threads. Cheap to clone; never blocks.
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

/// Starts the threads. The database need not be there yet: `status` says when it is.
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
    /// Takes what `records` weigh of the memory budget, and of the shares of their `owners`; `None`: they
    /// are held for nobody. It is given back when they are stored or refused. Then their events are held for the owners.
    pub(crate) fn hold(&self, records: &[Record], owners: Option<Owners>) -> Result<Held, ChargeRefused> {
        self.backlog.hold(records, owners)
    }

    /// Stores `records`, all of them or none, then publishes them, and calls `reply` with what became of each, in order. `held`
    /// is what [`Self::hold`] took for them.
    pub(crate) fn keep(&self, mut records: Vec<Record>, held: Held, reply: KeepReply) {
        // By it the database recognizes what it has already, if the answer to a commit was lost.
        for record in &mut records {
            record.key.get_or_insert_with(|| format!("{:032x}", rand::random::<u128>()).into());
        }
        self.backlog.push(records, held, reply);
    }

    /// Reads readings back, and calls `reply` with them.
    pub(crate) fn read(&self, query: Query, reply: ReadReply) {
        self.readers.ask(query, reply);
    }
}

impl StoreHandle {
    /// Where to hand records and questions to.
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Stores what is queued, if the database takes it, and waits for the writer to end. Readers end with the last
    /// [`Store`].
    pub(crate) fn stop(self) {
        self.writer.stop();
    }
}

#[cfg(test)]
mod tests;
