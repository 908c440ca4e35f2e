//! Sockets that systemd has opened and hands over (`sd_listen_fds(3)`): connections wait in them while the hub restarts.

use std::net::SocketAddr;

use listenfd::ListenFd;

use crate::reactor::{Listener, adopt_tcp, adopt_unix};

/// The sockets that nobody has asked for yet.
pub(super) struct InheritedSockets {
    descriptors: ListenFd,
    /// The name of each, in the same order. `None`: it is taken.
    names: Vec<Option<String>>,
}

/// A socket that was handed over.
#[derive(Debug)]
pub(super) struct InheritedSocket {
    pub(super) listener: Listener,
    /// Where it listens. `None`: at a unix socket.
    pub(super) address: Option<SocketAddr>,
}

impl InheritedSockets {
    /// What the environment says was handed over: mostly nothing.
    pub(super) fn from_environment() -> Result<Self, String> {
        let names = sd_notify::listen_fds_with_names()
            .map_err(|error| format!("the sockets that systemd hands over cannot be told apart: {error}"))?;
        let names = names.map(|(_, name)| Some(name)).collect();
        Ok(Self { descriptors: ListenFd::from_env(), names })
    }

    /// Takes all sockets of that name. Fails if there is none, or if one is no stream socket.
    pub(super) fn take(&mut self, name: &str) -> Result<Vec<InheritedSocket>, String> {
        let named = |index: &usize| self.names[*index].as_deref() == Some(name);
        let found: Vec<usize> = (0..self.names.len()).filter(named).collect();
        if found.is_empty() {
            return Err(self.explain_missing(name));
        }
        found.into_iter().map(|index| self.take_one(index, name)).collect()
    }

    fn take_one(&mut self, index: usize, name: &str) -> Result<InheritedSocket, String> {
        let explain = |error| format!("systemd:{name}: {error}");
        self.names[index] = None;
        if let Ok(Some(socket)) = self.descriptors.take_tcp_listener(index) {
            let address = socket.local_addr().map_err(explain)?;
            return Ok(InheritedSocket { listener: adopt_tcp(socket).map_err(explain)?, address: Some(address) });
        }
        match self.descriptors.take_unix_listener(index) {
            Ok(Some(socket)) => Ok(InheritedSocket { listener: adopt_unix(socket).map_err(explain)?, address: None }),
            _ => Err(format!("systemd:{name} is no stream socket: its unit needs ListenStream=, and Accept=no")),
        }
    }

    /// The names of the sockets that nobody has asked for: whoever connects to them waits for an answer that does not come.
    pub(super) fn left(&self) -> Vec<&str> {
        self.names.iter().flatten().map(String::as_str).collect()
    }

    fn explain_missing(&self, name: &str) -> String {
        let left = self.left();
        if left.is_empty() {
            format!(
                "systemd:{name}: no sockets were handed over; start the socket unit, whose FileDescriptorName= is its name"
            )
        } else {
            format!("systemd:{name}: no such socket was handed over; there are {}", left.join(", "))
        }
    }
}
