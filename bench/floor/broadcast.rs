//! From an event to every socket of its channel.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    frames::{FORM_COUNT, Form},
    peer::Peer,
};

/// The channels and who is in them.
pub(crate) struct Halls {
    halls: Vec<Hall>,
    gather: bool,
    record: bool,
    epoch: u64,
}

struct Hall {
    channel: String,
    event_count: u64,
    audiences: [Audience; FORM_COUNT],
}

/// The sockets that get the same bytes.
struct Audience {
    form: Form,
    slots: Vec<usize>,
    frames: Vec<u8>,
    record: Record,
}

/// All frames there ever were, in one piece, for those who come back. It only grows: a run is short.
#[derive(Default)]
struct Record {
    frames: Vec<u8>,
    /// Where in `frames` each event begins: the first one's place is that of event 1.
    starts: Vec<usize>,
}

impl Halls {
    pub(crate) fn new(channels: &[String], gather: bool, record: bool) -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let halls = channels.iter().map(|channel| Hall::new(channel)).collect();
        Self { halls, gather, record, epoch: u64::try_from(epoch).unwrap_or_default() }
    }

    /// The place of the channel; of the first one if none is named.
    pub(crate) fn find(&self, channel: Option<&str>) -> Option<usize> {
        match channel {
            Some(name) => self.halls.iter().position(|hall| hall.channel == name),
            None => Some(0),
        }
    }

    pub(crate) fn enter(&mut self, hall: usize, form: Form, slot: usize) {
        self.halls[hall].audiences[form.index()].slots.push(slot);
    }

    pub(crate) fn leave(&mut self, hall: usize, form: Form, slot: usize) {
        let slots = &mut self.halls[hall].audiences[form.index()].slots;
        if let Some(index) = slots.iter().position(|&other| other == slot) {
            slots.swap_remove(index);
        }
    }

    /// What somebody missed who has seen the events up to number `seen`; nothing unless events are recorded.
    pub(crate) fn missed(&self, hall: usize, form: Form, seen: u64) -> &[u8] {
        self.halls[hall].audiences[form.index()].record.after(seen)
    }

    /// An event: written now, or kept for [`Halls::flush`].
    pub(crate) fn publish(&mut self, channel: &[u8], payload: &[u8], peers: &mut [Option<Peer>]) {
        let Some(hall) = self.halls.iter_mut().find(|hall| hall.channel.as_bytes() == channel) else { return };
        hall.event_count += 1;
        for audience in hall.audiences.iter_mut().filter(|audience| self.record || !audience.slots.is_empty()) {
            let start = audience.frames.len();
            audience.form.encode(self.epoch, hall.event_count, payload, &mut audience.frames);
            if self.record {
                audience.record.push(&audience.frames[start..]);
            }
            if !self.gather {
                audience.write(peers);
            }
        }
    }

    /// The end of what one read brought.
    pub(crate) fn flush(&mut self, peers: &mut [Option<Peer>]) {
        if self.gather {
            let audiences = self.halls.iter_mut().flat_map(|hall| &mut hall.audiences);
            audiences.filter(|audience| !audience.frames.is_empty()).for_each(|audience| audience.write(peers));
        }
    }
}

impl Hall {
    fn new(channel: &str) -> Self {
        let audience = |form| Audience { form, slots: Vec::new(), frames: Vec::new(), record: Record::default() };
        let audiences = [Form::WebSocket, Form::Sse, Form::SocketIo].map(audience);
        Self { channel: channel.to_owned(), event_count: 0, audiences }
    }
}

impl Audience {
    fn write(&mut self, peers: &mut [Option<Peer>]) {
        for &slot in &self.slots {
            if let Some(peer) = &mut peers[slot] {
                peer.write(&self.frames);
            }
        }
        self.frames.clear();
    }
}

impl Record {
    fn push(&mut self, frame: &[u8]) {
        self.starts.push(self.frames.len());
        self.frames.extend_from_slice(frame);
    }

    fn after(&self, seen: u64) -> &[u8] {
        let start = usize::try_from(seen).ok().and_then(|seen| self.starts.get(seen));
        start.map_or(&[], |&start| &self.frames[start..])
    }
}
