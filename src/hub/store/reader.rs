//! The reader threads, each with its own connection, which the first query opens.

use std::{fmt, io, time::Duration};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde_json::{Map, Value};
use tokio_postgres::{Client, Row, Statement};

use super::{
    Config, FIELDS, Order, Page, Query, ReadFailed, ReadReply, ReadingCursor,
    batch::{micros, system_time},
    link::{Connector, Link},
    write_time,
};
use crate::{
    clock::{Clock, Moment},
    source::Backoff,
};

/// Passes queries to the readers. Cheap to clone. The threads end when the last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Readers {
    queue: Sender<Question>,
}

struct Question {
    query: Query,
    reply: ReadReply,
}

/// Starts the threads.
pub(super) fn start_readers(config: &Config, connector: &Connector, clock: Clock) -> io::Result<Readers> {
    let (queue, queued) = bounded(config.read_queue_max);
    for index in 0..config.readers {
        let mut reader = Reader {
            connector: connector.clone(),
            timeout: config.read_timeout,
            session: None,
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            retry: clock.now(),
            clock,
        };
        let queued = queued.clone();
        std::thread::Builder::new().name(format!("store-reader-{index}")).spawn(move || reader.run(&queued))?;
    }
    Ok(Readers { queue })
}

impl Readers {
    /// Queues a query, or refuses it at once.
    pub(super) fn ask(&self, query: Query, reply: ReadReply) {
        match self.queue.try_send(Question { query, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(question)) => (question.reply)(Err(ReadFailed::QueueFull)),
            Err(TrySendError::Disconnected(question)) => (question.reply)(Err(ReadFailed::Away)),
        }
    }
}

struct Session {
    link: Link,
    newest_first: Statement,
    oldest_first: Statement,
}

struct Reader {
    connector: Connector,
    timeout: Duration,
    session: Option<Session>,
    backoff: Backoff,
    /// Until this time queries are refused at once, because connecting has just failed.
    retry: Moment,
    clock: Clock,
}

impl Reader {
    fn run(&mut self, queued: &Receiver<Question>) {
        while let Ok(Question { query, reply }) = queued.recv() {
            reply(self.answer(&query));
        }
    }

    fn answer(&mut self, query: &Query) -> Result<Page, ReadFailed> {
        // The server may have closed an idle connection. This shows only when it is used, and is no failure.
        let was_open = self.session.is_some();
        match self.attempt(query) {
            Err(ReadFailed::Away) if was_open => self.attempt(query),
            outcome => outcome,
        }
    }

    fn attempt(&mut self, query: &Query) -> Result<Page, ReadFailed> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        let Session { link, newest_first, oldest_first } = &mut session;
        let statement = match query.order {
            Order::NewestFirst => &*newest_first,
            Order::OldestFirst => &*oldest_first,
        };
        match link.run(self.timeout, async |client| Ok(fetch(client, statement, query).await?)) {
            Ok(page) => {
                self.session = Some(session);
                Ok(page)
            }
            Err(fault) if fault.is_timeout() => Err(ReadFailed::TooLong),
            Err(fault) => {
                tracing::debug!("cannot read back: {fault}");
                Err(ReadFailed::Away)
            }
        }
    }

    fn open(&mut self) -> Result<Session, ReadFailed> {
        if self.clock.now() < self.retry {
            return Err(ReadFailed::Away);
        }
        let limit_ms = self.timeout.as_millis();
        let opened = self.connector.open().and_then(|mut link| {
            let (newest_first, oldest_first) = link.run(self.timeout, async |client| {
                // Cancels the query at the server, because no client waits for it any more.
                client.batch_execute(&format!("set statement_timeout = {limit_ms}")).await?;
                Ok((client.prepare(&select("<", "desc")).await?, client.prepare(&select(">", "asc")).await?))
            })?;
            Ok(Session { link, newest_first, oldest_first })
        });
        match opened {
            Ok(session) => {
                self.backoff.reset();
                Ok(session)
            }
            Err(fault) => {
                tracing::debug!("cannot connect to read back: {fault}");
                self.retry = self.clock.now() + self.backoff.next_delay(rand::random());
                Err(ReadFailed::Away)
            }
        }
    }
}

fn select(beyond: &str, direction: &str) -> String {
    format!(
        "select telemetry_id, time, extra::text, {} from fanfare.telemetry
         where well_id = $1 and time >= $2 and time < $3 and (time, telemetry_id) {beyond} ($4, $5)
         order by time {direction}, telemetry_id {direction} limit $6",
        FIELDS.join(", ")
    )
}

async fn fetch(client: &Client, statement: &Statement, query: &Query) -> Result<Page, tokio_postgres::Error> {
    let everything_follows = match query.order {
        Order::NewestFirst => ReadingCursor { time_us: query.to_us, record_id: i64::MAX },
        Order::OldestFirst => ReadingCursor { time_us: query.from_us, record_id: i64::MIN },
    };
    let after = query.after.unwrap_or(everything_follows);
    // One more row than requested shows whether there is a next page.
    let limit = i64::from(query.limit) + 1;
    let (from, to, after_time) = (system_time(query.from_us), system_time(query.to_us), system_time(after.time_us));
    let rows = client.query(statement, &[&&*query.well_id, &from, &to, &after_time, &after.record_id, &limit]).await?;
    let kept = rows.len().min(query.limit as usize);
    let next = (kept < rows.len()).then(|| cursor_of(&rows[kept - 1]));
    Ok(Page { readings: rows[..kept].iter().map(write_reading).collect(), next })
}

fn cursor_of(row: &Row) -> ReadingCursor {
    ReadingCursor { time_us: micros(row.get(1)), record_id: row.get(0) }
}

/// The reading in the form of the event's `data`, without measurements that were not taken.
fn write_reading(row: &Row) -> String {
    let ReadingCursor { time_us, record_id } = cursor_of(row);
    let mut text = format!(r#"{{"telemetry_id":{record_id},"timestamp":"{}""#, write_time(time_us));
    for (column, field) in (3..).zip(FIELDS) {
        if let Some(value) = row.get::<_, Option<f64>>(column) {
            text.push_str(&format!(r#","{field}":{}"#, Value::from(value)));
        }
    }
    let extra: Option<&str> = row.get(2);
    let extra: Map<String, Value> = extra.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    for (name, value) in extra {
        text.push_str(&format!(",{}:{value}", Value::from(name)));
    }
    text.push('}');
    text
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("query", &self.query).finish_non_exhaustive()
    }
}
