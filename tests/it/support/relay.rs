//! A relay between client and hub that can be cut.

use std::{
    io::{self, Read, Write},
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
    /// Everything that was sent to clients.
    passed: Vec<u8>,
}

impl Relay {
    /// To `target`, a `host:port`.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let relay = Self { address: listener.local_addr().expect("it is bound"), line: Arc::default() };
        let (line, target) = (Arc::clone(&relay.line), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be forwarded is dropped, as when the network is down.
                let _ = pass_on(client, &target, &line);
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and from now on new ones as well.
    pub(crate) fn cut(&self) {
        let mut line = self.line.lock().expect("nobody panics with it");
        line.is_cut = true;
        for socket in line.sockets.drain(..) {
            // The peer may have ended it already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// How often `text` has been forwarded to clients.
    pub(crate) fn passed_count(&self, text: &str) -> usize {
        let line = self.line.lock().expect("nobody panics with it");
        String::from_utf8_lossy(&line.passed).matches(text).count()
    }

    /// Lets new connections through again.
    pub(crate) fn restore(&self) {
        self.line.lock().expect("nobody panics with it").is_cut = false;
    }
}

fn pass_on(client: TcpStream, target: &str, shared: &Arc<Mutex<Line>>) -> io::Result<()> {
    let mut line = shared.lock().expect("nobody panics with it");
    if line.is_cut {
        return Ok(());
    }
    let server = TcpStream::connect(target)?;
    line.sockets.extend([client.try_clone()?, server.try_clone()?]);
    let (from_client, to_server, shared) = (client.try_clone()?, server.try_clone()?, Arc::clone(shared));
    thread::spawn(move || copy(from_client, to_server, |_| {}));
    thread::spawn(move || {
        copy(server, client, |bytes| shared.lock().expect("nobody panics with it").passed.extend_from_slice(bytes));
    });
    Ok(())
}

/// Calls `passed` with the bytes that were forwarded.
fn copy(mut from: TcpStream, mut to: TcpStream, passed: impl Fn(&[u8])) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => passed(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    // However one side ends, the other one is closed.
    let _ = to.shutdown(Shutdown::Write);
}
