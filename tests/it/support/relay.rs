//! A relay between client and hub that can be cut.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Passes connections on to an address, unless it is cut. Its threads end with the connections, the accepting one with
/// the process.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    is_cut: bool,
    sockets: Vec<TcpStream>,
}

impl Relay {
    /// To `target`, a `host:port`.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let relay = Self { address: listener.local_addr().expect("it is bound"), line: Arc::default() };
        let (line, target) = (Arc::clone(&relay.line), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be passed on is dropped, as by a network that is down.
                let _ = pass_on(client, &target, &line);
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and new ones as soon as they come.
    pub(crate) fn cut(&self) {
        let mut line = self.line.lock().expect("nobody panics with it");
        line.is_cut = true;
        for socket in line.sockets.drain(..) {
            // The peer may have ended it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Lets new connections through again.
    pub(crate) fn mend(&self) {
        self.line.lock().expect("nobody panics with it").is_cut = false;
    }
}

fn pass_on(client: TcpStream, target: &str, line: &Mutex<Line>) -> io::Result<()> {
    let mut line = line.lock().expect("nobody panics with it");
    if line.is_cut {
        return Ok(());
    }
    let server = TcpStream::connect(target)?;
    line.sockets.extend([client.try_clone()?, server.try_clone()?]);
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        thread::spawn(move || copy(from, to));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // However it ends, the other side is closed.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
