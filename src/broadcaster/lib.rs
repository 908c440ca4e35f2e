//! The reusable broadcaster: streams of events between the threads of one program, without a server.
//!
//! Each stream keeps a log of its newest events, and each client is a cursor into it, as in the hub. There is no queue per
//! client, so a slow client costs no memory and delays nobody. When the log has dropped events that a client has not read, the
//! client receives a [`StreamItem::Gap`] with their number.

#![warn(missing_docs)]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

pub use fanfare_core::protocol::EventData;

/// Sends events to the clients of named streams. Cheap to clone; clones share the streams. All methods may be called from any
/// thread, and only those of [`Client`] block.
///
/// ```
/// use fanfare_broadcaster::{Broadcaster, StreamItem};
/// use serde_json::json;
///
/// let broadcaster = Broadcaster::new();
/// let mut client = broadcaster.subscribe("orders");
///
/// let producer = broadcaster.clone();
/// let thread = std::thread::spawn(move || {
///     producer.broadcast("orders", "order_created", "New order received", json!({ "order_id": "ORD-12345" }));
///     producer.broadcast_to_all("system_alert", "High CPU usage: 91.5%", json!({ "cpu_percent": 91.5 }));
/// });
///
/// let Some(StreamItem::Event(event)) = client.recv() else { panic!("nothing was missed") };
/// assert_eq!((event.kind.as_str(), &event.data["order_id"]), ("order_created", &json!("ORD-12345")));
/// let Some(StreamItem::Event(event)) = client.recv() else { panic!("nothing was missed") };
/// assert_eq!((event.message.as_str(), event.stream_id.as_str()), ("High CPU usage: 91.5%", "orders"));
/// thread.join().unwrap();
///
/// assert_eq!(broadcaster.active_streams(), [("orders".to_owned(), 1)].into());
/// broadcaster.unsubscribe(client.id());
/// assert_eq!(client.recv(), None);
/// assert!(!broadcaster.is_stream_active("orders"));
/// ```
#[derive(Clone, Debug)]
pub struct Broadcaster {
    shared: Arc<Shared>,
}

/// What [`Client::recv`] returns.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamItem {
    /// The next event.
    Event(Arc<EventData>),
    /// The log dropped events before the client had read them. The next item is the event that follows them.
    Gap {
        /// The number of dropped events.
        missed: u64,
    },
}

/// Why there is nothing to receive, as in [`std::sync::mpsc::TryRecvError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// The client has read everything so far. [`Client::recv_timeout`] returns it when the time is over.
    Empty,
    /// The client was unsubscribed, or the last [`Broadcaster`] was dropped, and the client has read everything before that.
    Disconnected,
}

/// A client in [`Broadcaster::stream_clients`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client's id, unique within the broadcaster.
    pub id: String,
    /// The stream's name.
    pub stream: String,
}

/// Events per stream that [`Broadcaster::new`] keeps for clients that are behind.
const CAPACITY: usize = 100;

impl Broadcaster {
    /// A broadcaster without streams or clients. A client may be 100 events behind before it misses any.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// Each stream keeps its newest `events_max` events (at least 1): a client may be that far behind before it misses any.
    pub fn with_capacity(events_max: usize) -> Self {
        let shared = Shared {
            registry: RwLock::default(),
            events_max: events_max.max(1),
            next_client: AtomicU64::new(1),
            // Not from 1, nor from the time: the events of another broadcaster, be it made in the same moment, or of this
            // one before a restart, have other ids. Half of all numbers are left to count up to.
            next_event: AtomicU64::new(rand::random::<u64>() >> 1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Subscribes a new client to `stream`. It receives every event broadcast from now on.
    pub fn subscribe(&self, stream: &str) -> Client {
        let id = format!("client_{}", self.shared.next_client.fetch_add(1, Ordering::Relaxed));
        let mut registry = self.shared.write();
        let stream = Arc::clone(registry.streams.entry(stream.to_owned()).or_insert_with(|| Stream::new(stream)));
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let mut log = stream.lock();
        log.clients += 1;
        let cursor = ClientCursor { position: log.next, end: Arc::clone(&end) };
        drop(log);
        registry.clients.insert(id.clone(), ClientEntry { stream: Arc::clone(&stream), end });
        Client { id, stream, cursor, shared: Arc::downgrade(&self.shared) }
    }

    /// Ends the subscription of a client. The client still receives what was broadcast before; then [`Client::recv`] returns
    /// `None`. False if there is no such client.
    pub fn unsubscribe(&self, client_id: &str) -> bool {
        self.shared.unsubscribe(client_id)
    }

    /// Sends an event to the clients of `stream`, and returns how many there are. `data` is an object, or null for none.
    pub fn broadcast(&self, stream: &str, kind: &str, message: &str, data: Value) -> usize {
        let found = self.shared.read().streams.get(stream).map(Arc::clone);
        found.map_or(0, |stream| self.send(&stream, kind, message, data))
    }

    /// Sends an event to the clients of all streams, each with its stream's name in it, and returns how many there are.
    pub fn broadcast_to_all(&self, kind: &str, message: &str, data: Value) -> usize {
        let streams: Vec<Arc<Stream>> = self.shared.read().streams.values().cloned().collect();
        streams.iter().map(|stream| self.send(stream, kind, message, data.clone())).sum()
    }

    /// The streams that have clients, with the number of clients.
    pub fn active_streams(&self) -> BTreeMap<String, usize> {
        let registry = self.shared.read();
        registry.streams.iter().map(|(name, stream)| (name.clone(), stream.lock().clients)).collect()
    }

    /// The clients of `stream`, oldest first.
    pub fn stream_clients(&self, stream: &str) -> Vec<ClientInfo> {
        let registry = self.shared.read();
        let mut ids: Vec<&String> =
            registry.clients.iter().filter(|(_, entry)| entry.stream.name == stream).map(|(id, _)| id).collect();
        // Ids are counted up, and longer numbers are greater.
        ids.sort_by_key(|id| (id.len(), *id));
        ids.into_iter().map(|id| ClientInfo { id: id.clone(), stream: stream.to_owned() }).collect()
    }

    /// The number of clients of all streams.
    pub fn total_clients(&self) -> usize {
        self.shared.read().clients.len()
    }

    /// The number of streams that have clients.
    pub fn stream_count(&self) -> usize {
        self.shared.read().streams.len()
    }

    /// Whether `stream` has clients.
    pub fn is_stream_active(&self, stream: &str) -> bool {
        self.shared.read().streams.contains_key(stream)
    }

    fn send(&self, stream: &Stream, kind: &str, message: &str, data: Value) -> usize {
        let mut event = EventData {
            id: String::new(),
            kind: kind.to_owned(),
            message: message.to_owned(),
            data,
            timestamp: unix_seconds(),
            stream_id: stream.name.clone(),
        };
        let mut log = stream.lock();
        // Under the lock, so that within a stream the numbers only rise.
        event.id = EventData::id_of(self.shared.next_event.fetch_add(1, Ordering::Relaxed));
        log.push(Arc::new(event), self.shared.events_max);
        let clients = log.clients;
        drop(log);
        stream.news.notify_all();
        clients
    }
}

impl Default for Broadcaster {
    fn default() -> Self {
        Self::new()
    }
}

/// A subscription to one stream. Unsubscribes when dropped.
pub struct Client {
    id: String,
    stream: Arc<Stream>,
    cursor: ClientCursor,
    /// Weak, so that [`Client::recv`] ends once the last [`Broadcaster`] is dropped.
    shared: Weak<Shared>,
}

impl Client {
    /// The id that [`Broadcaster::unsubscribe`] takes.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream.name
    }

    /// Waits for the next item; `None` after the end of the subscription.
    pub fn recv(&mut self) -> Option<StreamItem> {
        let Self { stream, cursor, .. } = self;
        let waiting = stream.news.wait_while(stream.lock(), |log| cursor.is_waiting(log));
        cursor.take(&waiting.unwrap_or_else(PoisonError::into_inner)).ok()
    }

    /// The next item, without waiting.
    pub fn try_recv(&mut self) -> Result<StreamItem, TryRecvError> {
        self.cursor.take(&self.stream.lock())
    }

    /// Waits for the next item for at most `timeout`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<StreamItem, TryRecvError> {
        let Self { stream, cursor, .. } = self;
        let waiting = stream.news.wait_timeout_while(stream.lock(), timeout, |log| cursor.is_waiting(log));
        cursor.take(&waiting.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// All items up to the end of the subscription, each waited for as by [`Client::recv`].
    pub fn iter(&mut self) -> impl Iterator<Item = StreamItem> {
        std::iter::from_fn(|| self.recv())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.unsubscribe(&self.id);
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("stream", &self.stream.name).finish_non_exhaustive()
    }
}

/// What all clones share. Locks are taken in this order: the registry, then a stream's log.
#[derive(Debug)]
struct Shared {
    registry: RwLock<Registry>,
    events_max: usize,
    next_client: AtomicU64,
    next_event: AtomicU64,
}

/// The streams that have clients, and the clients by id.
#[derive(Debug, Default)]
struct Registry {
    streams: BTreeMap<String, Arc<Stream>>,
    clients: HashMap<String, ClientEntry>,
}

/// One client in the [`Registry`].
#[derive(Debug)]
struct ClientEntry {
    stream: Arc<Stream>,
    end: Arc<AtomicU64>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsubscribe(&self, client_id: &str) -> bool {
        let mut registry = self.write();
        let Some(entry) = registry.clients.remove(client_id) else { return false };
        if entry.close() == 0 {
            registry.streams.remove(&entry.stream.name);
        }
        true
    }
}

impl Drop for Shared {
    /// Nobody can broadcast any more: wakes the clients that wait, and ends their subscriptions.
    fn drop(&mut self) {
        let registry = self.registry.get_mut().unwrap_or_else(PoisonError::into_inner);
        for entry in registry.clients.values() {
            entry.close();
        }
    }
}

impl ClientEntry {
    /// Ends the client's subscription at the stream's current end. Returns how many clients the stream still has.
    fn close(&self) -> usize {
        let mut log = self.stream.lock();
        self.end.store(log.next, Ordering::Relaxed);
        log.clients -= 1;
        let clients = log.clients;
        drop(log);
        self.stream.news.notify_all();
        clients
    }
}

#[derive(Debug)]
struct Stream {
    name: String,
    log: Mutex<Log>,
    news: Condvar,
}

/// The newest events of a stream. Positions are dense, from 0.
#[derive(Debug, Default)]
struct Log {
    events: VecDeque<Arc<EventData>>,
    /// The position that the next event will have.
    next: u64,
    clients: usize,
}

impl Stream {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), log: Mutex::default(), news: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn push(&mut self, event: Arc<EventData>, events_max: usize) {
        if self.events.len() == events_max {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.next += 1;
    }

    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }
}

/// A client's position in the log, and where its subscription ends.
#[derive(Debug)]
struct ClientCursor {
    position: u64,
    /// Only written under the log's lock. `u64::MAX` while the client is subscribed.
    end: Arc<AtomicU64>,
}

impl ClientCursor {
    fn is_waiting(&self, log: &Log) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        self.position == log.next && self.position < end
    }

    fn take(&mut self, log: &Log) -> Result<StreamItem, TryRecvError> {
        let end = self.end.load(Ordering::Relaxed);
        if end <= self.position {
            return Err(TryRecvError::Disconnected);
        }
        let oldest = log.oldest().min(end);
        if self.position < oldest {
            let missed = oldest - self.position;
            self.position = oldest;
            return Ok(StreamItem::Gap { missed });
        }
        let event = log.events.get((self.position - oldest) as usize).ok_or(TryRecvError::Empty)?;
        self.position += 1;
        Ok(StreamItem::Event(Arc::clone(event)))
    }
}

/// The wall clock, in seconds since 1970.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
