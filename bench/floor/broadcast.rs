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
}

impl Halls {
    pub(crate) fn new(channels: &[String], gather: bool) -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let halls = channels.iter().map(|channel| Hall::new(channel)).collect();
        Self { halls, gather, epoch: u64::try_from(epoch).unwrap_or_default() }
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

    /// An event: written now, or kept for [`Halls::flush`].
    pub(crate) fn publish(&mut self, channel: &[u8], payload: &[u8], peers: &mut [Option<Peer>]) {
        let Some(hall) = self.halls.iter_mut().find(|hall| hall.channel.as_bytes() == channel) else { return };
        hall.event_count += 1;
        for audience in hall.audiences.iter_mut().filter(|audience| !audience.slots.is_empty()) {
            audience.form.encode(self.epoch, hall.event_count, payload, &mut audience.frames);
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
        let audiences =
            [Form::WebSocket, Form::Sse].map(|form| Audience { form, slots: Vec::new(), frames: Vec::new() });
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
