//! One batch, one transaction: binary COPY into a table that only this connection sees, and from there into the tables,
//! except for what was stored before under the same key.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_postgres::{Client, Row, Statement, Transaction, binary_copy::BinaryCopyInWriter, types::Type};

use super::{Kind, Record, fault::Fault};
use crate::topic::Topic;

/// The state of a record in the database after the commit.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its key in the database.
    pub(super) key: Box<str>,
    pub(super) record_id: i64,
    /// Whether the database has it marked as published.
    pub(super) published: bool,
    /// Its event's id, if there is one.
    pub(super) event_id: Option<Box<str>>,
    /// The stored record, if a repeat has found one that is not published yet.
    pub(super) earlier: Option<Record>,
}

/// A publication that has succeeded.
#[derive(Debug)]
pub(super) struct Mark {
    /// The idempotency key of the published record.
    pub(super) key: Box<str>,
    pub(super) event_id: Option<Box<str>>,
    /// How long publishing it took.
    pub(super) took: Duration,
}

/// The statements that are prepared once per connection.
#[derive(Debug)]
pub(super) struct Statements {
    copy: Statement,
    claim: Statement,
    take: [(Kind, Statement); 3],
    look: Statement,
    mark: Statement,
    unpublished: Statement,
    prune: Statement,
}

const COPY: &str = "copy staging (position, key, kind, well_id, time, received_at, body) from stdin binary";
const COPY_TYPES: [Type; 7] =
    [Type::INT4, Type::TEXT, Type::INT2, Type::TEXT, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ, Type::TEXT];

/// In the order of the keys, so that two hubs with the same keys wait for each other and do not deadlock.
const CLAIM: &str = "
    insert into fanfare.outbox (key, record_id, kind, well_id, time, received_at, body)
    select key, record_id, kind, well_id, time, received_at, body from staging order by key, position
    on conflict (key) do nothing";

const TAKE_TELEMETRY: &str = "
    insert into fanfare.telemetry
    select s.record_id, s.well_id, s.time, (b->>'flow_rate')::float8, (b->>'pip')::float8,
        (b->>'motor_current')::float8, (b->>'motor_temp')::float8, (b->>'vibration')::float8,
        (b->>'vsd_frequency')::float8, (b->>'flow_variance')::float8, (b->>'torque')::float8, (b->>'gor')::float8,
        nullif(b - '{timestamp,flow_rate,pip,motor_current,motor_temp,vibration,vsd_frequency,flow_variance,torque,gor}'
            ::text[], '{}'::jsonb)
    from staging s join fanfare.outbox o using (key, record_id), lateral (select s.body::jsonb as b) parsed
    where s.kind = 0";

const TAKE_ALERTS: &str = "
    insert into fanfare.alerts
    select s.record_id, s.well_id, s.time, b->>'type', b->>'severity', coalesce(b->>'message', ''),
        (b->>'value')::float8, (b->>'threshold')::float8,
        nullif(b - '{timestamp,type,severity,message,value,threshold}'::text[], '{}'::jsonb)
    from staging s join fanfare.outbox o using (key, record_id), lateral (select s.body::jsonb as b) parsed
    where s.kind = 1";

const TAKE_DIAGNOSTICS: &str = "
    insert into fanfare.diagnostics
    select s.record_id, s.well_id, s.time, s.body::jsonb
    from staging s join fanfare.outbox o using (key, record_id) where s.kind = 2";

/// A statement of its own: it also sees what another hub committed while [`CLAIM`] waited for it.
const LOOK: &str = "
    select o.key, o.record_id, o.published_at is not null, o.event_id, o.kind, o.well_id, o.time, o.received_at,
        case when o.record_id <> s.record_id and o.published_at is null then o.body end
    from staging s join fanfare.outbox o using (key) order by s.position";

const MARK: &str = "
    update fanfare.outbox o set published_at = now(), event_id = m.event_id, body = null
    from unnest($1::text[], $2::text[]) m(key, event_id) where o.key = m.key and o.published_at is null";

const UNPUBLISHED: &str = "
    select key, record_id, false, event_id, kind, well_id, time, received_at, body from fanfare.outbox
    where published_at is null and stored_at < now() - make_interval(secs => $1) and body is not null
    order by record_id limit 500";

const PRUNE: &str = "
    delete from fanfare.outbox where key in (
        select key from fanfare.outbox
        where stored_at < now() - make_interval(secs => $1) and published_at is not null limit 5000)";

impl Statements {
    /// Prepares the statements. The tables must exist.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Fault> {
        Ok(Self {
            copy: client.prepare(COPY).await?,
            claim: client.prepare(CLAIM).await?,
            take: [
                (Kind::Telemetry, client.prepare(TAKE_TELEMETRY).await?),
                (Kind::Alert, client.prepare(TAKE_ALERTS).await?),
                (Kind::Diagnostic, client.prepare(TAKE_DIAGNOSTICS).await?),
            ],
            look: client.prepare(LOOK).await?,
            mark: client.prepare(MARK).await?,
            unpublished: client.prepare(UNPUBLISHED).await?,
            prune: client.prepare(PRUNE).await?,
        })
    }

    /// Stores `records`, each with a key, and returns the state of each, in order. `is_committing` is set once the transaction may
    /// have been committed, whatever is returned.
    pub(super) async fn store(
        &self,
        client: &mut Client,
        records: &[&Record],
        is_committing: &mut bool,
    ) -> Result<Vec<Stored>, Fault> {
        let transaction = client.transaction().await?;
        self.copy_in(&transaction, records).await?;
        transaction.execute(&self.claim, &[]).await?;
        for (kind, take) in &self.take {
            if records.iter().any(|record| record.kind == *kind) {
                transaction.execute(take, &[]).await?;
            }
        }
        let rows = transaction.query(&self.look, &[]).await?;
        *is_committing = true;
        transaction.commit().await?;
        Ok(rows.iter().map(read_stored).collect())
    }

    async fn copy_in(&self, transaction: &Transaction<'_>, records: &[&Record]) -> Result<(), Fault> {
        let sink = transaction.copy_in(&self.copy).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &COPY_TYPES));
        for (position, record) in (0_i32..).zip(records) {
            let (time, received) = (system_time(record.time_us), system_time(record.received_us));
            let (key, kind, well_id) = (record.key.as_deref(), record.kind.code(), &*record.well_id);
            writer.as_mut().write(&[&position, &key, &kind, &well_id, &time, &received, &&*record.body]).await?;
        }
        writer.finish().await?;
        Ok(())
    }

    /// Marks records as published. The commit does not wait for the disk: if a crash of the server loses the mark, the record is
    /// published again under its key.
    pub(super) async fn mark(&self, client: &mut Client, marks: &[Mark]) -> Result<(), Fault> {
        let keys: Vec<&str> = marks.iter().map(|mark| &*mark.key).collect();
        let ids: Vec<Option<&str>> = marks.iter().map(|mark| mark.event_id.as_deref()).collect();
        let transaction = client.transaction().await?;
        transaction.batch_execute("set local synchronous_commit = off").await?;
        transaction.execute(&self.mark, &[&keys, &ids]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Records older than `age` that are not marked as published, oldest first.
    pub(super) async fn unpublished(&self, client: &Client, age: Duration) -> Result<Vec<Stored>, Fault> {
        let rows = client.query(&self.unpublished, &[&age.as_secs_f64()]).await?;
        Ok(rows.iter().map(read_stored).collect())
    }

    /// Deletes some of the keys that are older than `age`. Returns how many.
    pub(super) async fn prune(&self, client: &Client, age: Duration) -> Result<u64, Fault> {
        Ok(client.execute(&self.prune, &[&age.as_secs_f64()]).await?)
    }
}

fn read_stored(row: &Row) -> Stored {
    let key: Box<str> = row.get::<_, &str>(0).into();
    let event_id: Option<&str> = row.get(3);
    Stored {
        record_id: row.get(1),
        published: row.get(2),
        event_id: event_id.map(Box::from),
        earlier: read_record(row, &key),
        key,
    }
}

/// The record of a row that has a body. `None` also for a row that no hub could have written.
fn read_record(row: &Row, key: &str) -> Option<Record> {
    let body: &str = row.get::<_, Option<&str>>(8)?;
    let well_id: &str = row.get(5);
    Some(Record {
        key: Some(key.into()),
        kind: Kind::of_code(row.get(4))?,
        topic: Topic::parse(&format!("wells.{well_id}")).ok()?,
        well_id: Arc::from(well_id),
        time_us: micros(row.get(6)),
        received_us: micros(row.get(7)),
        body: body.into(),
    })
}

/// A time in the form of the client library.
pub(super) fn system_time(time_us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(time_us)
}

/// A time in µs since 1970. Earlier times are refused on receipt.
pub(super) fn micros(time: SystemTime) -> u64 {
    let span = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
