//! The floor: what a broadcast costs at least. A bare epoll loop on one thread, without a line of the hub in it, that
//! takes events from Redis Pub/Sub and writes each to every socket of its channel. Every figure of the hub is given as
//! a ratio to this one, taken with the same client, sockets, pinning and machine.
//!
//! It does nothing a hub must do: no log, no ids to resume from, no heartbeats, no limits, no slices. Plainly (the
//! reference F1 and F3) it writes each event by itself; with `--gather` (F2) it writes what one read from Redis brought in
//! one piece per socket. With
//! `--record` it is also the reference for those who come back: accept, read the request, write the answer and what was
//! missed.
//!
//! A socket that is full keeps its bytes in order in a buffer of its own, up to [`peer::LEFTOVER_BYTES_MAX`]; one that
//! exceeds it is closed.

mod broadcast;
mod frames;
mod packets;
mod peer;
mod redis;

use std::{io, net::SocketAddr, time::Duration};

use clap::Parser;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, Event, EventFlags},
    fd::OwnedFd,
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, Protocol, Socket, Type};

use broadcast::Halls;
use frames::Form;
use peer::{Peer, Request, Served};
use redis::Subscriber;

/// The options of the floor's command line.
#[derive(Parser)]
#[command(
    about = "A bare epoll loop, from Redis Pub/Sub to SSE, WebSocket and Socket.IO: the reference for the hub's figures"
)]
struct Options {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9080")]
    listen: SocketAddr,
    /// The Redis server to take events from.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
    /// A channel to subscribe to; `/ws?topic=C` and `/sse?topic=C` receive it, and Socket.IO's `subscribe`. A path
    /// without a topic gets the first.
    #[arg(long = "channel", value_name = "C", default_value = "events.critical")]
    channels: Vec<String>,
    /// Write all that one read from Redis brought in one piece per socket, not event by event.
    #[arg(long)]
    gather: bool,
    /// Keep what is published, and send to those who come with a `Last-Event-ID` what followed it, in one write.
    #[arg(long)]
    record: bool,
    /// The core to run on.
    #[arg(long, value_name = "CORE")]
    pin: Option<usize>,
}

/// Tokens of the two sockets that are not peers; a peer's token is its slot.
const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;

/// How many readiness events one wait takes: what the hub takes.
const EVENTS_PER_WAIT: usize = 1024;

/// The pending connections the kernel holds: what the hub asks for.
const BACKLOG: i32 = 4096;

fn main() -> io::Result<()> {
    let options = Options::parse();
    if let Some(core) = options.pin
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(io::Error::other(format!("cannot run on core {core}")));
    }
    let mut floor = Floor::open(&options)?;
    println!("floor listens on {}", options.listen);
    loop {
        floor.turn()?;
    }
}

/// All of it: the poll, the listener, the events' source and the sockets they go to.
struct Floor {
    epoll: OwnedFd,
    ready: Vec<Event>,
    listener: Socket,
    redis: Subscriber,
    peers: Vec<Option<Peer>>,
    vacant: Vec<usize>,
    halls: Halls,
    read_buffer: Vec<u8>,
}

impl Floor {
    fn open(options: &Options) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = listen(options.listen)?;
        let redis = Subscriber::connect(options.redis, &options.channels)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, redis.socket(), epoll::EventData::new_u64(REDIS), EventFlags::IN)?;
        Ok(Self {
            epoll,
            ready: Vec::with_capacity(EVENTS_PER_WAIT),
            listener,
            redis,
            peers: Vec::new(),
            vacant: Vec::new(),
            halls: Halls::new(&options.channels, options.gather, options.record),
            read_buffer: vec![0; 16 * 1024],
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), None) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            waited => waited?,
        };
        for index in 0..self.ready.len() {
            let Event { data, flags, .. } = self.ready[index];
            match data.u64() {
                LISTENER => self.accept()?,
                REDIS => self.redis.receive(&mut self.halls, &mut self.peers)?,
                slot => self.attend(usize::try_from(slot).unwrap_or(usize::MAX), flags),
            }
        }
        Ok(())
    }

    /// The options that matter per socket are inherited from the listener.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let slot = self.vacant.pop().unwrap_or(self.peers.len());
            // Once and for both directions, edge-triggered, as the hub does it.
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(slot as u64), interest)?;
            if slot == self.peers.len() {
                self.peers.push(None);
            }
            self.peers[slot] = Some(Peer::new(socket));
        }
    }

    /// Readiness of a peer. It may be a stale word about a predecessor in the slot, which then simply is not true.
    fn attend(&mut self, slot: usize, flags: EventFlags) {
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::as_mut) else { return };
        let mut served = Served::Stays;
        if flags.contains(EventFlags::OUT) {
            served = peer.flush();
        }
        if served == Served::Stays && flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
            served = peer.read(&mut self.read_buffer);
        }
        match served {
            Served::Stays => {}
            Served::Asks(request) if request.wants_packets => self.greet(slot, &request),
            Served::Asks(request) => self.admit(slot, &request),
            Served::Subscribes(topic) => self.seat(slot, topic),
            Served::Ends => self.remove(slot),
        }
    }

    fn admit(&mut self, slot: usize, request: &Request) {
        let form = if request.upgrade_key.is_some() { Form::WebSocket } else { Form::Sse };
        let Some(peer) = self.peers[slot].as_mut() else { return };
        match self.halls.find(request.topic.as_deref()) {
            Some(hall) if peer.open(request, hall, form, missed(&self.halls, request, hall, form)) => {
                self.halls.enter(hall, form, slot);
            }
            _ => self.remove(slot),
        }
    }

    fn greet(&mut self, slot: usize, request: &Request) {
        let Some(peer) = self.peers[slot].as_mut() else { return };
        if !peer.greet(request) {
            self.remove(slot);
        }
    }

    fn seat(&mut self, slot: usize, topic: String) {
        let Some(peer) = self.peers[slot].as_mut() else { return };
        match self.halls.find(Some(&topic)) {
            Some(hall) if peer.confirm(hall, topic) => self.halls.enter(hall, Form::SocketIo, slot),
            _ => self.remove(slot),
        }
    }

    fn remove(&mut self, slot: usize) {
        if let Some(peer) = self.peers[slot].take() {
            if let Some((hall, form)) = peer.seat() {
                self.halls.leave(hall, form, slot);
            }
            self.vacant.push(slot);
        }
    }
}

fn missed<'a>(halls: &'a Halls, request: &Request, hall: usize, form: Form) -> &'a [u8] {
    request.seen.map_or(&[], |seen| halls.missed(hall, form, seen))
}

/// A listener with the hub's options: no delay, and little unsent data kept in the kernel.
fn listen(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(16 * 1024)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(30)))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
