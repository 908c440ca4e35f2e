//! A server of pages: it serves files, and passes all other requests on to a hub.

use std::{
    fs, io,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

/// Serves the files of a folder on this machine. Its threads end with the connections, the accepting one with the process.
#[derive(Debug)]
pub(crate) struct PageServer {
    address: SocketAddr,
}

impl PageServer {
    /// Requests other than for files go to `hub`, a `host:port`, unchanged. So the page and the hub have one origin.
    pub(crate) fn start(folder: &Path, hub: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (folder, hub) = (folder.to_owned(), hub.map(str::to_owned));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (folder, hub) = (folder.clone(), hub.clone());
                thread::spawn(move || serve(client, &folder, hub.as_deref()));
            }
        });
        Self { address }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Serves one file for each connection, or forwards the connection to the hub.
fn serve(mut client: TcpStream, folder: &Path, hub: Option<&str>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    if let Some(path) = file_of(&head, folder) {
        let kind = if path.extension().is_some_and(|end| end == "js") { "text/javascript" } else { "text/html" };
        let bytes = fs::read(path)?;
        let fields = format!("Content-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n", bytes.len());
        client.write_all(format!("HTTP/1.1 200 OK\r\n{fields}Connection: close\r\n\r\n").as_bytes())?;
        return client.write_all(&bytes);
    }
    let Some(hub) = hub else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let mut there = TcpStream::connect(hub)?;
    there.write_all(&head)?;
    let (mut from_client, mut to_hub) = (client.try_clone()?, there.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_hub);
        let _ = to_hub.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut there, &mut client);
    client.shutdown(Shutdown::Both)
}

/// The file that a request is for, if there is one.
fn file_of(head: &[u8], folder: &Path) -> Option<PathBuf> {
    let target = std::str::from_utf8(head).ok()?.split(' ').nth(1)?;
    let path = folder.join(target.split('?').next()?.trim_start_matches('/'));
    path.is_file().then_some(path)
}
