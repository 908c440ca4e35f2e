//! The tables, and how they come to be: numbered steps, applied once each by whichever hub comes first.

use tokio_postgres::{Client, Transaction};

use super::fault::Fault;

/// The steps, in order. What is here has been applied somewhere: add, never change.
const STEPS: &[&str] = &[include_str!("schema/1_tables.sql")];

/// Taken for as long as the steps take, so that several hubs may start at once. The number only has to be ours.
const LOCK: &str = "select pg_advisory_xact_lock(4735820146311)";

/// What every hub looks at when it starts, since the extension may come later.
const HYPERTABLE: &str = include_str!("schema/hypertable.sql");

/// What only this connection sees: a batch, before it is taken into the tables.
const STAGING: &str = include_str!("schema/staging.sql");

/// Brings the tables up to date, and prepares this connection for batches.
pub(super) async fn migrate(client: &mut Client) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let version = current_version(&transaction).await?;
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if known < version {
        return Err(Fault::Newer(version));
    }
    for (number, step) in (1..).zip(STEPS).filter(|(number, _)| version < *number) {
        transaction.batch_execute(step).await?;
        transaction.execute("insert into fanfare.migrations (version) values ($1)", &[&number]).await?;
        tracing::info!(step = number, "the database's tables were brought up to date");
    }
    transaction.commit().await?;
    client.batch_execute(HYPERTABLE).await?;
    client.batch_execute(STAGING).await?;
    Ok(())
}

/// The last step that was applied; 0 in a database that no hub has seen. Looks before it creates anything: a login that
/// may only write needs no right to create once the tables are there.
async fn current_version(transaction: &Transaction<'_>) -> Result<i32, Fault> {
    let row = transaction.query_one("select to_regclass('fanfare.migrations') is not null", &[]).await?;
    if !row.get::<_, bool>(0) {
        transaction.batch_execute(include_str!("schema/0_migrations.sql")).await?;
    }
    let row = transaction.query_one("select coalesce(max(version), 0) from fanfare.migrations", &[]).await?;
    Ok(row.get(0))
}
