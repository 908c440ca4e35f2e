//! The server's side of one HTTP connection.
//!
//! LIFECYCLE: idle → head → body → unanswered → idle …, one request at a time; pipelined requests wait as bytes. The server
//! closes first: after an answer that is not keep-alive, after a refusal, and when a deadline passes. Once it has ended,
//! every later call says how. Between head and body the caller may ask who sends the request ([`ServerSession::begun`]), and
//! either expect the body or give it up and answer at once.

use crate::{clock::Moment, close::Close, outbox::Outbox};

use super::{
    HttpLimits, Method, Request, Response, Version,
    body::{BodyDecoder, BodyPart},
    head::{self, Framing, Head},
    response::{ResponseForm, write_owned_response, write_response},
    retained::Retained,
};

/// Reads requests and writes their answers. Owns no heap memory while idle.
#[derive(Debug)]
pub struct ServerSession {
    state: State,
    /// What came and is not used yet: the beginning of a head, or requests pipelined behind the one being answered.
    retained: Retained,
    /// How the request that was read last is to be answered.
    answer: ResponseForm,
    /// Fields for the answer to the request that is with the caller.
    kept: Vec<(&'static str, String)>,
    /// When `state` was entered.
    since: Moment,
}

#[derive(Debug)]
enum State {
    /// Accepted, not a byte yet.
    Fresh,
    /// Answered, and not a byte of a next request.
    Idle,
    /// `retained` is the beginning of a head; its first `scanned` bytes hold no blank line.
    Head {
        scanned: usize,
    },
    /// The head is read.
    Body(Box<Incoming>),
    /// The request is with the caller.
    Unanswered,
    /// The answer is written; the next call of `receive` looks for the next request.
    Answered,
    /// Over, because of a request whose body is not read. Boxed, so that the others stay small.
    Refused(Box<RefusedBody>),
    Ended(Close),
}

/// A request whose body the session refused.
#[derive(Debug)]
struct RefusedBody {
    close: Close,
    path: String,
}

/// A request whose body is on its way.
#[derive(Debug)]
struct Incoming {
    request: Request,
    decoder: BodyDecoder,
    /// When the last byte came.
    progress: Moment,
    /// The longest body, in bytes.
    bytes_max: usize,
    /// Whether the client waits for `100 Continue`.
    awaits_continue: bool,
    /// Whether the caller has been told that the body begins.
    is_announced: bool,
}

impl ServerSession {
    /// For a connection accepted `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            state: State::Fresh,
            retained: Retained::default(),
            answer: ResponseForm::default(),
            kept: Vec::new(),
            since: now,
        }
    }

    /// Takes what the peer sent, all of it, and yields at most one request.
    ///
    /// While that request is unanswered, further bytes are kept, up to a head and a body's worth. After
    /// [`ServerSession::respond`] the caller calls this again, with no bytes if there are none, for the next pipelined
    /// request. An error is to be answered with [`ServerSession::refuse`].
    pub fn receive(&mut self, bytes: &[u8], limits: &HttpLimits, now: Moment) -> Result<Option<Request>, Close> {
        let result = self.take_bytes(bytes, limits, now);
        if let Err(close) = result {
            self.end(close);
        }
        result
    }

    /// Whether the head of a request is complete while its body is not. True once for each such request; the caller then calls
    /// [`ServerSession::expect_body`] or [`ServerSession::give_up_body`]. Bytes of the body that arrive before are kept.
    pub(crate) fn announces_body(&mut self) -> bool {
        match &mut self.state {
            State::Body(incoming) => !std::mem::replace(&mut incoming.is_announced, true),
            _ => false,
        }
    }

    /// The request whose body is not complete: its body is what has arrived so far.
    pub fn begun(&self) -> Option<&Request> {
        match &self.state {
            State::Body(incoming) => Some(&incoming.request),
            _ => None,
        }
    }

    /// The length of the body that is not complete, in bytes; `None` if its end is not known (the chunked coding), or if no body
    /// is under way.
    pub fn announced_bytes(&self) -> Option<u64> {
        match &self.state {
            State::Body(incoming) => incoming.announced_bytes(),
            _ => None,
        }
    }

    /// Reads on, up to a body of `bytes_max` bytes if that is less than the limit of all bodies. Writes `100 Continue` to
    /// `outbox` where the client waits for that and has sent nothing of the body (RFC 9110 section 10.1.1).
    pub fn expect_body(&mut self, bytes_max: usize, outbox: &mut Outbox) -> Result<(), Close> {
        let State::Body(incoming) = &mut self.state else { return Ok(()) };
        incoming.bytes_max = incoming.bytes_max.min(bytes_max);
        let checked = incoming.check_length();
        if let Err(close) = checked {
            self.end(close);
        //= RFC 9110 section 10.1.1: "an origin server MUST send either"
        } else if std::mem::take(&mut incoming.awaits_continue) && incoming.request.body.is_empty() {
            //= RFC 9110 section 7.8: "server MUST send a 100 (Continue) response before sending a 101 (Switching Protocols)
            //=   response."
            //= RFC 9110 section 10.1.1: "The origin server MUST NOT wait for the content before sending the 100 (Continue)
            //=   response."
            //= RFC 9110 section 10.1.1: "A server that sends a 100 (Continue) response MUST ultimately send a final
            //=   status code"
            outbox.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        checked
    }

    /// Reads no more of the body. The request is to be answered as it is, and the connection ends with the answer: what follows
    /// on it is the rest of the body.
    pub fn give_up_body(&mut self) -> Option<Request> {
        if !matches!(self.state, State::Body(_)) {
            return None;
        }
        //= RFC 9112 section 9.3: "A server MUST read the entire request message body or close the connection after
        //=   sending its response"
        self.answer.keep_alive = false;
        self.retained = Retained::default();
        self.yield_request()
    }

    /// Writes the answer to the request that was yielded last. `date` is the current time as [`super::format_date`] gives
    /// it (RFC 9110 section 6.6.1). Returns whether the connection goes on; if not, it is to be closed once the outbox
    /// is written.
    pub fn respond(&mut self, response: &Response, date: &str, outbox: &mut Outbox) -> bool {
        let (answer, kept) = self.begin_answer(response);
        write_response(response, &kept, answer, date, outbox);
        self.end_answer(answer.keep_alive)
    }

    /// The same, without copying a body that is large.
    pub fn respond_owned(&mut self, response: Response, date: &str, outbox: &mut Outbox) -> bool {
        let (answer, kept) = self.begin_answer(&response);
        write_owned_response(response, &kept, answer, date, outbox);
        self.end_answer(answer.keep_alive)
    }

    /// The form of the answer, and the fields kept for it.
    fn begin_answer(&mut self, response: &Response) -> (ResponseForm, Vec<(&'static str, String)>) {
        debug_assert!(matches!(self.state, State::Unanswered), "an answer without a request");
        let kept = std::mem::take(&mut self.kept);
        let keep_alive = self.answer.keep_alive && !response.closes();
        (ResponseForm { keep_alive, ..self.answer }, kept)
    }

    fn end_answer(&mut self, keep_alive: bool) -> bool {
        if keep_alive {
            self.state = State::Answered;
        } else {
            //= RFC 9112 section 9.6: "after it sends the response containing the "close" connection option."
            self.end(Close::Done);
        }
        keep_alive
    }

    /// Keeps `fields` for the answer to the request that is with the caller, if that takes its time.
    pub fn keep_fields(&mut self, fields: Vec<(&'static str, String)>) {
        self.kept = fields;
    }

    /// The path of the request that is to be refused, if its head was read and its body was not.
    pub fn refused_path(&self) -> Option<&str> {
        match &self.state {
            State::Body(incoming) => Some(&incoming.request.path),
            State::Refused(refused) => Some(&refused.path),
            _ => None,
        }
    }

    /// Why it has refused the body of a request, if it has.
    pub fn refused(&self) -> Option<Close> {
        match &self.state {
            State::Refused(refused) => Some(refused.close),
            _ => None,
        }
    }

    /// Writes the answer that goes with `close`, if there is one, and ends.
    pub fn refuse(&mut self, close: Close, date: &str, outbox: &mut Outbox) {
        self.refuse_with(Response::refusal(close), close, date, outbox);
    }

    /// The same, with an answer of the caller's.
    pub fn refuse_with(&mut self, response: Option<Response>, close: Close, date: &str, outbox: &mut Outbox) {
        if let Some(response) = response {
            write_response(&response, &[], ResponseForm { keep_alive: false, ..self.answer }, date, outbox);
        }
        self.end(close);
    }

    /// When [`ServerSession::expire`] is due, unless something happens before; `None` while the caller has a request to
    /// answer.
    pub fn deadline(&self, limits: &HttpLimits) -> Option<Moment> {
        match &self.state {
            State::Fresh | State::Head { .. } => Some(self.since + limits.head_timeout),
            State::Idle | State::Answered => Some(self.since + limits.idle_timeout),
            State::Body(incoming) => {
                Some((incoming.progress + limits.body_timeout).min(self.since + limits.body_total_timeout))
            }
            State::Unanswered | State::Refused(_) | State::Ended(_) => None,
        }
    }

    /// Why the connection is to end, the deadline having passed: [`Close::RequestTimeout`] if a part of a request is
    /// there, else [`Close::Done`].
    pub fn expire(&self) -> Close {
        match &self.state {
            State::Head { .. } | State::Body(_) => Close::RequestTimeout,
            State::Refused(refused) => refused.close,
            State::Ended(close) => *close,
            State::Fresh | State::Idle | State::Answered | State::Unanswered => Close::Done,
        }
    }

    /// Whether the connection can be closed without cutting anything off: no request has begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Fresh | State::Idle | State::Refused(_) | State::Ended(_))
    }

    /// Whether nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh)
    }

    /// The version of the request that was read last.
    pub fn version(&self) -> Version {
        self.answer.version
    }

    /// Ends HTTP on the connection, for an upgrade: the bytes that came behind the request.
    pub fn leftover(self) -> Vec<u8> {
        self.retained.into_vec()
    }

    /// What it keeps of unfinished or pipelined requests, in bytes.
    pub fn held_bytes(&self) -> usize {
        let body_bytes = match &self.state {
            State::Body(incoming) => incoming.request.body.capacity(),
            _ => 0,
        };
        self.retained.held_bytes() + body_bytes
    }

    fn end(&mut self, close: Close) {
        self.retained = Retained::default();
        if let State::Body(incoming) = std::mem::replace(&mut self.state, State::Ended(close)) {
            self.state = State::Refused(Box::new(RefusedBody { close, path: incoming.request.path }));
        }
    }

    fn take_bytes(&mut self, bytes: &[u8], limits: &HttpLimits, now: Moment) -> Result<Option<Request>, Close> {
        match &self.state {
            //= RFC 9112 section 9.6: "The server MUST NOT process any further requests received on that connection."
            State::Ended(close) => return Err(*close),
            State::Refused(refused) => return Err(refused.close),
            _ => {}
        }
        //= RFC 9112 section 9.3.2: "it MUST send the corresponding responses in the same order that the requests were
        //=   received."
        if matches!(self.state, State::Unanswered) {
            self.retain(bytes, limits)?;
            return Ok(None);
        }
        if self.retained.is_empty() {
            let (used, request) = self.advance(bytes, limits, now)?;
            self.retain(&bytes[used..], limits)?;
            return Ok(request);
        }
        let mut retained = std::mem::take(&mut self.retained);
        retained.append(bytes);
        let (used, request) = self.advance(retained.pending(), limits, now)?;
        retained.advance(used);
        self.retained = retained;
        Ok(request)
    }

    fn retain(&mut self, bytes: &[u8], limits: &HttpLimits) -> Result<(), Close> {
        if limits.head_bytes_max.saturating_add(limits.body_bytes_max) < self.retained.len() + bytes.len() {
            return Err(Close::RateLimited);
        }
        if !bytes.is_empty() {
            self.retained.append(bytes);
        }
        Ok(())
    }

    /// Uses the front of `input`: how many bytes, and the request they completed.
    fn advance(&mut self, input: &[u8], limits: &HttpLimits, now: Moment) -> Result<(usize, Option<Request>), Close> {
        if let State::Body(incoming) = &mut self.state {
            let (used, complete) = incoming.receive(input, now)?;
            return Ok((used, if complete { self.yield_request() } else { None }));
        }
        //= RFC 9110 section 5.3: "A server MUST NOT apply a request to the target resource until it receives the entire
        //=   request header section"
        let Some(head_end) = self.find_head(input, limits, now)? else {
            return Ok((0, None));
        };
        let head = head::parse(&input[..head_end], limits)?;
        self.answer = ResponseForm::to(&head.request);
        if head.framing == Framing::Sized(0) {
            self.state = State::Unanswered;
            return Ok((head_end, Some(head.request)));
        }
        let (used, complete) = self.begin_body(head, &input[head_end..], limits, now)?;
        Ok((head_end + used, if complete { self.yield_request() } else { None }))
    }

    fn find_head(&mut self, input: &[u8], limits: &HttpLimits, now: Moment) -> Result<Option<usize>, Close> {
        let scanned = self.enter_head(input, now);
        let head_end = head::find_end(input, scanned, limits.head_bytes_max)?;
        if let (None, State::Head { scanned }) = (head_end, &mut self.state) {
            *scanned = input.len();
        }
        Ok(head_end)
    }

    /// Starts the clock that runs from now on, and says how much of `input` was looked at before.
    fn enter_head(&mut self, input: &[u8], now: Moment) -> usize {
        match self.state {
            State::Head { scanned } => return scanned,
            State::Fresh if input.is_empty() => {}
            // The first head's time began with the connection.
            State::Fresh => self.state = State::Head { scanned: 0 },
            State::Answered | State::Idle if !input.is_empty() => {
                (self.state, self.since) = (State::Head { scanned: 0 }, now);
                // What is said of the last request does not hold for this one, should it be refused.
                self.answer = ResponseForm::default();
            }
            State::Answered => (self.state, self.since) = (State::Idle, now),
            State::Idle | State::Body(_) | State::Unanswered | State::Refused(_) | State::Ended(_) => {}
        }
        0
    }

    fn begin_body(
        &mut self,
        head: Head,
        input: &[u8],
        limits: &HttpLimits,
        now: Moment,
    ) -> Result<(usize, bool), Close> {
        let Head { request, framing, awaits_continue } = head;
        let decoder = BodyDecoder::new(framing, limits.head_bytes_max);
        let bytes_max = limits.body_bytes_max;
        let mut incoming =
            Box::new(Incoming { request, decoder, progress: now, bytes_max, awaits_continue, is_announced: false });
        let progress = incoming.receive(input, now);
        (self.state, self.since) = (State::Body(incoming), now);
        progress
    }

    fn yield_request(&mut self) -> Option<Request> {
        match std::mem::replace(&mut self.state, State::Unanswered) {
            State::Body(incoming) => Some(incoming.request),
            _ => None,
        }
    }
}

impl Incoming {
    /// Moves the body's bytes from `input` into the request: how many bytes were used, and whether the body is complete.
    fn receive(&mut self, input: &[u8], now: Moment) -> Result<(usize, bool), Close> {
        let mut rest = input;
        let complete = loop {
            let piece = self.decoder.next(&mut rest)?;
            if let BodyPart::Data(data) = piece {
                self.make_room(data.len());
                self.request.body.extend_from_slice(data);
            }
            self.check_length()?;
            match piece {
                BodyPart::Data(_) => {}
                BodyPart::End => break true,
                BodyPart::Starved => break false,
            }
        };
        if !input.is_empty() {
            self.progress = now;
        }
        Ok((input.len() - rest.len(), complete))
    }

    /// Makes room for `count` more bytes and for as many as there are already, but for no more than are announced: what is held
    /// of the body is what its sender pays for. The first bytes take no more room than they need anyway.
    fn make_room(&mut self, count: usize) {
        let body = &mut self.request.body;
        if let BodyDecoder::Sized(remaining) = self.decoder
            && !body.is_empty()
            && body.capacity() - body.len() < count
        {
            let most = count.saturating_add(usize::try_from(remaining).unwrap_or(usize::MAX));
            body.reserve_exact(count.max(body.len()).min(most));
        }
    }

    fn check_length(&self) -> Result<(), Close> {
        let known = (self.request.body.len() as u64).saturating_add(self.decoder.announced_bytes());
        if (self.bytes_max as u64) < known { Err(Close::BodyTooLarge) } else { Ok(()) }
    }

    fn announced_bytes(&self) -> Option<u64> {
        match self.decoder {
            BodyDecoder::Sized(remaining) => Some(self.request.body.len() as u64 + remaining),
            BodyDecoder::Chunked(_) | BodyDecoder::UntilClose => None,
        }
    }
}

impl ResponseForm {
    fn to(request: &Request) -> Self {
        Self { version: request.version, head_only: request.method == Method::Head, keep_alive: request.keep_alive }
    }
}
