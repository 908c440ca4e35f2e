//! What is said on a client's connection, and whether it makes sense.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use fanfare_core::{
    event::EventId,
    gap::Gap,
    protocol::{
        fanfare_v1::client::Envelope,
        http::{ResponseHead, ResponsePart},
        sse,
        websocket::{
            self,
            client::{FrameReader, ServerFrame, check_accept},
        },
    },
};

use super::{ClientProtocol, Pending};
use crate::{
    forms::{check_vector, gap_of, read_gap},
    socket::{self, ServerPacket},
    track::Track,
    truth::Truth,
};

/// What is said on the connection.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) protocol: ClientProtocol,
    pub(crate) tracks: Vec<Track>,
    /// The status of a refusal, and whether the stream is open.
    pub(crate) refused: Option<u16>,
    pub(crate) opened: bool,
    /// Something has been written to it: whatever is published from then on is owed to it.
    pub(crate) opened_at_hub: bool,
    /// The client has begun to end it: it sends no more.
    pub(crate) leaving: bool,
    /// The code of the hub's close frame, and the gap it tells of.
    pub(crate) close_code: Option<u16>,
    pub(crate) close_gap: Option<Gap>,
    /// The stream's last words were that the client is to come back later.
    pub(crate) try_later: bool,
    /// The client has not always read what there was.
    pub(crate) was_behind: bool,
    /// Its client has come back on another one.
    pub(crate) was_succeeded: bool,
    /// The stream's last chunk came.
    pub(crate) stream_ended: bool,
    /// Tags whose publication was confirmed, and the response that did, if it was one.
    pub(crate) confirmed: Vec<(u64, Vec<u8>)>,
    body: Vec<u8>,
    /// Requests without a response, by the tag they publish.
    pub(super) requests: VecDeque<u64>,
    pub(crate) commands: HashMap<u64, Pending>,
    next_reference: u64,
    /// Pings of the session that are yet to be answered.
    pub(crate) pings: usize,
    status: u16,
    key: String,
    stream: sse::Decoder,
    frames: FrameReader,
    /// The last id of each topic, in the order of the URL.
    ids: Vec<Option<EventId>>,
    /// The namespace of Socket.IO it has entered, and the last place in each topic that it was told there.
    pub(super) namespace: &'static str,
    pub(crate) offsets: HashMap<usize, EventId>,
}

impl Dialog {
    /// Before the first byte comes: `tracks` are those that the request asks for, and `key` is the one of its upgrade.
    pub(super) fn new(protocol: ClientProtocol, tracks: Vec<(Track, Option<EventId>)>, key: String) -> Self {
        Self {
            protocol,
            ids: vec![None; tracks.len()],
            tracks: tracks.into_iter().map(|(track, _)| track).collect(),
            refused: None,
            opened: false,
            opened_at_hub: false,
            leaving: false,
            close_code: None,
            close_gap: None,
            try_later: false,
            was_behind: false,
            was_succeeded: false,
            stream_ended: false,
            confirmed: Vec::new(),
            body: Vec::new(),
            requests: VecDeque::new(),
            commands: HashMap::new(),
            next_reference: 1,
            pings: 0,
            status: 0,
            key,
            stream: sse::Decoder::new(),
            frames: FrameReader::new(),
            namespace: "/",
            offsets: HashMap::new(),
        }
    }

    /// Whether everything that was asked is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.requests.is_empty() && self.commands.is_empty()
    }

    /// Whether `topic` is listened to, or will be.
    pub(crate) fn listens_to(&self, topic: usize) -> bool {
        self.tracks.iter().any(|track| track.topic == topic && !track.over)
            || self
                .commands
                .values()
                .any(|pending| matches!(pending, Pending::Subscribe(track) if track.topic == topic))
    }

    /// All places the client has, or had, or may have a right to. One that is over counts: it may have been behind before
    /// that.
    pub(crate) fn all_tracks(&self) -> impl Iterator<Item = &Track> {
        let pending = self.commands.values().filter_map(|pending| match pending {
            Pending::Subscribe(track) => Some(track),
            _ => None,
        });
        self.tracks.iter().chain(pending)
    }

    /// Whether the client has topics to go on with, on a connection of its own.
    pub(crate) fn may_come_back(&self) -> bool {
        !self.was_succeeded && self.tracks.iter().any(|track| !track.over)
    }

    /// What it goes on with, and after which ids; `None` if it does not know where it stands in each of its topics.
    pub(crate) fn account(&self, truth: &Truth) -> Option<Vec<(Track, Option<EventId>)>> {
        let tracks: Vec<&Track> = self.tracks.iter().filter(|track| !track.over).collect();
        let mut account: Vec<Track> = tracks.into_iter().map(Track::taken_up).collect::<Option<_>>()?;
        if let ([track], Some(gap), ClientProtocol::Raw) = (account.as_mut_slice(), self.close_gap, self.protocol) {
            track.leap(gap, truth);
        }
        Some(account.into_iter().map(|track| (track.since, track)).map(|(since, track)| (track, since)).collect())
    }

    pub(super) fn remember(&mut self, pending: Pending) -> String {
        let reference = self.next_reference;
        self.next_reference += 1;
        self.commands.insert(reference, pending);
        reference.to_string()
    }

    pub(super) fn take_part(&mut self, part: ResponsePart<'_>, truth: &Truth) {
        match (self.protocol, part) {
            (ClientProtocol::Garbage, _) => {}
            (_, ResponsePart::Head(head)) => self.take_head(&head),
            (ClientProtocol::Http, ResponsePart::Body(bytes)) => self.body.extend(bytes),
            (ClientProtocol::Http, ResponsePart::End) => self.take_response(),
            (_, _) if self.refused.is_some() => {}
            (_, ResponsePart::End) => self.stream_ended = true,
            (ClientProtocol::Sse { named, .. }, ResponsePart::Body(bytes)) => self.take_stream(bytes, named, truth),
            (ClientProtocol::Raw | ClientProtocol::V1 | ClientProtocol::Socket, ResponsePart::Body(bytes)) => {
                self.take_frames(bytes, truth)
            }
        }
    }

    fn take_head(&mut self, head: &ResponseHead<'_>) {
        assert!(!self.opened, "a second head on a stream");
        self.status = head.status;
        match self.protocol {
            ClientProtocol::Http | ClientProtocol::Garbage => {}
            ClientProtocol::Sse { .. } if head.status == 200 => {
                assert!(head.is_event_stream());
                self.opened = true;
            }
            ClientProtocol::Raw | ClientProtocol::V1 | ClientProtocol::Socket if head.status == 101 => {
                let offered: &[&str] = if self.protocol == ClientProtocol::V1 { &["fanfare.v1"] } else { &[] };
                let chosen = check_accept(&self.key, offered, head).expect("a proper handshake");
                assert_eq!(chosen, offered.first().copied());
                self.opened = true;
            }
            _ => self.refused = Some(head.status),
        }
    }

    fn take_response(&mut self) {
        let (tag, body) = (self.requests.pop_front(), std::mem::take(&mut self.body));
        match (tag, self.status) {
            (Some(tag), 200) => self.confirmed.push((tag, body)),
            (Some(_), 429 | 503 | 504) => {}
            // Unasked: it waited too long, or for nothing.
            (_, 408 | 429 | 503) => self.refused = Some(self.status),
            (tag, status) => panic!("{status} for {tag:?}"),
        }
    }

    fn take_stream(&mut self, bytes: &[u8], named: bool, truth: &Truth) {
        let Self { stream, tracks, ids, try_later, was_behind, .. } = self;
        let outcome = stream.receive(bytes, |message| {
            assert!(!*try_later, "something after the last words: {message:?}");
            if message.event == b"error" {
                return *try_later = true;
            }
            let place_of = |topic| tracks.iter().position(|track| track.topic == topic).expect("a topic asked for");
            if message.event == b"gap" {
                let (topic, gap) = read_gap(message.data).expect("a gap");
                let place = place_of(truth.place_of(&topic.expect("a topic")));
                for (begun, id) in check_vector(message.id, ids, place, gap.to) {
                    tracks[begun].open_at(id, truth);
                }
                return tracks[place].take_gap(gap, *was_behind, truth);
            }
            let (topic, index) = truth.find(message.data);
            let entry = truth.entry(topic, index);
            let place = place_of(topic);
            for (begun, id) in check_vector(message.id, ids, place, entry.id) {
                tracks[begun].open_at(id, truth);
            }
            let kind = entry.kind.as_deref().filter(|_| named).unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(message.event), kind, "the event's type");
            tracks[place].take(index, *was_behind, truth);
        });
        assert_eq!(outcome, Ok(()));
    }

    fn take_frames(&mut self, bytes: &[u8], truth: &Truth) {
        let mut frames = std::mem::take(&mut self.frames);
        let limits =
            websocket::WebSocketLimits { message_bytes_max: usize::MAX, ..websocket::WebSocketLimits::default() };
        let outcome = frames.receive(bytes, &limits, |frame| self.take_frame(frame, truth));
        assert_eq!(outcome, Ok(()), "a broken frame");
        self.frames = frames;
    }

    fn take_frame(&mut self, frame: ServerFrame<'_>, truth: &Truth) {
        assert_eq!(self.close_code, None, "a frame after the close frame: {frame:?}");
        match frame {
            ServerFrame::Text(data) if self.protocol == ClientProtocol::Raw => {
                let (topic, index) = truth.find(data);
                let was_behind = self.was_behind;
                self.track(topic).take(index, was_behind, truth);
            }
            ServerFrame::Text(text) if self.protocol == ClientProtocol::Socket => {
                let text = std::str::from_utf8(text).expect("UTF-8");
                self.take_packet(ServerPacket::parse(&socket::plain(text, self.namespace)), truth);
            }
            ServerFrame::Text(text) => self.take_envelope(Envelope::parse(text).expect("an envelope"), truth),
            ServerFrame::Ping(_) | ServerFrame::Pong(_) => {}
            ServerFrame::Close { code, reason } => {
                self.close_code = Some(code.unwrap_or(1005));
                self.close_gap = read_gap(reason.as_bytes()).map(|(_, gap)| gap);
            }
            ServerFrame::Binary(_) => panic!("nobody sent anything binary"),
        }
    }

    pub(crate) fn track(&mut self, topic: usize) -> &mut Track {
        let found = self.tracks.iter_mut().rev().find(|track| track.topic == topic);
        found.unwrap_or_else(|| panic!("an event of topic {topic}, which was not asked for"))
    }

    /// There is none if the subscription was cancelled before it began.
    pub(crate) fn end_track(&mut self, topic: usize) {
        self.offsets.remove(&topic);
        if let Some(track) = self.tracks.iter_mut().rev().find(|track| track.topic == topic) {
            track.over = true;
        }
    }

    fn take_envelope(&mut self, envelope: Envelope<'_>, truth: &Truth) {
        match envelope {
            Envelope::Event { id, data, kind, .. } => {
                let (topic, index) = truth.find(data.as_bytes());
                let entry = truth.entry(topic, index);
                assert_eq!((id.parse(), kind.as_deref()), (Ok(entry.id), entry.kind.as_deref()));
                let was_behind = self.was_behind;
                self.track(topic).take(index, was_behind, truth);
            }
            Envelope::Subscribed { topic, id, reference } => {
                let Some(Pending::Subscribe(mut track)) = self.answered(reference) else {
                    panic!("nobody asked for {topic}")
                };
                let listens = self.tracks.iter().any(|other| other.topic == track.topic && !other.over);
                assert!(!listens, "subscribed to {topic} twice");
                match id.as_deref().map(str::parse) {
                    Some(id) => track.open_at(id.expect("an id"), truth),
                    None => track.open(truth),
                }
                self.tracks.push(track);
            }
            Envelope::Unsubscribed { reference, .. } => match self.answered(reference) {
                Some(Pending::Unsubscribe(topic)) => self.end_track(topic),
                other => panic!("an answer to {other:?}"),
            },
            Envelope::Published { reference, .. } => match self.answered(reference) {
                Some(Pending::Publish(tag)) => self.confirmed.push((tag, Vec::new())),
                other => panic!("an answer to {other:?}"),
            },
            Envelope::Pong { reference } => match self.answered(reference) {
                Some(Pending::Ping) => {}
                other => panic!("a pong for {other:?}"),
            },
            Envelope::Error { code, reference, message } => {
                let about = self.answered(reference);
                self.check_error(&code, &message, about);
            }
            Envelope::Gap { topic, from, to, reason } => {
                let id = |text: Option<Cow<'_, str>>| text.and_then(|id| id.parse().ok()).expect("an id");
                let gap = gap_of(id(from), id(to), &reason);
                let (topic, was_behind) = (truth.place_of(&topic), self.was_behind);
                self.track(topic).take_gap(gap, was_behind, truth);
            }
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn answered(&mut self, reference: Option<&serde_json::value::RawValue>) -> Option<Pending> {
        let number: u64 = reference?.get().parse().ok()?;
        Some(self.commands.remove(&number).unwrap_or_else(|| panic!("command {number} answered twice")))
    }
}
