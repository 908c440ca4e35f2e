//! A NATS server to publish at: its address, and the login.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use socket2::Socket;

use super::target::Target;
use crate::protocol::{
    http::percent_decode,
    nats::{self, ConnectOptions, NatsLogin, Operation, ServerInfo},
};

/// Timeout of each answer of the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The default port of NATS.
const PORT: u16 = 4222;

/// The size of the read buffer.
const READ_BUFFER_BYTES: usize = 4096;

/// The connection's name in the server's lists.
const NAME: &str = "fanfare bench";

/// The address, and the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broker {
    pub target: Target,
    login: Option<NatsLogin>,
    /// Headers of each event: `HPUB` if there are any.
    pub headers: Vec<(String, String)>,
}

impl Broker {
    /// Parses `nats://[user:password@|token@]host[:port]`.
    pub(super) fn parse(url: &str, headers: &[(String, String)]) -> Result<Self, String> {
        let rest = url.strip_prefix("nats://").unwrap_or(url);
        let (login, address) = rest.rsplit_once('@').map_or((None, rest), |(login, address)| (Some(login), address));
        // Without the login, which errors must not show.
        let target = Target::parse(&format!("nats://{address}"), "nats://", PORT)?;
        let decode =
            |text| percent_decode(text).ok_or_else(|| format!("nats://…@{address}: the login is badly encoded"));
        let login = match login.map(|login| login.split_once(':').ok_or(login)) {
            Some(Ok((user, password))) => Some(NatsLogin::User { user: decode(user)?, password: decode(password)? }),
            Some(Err(token)) => Some(NatsLogin::Token(decode(token)?)),
            None => None,
        };
        Ok(Self { target, login, headers: headers.to_vec() })
    }

    /// Logs in, and waits for the server's confirmation; returns the bytes that came after it. Fails if the server does not
    /// accept payloads of `payload_bytes`.
    pub(super) fn log_in(&self, socket: &mut Socket, payload_bytes: usize) -> io::Result<Vec<u8>> {
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let (mut held, mut buffer) = (Vec::new(), [0; READ_BUFFER_BYTES]);
        loop {
            let count = socket.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::other("the server closed the connection before it let the publisher in"));
            }
            held.extend_from_slice(&buffer[..count]);
            let mut reply = Vec::new();
            while let Some((operation, length)) =
                nats::parse(&held, &nats::NatsLimits::default()).map_err(io::Error::other)?
            {
                let is_in = operation == Operation::Pong;
                self.answer(operation, payload_bytes, &mut reply).map_err(io::Error::other)?;
                held.drain(..length);
                if is_in {
                    return Ok(held);
                }
            }
            socket.write_all(&reply)?;
        }
    }

    fn answer(&self, operation: Operation<'_>, payload_bytes: usize, reply: &mut Vec<u8>) -> Result<(), String> {
        match operation {
            Operation::Info(json) => {
                self.check(&ServerInfo::parse(json).map_err(|bad| bad.to_string())?, payload_bytes)?;
                let connect = ConnectOptions { name: NAME, login: self.login.as_ref(), ..ConnectOptions::default() };
                nats::write_connect(&connect, reply);
                reply.extend_from_slice(nats::PING);
            }
            Operation::Ping => reply.extend_from_slice(nats::PONG),
            Operation::Error(reason) => return Err(format!("the server refuses the publisher: {reason}")),
            Operation::Ok | Operation::Pong | Operation::Message(_) => {}
        }
        Ok(())
    }

    fn check(&self, info: &ServerInfo, payload_bytes: usize) -> Result<(), String> {
        if info.tls_required {
            return Err("the server wants TLS, which the bench does not speak: publish at a listener without it".into());
        }
        if 0 < info.max_payload && info.max_payload < payload_bytes as u64 {
            return Err(format!("--size: the server takes {} bytes at most (its max_payload)", info.max_payload));
        }
        if !info.headers && !self.headers.is_empty() {
            return Err("--publish-header: the server takes no headers".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, expected: Option<(&str, Option<NatsLogin>)>| {
            let parsed = Broker::parse(url, &[]).ok().map(|broker| (broker.target.address.to_string(), broker.login));
            assert_eq!(parsed, expected.map(|(address, login)| (address.to_owned(), login)), "{url}");
        };
        let user = |user: &str, password: &str| Some(NatsLogin::User { user: user.into(), password: password.into() });
        check("nats://127.0.0.1", Some(("127.0.0.1:4222", None)));
        check("nats://ada:p%40ss@127.0.0.1:5000/", Some(("127.0.0.1:5000", user("ada", "p@ss"))));
        check("nats://s3cret@127.0.0.1", Some(("127.0.0.1:4222", Some(NatsLogin::Token("s3cret".into())))));
        check("nats://ada:%zz@127.0.0.1", None);
        check("nats://", None);
        check("nats://127.0.0.1/x", None);
        let problem = Broker::parse("nats://ada:s3cret@127.0.0.1/x", &[]).expect_err("a path");
        assert!(!problem.contains("s3cret"), "{problem}");
    }
}
