//! As much Socket.IO as it takes to let a subscriber in: Engine.IO v4's greeting, and the answers to its two packets.

use crate::frames::encode_text;

/// The frame that follows the upgrade.
pub(crate) fn greeting() -> Vec<u8> {
    text(r#"0{"sid":"floor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#)
}

/// What a client's packet asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// To be let into the main namespace.
    Connect,
    /// To receive a channel.
    Subscribe(String),
    /// Nothing the floor answers.
    Other,
}

impl Packet {
    /// Reads one masked text frame, whole and short, as a client on a loopback sends it.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let [0x81, length, mask_and_payload @ ..] = frame else { return None };
        let (mask, payload) = mask_and_payload.split_at_checked(4)?;
        let payload = payload.get(..usize::from(length & 0x7f))?;
        let packet: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        Some(Self::understand(std::str::from_utf8(&packet).ok()?))
    }

    fn understand(packet: &str) -> Self {
        let topic = packet.strip_prefix(r#"42["subscribe",{"topic":""#).and_then(|rest| rest.split_once('"'));
        match topic {
            Some((topic, _)) => Self::Subscribe(topic.to_owned()),
            None if packet.starts_with("40") => Self::Connect,
            None => Self::Other,
        }
    }

    /// The frame it is answered with.
    pub(crate) fn answer(&self) -> Vec<u8> {
        match self {
            Self::Connect => text(r#"40{"sid":"floor"}"#),
            Self::Subscribe(topic) => text(&format!(r#"42["subscribed",{{"topic":"{topic}"}}]"#)),
            Self::Other => Vec::new(),
        }
    }
}

fn text(packet: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_text(&[packet.as_bytes()], &mut frame);
    frame
}
