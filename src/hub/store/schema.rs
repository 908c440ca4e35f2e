//! The tables, made by numbered migrations. The first hub to start applies each of them once.

use tokio_postgres::{Client, Transaction};

use super::fault::Fault;

/// The migrations, in order. Each has been applied somewhere: add new ones, and never change one.
///
/// Hubs of the release before go on with the tables of a later one, so a migration only adds tables, columns that may be absent from an
/// insertion, and indexes. One that takes something away comes at the earliest in the release after the one that needs it no more. It
/// also adds the column `needs integer` to `fanfare.migrations`, and says there the number of the migration that a hub has to know:
/// older hubs then stop storing and say so ([`Fault::Newer`]).
pub(super) const STEPS: &[&str] = &[include_str!("schema/1_tables.sql")];

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
    let Applied { version, needs } = applied(&transaction).await?;
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if known < needs {
        return Err(Fault::Newer(version));
    }
    if known < version {
        tracing::info!(
            version,
            known,
            "the database's tables are of a later version of the hub, and serve this one too"
        );
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

/// Which migrations a database has.
struct Applied {
    /// The last one; 0 in a new database.
    version: i32,
    /// The one that a hub has to know at least.
    needs: i32,
}

/// Asks which migrations were applied. Checks before it creates anything, so that a login without the right to create works once the
/// tables exist.
async fn applied(transaction: &Transaction<'_>) -> Result<Applied, Fault> {
    let row = transaction.query_one("select to_regclass('fanfare.migrations') is not null", &[]).await?;
    if !row.get::<_, bool>(0) {
        transaction.batch_execute(include_str!("schema/0_migrations.sql")).await?;
    }
    // Taken from the row as JSON, because the column is not there before a migration adds it.
    let question = "
        select coalesce(max(version), 0), coalesce(max((to_jsonb(applied)->>'needs')::integer), 0)
        from fanfare.migrations applied";
    let row = transaction.query_one(question, &[]).await?;
    Ok(Applied { version: row.get(0), needs: row.get(1) })
}
