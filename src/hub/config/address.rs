//! Values of keys: addresses, cores and file modes.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

/// An address to listen on: `host:port`, `unix:/path` or `systemd:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// Sockets that systemd has opened, by the name that their socket unit gives them (`FileDescriptorName=`).
    Inherited(String),
}

impl Address {
    /// A TCP port that only this machine reaches.
    pub fn loopback(port: u16) -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Whether only this machine reaches it. Of inherited sockets nobody knows before the hub has them: see
    /// [`refuse_open`].
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) | Self::Inherited(_) => true,
        }
    }
}

/// Why the hub does not listen at `address`, which is not local, without authentication.
pub(crate) fn refuse_open(address: &Address) -> String {
    format!(
        "other machines can reach {address}, and there is no authentication: anybody could read and publish. \
         Have clients sign in (auth.mode = \"jwt\"), listen at 127.0.0.1 behind a proxy, or allow it with --insecure \
         (server.insecure = true)"
    )
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_path(path);
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return parse_name(name);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("`{text}` lacks a port: write `host:port` or `unix:/path`"));
        };
        if host.is_empty() {
            return Err(format!("`{text}` lacks a host: 127.0.0.1:{port} for this machine, 0.0.0.0:{port} for all"));
        }
        resolve(host, port)
    }
}

fn parse_path(path: &str) -> Result<Address, String> {
    if path.starts_with('/') {
        Ok(Address::Unix(path.into()))
    } else {
        Err(format!("`unix:{path}` needs an absolute path, such as unix:/run/fanfare.sock"))
    }
}

/// systemd separates names by colons, so that none contains one.
fn parse_name(name: &str) -> Result<Address, String> {
    if name.is_empty() || name.contains(':') {
        return Err(format!("`systemd:{name}` needs the name of a socket unit, such as systemd:fanfare.socket"));
    }
    Ok(Address::Inherited(name.to_owned()))
}

/// Looks the host up once: a listening socket cannot follow a name that moves.
fn resolve(host: &str, port: &str) -> Result<Address, String> {
    let port: u16 = port.parse().map_err(|_| format!("`{port}` is not a port: 0 to 65535"))?;
    let mut found = (host, port).to_socket_addrs().map_err(|error| format!("host `{host}`: {error}"))?;
    found.next().map(Address::Tcp).ok_or_else(|| format!("host `{host}` has no address"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// Which cores the reactors are pinned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// None: the kernel places them.
    #[default]
    Off,
    /// One core each, chosen by the hub.
    Automatic,
    /// These cores, in this order, by the kernel's numbers. At least one, and none twice.
    Cores(Vec<usize>),
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self::Off),
            "true" => Ok(Self::Automatic),
            list => parse_cores(list).map(Self::Cores),
        }
    }
}

/// The highest core. It bounds the memory for a range such as `0-4000000000`.
const CORE_MAX: usize = 4095;

fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for core in parse_core(first, list)?..=parse_core(last, list)? {
            if cores.contains(&core) {
                return Err(format!("core {core} stands twice in `{list}`"));
            }
            cores.push(core);
        }
    }
    if cores.is_empty() { Err(bad_cores(list)) } else { Ok(cores) }
}

fn parse_core(text: &str, list: &str) -> Result<usize, String> {
    text.trim().parse().ok().filter(|core| *core <= CORE_MAX).ok_or_else(|| bad_cores(list))
}

fn bad_cores(list: &str) -> String {
    format!("`{list}` is not a list of cores: write true, false, or cores such as \"0,2-4\"")
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("false"),
            Self::Automatic => f.write_str("true"),
            Self::Cores(cores) => {
                let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
                f.write_str(&cores.join(","))
            }
        }
    }
}

/// The permissions of a file, such as `0660`. Empty: as the umask leaves them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMode(pub Option<u32>);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) => Ok(Self(Some(mode))),
            _ => Err(format!("`{text}` is no file mode: write three octal digits behind a zero, such as \"0660\"")),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |mode| write!(f, "{mode:04o}"))
    }
}
