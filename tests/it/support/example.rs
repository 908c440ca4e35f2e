//! The command-line clients of `scripts/examples`.

use std::process::Command;

use super::{
    conversation::Conversation,
    guarded::PASSWORD,
    packages::{node_examples, python},
};

/// A client, and the flags that choose its transport.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    Python(&'static [&'static str]),
    Node(&'static [&'static str]),
}

/// The environment with which a client trusts a self-signed certificate.
const CERTIFICATE_VARIABLES: [&str; 3] = ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "WEBSOCKET_CLIENT_CA_BUNDLE"];

impl Client {
    /// Starts the client, with further flags, and with a certificate to trust besides those of the system.
    pub(crate) fn start(self, server: &str, arguments: &[&str], certificate: Option<&str>) -> Conversation {
        let (mut command, file, flags) = match self {
            Self::Python(flags) => (Command::new(python()), "client.py", flags),
            Self::Node(flags) => (Command::new("node"), "client.mjs", flags),
        };
        command.current_dir(node_examples()).args([file, "--server", server]).args(flags).args(arguments);
        trust(&mut command, certificate);
        Conversation::run(command.env("FANFARE_PASSWORD", PASSWORD), "nodejs")
    }
}

/// Runs a script in Node that may import the packages of the examples.
pub(crate) fn run_in_node(script: &str, certificate: Option<&str>) -> Conversation {
    let mut command = Command::new("node");
    command.current_dir(node_examples()).args(["--input-type=module", "--eval", script]);
    trust(&mut command, certificate);
    Conversation::run(&mut command, "nodejs")
}

fn trust(command: &mut Command, certificate: Option<&str>) {
    for variable in CERTIFICATE_VARIABLES {
        command.envs(certificate.map(|certificate| (variable, certificate)));
    }
}
