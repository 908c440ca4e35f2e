//! The keys of the sections `auth`, `users`, `api_keys`: authentication.

use std::time::Duration;

use super::{Key, MILLISECOND, SECOND};
use crate::config::{field::Field, raw::RawConfig};

#[rustfmt::skip] // A table, to be read as one.
pub(super) const KEYS: &[Key<RawConfig>] = &[
    Key { path: "auth.mode",
          help: "none: no authentication, every client may do everything. jwt: clients show a token or an API key.",
          field: |it| Field::Scalar(&mut it.auth.mode) },
    Key { path: "auth.algorithms",
          help: "Algorithms that tokens may be signed with: HS256, HS384, HS512, RS256, ES256, EdDSA. The hub signs its \
                 own tokens with the first one that it has a key for.",
          field: |it| Field::ScalarList(&mut it.auth.algorithms) },
    Key { path: "auth.secret",
          help: "Shared secret for HS256, HS384 and HS512: at least 32, 48 or 64 bytes.",
          field: |it| Field::Scalar(&mut it.auth_files.secret) },
    Key { path: "auth.secret_file",
          help: "File that holds the shared secret instead of auth.secret: a text, without the white space around it, \
                 or raw bytes, all of which count.",
          field: |it| Field::Scalar(&mut it.auth_files.secret_file) },
    Key { path: "auth.public_key_file",
          help: "Public key that verifies tokens signed with RS256, ES256 or EdDSA, in PEM.",
          field: |it| Field::Scalar(&mut it.auth_files.public_key_file) },
    Key { path: "auth.private_key_file",
          help: "Private key for `public_key_file`, in PEM. Needed only where the hub makes tokens itself.",
          field: |it| Field::Scalar(&mut it.auth_files.private_key_file) },
    Key { path: "auth.jwks_file",
          help: "JSON Web Key Set with several public keys that verify tokens.",
          field: |it| Field::Scalar(&mut it.auth_files.jwks_file) },
    Key { path: "auth.jwks_url",
          help: "URL of the identity provider's JSON Web Key Set, https:// or, on this machine, http://. A thread of its own fetches \
                 it; while it cannot, the last good set stays. Needs auth.issuer. HTTPS_PROXY and NO_PROXY apply.",
          field: |it| Field::Scalar(&mut it.auth.key_set.url) },
    Key { path: "auth.discovery",
          help: "Find the key set by the metadata of auth.issuer (/.well-known/openid-configuration) instead of auth.jwks_url.",
          field: |it| Field::Flag(&mut it.auth.key_set.discovery) },
    Key { path: "auth.jwks_ca_file",
          help: "Certificate authorities to trust at auth.jwks_url in place of the system's, in PEM.",
          field: |it| Field::Scalar(&mut it.auth.key_set.ca_file) },
    Key { path: "auth.jwks_refresh",
          help: "How long a key set that was fetched is used before it is fetched again; a shorter Cache-Control: max-age of the \
                 server counts. A key that the provider takes away counts until then.",
          field: |it| Field::Duration { value: &mut it.auth.key_set.refresh, min: SECOND } },
    Key { path: "auth.jwks_interval_min",
          help: "Time from one fetch of the key set to the next, at least: after a failure, and when a token names a key that is in \
                 no set yet. Clients with such a token are told to come back (503).",
          field: |it| Field::Duration { value: &mut it.auth.key_set.interval_min, min: MILLISECOND } },
    Key { path: "auth.jwks_timeout",
          help: "How long fetching a key set may take, from the look-up of the name to the last byte.",
          field: |it| Field::Duration { value: &mut it.auth.key_set.timeout, min: MILLISECOND } },
    Key { path: "auth.jwks_bytes_max",
          help: "Size of a key set that is fetched, and of the issuer's metadata. Larger ones are not used.",
          field: |it| Field::Size { value: &mut it.auth.key_set.bytes_max, min: 256 } },
    Key { path: "auth.jwks_unknown_max",
          help: "Ids of keys in no set that the hub remembers having looked for, for auth.jwks_refresh. Tokens with further ones are \
                 invalid (401) until then.",
          field: |it| Field::Count { value: &mut it.auth.key_set.unknown_max, min: 1 } },
    Key { path: "auth.issuer",
          help: "Required issuer of tokens (`iss`). Empty: any.",
          field: |it| Field::Scalar(&mut it.auth.issuer) },
    Key { path: "auth.audience",
          help: "Required audience of tokens (`aud`). Empty: any.",
          field: |it| Field::Scalar(&mut it.auth.audience) },
    Key { path: "auth.leeway",
          help: "Clock difference between the hub and the makers of tokens that is tolerated when a token's times are \
                 checked.",
          field: |it| Field::Duration { value: &mut it.auth.leeway, min: Duration::ZERO } },
    Key { path: "auth.rule",
          help: "Rights by claims that identity providers put into their tokens. All rules that hold count together, and the claims \
                 subscribe, publish and role of the token itself besides.",
          field: |it| Field::ClaimRules(&mut it.auth.rules) },
    Key { path: "auth.rule_patterns_max",
          help: "Patterns that [[auth.rule]] tables may give one token, where a claim with many values stands in a pattern. A token \
                 that would get more is refused (401).",
          field: |it| Field::Count { value: &mut it.auth.rule_patterns_max, min: 1 } },
    Key { path: "auth.deny_file",
          help: "TOML file that lists valid tokens and subjects to refuse: jti = [\"…\"] names tokens, sub = [\"…\"] \
                 subjects of tokens, users and API keys. It is read again at SIGHUP, and open streams of those it names \
                 end within a second. It may be empty. The hub's own tokens have a jti.",
          field: |it| Field::Scalar(&mut it.auth_files.deny_file) },
    Key { path: "auth.token_bytes_max",
          help: "Size of a token. Longer ones are refused (401).",
          field: |it| Field::Size { value: &mut it.auth.token_bytes_max, min: 64 } },
    Key { path: "auth.cache_bytes",
          help: "Memory for tokens that were verified lately and need not be verified again. 0: each request's token is \
                 verified.",
          field: |it| Field::Size { value: &mut it.auth.cache_bytes, min: 0 } },
    Key { path: "auth.token_ttl",
          help: "How long a token that the hub makes is valid.",
          field: |it| Field::Duration { value: &mut it.auth.token_ttl, min: SECOND } },
    Key { path: "auth.session_age_max",
          help: "How long after signing in a user's token may be replaced by a fresh one. Then the user has to sign in \
                 again.",
          field: |it| Field::Duration { value: &mut it.auth.session_age_max, min: SECOND } },
    Key { path: "auth.token_failures_max",
          help: "Tokens with a wrong signature per second from one address (IPv6: one /64 network). Further tokens are \
                 refused without being verified (429), except those that were verified lately. Loopback addresses and \
                 trusted proxies do not count. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.token_failures_max, min: 0 } },
    Key { path: "auth.token_failures_per_connection_max",
          help: "Invalid tokens per second on one connection, whatever its address. The last one is answered with 429 \
                 and ends the connection. This bounds clients that auth.token_failures_max does not: those on this \
                 machine, and those behind a proxy that does not name them. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.token_failures_per_connection_max, min: 0 } },
    Key { path: "auth.refreshes_max",
          help: "Fresh tokens per second for one user, at POST /api/v1/auth/refresh. Further requests are refused \
                 (429). 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.refreshes_max, min: 0 } },
    Key { path: "auth.sign_in_timeout",
          help: "How long a fanfare.v1 WebSocket that was opened without a token may take to send one before it is \
                 closed (close code 4401).",
          field: |it| Field::Duration { value: &mut it.auth.sign_in_timeout, min: MILLISECOND } },
    Key { path: "auth.login_failures_max",
          help: "Failed sign-ins of one user from one address within auth.login_failure_window. Further ones are \
                 refused (429).",
          field: |it| Field::Count { value: &mut it.auth.login_failures_max, min: 1 } },
    Key { path: "auth.login_failures_per_address_max",
          help: "Failed sign-ins from one address (IPv6: one /64 network) with any user names within \
                 auth.login_failure_window. Further ones from there are refused (429), except those of users who signed \
                 in from the address before. Loopback addresses and trusted proxies do not count. 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.login_failures_per_address_max, min: 0 } },
    Key { path: "auth.login_failures_per_user_max",
          help: "Failed sign-ins of one user from all addresses together within auth.login_failure_window. Then the \
                 user can sign in only from addresses of earlier sign-ins (429 elsewhere). 0: no limit.",
          field: |it| Field::Count { value: &mut it.auth.login_failures_per_user_max, min: 0 } },
    Key { path: "auth.login_failure_window",
          help: "Window in which failed sign-ins are counted, and how long further ones are refused.",
          field: |it| Field::Duration { value: &mut it.auth.login_failure_window, min: SECOND } },
    Key { path: "auth.login_address_memory",
          help: "How long the hub remembers the addresses (at most 16) that a user has signed in from. Failures from \
                 elsewhere do not lock the user out there. A restart forgets them. 0s: none is remembered.",
          field: |it| Field::Duration { value: &mut it.auth.login_address_memory, min: Duration::ZERO } },
    Key { path: "auth.login_threads",
          help: "Threads that check passwords. Each check takes tens of milliseconds of a core.",
          field: |it| Field::Count { value: &mut it.auth.login_threads, min: 1 } },
    Key { path: "auth.login_queue_max",
          help: "Sign-ins that may wait for a thread that checks passwords. When more arrive, those of the addresses \
                 with the most attempts are refused (503).",
          field: |it| Field::Count { value: &mut it.auth.login_queue_max, min: 1 } },
    Key { path: "auth.login_wait_max",
          help: "How long a sign-in may wait for a thread that checks passwords before it is refused (503).",
          field: |it| Field::Duration { value: &mut it.auth.login_wait_max, min: MILLISECOND } },
    Key { path: "auth.cookie",
          help: "Set a cookie at each sign-in. false: only if the request asks for it by \"cookie\": true.",
          field: |it| Field::Flag(&mut it.auth.cookie) },
    Key { path: "auth.cookie_secure",
          help: "Send the cookie over TLS only (attribute Secure). Browsers treat localhost as secure, too.",
          field: |it| Field::Flag(&mut it.auth.cookie_secure) },
    Key { path: "auth.cookie_same_site",
          help: "SameSite attribute of the cookie. strict: no request from another site carries it. lax: following a \
                 link to the hub does.",
          field: |it| Field::Scalar(&mut it.auth.cookie_same_site) },

    Key { path: "users.file",
          help: "TOML file of [[user]] tables with username, password (made by `fanfare hash-password`), role, \
                 subscribe and publish.",
          field: |it| Field::Scalar(&mut it.auth_files.users_file) },

    Key { path: "api_keys",
          help: "API keys of services, shown instead of a token.",
          field: |it| Field::ApiKeys(&mut it.api_keys) },
];
