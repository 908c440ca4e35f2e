//! Conformance.
mod application;
#[test]
fn starts() {
    let server = application::Server::start("127.0.0.1:0".parse().expect("an address")).expect("a port");
    assert!(server.address().port() != 0);
}
