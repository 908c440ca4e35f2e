//! Payloads that clients post: packets in, and the same packets out again by both wrappings.

use fanfare_core::protocol::{
    engine_io::{EnginePacket, EnginePacketKind, PollPayload, payload_from_frames, write_frame},
    websocket,
};

use super::input::Input;

pub(super) const TOKENS: &[&str] = &[
    "\u{1e}",
    "4",
    "2probe",
    "3",
    "5",
    "6",
    "1",
    "0{}",
    "b",
    "bAQIDBA==",
    "bAQ",
    "=",
    "é",
    "42[\"a\"]",
    "\u{1e}\u{1e}",
];

pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let packets_max = usize::from(input.knob % 32);
    let Some(packets) = read(input.payload, packets_max) else { return };
    assert!(packets.len() <= packets_max);
    let frames = frames(&packets);
    // Whatever the bounds of each poll, the polls together say the same.
    let polled_max = 1 + usize::from(input.cut % 20);
    let (mut rest, mut polled) = (&frames[..], Vec::new());
    while !rest.is_empty() {
        let mut payload = Vec::new();
        let taken = payload_from_frames(rest, polled_max, usize::from(input.cut) * 4, &mut payload);
        assert_ne!(taken, 0, "each poll brings something");
        let of_poll = read(&payload, polled_max).expect("what is written can be read");
        assert!(!of_poll.is_empty());
        polled.extend(of_poll);
        rest = &rest[taken..];
    }
    assert_eq!(polled, packets);
}

/// A packet that owns its bytes: `None` for binary ones.
type Owned = (Option<EnginePacketKind>, Vec<u8>);

/// All packets of a payload, if each of them is good.
fn read(body: &[u8], packets_max: usize) -> Option<Vec<Owned>> {
    let payload = PollPayload::parse(body, packets_max).ok()?;
    let owned = |packet| match packet {
        EnginePacket::Text(kind, data) => (Some(kind), str::as_bytes(data).to_vec()),
        EnginePacket::Binary(bytes) => (None, bytes.into_owned()),
    };
    payload.map(|packet| packet.ok().map(owned)).collect()
}

fn frames(packets: &[Owned]) -> Vec<u8> {
    let mut frames = Vec::new();
    for (kind, data) in packets {
        match kind {
            Some(kind) => write_frame(*kind, std::str::from_utf8(data).expect("it was text"), &mut frames),
            None => websocket::write_binary(data, &mut frames),
        }
    }
    frames
}
