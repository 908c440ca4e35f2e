//! The tables, made by numbered migrations. The first hub to start applies each of them once.

use tokio_postgres::{Client, Transaction};

use super::fault::Fault;

/// The migrations, in order. Each has been applied somewhere: add new ones, and never change one.
const STEPS: &[&str] = &[include_str!("schema/1_tables.sql")];

/// Advisory lock during the migrations, so that several hubs may start at once. The number is arbitrary.
const LOCK: &str = "select pg_advisory_xact_lock(4735820146311)";

/// Run by each hub when it starts, since the extension may be installed later.
const HYPERTABLE: &str = include_str!("schema/hypertable.sql");

/// A temporary table of this connection, for a batch before it is copied into the tables.
const STAGING: &str = include_str!("schema/staging.sql");

/// Applies migrations, and prepares this connection for batches.
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

/// The last migration that was applied; 0 in a new database. Checks before it creates anything, so that a login without the right
/// to create works once the tables exist.
async fn current_version(transaction: &Transaction<'_>) -> Result<i32, Fault> {
    let row = transaction.query_one("select to_regclass('fanfare.migrations') is not null", &[]).await?;
    if !row.get::<_, bool>(0) {
        transaction.batch_execute(include_str!("schema/0_migrations.sql")).await?;
    }
    let row = transaction.query_one("select coalesce(max(version), 0) from fanfare.migrations", &[]).await?;
    Ok(row.get(0))
}
