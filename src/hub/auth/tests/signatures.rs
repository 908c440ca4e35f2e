//! The limits on signatures, by address and by connection.

use core::net::IpAddr;

use super::*;

/// A signature costs more than the bytes that ask for its check: an address that shows wrong ones has few a second, and
/// what was checked lately is still let in.
#[test]
fn wrong_signatures_are_checked_for_so_long() {
    let auth = auth_of(AuthSettings { token_failures_max: 3, ..settings() }, secrets());
    let (good, other) = (sign_with(SECRET, "ann"), sign_with(SECRET, "bob"));
    let wrong = sign_with(&SECRET.replace('a', "b"), "ann");
    let address = |text: &str| Some(text.parse().expect("an address"));
    let check = |token: &str, peer: Option<IpAddr>, now: Moment, expected: &str| {
        let shown = match auth.identify(Some(token), peer, now) {
            Ok(identity) => identity.map_or_else(String::new, |identity| identity.subject.to_string()),
            Err(denied) => denied.code().to_owned(),
        };
        assert_eq!(shown, expected, "{peer:?}");
    };
    let (mallory, neighbour) = (address("2001:db8::1"), address("2001:db8::2"));
    check(&good, mallory, NOW, "ann");
    for _ in 0..3 {
        check(&wrong, mallory, NOW, "token_invalid");
    }
    check(&wrong, mallory, NOW, "too_many_tokens");
    check(&other, neighbour, NOW, "too_many_tokens");
    check(&good, neighbour, NOW, "ann");
    check(&other, address("2001:db8:0:1::1"), NOW, "bob");
    check(&wrong, mallory, NOW + Duration::from_secs(1), "token_invalid");
    // Who may be many has no such limit.
    for peer in [None, address("127.0.0.1"), address("::1")].repeat(5) {
        check(&wrong, peer, NOW, "token_invalid");
    }
}

/// Behind a proxy, or on this machine, an address says nothing: each connection has its own few a second, and the last of them
/// is told.
#[test]
fn a_connection_has_few_tokens_that_fail() {
    let most = 3;
    let auth = auth_of(AuthSettings { token_failures_per_connection_max: most, ..settings() }, secrets());
    let (good, other) = (sign_with(SECRET, "ann"), sign_with(SECRET, "bob"));
    let wrong = sign_with(&SECRET.replace('a', "b"), "ann");
    let expired_at = NOW + Duration::from_secs(3600);
    let check = |token: &str, connection: u64, now: Moment, expected: &str| {
        let origin = TokenOrigin {
            address: Some(IpAddr::from([127, 0, 0, 1])),
            connection: Some(ConnectionId { reactor: 0, token: connection }),
        };
        let shown = match auth.identify(Some(token), origin, now) {
            Ok(identity) => identity.map_or_else(String::new, |identity| identity.subject.to_string()),
            Err(denied) => denied.code().to_owned(),
        };
        assert_eq!(shown, expected, "{connection}");
    };
    check(&good, 1, NOW, "ann");
    for expected in ["token_invalid", "token_invalid", "too_many_tokens", "too_many_tokens"] {
        check(&wrong, 1, NOW, expected);
    }
    check(&good, 1, NOW, "ann");
    check(&other, 1, NOW, "too_many_tokens");
    check(&other, 2, NOW, "bob");
    check(&wrong, 1, NOW + Duration::from_secs(1), "token_invalid");
    // An expired token costs as much.
    for expected in ["token_expired", "token_expired", "too_many_tokens"] {
        check(&good, 3, expired_at, expected);
    }
}

fn sign_with(secret: &str, subject: &str) -> String {
    let rules = AuthRules::new(settings(), Secrets { secret: secret.into(), ..Secrets::default() });
    let rules = rules.unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
    let claims = Claims { sub: subject.into(), ..Claims::default() };
    rules.mint(claims, Duration::from_secs(60), UNIX_S).expect("there is a secret").token
}
