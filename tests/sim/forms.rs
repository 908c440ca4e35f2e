//! What clients say and hear, as bytes: first requests, gaps, ids of streams.

use fanfare_core::{
    event::EventId,
    gap::{Gap, GapReason},
    protocol::{
        http::{Method, write_request},
        websocket::client::write_upgrade,
    },
};

use crate::{
    client::{ClientProtocol, Dialog, Pending},
    socket,
    track::Track,
    truth::Truth,
};

/// A stream's id tells where the client stands in each topic: in that of the message behind it, in the others where it
/// stood.
pub(crate) fn check_vector(
    vector: &[u8],
    ids: &mut [Option<EventId>],
    place: usize,
    id: EventId,
) -> Vec<(usize, EventId)> {
    let text = String::from_utf8_lossy(vector);
    let told: Vec<EventId> = text.split(',').map(|id| id.parse().expect("an event id")).collect();
    assert_eq!((told.len(), told[place]), (ids.len(), id), "the stream's id: {text}");
    ids[place] = Some(id);
    let mut begun = Vec::new();
    for (place, (known, told)) in ids.iter_mut().zip(told).enumerate() {
        if known.is_none() {
            begun.push((place, told));
        }
        assert_eq!(*known.get_or_insert(told), told, "the stream's id: {text}");
    }
    begun
}

/// The gap, with its reason as it is told.
pub(crate) fn gap_of(from: EventId, to: EventId, reason: &str) -> Gap {
    let reason = GapReason::ALL.into_iter().find(|known| known.label() == reason);
    Gap { from, to, reason: reason.expect("a reason for the gap") }
}

/// The topic of a gap, if it is named, and the gap itself.
pub(crate) fn read_gap(json: &[u8]) -> Option<(Option<String>, Gap)> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let id = |name: &str| value[name].as_str()?.parse().ok();
    let reason = value["reason"].as_str().or_else(|| value["gap"].as_str())?;
    Some((value["topic"].as_str().map(String::from), gap_of(id("from")?, id("to")?, reason)))
}

/// A client's first request: it asks for `tracks`, each perhaps from an id on.
pub(crate) fn opening(
    protocol: ClientProtocol,
    tracks: &[(Track, Option<EventId>)],
    key: &str,
    truth: &Truth,
) -> Vec<u8> {
    let topics: Vec<String> = tracks.iter().map(|(track, _)| format!("topic={}", truth.topics[track.topic])).collect();
    let query = topics.join("&");
    let ids: Option<Vec<String>> = tracks.iter().map(|(_, since)| since.map(|id| id.to_string())).collect();
    let ids = ids.filter(|ids| !ids.is_empty()).map(|ids| ids.join(","));
    let headers: Vec<(&str, &str)> = ids.iter().map(|ids| ("Last-Event-ID", ids.as_str())).collect();
    let mut out = Vec::new();
    match protocol {
        ClientProtocol::Http | ClientProtocol::Garbage => {}
        ClientProtocol::Sse { named, http10 } => {
            let target = format!("/sse?{query}&named={}", u8::from(named));
            write_request(Method::Get, "hub", &target, &headers, b"", &mut out);
            if http10 {
                let text = String::from_utf8(out).expect("a request is text");
                return text.replace("HTTP/1.1", "HTTP/1.0").into_bytes();
            }
        }
        ClientProtocol::Raw => write_upgrade("hub", &format!("/ws?{query}"), &[], &headers, key, &mut out),
        ClientProtocol::Socket => write_upgrade("hub", socket::TARGET, &[], &[], key, &mut out),
        ClientProtocol::V1 => write_upgrade("hub", &format!("/ws?{query}"), &["fanfare.v1"], &headers, key, &mut out),
    }
    out
}

impl Dialog {
    /// An error is an answer that the client must have expected.
    pub(crate) fn check_error(&self, code: &str, message: &str, about: Option<Pending>) {
        match (about, code) {
            (Some(Pending::Subscribe(track)), "AlreadySubscribed") => assert!(self.listens_to(track.topic)),
            (Some(Pending::Subscribe(_)), "Cancelled" | "Overloaded") => {}
            (Some(Pending::Unsubscribe(topic)), "NotSubscribed") => {
                assert!(self.tracks.iter().all(|track| track.topic != topic || track.over), "it is subscribed");
            }
            (Some(Pending::Publish(_)), "Overloaded" | "overloaded" | "unavailable" | "unknown_outcome") => {}
            (about, code) => panic!("{code}: {message} about {about:?}"),
        }
    }
}
