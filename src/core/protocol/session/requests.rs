//! The sessions that a connection has before it is a stream: the PROXY header, and requests.

use super::{Ending, PeerInput, SessionLimits, interface::ProtocolSession};
use crate::{
    clock::Moment,
    close::Close,
    outbox::Outbox,
    protocol::{
        http::{self, ServerSession},
        proxy::Preface,
    },
};

// What a preface receives, the session receives itself: a preface turns into requests.
impl ProtocolSession for Preface {
    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        http::write_refusal(ending.close, ending.date, outbox);
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn deadline(&self, limits: &SessionLimits) -> Option<Moment> {
        Some(self.accepted() + limits.http.head_timeout)
    }

    fn expire(&self) -> Close {
        if self.is_idle() { Close::Done } else { Close::RequestTimeout }
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn is_fresh(&self) -> bool {
        self.is_idle()
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes()
    }
}

impl ProtocolSession for ServerSession {
    fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        _: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        match self.receive(bytes, &limits.http, now) {
            Ok(request) => {
                inputs.extend(request.map(PeerInput::Request));
                if self.announces_body() {
                    inputs.push(PeerInput::Body);
                }
                Ok(())
            }
            Err(_) if self.refused().is_some() => Ok(()),
            Err(close) => Err(close),
        }
    }

    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        self.refuse_with(ending.refusal, ending.close, ending.date, outbox);
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn deadline(&self, limits: &SessionLimits) -> Option<Moment> {
        self.deadline(&limits.http)
    }

    fn expire(&self) -> Close {
        self.expire()
    }

    fn refused(&self) -> Option<Close> {
        self.refused()
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    fn is_fresh(&self) -> bool {
        self.is_fresh()
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes()
    }
}
