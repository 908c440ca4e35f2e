//! Reading stored messages of one subject, through a consumer that lives as long as the reading.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    api::{Api, ConsumerInfo, Refused, next_messages, pull_consumer, read},
    delivery::Delivery,
    link::{JetLink, Taken},
};
use crate::source::nats::{Fault, link::Message};

/// A consumer of one subject, from which messages are fetched in order.
#[derive(Debug)]
pub(super) struct SubjectReader {
    stream: String,
    consumer: String,
    /// The messages that it had to deliver when it was made.
    pub(super) total: u64,
    /// The sequence of the newest one that was fetched.
    newest: u64,
    /// Those that are left.
    pub(super) pending: u64,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) seq: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) message: Message,
}

/// Messages asked for at once.
const FETCH_COUNT: usize = 1024;
const FETCH_BYTES: usize = 1 << 20;

impl SubjectReader {
    /// Readers of the messages on some subjects, each from a sequence on.
    pub(super) async fn open_all(
        link: &mut JetLink,
        api: &Api,
        stream: &str,
        wanted: &[(&str, u64)],
    ) -> Result<Vec<Result<Self, Refused>>, Fault> {
        let request =
            |(subject, start): &(&str, u64)| (api.consumer_create(stream), pull_consumer(stream, subject, *start));
        let answers = link.request_all(wanted.iter().map(request).collect()).await?;
        let open = |answer: Result<Bytes, Refused>| {
            let ConsumerInfo { name, num_pending } = read(&answer?)?;
            Ok(Self { stream: stream.to_owned(), consumer: name, total: num_pending, newest: 0, pending: num_pending })
        };
        Ok(answers.into_iter().map(open).collect())
    }

    pub(super) async fn open(
        link: &mut JetLink,
        api: &Api,
        stream: &str,
        subject: &str,
        start: u64,
    ) -> Result<Result<Self, Refused>, Fault> {
        let mut readers = Self::open_all(link, api, stream, &[(subject, start)]).await?;
        Ok(readers.pop().unwrap_or(Err(Refused::Unreadable)))
    }

    /// The next messages: at most `count`, and about `bytes`, but one at least. None at the end.
    pub(super) async fn fetch(
        &mut self,
        link: &mut JetLink,
        api: &Api,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, Fault> {
        let mut fetched = Vec::new();
        if self.pending == 0 {
            return Ok(fetched);
        }
        let count = count.clamp(1, FETCH_COUNT);
        self.fetch_into(&mut fetched, link, api, count, Some(bytes.clamp(1, FETCH_BYTES))).await?;
        if fetched.is_empty() && self.pending != 0 {
            // The next one alone is larger than that.
            self.fetch_into(&mut fetched, link, api, 1, None).await?;
        }
        if fetched.is_empty() {
            // They were removed meanwhile.
            self.pending = 0;
        }
        Ok(fetched)
    }

    async fn fetch_into(
        &mut self,
        fetched: &mut Vec<Stored>,
        link: &mut JetLink,
        api: &Api,
        count: usize,
        bytes: Option<usize>,
    ) -> Result<(), Fault> {
        let end = link.subject(&format!("p.{}", self.consumer));
        let subject = api.consumer_next(&self.stream, &self.consumer);
        link.send(&subject, Some(&end), next_messages(count, bytes))?;
        link.collect(|message| {
            let delivery = message.reply.as_deref().and_then(Delivery::parse);
            // A server whose sequences do not rise would never come to an end.
            let newest = self.newest;
            let rises = |delivery: &Delivery<'_>| newest < delivery.stream_seq;
            match delivery.filter(|delivery| delivery.consumer == self.consumer && rises(delivery)) {
                Some(Delivery { stream_seq: seq, time, pending, .. }) => {
                    (self.pending, self.newest) = (pending, seq);
                    fetched.push(Stored { seq, time, message });
                    if fetched.len() == count || pending == 0 { Taken::Last } else { Taken::More }
                }
                // What is said there instead of a message says that no more are coming.
                None if *message.subject == *end => Taken::Last,
                None => Taken::Not(Box::new(message)),
            }
        })
        .await
    }

    /// Ends the consumer. What the server says of that is dropped.
    pub(super) fn close(self, link: &mut JetLink, api: &Api) -> Result<(), Fault> {
        let reply = link.subject("r.closed");
        link.send(&api.consumer_delete(&self.stream, &self.consumer), Some(&reply), Bytes::new())
    }
}

/// The newest messages of a subject.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Oldest first.
    pub(super) messages: VecDeque<Stored>,
    /// Whether these are all that the stream has.
    pub(super) is_all: bool,
}

/// What bounds the newest messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewestBounds {
    pub(super) count: usize,
    /// Of payload. The newest message may have more.
    pub(super) bytes: usize,
    /// Nothing that was stored before, in nanoseconds since 1970.
    pub(super) since: u64,
}

impl Newest {
    /// Reads with `reader`, which begins with the first message that there is. The stream's last sequence is `last`.
    pub(super) async fn read(
        reader: SubjectReader,
        link: &mut JetLink,
        api: &Api,
        (subject, last): (&str, u64),
        bounds: NewestBounds,
    ) -> Result<Result<Self, Refused>, Fault> {
        if bounds.count == 0 {
            let is_all = reader.total == 0;
            reader.close(link, api)?;
            return Ok(Ok(Self { messages: VecDeque::new(), is_all }));
        }
        let total = reader.total;
        let mut reader = match Self::skip(reader, link, api, (subject, last), bounds.count).await? {
            Ok(reader) => reader,
            Err(refused) => return Ok(Err(refused)),
        };
        let (mut kept, mut bytes) = (VecDeque::new(), 0);
        let mut is_all = reader.total == total;
        let mut is_end = false;
        while !is_end {
            let fetched = reader.fetch(link, api, FETCH_COUNT, FETCH_BYTES).await?;
            // What comes later is delivered by the stream's own consumer.
            is_end = fetched.last().is_none_or(|newest| last <= newest.seq);
            for stored in fetched {
                if stored.time < bounds.since {
                    is_all = false;
                    continue;
                }
                bytes += stored.message.payload.len();
                kept.push_back(stored);
                while bounds.count < kept.len() || (bounds.bytes < bytes && 1 < kept.len()) {
                    bytes -= kept.pop_front().map_or(0, |oldest: Stored| oldest.message.payload.len());
                    is_all = false;
                }
            }
        }
        reader.close(link, api)?;
        Ok(Ok(Self { messages: kept, is_all }))
    }

    /// A reader that has not many more than `count` messages before it. Nobody can ask where those begin, so it is found by halves.
    async fn skip(
        mut reader: SubjectReader,
        link: &mut JetLink,
        api: &Api,
        (subject, last): (&str, u64),
        count: usize,
    ) -> Result<Result<SubjectReader, Refused>, Fault> {
        let count = count as u64;
        let (mut start, mut end) = (1, last + 1);
        while count.saturating_mul(2).saturating_add(64) < reader.total && start + 1 < end {
            let middle = start + (end - start) / 2;
            let stream = reader.stream.clone();
            let candidate = match SubjectReader::open(link, api, &stream, subject, middle).await? {
                Ok(candidate) => candidate,
                Err(refused) => {
                    reader.close(link, api)?;
                    return Ok(Err(refused));
                }
            };
            let other = if candidate.total < count {
                end = middle;
                candidate
            } else {
                start = middle;
                std::mem::replace(&mut reader, candidate)
            };
            other.close(link, api)?;
        }
        Ok(Ok(reader))
    }
}
