//! The simulated network: queues instead of sockets, edges told once as epoll tells them, and a clock that goes where it
//! is put.

mod wire;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, Read},
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fanfare::{
    bus::Wake,
    reactor::{Net, Ready, Token},
};
use fanfare_core::clock::Moment;
use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};

pub(crate) use wire::SharedWire;

use crate::broken::{Fault, alter_place};
use wire::Edges;

/// The time, as all parts of one simulation share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimClock(Rc<Cell<u64>>);

impl SimClock {
    pub(crate) fn now(&self) -> Moment {
        Moment(self.0.get())
    }

    pub(crate) fn advance(&self, span: Duration) {
        self.0.set((self.now() + span).0);
    }
}

/// Raised by the notifier, lowered by the poll it ends.
#[derive(Debug, Default)]
pub(crate) struct SimBell(AtomicBool);

impl Wake for SimBell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The server's end of a wire.
#[derive(Debug)]
pub(crate) struct SimStream(SharedWire);

impl Drop for SimStream {
    fn drop(&mut self) {
        self.0.lock().server_gone = true;
    }
}

/// Connections that wait to be accepted.
#[derive(Debug, Default)]
pub(crate) struct SimListener {
    waiting: VecDeque<(SharedWire, IpAddr)>,
    edge: bool,
    /// Nobody can connect any more.
    pub(crate) stopped: bool,
}

/// What a reactor's net is made of, as the simulation sees it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listeners: Vec<SimListener>,
    wires: Vec<SharedWire>,
    pub(crate) bell: Arc<SimBell>,
    /// How many accepts fail for want of a descriptor.
    pub(crate) exhausted: u32,
    /// Since the reactor sleeps: until when.
    pub(crate) asleep_until: Option<Moment>,
}

impl Port {
    pub(crate) fn new(listeners: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            listeners: (0..listeners).map(|_| SimListener::default()).collect(),
            wires: Vec::new(),
            bell: Arc::default(),
            exhausted: 0,
            asleep_until: None,
        }))
    }

    /// A client connects.
    pub(crate) fn connect(&mut self, listener: usize, wire: SharedWire, peer: IpAddr) {
        self.listeners[listener].waiting.push_back((wire, peer));
        self.listeners[listener].edge = true;
    }

    /// How many clients wait to be accepted.
    pub(crate) fn waiting(&self) -> usize {
        self.listeners.iter().map(|listener| listener.waiting.len()).sum()
    }

    /// Whether the reactor would return from its poll: it is awake, or something wakes it.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.asleep_until.is_none_or(|until| until <= now)
            || self.bell.0.load(Ordering::SeqCst)
            || self.listeners.iter().any(|listener| listener.edge)
            || self.wires.iter().any(|wire| wire.lock().has_news())
    }
}

/// How a simulated net behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// One write in so many is cut short although there is room; zero: none is.
    pub(crate) short_write_odds: u32,
    /// How far the clock goes at most each time it is read.
    pub(crate) drift: Duration,
}

/// [`Net`] over [`Port`].
#[derive(Debug)]
pub(crate) struct SimNet {
    port: Rc<RefCell<Port>>,
    clock: SimClock,
    random: RefCell<SmallRng>,
    weather: Weather,
    fault: Option<Fault>,
}

/// How seldom a broken net breaks: once in so many calls.
const FAULT_ODDS: u32 = 20;

/// What a poll that would sleep fails with: one thread drives all reactors, so none of them may really sleep.
pub(crate) const ASLEEP: io::ErrorKind = io::ErrorKind::TimedOut;

impl SimNet {
    pub(crate) fn new(
        port: Rc<RefCell<Port>>,
        clock: SimClock,
        random: SmallRng,
        weather: Weather,
        fault: Option<Fault>,
    ) -> Self {
        Self { port, clock, random: RefCell::new(random), weather, fault }
    }

    /// Whether `fault` strikes now.
    fn breaks(&self, fault: Fault) -> bool {
        self.fault == Some(fault) && self.one_in(FAULT_ODDS)
    }

    fn one_in(&self, odds: u32) -> bool {
        0 < odds && self.random.borrow_mut().random_range(0..odds) == 0
    }

    /// The reactor has done what there was to do: nobody may be left waiting for bytes that were announced.
    fn check_promises(&self) {
        for wire in &self.port.borrow().wires {
            let wire = wire.lock();
            let may_wait = wire.held_back && !wire.reset && !wire.server_gone;
            assert!(!may_wait, "bytes are held back, and none follow: {:?}", wire.token);
        }
    }

    fn tell_edges(&self, ready: &mut Vec<Ready>) {
        let mut port = self.port.borrow_mut();
        port.wires.retain(|wire| !wire.lock().server_gone);
        for (index, listener) in port.listeners.iter_mut().enumerate() {
            if std::mem::take(&mut listener.edge) {
                ready.push(Ready::Listener(index));
            }
        }
        for wire in &port.wires {
            let mut wire = wire.lock();
            if wire.late_edge && self.one_in(2) {
                wire.late_edge = false;
                wire.edges.writable = true;
            }
            if wire.edges != Edges::default() {
                ready.extend(wire.tell(self.one_in(2)));
            }
        }
        ready.shuffle(&mut *self.random.borrow_mut());
    }
}

impl Net for SimNet {
    type Stream = SimStream;

    fn now(&self) -> Moment {
        let drift_ns = self.weather.drift.as_nanos() as u64;
        self.clock.advance(Duration::from_nanos(self.random.borrow_mut().random_range(0..=drift_ns)));
        self.clock.now()
    }

    fn date(&mut self) -> &str {
        "Thu, 01 Jan 1970 00:00:00 GMT"
    }

    fn poll(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.check_promises();
        self.tell_edges(ready);
        let mut port = self.port.borrow_mut();
        if port.bell.0.swap(false, Ordering::SeqCst) {
            ready.push(Ready::Notifier);
        }
        let slept_until = port.asleep_until.take();
        let timeout = timeout.unwrap_or(Duration::MAX);
        let may_go_on = slept_until.is_some_and(|until| until <= self.clock.now());
        if ready.is_empty() && timeout != Duration::ZERO && !may_go_on {
            port.asleep_until = Some(slept_until.unwrap_or_else(|| self.clock.now() + timeout));
            return Err(ASLEEP.into());
        }
        Ok(())
    }

    fn listener_count(&self) -> usize {
        self.port.borrow().listeners.len()
    }

    fn accept(&mut self, listener: usize) -> io::Result<(SimStream, Option<IpAddr>)> {
        let mut port = self.port.borrow_mut();
        let Some(waiting) = port.listeners.get(listener).map(|listener| listener.waiting.len()) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if 0 < waiting && 0 < port.exhausted {
            port.exhausted -= 1;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        match port.listeners[listener].waiting.pop_front() {
            Some((wire, peer)) => Ok((SimStream(wire), Some(peer))),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn shed(&mut self, listener: usize, refusal: &[u8]) -> io::Result<()> {
        let shed = self.port.borrow_mut().listeners[listener].waiting.pop_front();
        let (wire, _) = shed.ok_or(io::ErrorKind::WouldBlock)?;
        wire.lock().shed = true;
        let mut stream = SimStream(wire);
        let _ = self.write(&mut stream, refusal);
        self.end(&mut stream);
        Ok(())
    }

    fn stop_listening(&mut self, until: usize) {
        for listener in self.port.borrow_mut().listeners.iter_mut().take(until) {
            let SimListener { waiting, .. } = std::mem::take(listener);
            listener.stopped = true;
            waiting.into_iter().for_each(|(wire, _)| drop(SimStream(wire)));
        }
    }

    fn register(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        let mut wire = stream.0.lock();
        wire.token = Some(token);
        wire.edges = Edges {
            readable: !wire.to_server.is_empty() || wire.client_ended || wire.reset,
            writable: true,
            ending: wire.client_ended || wire.reset,
        };
        self.port.borrow_mut().wires.push(stream.0.clone());
        Ok(())
    }

    fn rename(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        self.release(stream)?;
        self.register(stream, token)
    }

    fn release(&mut self, stream: &mut SimStream) -> io::Result<()> {
        stream.0.lock().token = None;
        self.port.borrow_mut().wires.retain(|wire| wire.lock().token.is_some());
        Ok(())
    }

    fn nowhere(&mut self) -> SimStream {
        SimStream(SharedWire::new(0))
    }

    fn read(&mut self, stream: &mut SimStream, buffer: &mut [u8]) -> io::Result<usize> {
        if self.one_in(100) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut wire = stream.0.lock();
        if wire.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() {
            return if wire.client_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        // A kernel never gives less than it has, and readers may rely on it.
        let count = buffer.len().min(wire.to_server.len());
        buffer[..count].copy_from_slice(&take_front(&mut wire.to_server, count));
        Ok(count)
    }

    fn write(&mut self, stream: &mut SimStream, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = stream.0.lock();
        wire.held_back = false;
        assert!(!wire.server_ended, "written after the end: {:?}", String::from_utf8_lossy(bytes));
        assert!(!bytes.is_empty(), "written: nothing");
        if wire.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.client_closed {
            // The kernel takes it; the peer's answer is a reset.
            wire.break_off();
            return Ok(bytes.len());
        }
        let room = wire.room().min(bytes.len());
        let is_cut = self.one_in(self.weather.short_write_odds);
        let count = if is_cut { self.random.borrow_mut().random_range(0..=room) } else { room };
        match () {
            () if self.breaks(Fault::BytesLost) => wire.to_client.extend(&bytes[..count / 2]),
            () if self.breaks(Fault::PlaceAltered) => {
                let mut altered = bytes[..count].to_vec();
                alter_place(&mut altered);
                wire.to_client.extend(altered);
            }
            () if self.breaks(Fault::BytesRepeated) => wire.to_client.extend(bytes[..count].repeat(2)),
            () => wire.to_client.extend(&bytes[..count]),
        }
        wire.written_bytes += count as u64;
        if count < bytes.len() {
            wire.was_short = true;
            let is_told = !self.breaks(Fault::EdgeLost);
            wire.no_room = is_told && count == room;
            wire.late_edge = is_told && count < room;
        }
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn write_ahead(&mut self, stream: &mut SimStream, bytes: &[u8]) -> io::Result<usize> {
        let count = self.write(stream, bytes)?;
        // A write cut short is one that has filled the socket: nothing is held back there.
        stream.0.lock().held_back = count == bytes.len();
        Ok(count)
    }

    fn end(&mut self, stream: &mut SimStream) {
        let mut wire = stream.0.lock();
        wire.held_back = false;
        wire.server_ended = true;
    }

    fn unacknowledged_bytes(&mut self, stream: &SimStream) -> usize {
        stream.0.lock().to_client.len()
    }
}

/// The first `count` bytes, whole slices at a time.
pub(crate) fn take_front(queue: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    queue.read_exact(&mut bytes).expect("there are so many");
    bytes
}

/// "Too many open files".
const EMFILE: i32 = 24;
