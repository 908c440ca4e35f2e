//! Passwords, the tokens that come of them, and how often one may try.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;

use super::{
    super::{
        passwords::check_form,
        throttle::{AdmittedLogin, ClientNetwork, LoginLimit, LoginOutcome, LoginThrottle, LoginThrottleLimits},
        users::Users,
    },
    *,
};
use crate::topic::Topic;

/// Of the password `correct`. With little memory, so that the tests are fast; a real one takes longer.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$";

/// A users file whose hashes cost next to nothing.
pub(super) fn users(extra: &str) -> String {
    let hash = quick_hash("correct");
    format!(
        "[[user]]\nusername = \"ann\"\npassword = \"{hash}\"\nsubscribe = [\"orders.*\"]\n{extra}\n\
         [[user]]\nusername = \"bob\"\npassword = \"{hash}\"\nrole = \"admin\"\ndisabled = true\n"
    )
}

fn quick_hash(password: &str) -> String {
    hash_with(password, 8, 1)
}

fn hash_with(password: &str, kib: u32, passes: u32) -> String {
    use argon2::{Algorithm, Argon2, Params, Version, password_hash::PasswordHasher};
    let params = Params::new(kib, passes, 1, None).expect("it is not less than there may be");
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password.as_bytes());
    hash.expect("it hashes").to_string()
}

fn auth(settings: AuthSettings, extra: &str) -> Auth {
    auth_of(settings, Secrets { users: users(extra), ..secrets() })
}

/// One login, its password checked at once; a refusal in words.
fn log_in(auth: &Auth, user: &str, password: &str, now: Moment) -> Result<Option<IssuedToken>, LoginRefused> {
    let (sender, receiver) = mpsc::channel();
    let reply = move |outcome| drop(sender.send(outcome));
    auth.log_in((user, password.to_owned()), None, now, reply)?;
    auth.password_work().run_waiting();
    receiver.try_recv().expect("it was checked")
}

#[test]
fn a_right_password_becomes_a_token() {
    let auth = auth(settings(), "");
    let check = |user: &str, password: &str, expected: bool| {
        let minted = log_in(&auth, user, password, NOW).expect("there is room");
        assert_eq!(minted.is_some(), expected, "{user} {password}");
    };
    check("ann", "wrong", false);
    check("ann", "", false);
    check("nobody", "correct", false);
    check("bob", "correct", false);
    check("ann", "correct", true);

    let minted = log_in(&auth, "ann", "correct", NOW).expect("there is room").expect("it is right");
    assert_eq!(minted.ttl, Duration::from_secs(3600));
    let identity = auth.identify(Some(&minted.token), None, NOW).expect("it is valid").expect("somebody's");
    assert_eq!((&*identity.subject, identity.login_unix_s), ("ann", Some(UNIX_S)));
    assert!(identity.may_subscribe(&Topic::parse("orders.1").expect("a valid name")).is_ok());
    assert_eq!(identity.expires, Some(NOW + Duration::from_secs(3600)));
}

/// The users file decides as it is when the token is shown, not when it was made.
#[test]
fn a_token_is_worth_what_the_file_says_of_its_user_now() {
    let minted = log_in(&auth(settings(), ""), "ann", "correct", NOW).expect("there is room").expect("it is right");
    let check = |users: String, expected: &str| {
        let auth = auth_of(settings(), Secrets { users: users.clone(), ..secrets() });
        assert_eq!(identify(&auth, &minted.token, NOW), expected, "{users}");
    };
    check(users(""), "ann");
    check(users("disabled = true"), "user_revoked");
    check(users("").replace("ann", "anna"), "user_revoked");
    assert_eq!(identify(&auth_of(settings(), secrets()), &minted.token, NOW), "user_revoked");

    let auth = auth(settings(), "publish = [\"**\"]");
    let identity = auth.identify(Some(&minted.token), None, NOW).expect("it is valid").expect("somebody's");
    assert!(identity.may_publish(&Topic::parse("anything").expect("a valid name")).is_ok());
}

#[test]
fn a_session_can_be_prolonged_until_it_is_too_old() {
    let ages =
        AuthSettings { token_ttl: Duration::from_secs(100), session_age_max: Duration::from_secs(250), ..settings() };
    let auth = auth(ages, "");
    let mut minted = log_in(&auth, "ann", "correct", NOW).expect("there is room").expect("it is right");
    let mut at = |seconds: u64| {
        let now = NOW + Duration::from_secs(seconds);
        let identity = auth.identify(Some(&minted.token), None, now).map_err(AccessDenied::code)?.expect("somebody's");
        minted = auth.refresh(&identity, None, now).map_err(AccessDenied::code)?;
        Ok::<u64, &str>(minted.ttl.as_secs())
    };
    assert_eq!([at(90), at(180), at(240)], [Ok(100), Ok(70), Ok(10)]);
    assert_eq!(at(249), Ok(1));
    assert_eq!(at(250), Err("token_expired"));
    // Nobody signed in for it with a password.
    let identity = Identity::default();
    assert_eq!(auth.refresh(&identity, None, NOW).err(), Some(AccessDenied::Forbidden));
}

/// To sign a token may take a millisecond.
#[test]
fn a_user_has_few_fresh_tokens_a_second() {
    let auth = auth(AuthSettings { refreshes_max: 2, ..settings() }, "");
    let minted = log_in(&auth, "ann", "correct", NOW).expect("there is room").expect("it is right");
    let identity = auth.identify(Some(&minted.token), None, NOW).expect("it is valid").expect("somebody's");
    let refresh = |now: Moment| auth.refresh(&identity, None, now).map(|_| ()).map_err(AccessDenied::code);
    assert_eq!([refresh(NOW), refresh(NOW), refresh(NOW)], [Ok(()), Ok(()), Err("too_many_tokens")]);
    assert_eq!(refresh(NOW + Duration::from_secs(1)), Ok(()));
}

#[test]
fn repeated_failures_have_to_wait() {
    let auth = auth(settings(), "");
    let late = NOW + Duration::from_secs(45);
    for _ in 0..5 {
        assert!(log_in(&auth, "ann", "wrong", NOW).expect("not yet too many").is_none());
    }
    let refused = log_in(&auth, "ann", "correct", late).expect_err("too many, even with the right one");
    assert_eq!(refused, LoginRefused::TooMany(LoginLimit::Pair, Duration::from_secs(15)));
    assert!(log_in(&auth, "nobody", "wrong", late).expect("another user").is_none());
    let over = NOW + Duration::from_secs(60);
    assert!(log_in(&auth, "ann", "correct", over).expect("the window is over").is_some());
    // A success forgives.
    for _ in 0..20 {
        assert!(log_in(&auth, "ann", "wrong", over).expect("not too many").is_none());
        assert!(log_in(&auth, "ann", "correct", over).expect("not too many").is_some());
    }
}

/// Tries that are under way count as failed: many at once are no more than many in a row.
#[test]
fn tries_at_once_count_before_they_are_checked() {
    let auth = auth(settings(), "");
    let submit = || auth.log_in(("ann", "wrong".to_owned()), None, NOW, drop);
    let outcomes: Vec<bool> = (0..7).map(|_| submit().is_ok()).collect();
    assert_eq!(outcomes, [true, true, true, true, true, false, false]);
}

#[test]
fn a_full_queue_refuses_and_does_not_count() {
    let auth = auth(AuthSettings { login_queue_max: 2, ..settings() }, "");
    let (sender, receiver) = mpsc::channel();
    let submit = |user: &str| {
        let (sender, name) = (sender.clone(), user.to_owned());
        let reply = move |outcome: Result<Option<IssuedToken>, LoginRefused>| drop(sender.send((name, outcome.err())));
        assert_eq!(auth.log_in((user, "wrong".to_owned()), None, NOW, reply), Ok(()));
    };
    ["ann", "ann"].into_iter().for_each(submit);
    assert!(receiver.try_recv().is_err(), "both wait");
    for name in ["ann", "stranger"].repeat(20) {
        submit(name);
        assert_eq!(receiver.try_recv(), Ok((name.to_owned(), Some(LoginRefused::Busy))));
    }
    auth.password_work().run_waiting();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [("ann".to_owned(), None), ("ann".to_owned(), None)]);
    // Two of the five tries are spent, and none of those that were not looked at.
    for _ in 0..3 {
        assert!(log_in(&auth, "ann", "wrong", NOW).expect("not too many").is_none());
    }
    assert!(log_in(&auth, "ann", "correct", NOW).is_err());
}

/// As at the server: a thread takes the checks as they come.
#[test]
fn a_thread_checks_passwords_as_they_come() {
    let auth = auth(settings(), "");
    let work = auth.password_work();
    std::thread::spawn(move || work.run(|| NOW));
    let (sender, receiver) = mpsc::channel();
    for (password, is_right) in [("correct", true), ("wrong", false)] {
        let sender = sender.clone();
        let reply = move |outcome: Result<Option<IssuedToken>, LoginRefused>| {
            let _ = sender.send(outcome.map(|token| token.is_some()));
        };
        assert_eq!(auth.log_in(("ann", password.to_owned()), None, NOW, reply), Ok(()));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(Ok(is_right)), "{password}");
    }
}

fn v4(last: u16) -> Option<IpAddr> {
    let [high, low] = last.to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, high, low)))
}

/// A right password from a quiet address is checked soon, whatever others send before it and after it.
#[test]
fn a_flood_does_not_starve_a_right_password() {
    let check = |flood: fn(u16) -> (Option<IpAddr>, String), is_known: bool| {
        let auth = auth(AuthSettings { login_queue_max: 8, ..settings() }, "");
        let submit = |(address, user): (Option<IpAddr>, String), password: &str| {
            let (sender, receiver) = mpsc::channel();
            let reply = move |outcome: Result<Option<IssuedToken>, LoginRefused>| {
                let _ = sender.send(outcome.map(|minted| minted.is_some()));
            };
            // Most are refused.
            let _ = auth.log_in((&user, password.to_owned()), address, NOW, reply);
            receiver
        };
        let ann = || (v4(1), "ann".to_owned());
        if is_known {
            drop(submit(ann(), "correct"));
            auth.password_work().run_waiting();
        }
        (1000..1500).for_each(|index| drop(submit(flood(index), "wrong")));
        let answer = submit(ann(), "correct");
        (1500..2000).for_each(|index| drop(submit(flood(index), "wrong")));
        for _ in 0..2 {
            auth.password_work().run_one();
        }
        assert_eq!(answer.try_recv(), Ok(Ok(true)), "known: {is_known}, {:?}", flood(1000));
    };
    for is_known in [false, true] {
        // One address with fresh names; the same behind a proxy that is not named; a network of IPv6.
        check(|index| (v4(2), index.to_string()), is_known);
        check(|index| (Some(Ipv4Addr::LOCALHOST.into()), index.to_string()), is_known);
        check(|index| (Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, index, 0, 0, 1).into()), index.to_string()), is_known);
    }
    // Many addresses, against her name and against others: she has signed in before, and they have not.
    check(|index| (v4(index), "ann".to_owned()), true);
    check(|index| (v4(index), index.to_string()), true);
}

/// The time of a refusal does not say whether there is such a user, nor how strong the user's hash is.
#[test]
fn every_refusal_costs_what_the_dearest_hash_costs() {
    let user = |name: &str, (kib, passes): (u32, u32)| {
        let hash = hash_with("correct", kib, passes);
        format!("[[user]]\nusername = \"{name}\"\npassword = \"{hash}\"\n")
    };
    let file = [user("ann", (16, 1)), user("bob", (64, 3)), user("cid", (128, 1))].concat();
    let auth = auth_of(settings(), Secrets { users: file, ..secrets() });
    let check = |name: &str, password: &str, blocks: u64| {
        assert_eq!(auth.log_in((name, password.to_owned()), None, NOW, drop), Ok(()));
        assert_eq!(auth.password_work().run_waiting(), [blocks], "{name} {password}");
    };
    for name in ["nobody", "ann", "bob", "cid"] {
        check(name, "wrong", 192);
    }
    check("nobody", "correct", 192);
    check("ann", "correct", 16);
}

#[test]
fn what_no_user_has_is_not_hashed() {
    let auth = auth(settings(), "");
    let check = |user: &str, password: &str, expected: LoginRefused| {
        assert_eq!(auth.log_in((user, password.to_owned()), None, NOW, drop), Err(expected));
    };
    check(&"x".repeat(256), "correct", LoginRefused::TooLong);
    check("ann", &"x".repeat(1025), LoginRefused::TooLong);
    let none = auth_of(settings(), secrets());
    assert_eq!(none.log_in(("ann", String::new()), None, NOW, drop), Err(LoginRefused::NoUsers));
}

fn throttle(per_pair: usize, per_address: usize, per_user: usize) -> LoginThrottle {
    let (window, known_for) = (Duration::from_secs(60), Duration::from_secs(600));
    LoginThrottle::new(LoginThrottleLimits { per_pair, per_address, per_user, window, known_for })
}

#[test]
fn failures_are_counted_by_user_and_network() {
    let mut throttle = throttle(1, 0, 0);
    let v6 = |network: u16, host: u16| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host)));
    let mapped = Some(IpAddr::V6(Ipv4Addr::new(192, 0, 0, 1).to_ipv6_mapped()));
    let mut check = |user: &str, address: Option<IpAddr>, expected: bool| {
        assert_eq!(throttle.begin(user, ClientNetwork::of(address), NOW).is_ok(), expected, "{user} {address:?}");
    };
    check("ann", v4(1), true);
    check("ann", v4(1), false);
    check("ann", mapped, false);
    check("ann", v4(2), true);
    check("bob", v4(1), true);
    check("ann", None, true);
    check("ann", v6(1, 1), true);
    check("ann", v6(1, 2), false);
    check("ann", v6(2, 1), true);
}

/// Each limit by itself: what is refused, and what is not touched by it.
#[test]
fn addresses_and_users_have_limits_of_their_own() {
    let mut throttle = throttle(5, 10, 20);
    let mut begin = |user: &str, address: Option<IpAddr>, at_s: u64| {
        let begun = throttle.begin(user, ClientNetwork::of(address), NOW + Duration::from_secs(at_s));
        begun.map(|_| ()).map_err(|(limit, wait)| (limit, wait.as_secs()))
    };
    for index in 0..10 {
        assert_eq!(begin(&format!("name{index}"), v4(1), 0), Ok(()));
    }
    assert_eq!(begin("fresh", v4(1), 20), Err((LoginLimit::Address, 40)));
    assert_eq!(begin("fresh", v4(2), 20), Ok(()));
    for index in 0..20 {
        assert_eq!(begin("ann", v4(100 + index), 0), Ok(()));
    }
    assert_eq!(begin("ann", v4(3), 50), Err((LoginLimit::User, 10)));
    assert_eq!(begin("fresh", v4(3), 50), Ok(()));
    assert_eq!(begin("ann", v4(3), 60), Ok(()));
    // No one client has these.
    for index in 0..100 {
        assert_eq!(begin(&format!("other{index}"), None, 0), Ok(()));
        assert_eq!(begin(&format!("other{index}"), Some(Ipv6Addr::LOCALHOST.into()), 0), Ok(()));
        assert_eq!(begin(&format!("other{index}"), Some(Ipv4Addr::new(127, 0, 0, 9).into()), 0), Ok(()));
    }
}

/// Strangers who use up a user's tries, or an address's, leave the user in from where the user came before.
#[test]
fn strangers_do_not_lock_a_user_out() {
    let mut throttle = throttle(5, 10, 20);
    let home = ClientNetwork::of(v4(1));
    let first = throttle.begin("ann", home, NOW).expect("nobody has tried yet");
    throttle.settle("ann", home, first, LoginOutcome::SignedIn, NOW);
    for index in 0..50 {
        let _ = throttle.begin("ann", ClientNetwork::of(v4(100 + index)), NOW);
        let _ = throttle.begin(&format!("name{index}"), home, NOW);
    }
    let refused = |begun: Result<AdmittedLogin, (LoginLimit, Duration)>| begun.map(|_| ()).map_err(|(limit, _)| limit);
    assert_eq!(refused(throttle.begin("ann", ClientNetwork::of(v4(2)), NOW)), Err(LoginLimit::User));
    assert_eq!(refused(throttle.begin("bob", home, NOW)), Err(LoginLimit::Address));
    // She may mistype, as often as any pair.
    for _ in 0..5 {
        assert!(throttle.begin("ann", home, NOW).is_ok_and(|admitted| admitted.is_known));
    }
    assert_eq!(refused(throttle.begin("ann", home, NOW)), Err(LoginLimit::Pair));
    // An address is known for so long; nobody pushes it out with others' names.
    let later = NOW + Duration::from_secs(599);
    for index in 0..100 {
        throttle.remember(&format!("name{index}"), ClientNetwork::of(v4(index)), NOW);
    }
    assert!(throttle.begin("ann", home, later).is_ok_and(|admitted| admitted.is_known));
    assert!(throttle.begin("ann", home, NOW + Duration::from_secs(600)).is_ok_and(|admitted| !admitted.is_known));
    throttle.retain_users(|user| user != "ann");
    assert!(throttle.begin("ann", home, later).is_ok_and(|admitted| !admitted.is_known));
}

#[test]
fn what_was_not_tried_gives_its_place_back() {
    let mut throttle = throttle(5, 10, 20);
    let [home, office, cafe] = [1, 2, 3].map(|last| ClientNetwork::of(v4(last)));
    let rank = |throttle: &mut LoginThrottle, outcome: Option<LoginOutcome>| {
        let admitted = throttle.begin("ann", home, NOW).expect("not too many");
        outcome.inspect(|outcome| throttle.settle("ann", home, admitted, *outcome, NOW));
        (admitted.is_known, admitted.rank)
    };
    assert_eq!(rank(&mut throttle, None), (false, 1));
    assert_eq!(rank(&mut throttle, Some(LoginOutcome::NotTried)), (false, 2));
    assert_eq!(rank(&mut throttle, Some(LoginOutcome::SignedIn)), (false, 2));
    // From now on the pair alone counts: two tries, of which none has failed.
    assert_eq!(rank(&mut throttle, Some(LoginOutcome::NotTried)), (true, 3));
    assert_eq!(rank(&mut throttle, Some(LoginOutcome::SignedIn)), (true, 3));
    assert_eq!(rank(&mut throttle, None), (true, 4));
    throttle.remember("ann", office, NOW);
    for (network, is_known) in [(home, true), (office, true), (cafe, false)] {
        assert!(throttle.begin("ann", network, NOW).is_ok_and(|admitted| admitted.is_known == is_known));
    }
}

/// Whoever knows one password must not wash away what failed with the names of others.
#[test]
fn a_success_forgives_only_its_own_pair() {
    let mut throttle = throttle(5, 10, 20);
    let address = ClientNetwork::of(v4(1));
    throttle.remember("mallory", ClientNetwork::of(v4(9)), NOW);
    let mut guesses = 0;
    for index in 0..100 {
        guesses += usize::from(throttle.begin(&format!("name{index}"), address, NOW).is_ok());
        if let Ok(admitted) = throttle.begin("mallory", address, NOW) {
            throttle.settle("mallory", address, admitted, LoginOutcome::SignedIn, NOW);
        }
    }
    assert_eq!(guesses, 10);
}

#[test]
fn what_is_remembered_of_failures_is_bounded() {
    let mut throttle = throttle(2, 5, 0);
    let mallory = ClientNetwork::of(v4(1));
    while throttle.begin("ann", mallory, NOW).is_ok() {}
    for index in 0..40_000_u32 {
        let now = NOW + Duration::from_millis(index.into());
        let address = ClientNetwork::of(Some(Ipv4Addr::from_bits(0x0a00_0000 + index).into()));
        assert!(throttle.begin(&index.to_string(), address, now).is_ok());
        assert!(throttle.len() <= 16_384, "{}", throttle.len());
    }
    let now = NOW + Duration::from_secs(41);
    let refused = throttle.begin("ann", mallory, now).map_err(|(limit, _)| limit);
    assert_eq!(refused, Err(LoginLimit::Pair), "what has failed most is remembered, however many others come");
    let last = ClientNetwork::of(Some(Ipv4Addr::from_bits(0x0a00_0000 + 39_999).into()));
    let admitted = throttle.begin("39999", last, now).expect("one more is allowed");
    assert!(throttle.begin("39999", last, now).is_err(), "the latest is remembered");
    throttle.settle("39999", last, admitted, LoginOutcome::NotTried, now);
    assert!(throttle.begin("39999", last, now).is_ok());
}

#[test]
fn a_users_file_is_checked_at_the_start() {
    let check = |text: &str, wrong: &str| {
        let refused = Users::parse(text).expect_err("something is wrong");
        assert!(refused.contains(wrong), "{refused}");
        assert!(!refused.contains("geheim"), "{refused}");
    };
    let user = |rest: &str| format!("[[user]]\nusername = \"ann\"\npassword = \"{}\"\n{rest}", quick_hash("x"));
    check("", "names nobody");
    check("[[user]]\nusername = \"ann\"\npassword = \"geheim\"\n", "fanfare hash-password");
    check("[[user]]\nusername = \"ann\"\npassword = geheim\n", "");
    check(&format!("{}{}", user(""), user("")), "twice");
    check(&user("subscribe = [\"a..b\"]"), "empty segment");
    check(&user("subscrib = []"), "subscrib");
    check("[[user]]\nusername = \"ann\"\n", "password");
    check(&user("").replace("ann", ""), "1 to 255 bytes");
    assert!(Users::parse(&user("disabled = true\nrole = \"x\"\npublish = [\"a.**\"]")).is_ok());
    let (key, _) = AuthRules::new(settings(), Secrets { users: user(""), ..Secrets::default() }).expect_err("no key");
    assert_eq!(key, "auth.mode");
}

#[test]
fn a_hash_is_argon2id_and_whole() {
    assert!(check_form(&hash_password("correct").expect("it hashes")).is_ok());
    for bad in ["", "correct", HASH, "$argon2i$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$YWJjZGVmZ2hpamtsbW5vcA"] {
        assert!(check_form(bad).is_err(), "{bad}");
    }
    assert!(hash_password("").is_err());
    assert!(hash_password(&"x".repeat(1025)).is_err());
}

#[test]
fn rules_that_are_read_anew_count_at_once() {
    let auth = auth(settings(), "");
    let minted = log_in(&auth, "ann", "correct", NOW).expect("there is room").expect("it is right");
    let replace = |secrets: Secrets| {
        let rules = AuthRules::new(settings(), secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
        auth.replace(&rules);
    };
    replace(Secrets { users: users("disabled = true"), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "user_revoked");
    replace(Secrets { users: users(""), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "ann");
    replace(Secrets { users: users(""), denied: "sub = [\"ann\"]".into(), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "user_revoked");
    assert!(log_in(&auth, "ann", "correct", NOW).expect("there is room").is_none());
    replace(Secrets { users: users(""), secret: SECRET.replace('a', "b").into(), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "token_invalid");
}
