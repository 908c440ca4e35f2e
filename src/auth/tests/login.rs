//! Passwords, the tokens that come of them, and how often one may try.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;

use super::{
    super::{
        passwords::check_form,
        throttle::{Forgiven, Throttle},
        users::Users,
    },
    *,
};
use crate::topic::Topic;

/// Of the password `correct`. With little memory, so that the tests are fast; a real one takes longer.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0IGhlcmU$";

/// A users file whose hashes cost next to nothing.
fn users(extra: &str) -> String {
    let hash = quick_hash("correct");
    format!(
        "[[user]]\nusername = \"ann\"\npassword = \"{hash}\"\nsubscribe = [\"orders.*\"]\n{extra}\n\
         [[user]]\nusername = \"bob\"\npassword = \"{hash}\"\nrole = \"admin\"\ndisabled = true\n"
    )
}

fn quick_hash(password: &str) -> String {
    use argon2::{Algorithm, Argon2, Params, Version, password_hash::PasswordHasher};
    let params = Params::new(8, 1, 1, None).expect("the least there is");
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password(password.as_bytes());
    hash.expect("it hashes").to_string()
}

fn auth(settings: Settings, extra: &str) -> Auth {
    auth_of(settings, Secrets { users: users(extra), ..secrets() })
}

/// One login, its password checked at once; a refusal in words.
fn log_in(auth: &Auth, user: &str, password: &str, now: Moment) -> Result<Option<Minted>, LoginRefused> {
    let (sender, receiver) = mpsc::channel();
    let reply = move |minted| drop(sender.send(minted));
    auth.log_in((user, password.to_owned()), None, now, reply)?;
    auth.password_work().run_waiting();
    Ok(receiver.try_recv().expect("it was checked"))
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
    let identity = auth.identify(Some(&minted.token), NOW).expect("it is valid").expect("somebody's");
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
    let identity = auth.identify(Some(&minted.token), NOW).expect("it is valid").expect("somebody's");
    assert!(identity.may_publish(&Topic::parse("anything").expect("a valid name")).is_ok());
}

#[test]
fn a_session_can_be_prolonged_until_it_is_too_old() {
    let ages =
        Settings { token_ttl: Duration::from_secs(100), session_age_max: Duration::from_secs(250), ..settings() };
    let auth = auth(ages, "");
    let mut minted = log_in(&auth, "ann", "correct", NOW).expect("there is room").expect("it is right");
    let mut at = |seconds: u64| {
        let now = NOW + Duration::from_secs(seconds);
        let identity = auth.identify(Some(&minted.token), now).map_err(Denied::code)?.expect("somebody's");
        minted = auth.refresh(&identity, now).map_err(Denied::code)?;
        Ok::<u64, &str>(minted.ttl.as_secs())
    };
    assert_eq!([at(90), at(180), at(240)], [Ok(100), Ok(70), Ok(10)]);
    assert_eq!(at(249), Ok(1));
    assert_eq!(at(250), Err("token_expired"));
    // Nobody signed in for it with a password.
    let identity = Identity::default();
    assert_eq!(auth.refresh(&identity, NOW).err(), Some(Denied::Forbidden));
}

#[test]
fn who_fails_too_often_has_to_wait() {
    let auth = auth(settings(), "");
    let late = NOW + Duration::from_secs(45);
    for _ in 0..5 {
        assert!(log_in(&auth, "ann", "wrong", NOW).expect("not yet too many").is_none());
    }
    let refused = log_in(&auth, "ann", "correct", late).expect_err("too many, even with the right one");
    assert_eq!(refused, LoginRefused::TooMany(Duration::from_secs(15)));
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
    let auth = auth(Settings { login_queue_max: 2, ..settings() }, "");
    let submit = |user: &str| auth.log_in((user, "wrong".to_owned()), None, NOW, drop);
    assert_eq!([submit("ann"), submit("ann")], [Ok(()), Ok(())]);
    for _ in 0..20 {
        assert_eq!([submit("ann"), submit("stranger")], [Err(LoginRefused::Busy); 2]);
    }
    auth.password_work().run_waiting();
    assert_eq!(submit("ann"), Ok(()));
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

#[test]
fn failures_are_counted_by_user_and_network() {
    let mut throttle = Throttle::new(1, Duration::from_secs(60));
    let v4 = |last: u8| Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
    let v6 = |network: u16, host: u16| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host)));
    let mapped = Some(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()));
    let mut check = |user: &str, address: Option<IpAddr>, expected: bool| {
        assert_eq!(throttle.begin(user, address, NOW).is_ok(), expected, "{user} {address:?}");
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

#[test]
fn what_is_remembered_of_failures_is_bounded() {
    let mut throttle = Throttle::new(1, Duration::from_secs(60));
    for index in 0..40_000_u64 {
        let now = NOW + Duration::from_millis(index);
        assert_eq!(throttle.begin(&index.to_string(), None, now), Ok(()));
        assert!(throttle.len() <= 16_384, "{}", throttle.len());
    }
    assert!(throttle.begin("39999", None, NOW + Duration::from_secs(41)).is_err(), "the latest is remembered");
    throttle.forgive("39999", None, Forgiven::NotTried);
    assert!(throttle.begin("39999", None, NOW + Duration::from_secs(41)).is_ok());
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
    let (key, _) = Rules::new(settings(), Secrets { users: user(""), ..Secrets::default() }).expect_err("no key");
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
    let identity = auth.identify(Some(&minted.token), NOW).expect("it is valid").expect("somebody's");
    assert!(auth.still_knows(&identity));
    let replace = |secrets: Secrets| {
        let rules = Rules::new(settings(), secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
        auth.replace(&rules);
    };
    replace(Secrets { users: users("disabled = true"), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "user_revoked");
    assert!(!auth.still_knows(&identity));
    replace(Secrets { users: users(""), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "ann");
    replace(Secrets { users: users(""), secret: SECRET.replace('a', "b"), ..secrets() });
    assert_eq!(identify(&auth, &minted.token, NOW), "token_invalid");

    let key = ApiKey { secret: "0123456789abcdef".into(), name: "ingest".into(), ..ApiKey::default() };
    replace(Secrets { api_keys: vec![key.clone()], ..secrets() });
    let identity = auth.identify_key("0123456789abcdef").expect("it is the key");
    assert!(auth.still_knows(&identity));
    replace(Secrets { api_keys: vec![ApiKey { name: "other".into(), ..key }], ..secrets() });
    assert!(!auth.still_knows(&identity));
}
