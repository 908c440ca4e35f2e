//! The listeners: every address of the configuration, bound for each reactor.

use std::{io, path::PathBuf};

use tracing::warn;

use super::inherited::InheritedSockets;
use crate::{
    config::{Address, Config, SocketAccess, refuse_open},
    os,
    reactor::{Listener, SocketFile, bind_tcp, bind_unix},
};

/// The listeners of one reactor: the public ones first, the admin ones from `admin_from` on.
pub(super) struct ReactorListeners {
    pub(super) listeners: Vec<Listener>,
    pub(super) admin_from: usize,
}

/// Everything that the hub listens at.
pub(super) struct Bound {
    pub(super) listeners: Vec<ReactorListeners>,
    /// In the order of the configuration, the admin ones last.
    pub(super) urls: Vec<String>,
    /// Socket files to remove at the end.
    pub(super) socket_files: Vec<PathBuf>,
}

/// Binds every address of the configuration. The error says which address cannot be bound, and why.
pub(super) fn bind_all(config: &Config) -> Result<Bound, String> {
    let reactors = config.server.reactors;
    let mut bound = Bound { listeners: Vec::new(), urls: Vec::new(), socket_files: Vec::new() };
    bound.listeners.resize_with(reactors, || ReactorListeners { listeners: Vec::new(), admin_from: usize::MAX });
    let mut inherited = InheritedSockets::from_environment()?;
    let file = socket_file("server", &config.server.socket)?;
    for address in &config.server.listen {
        listen_at(address, file, config, &mut inherited, &mut bound)?;
    }
    for listeners in &mut bound.listeners {
        listeners.admin_from = listeners.listeners.len();
    }
    let file = socket_file("admin", &config.admin.socket)?;
    for address in &config.admin.listen {
        listen_at(address, file, config, &mut inherited, &mut bound)?;
    }
    for name in inherited.left() {
        warn!("nobody answers at the sockets `{name}` of systemd: add systemd:{name} to server.listen or admin.listen");
    }
    Ok(bound)
}

fn listen_at(
    address: &Address,
    file: SocketFile,
    config: &Config,
    inherited: &mut InheritedSockets,
    bound: &mut Bound,
) -> Result<(), String> {
    match address {
        Address::Tcp(socket_address) => {
            let (chosen, listeners) =
                bind_tcp(*socket_address, bound.listeners.len()).map_err(|error| explain(address, &error))?;
            bound.urls.push(format!("http://{chosen}"));
            for (reactor, listener) in bound.listeners.iter_mut().zip(listeners) {
                reactor.listeners.push(listener);
            }
        }
        Address::Unix(path) => {
            let listener = bind_unix(path, file).map_err(|error| explain(address, &error))?;
            bound.urls.push(format!("unix:{}", path.display()));
            bound.socket_files.push(path.clone());
            // One reactor accepts for all, and passes each connection to the reactor with the fewest.
            bound.listeners[0].listeners.push(listener);
        }
        Address::Inherited(name) => {
            let is_open = !config.server.insecure && !config.auth.is_required();
            inherit(name, is_open, inherited, bound)?;
        }
    }
    Ok(())
}

/// Sockets of one name are spread over the reactors, each of which passes connections to the reactor with the fewest. `is_open`:
/// nobody has to sign in.
fn inherit(name: &str, is_open: bool, inherited: &mut InheritedSockets, bound: &mut Bound) -> Result<(), String> {
    for (index, socket) in inherited.take(name)?.into_iter().enumerate() {
        let address = socket.address.map(Address::Tcp);
        if let Some(address) = address.as_ref().filter(|address| is_open && !address.is_local()) {
            return Err(format!("systemd:{name}: {}", refuse_open(address)));
        }
        bound.urls.push(match &socket.address {
            Some(address) => format!("http://{address}"),
            None => format!("systemd:{name}"),
        });
        let reactor = index % bound.listeners.len();
        bound.listeners[reactor].listeners.push(socket.listener);
    }
    Ok(())
}

/// Looks up the owner that the configuration gives to the unix sockets of a section.
fn socket_file(section: &str, access: &SocketAccess) -> Result<SocketFile, String> {
    type LookUp = fn(&str) -> io::Result<Option<u32>>;
    let number = |name: &str, kind: &str, look_up: LookUp| {
        if name.is_empty() {
            return Ok(None);
        }
        let found = name.parse().map_or_else(|_| look_up(name), |number| Ok(Some(number)));
        let key = if kind == "user" { "owner" } else { kind };
        match found {
            Ok(Some(number)) => Ok(Some(number)),
            Ok(None) => Err(format!("{section}.socket_{key}: this machine has no {kind} called `{name}`")),
            Err(error) => Err(format!("{section}.socket_{key}: the {kind} `{name}` cannot be looked up: {error}")),
        }
    };
    let (owner, group) = (number(&access.owner, "user", os::user_id)?, number(&access.group, "group", os::group_id)?);
    Ok(SocketFile { owner, group, mode: access.mode.0 })
}

/// Why the hub cannot bind `address`.
fn explain(address: &Address, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use: stop what listens there, or name another with --listen")
        }
        io::ErrorKind::PermissionDenied if matches!(address, Address::Tcp(_)) => {
            format!("{address}: permission denied; ports below 1024 need a privilege")
        }
        io::ErrorKind::PermissionDenied => format!(
            "{address}: permission denied; the folder must be writable, and only root gives a socket to another user or \
             foreign group"
        ),
        _ => format!("cannot listen at {address}: {error}"),
    }
}
