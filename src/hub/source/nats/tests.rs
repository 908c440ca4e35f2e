//! URLs and logins.

mod forms;

use std::fs;

use super::{NatsAuth, NatsLogin, NatsLoginFiles, NatsUrl};
use crate::source::credentials::Credentials;

fn user(user: &str, password: &str) -> NatsAuth {
    NatsAuth::User { user: user.to_owned(), password: password.to_owned() }
}

#[test]
fn urls_name_servers_and_a_login() {
    let check = |text: &str, servers: &str, auth: NatsAuth| {
        let url = NatsUrl::parse(text).expect("a URL");
        assert_eq!((url.to_string().as_str(), url.auth()), (servers, &auth), "{text}");
        assert_eq!(url.has_login(), auth != NatsAuth::None, "{text}");
    };
    check("nats://h", "nats://h:4222", NatsAuth::None);
    check("h:1", "nats://h:1", NatsAuth::None);
    check("tls://nats.example.org:443/", "tls://nats.example.org:443", NatsAuth::None);
    check("nats://[::1]", "nats://[::1]:4222", NatsAuth::None);
    check("nats://a:7, tls://[::1]:8", "nats://a:7,tls://[::1]:8", NatsAuth::None);
    check("nats://ada:p%40s:s@h", "nats://h:4222", user("ada", "p@s:s"));
    check("nats://ada:p@ss@h", "nats://h:4222", user("ada", "p@ss"));
    check("nats://t%3aken@h", "nats://h:4222", NatsAuth::Token("t:ken".to_owned()));
    check("nats://ada:p@h,i:3,nats://ada:p@j", "nats://h:4222,nats://i:3,nats://j:4222", user("ada", "p"));
}

#[test]
fn what_is_no_url_is_refused_without_being_quoted() {
    let check = |text: &str, expected: &str| {
        let error = NatsUrl::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected) && !error.contains("geheim"), "{text}: {error}");
    };
    check("", "the host is missing");
    check("nats://", "the host is missing");
    check("redis://a:geheim@h", "neither nats nor tls");
    check("nats://a:geheim@", "the host is missing");
    check("nats://a:geheim@h:0", "the port");
    check("nats://a:geheim@h:x", "the port");
    check("nats://a:geheim@h:", "the port");
    check("nats://a:geheim@[::1", "bracket");
    check("nats://a:geheim@[x]:1", "no IPv6 address");
    check("nats://a:geheim@[::1]x", "the port");
    check("nats://a:geheim%zz@h", "badly encoded");
    check("nats://a:geheim@h,nats://b:geheim@i", "different logins");
    check("nats://a:geheim@h/path", "is no name");
    check("nats://h,", "the host is missing");
}

#[test]
fn a_login_is_read_again_from_its_files() {
    let folder = std::env::temp_dir().join(format!("fanfare-nats-{:x}", rand::random::<u64>()));
    fs::create_dir(&folder).expect("the folder is new");
    let file = folder.join("secret");
    let write = |text: &str| fs::write(&file, text).expect("the folder is writable");
    let (url, none) = (NatsUrl::parse("nats://h").expect("a URL"), NatsLoginFiles::default());
    let files = NatsLoginFiles { auth: Some(file.clone()), ..none.clone() };
    write("two\n");
    let check = |auth: NatsAuth, expected: NatsAuth| {
        let login = NatsLogin { url: url.clone(), auth, files: files.clone() };
        let again = login.reread().expect("the file is there");
        assert_eq!((again.auth(), again.is_same(&login)), (&expected, false));
        assert!(!format!("{again:?}").contains("two"), "{again:?}");
    };
    check(user("ada", "one"), user("ada", "two"));
    check(NatsAuth::Token("one".to_owned()), NatsAuth::Token("two".to_owned()));
    check(NatsAuth::Nkey("one".to_owned()), NatsAuth::Nkey("two".to_owned()));
    check(NatsAuth::Credentials("one".to_owned()), NatsAuth::Credentials("two".to_owned()));
    let login = NatsLogin { url, auth: NatsAuth::None, files: NatsLoginFiles { url: Some(file.clone()), ..none } };
    write("nats://ada:two@h\n");
    assert_eq!(login.reread().expect("the same server").auth(), &user("ada", "two"));
    write("nats://ada:two@elsewhere\n");
    let problem = login.reread().expect_err("another server");
    assert!(problem.contains("names other servers") && !problem.contains("two"), "{problem}");
    write("");
    assert!(login.reread().is_err_and(|problem| problem.ends_with("is empty")));
    fs::remove_dir_all(&folder).expect("it is ours");
}
