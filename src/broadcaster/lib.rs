//! The reusable broadcaster: streams of events between the threads of one program, without a server.
//!
//! The hub's one idea on a small scale: each stream keeps a log, each client is a cursor into it. There is no queue per
//! client, so a slow one costs no memory and holds nobody up; when the log has passed it, it is told how much it missed.

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

/// Sends events to all who subscribed to a stream. Cheap to clone; clones share the streams. All methods may be called
/// from any thread, and none but those of [`Client`] ever waits for a client.
///
/// ```
/// use fanfare_broadcaster::{Broadcaster, Delivery};
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
/// let Some(Delivery::Event(event)) = client.recv() else { panic!("nothing was missed") };
/// assert_eq!((event.kind.as_str(), &event.data["order_id"]), ("order_created", &json!("ORD-12345")));
/// let Some(Delivery::Event(event)) = client.recv() else { panic!("nothing was missed") };
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

/// What a client gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// The next event.
    Event(Arc<EventData>),
    /// The client was too slow: so many events are gone. The next delivery is what followed them.
    Gap {
        /// How many.
        missed: u64,
    },
}

/// Why there is no delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// There is no news yet.
    Yet,
    /// The client was unsubscribed, or the last [`Broadcaster`] dropped, and everything before that was delivered.
    More,
}

/// A client as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its name, unique within the broadcaster.
    pub id: String,
    /// What it subscribed to.
    pub stream: String,
}

/// Events that each stream keeps for clients that are behind, unless [`Broadcaster::with_capacity`] says otherwise.
const CAPACITY: usize = 100;

impl Broadcaster {
    /// Without streams or clients. A client may be 100 events behind before it misses any.
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// A client may be `events_max` events, at least one, behind before it misses any.
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

    /// A client of `stream`, which gets every event broadcast from now on.
    pub fn subscribe(&self, stream: &str) -> Client {
        let id = format!("client_{}", self.shared.next_client.fetch_add(1, Ordering::Relaxed));
        let mut registry = self.shared.write();
        let stream = Arc::clone(registry.streams.entry(stream.to_owned()).or_insert_with(|| Stream::new(stream)));
        let end = Arc::new(AtomicU64::new(u64::MAX));
        let mut log = stream.lock();
        log.clients += 1;
        let place = Place { cursor: log.next, end: Arc::clone(&end) };
        drop(log);
        registry.clients.insert(id.clone(), Seat { stream: Arc::clone(&stream), end });
        Client { id, stream, place, shared: Arc::downgrade(&self.shared) }
    }

    /// Ends a client's subscription, from whatever thread: what was broadcast before it still gets, then
    /// [`Client::recv`] returns `None`. False if there is no such client.
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

    /// The streams that have clients, and how many.
    pub fn active_streams(&self) -> BTreeMap<String, usize> {
        let registry = self.shared.read();
        registry.streams.iter().map(|(name, stream)| (name.clone(), stream.lock().clients)).collect()
    }

    /// The clients of `stream`, by id.
    pub fn stream_clients(&self, stream: &str) -> Vec<ClientInfo> {
        let registry = self.shared.read();
        let mut ids: Vec<&String> =
            registry.clients.iter().filter(|(_, seat)| seat.stream.name == stream).map(|(id, _)| id).collect();
        // By age: longer numbers are greater.
        ids.sort_by_key(|id| (id.len(), *id));
        ids.into_iter().map(|id| ClientInfo { id: id.clone(), stream: stream.to_owned() }).collect()
    }

    /// How many clients there are.
    pub fn total_clients(&self) -> usize {
        self.shared.read().clients.len()
    }

    /// How many streams have clients.
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
    place: Place,
    /// Clients do not keep a broadcaster alive that nobody can broadcast with.
    shared: Weak<Shared>,
}

impl Client {
    /// Its name, for [`Broadcaster::unsubscribe`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it subscribed to.
    pub fn stream(&self) -> &str {
        &self.stream.name
    }

    /// Waits for the next delivery; `None` when there will be no more.
    pub fn recv(&mut self) -> Option<Delivery> {
        let Self { stream, place, .. } = self;
        let waiting = stream.news.wait_while(stream.lock(), |log| place.is_waiting(log));
        place.take(&waiting.unwrap_or_else(PoisonError::into_inner)).ok()
    }

    /// The next delivery, if there is one.
    pub fn try_recv(&mut self) -> Result<Delivery, Nothing> {
        self.place.take(&self.stream.lock())
    }

    /// Waits for the next delivery, but not for longer than `timeout`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Delivery, Nothing> {
        let Self { stream, place, .. } = self;
        let waiting = stream.news.wait_timeout_while(stream.lock(), timeout, |log| place.is_waiting(log));
        place.take(&waiting.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// All deliveries, one after the other, as [`Client::recv`] gives them.
    pub fn iter(&mut self) -> impl Iterator<Item = Delivery> {
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

/// A stream is in it as long as it has clients.
#[derive(Debug, Default)]
struct Registry {
    streams: BTreeMap<String, Arc<Stream>>,
    clients: HashMap<String, Seat>,
}

#[derive(Debug)]
struct Seat {
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
        let Some(seat) = registry.clients.remove(client_id) else { return false };
        if seat.vacate() == 0 {
            registry.streams.remove(&seat.stream.name);
        }
        true
    }
}

impl Drop for Shared {
    /// Nobody can broadcast any more: whoever waits is told.
    fn drop(&mut self) {
        let registry = self.registry.get_mut().unwrap_or_else(PoisonError::into_inner);
        for seat in registry.clients.values() {
            seat.vacate();
        }
    }
}

impl Seat {
    /// The client's stream ends here; returns how many other clients the stream has.
    fn vacate(&self) -> usize {
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

/// How far a client has come, and where its stream ends.
#[derive(Debug)]
struct Place {
    cursor: u64,
    /// Only written under the log's lock. `u64::MAX` while the client is subscribed.
    end: Arc<AtomicU64>,
}

impl Place {
    fn is_waiting(&self, log: &Log) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        self.cursor == log.next && self.cursor < end
    }

    fn take(&mut self, log: &Log) -> Result<Delivery, Nothing> {
        let end = self.end.load(Ordering::Relaxed);
        if end <= self.cursor {
            return Err(Nothing::More);
        }
        let oldest = log.oldest().min(end);
        if self.cursor < oldest {
            let missed = oldest - self.cursor;
            self.cursor = oldest;
            return Ok(Delivery::Gap { missed });
        }
        let event = log.events.get((self.cursor - oldest) as usize).ok_or(Nothing::Yet)?;
        self.cursor += 1;
        Ok(Delivery::Event(Arc::clone(event)))
    }
}

/// The wall clock, in seconds since 1970.
fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
