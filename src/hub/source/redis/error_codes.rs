//! What the server's refusals mean, by the codes that its errors begin with.

/// Whether an error says that the login is not good.
pub(super) fn is_refusal(text: &str) -> bool {
    ["WRONGPASS", "NOAUTH"].iter().any(|code| text.starts_with(code))
}

/// Whether an error says that this command will never do here: access rules forbid it, or the server does not know it.
/// Anything else (`LOADING`, `BUSY`, `MASTERDOWN` …) passes.
pub(super) fn is_denial(error: &str) -> bool {
    error.starts_with("NOPERM") || error.starts_with("ERR")
}

/// Whether access rules forbid a command as such, whatever channel or key it is about. Redis says so in a sentence only.
pub(super) fn is_of_command(error: &str) -> bool {
    error.contains("NOPERM") && error.contains("to run the '")
}

/// Whether a refusal of `HELLO` is about us rather than about RESP3, so that RESP2 would fare no better.
pub(super) fn is_final(error: &str) -> bool {
    ["WRONGPASS", "DENIED", "ERR max number of clients"].iter().any(|prefix| error.starts_with(prefix))
}

/// Whether the answer to a `PING` shows that commands are served; an access rule against the `PING` itself shows it too.
pub(super) fn is_served(error: Option<&str>) -> bool {
    error.is_none_or(|error| error.starts_with("NOPERM"))
}

/// Whether a refusal says that the server is no longer the one to talk to: it has become a replica.
pub(super) fn is_outdated(code: &str) -> bool {
    ["READONLY", "MASTERDOWN"].contains(&code)
}
