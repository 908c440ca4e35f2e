//! URLs by tables; the directory against sentinels that are made up.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process,
    time::Duration,
};

use super::{Directory, DirectoryOptions, Login, LoginFiles, RedisUrl, SentinelLogin, ServerAddress, TlsFiles};
use crate::source::credentials::Logins;

#[test]
fn urls() {
    let tcp = |host: &str, port| ServerAddress::Tcp { host: host.to_owned(), port };
    let check = |text: &str, target: ServerAddress, login: (Option<&str>, Option<&str>), database: i64, shown: &str| {
        let url = RedisUrl::parse(text).expect(text);
        assert_eq!(
            (ServerAddress::of(url.connection_info()), (url.username(), url.password())),
            (target, login),
            "{text}"
        );
        assert_eq!((url.database(), url.to_string().as_str()), (database, shown), "{text}");
        assert!(!format!("{url:?}").contains("secret"), "{url:?}");
    };
    check("redis://127.0.0.1", tcp("127.0.0.1", 6379), (None, None), 0, "redis://127.0.0.1:6379");
    check("redis://[::1]:7/3", tcp("::1", 7), (None, None), 3, "redis://[::1]:7/3");
    check("redis://:secret@h:1", tcp("h", 1), (None, Some("secret")), 0, "redis://:***@h:1");
    check("redis://me:secret%40@h:1", tcp("h", 1), (Some("me"), Some("secret@")), 0, "redis://me:***@h:1");
    let tls = ServerAddress::Tls { host: "h".to_owned(), port: 6379 };
    check("rediss://me:secret@h/1", tls, (Some("me"), Some("secret")), 1, "rediss://me:***@h:6379/1");
    let unix = || ServerAddress::Unix("/run/r.sock".into());
    check("unix:///run/r.sock", unix(), (None, None), 0, "unix:///run/r.sock?db=0");
    let login = (Some("me"), Some("secret"));
    check("redis+unix:///run/r.sock?db=2&user=me&pass=secret", unix(), login, 2, "unix:///run/r.sock?db=2");
    assert_eq!(RedisUrl::default().to_string(), "redis://127.0.0.1:6379");
}

#[test]
fn bad_urls_are_refused_without_quoting_them() {
    for bad in [
        "",
        "127.0.0.1:6379",
        "http://secret@h",
        "redis://:secret@",
        "redis://:secret@h/x",
        "rediss://:secret@h#insecure",
        "redis+sentinel://:secret@h",
        "redis+sentinel://:secret@h/",
        "redis+sentinel://:secret@/service",
        "redis+sentinel://:secret@h,/service",
        "redis+sentinel://:secret@h:x/service",
        "redis+sentinel://:secret@h/ser%20vice",
        "redis+sentinel://:secret@h/service/x",
        "rediss+sentinel://:secret@h/service#insecure",
        "redis+cluster://",
        "redis+cluster://:secret@",
        "redis+cluster://:secret@h/1",
        "redis+cluster://:secret@h,,i",
        "redis+cluster://:secret@h:x",
        "http+cluster://:secret@h",
        "rediss+cluster://:secret@h#insecure",
    ] {
        let error = RedisUrl::parse(bad).expect_err(bad).to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn urls_of_sentinels() {
    let check = |text: &str, addresses: &[(&str, u16)], shown: &str| {
        let url = RedisUrl::parse(text).expect(text);
        let sentinels = url.sentinels().expect("it names sentinels");
        let found: Vec<(&str, u16)> = sentinels.addresses.iter().map(|(host, port)| (host.as_str(), *port)).collect();
        assert_eq!((found.as_slice(), sentinels.service.as_str()), (addresses, "my-service"), "{text}");
        assert_eq!(url.to_string(), shown);
        assert_eq!(RedisUrl::parse(&shown.replace("***", "secret")).expect(shown).to_string(), shown, "read again");
    };
    check("redis+sentinel://a/my-service", &[("a", 26379)], "redis+sentinel://a:26379/my-service");
    check(
        "redis+sentinel://a:1,b,[::1]/my-service/3",
        &[("a", 1), ("b", 26379), ("::1", 26379)],
        "redis+sentinel://a:1,b:26379,[::1]:26379/my-service/3",
    );
    check(
        "redis+sentinel://me:secret@a:1,[::1]:2/my-service/",
        &[("a", 1), ("::1", 2)],
        "redis+sentinel://me:***@a:1,[::1]:2/my-service",
    );
    check("rediss+sentinel://:secret@a/my-service", &[("a", 26379)], "rediss+sentinel://:***@a:26379/my-service");
    let url = RedisUrl::parse("rediss+sentinel://me:secret%40@a/my-service/3").expect("a good URL");
    assert_eq!((url.username(), url.password(), url.database(), url.is_tls()), (Some("me"), Some("secret@"), 3, true));
}

#[test]
fn urls_of_clusters() {
    let check = |text: &str, nodes: &[(&str, u16)], login: (Option<&str>, Option<&str>), shown: &str| {
        let url = RedisUrl::parse(text).expect(text);
        let found: Vec<(&str, u16)> = url.nodes().iter().map(|node| (node.host.as_str(), node.port)).collect();
        assert_eq!((found.as_slice(), (url.username(), url.password())), (nodes, login), "{text}");
        assert_eq!((url.to_string().as_str(), url.names_cluster()), (shown, true));
        assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        assert_eq!(RedisUrl::parse(&shown.replace("***", "secret")).expect(shown).to_string(), shown, "read again");
    };
    check("redis+cluster://a", &[("a", 6379)], (None, None), "redis+cluster://a:6379");
    check(
        "redis+cluster://me:secret%40@a:1,b,[::1]:7/",
        &[("a", 1), ("b", 6379), ("::1", 7)],
        (Some("me"), Some("secret@")),
        "redis+cluster://me:***@a:1,b:6379,[::1]:7",
    );
    check("rediss+cluster://:secret@a", &[("a", 6379)], (None, Some("secret")), "rediss+cluster://:***@a:6379");
    let url = RedisUrl::parse("rediss+cluster://me:secret@a,b:2").expect("a good URL");
    let at = url.at(&url.nodes()[1]);
    assert_eq!((at.to_string().as_str(), at.password()), ("rediss://me:***@b:2", Some("secret")));
    let same = |other: &str| url.is_of_same_server(&RedisUrl::parse(other).expect(other));
    assert!(same("rediss+cluster://you:other@a,b:2") && !same("rediss+cluster://a") && !same("rediss://a"));
}

/// Answers every connection's question with `answer`, and with `+OK` what comes before it; returns its port. Its thread
/// ends with the process.
pub(super) fn false_sentinel(answer: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a bound socket").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answers = stream.try_clone().expect("a second handle");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let reply = match line.as_str() {
                    "AUTH" => "+OK\r\n",
                    "get-master-addr-by-name" => answer,
                    _ => continue,
                };
                // Whoever asked may have given up.
                let _ = answers.write_all(reply.as_bytes());
            }
        }
    });
    port
}

fn directory(ports: &[u16], password: &str) -> Directory {
    let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let options = DirectoryOptions {
        login: Login {
            url: RedisUrl::parse(&format!("redis+sentinel://me:secret@{}/service/3", addresses.join(",")))
                .expect("good"),
            sentinel: SentinelLogin { password: password.to_owned(), ..SentinelLogin::default() },
            files: LoginFiles::default(),
        },
        logins: Logins::default(),
        tls: TlsFiles::default(),
        sentinel_timeout: Duration::from_millis(200),
        allow_replica: false,
    };
    Directory::new(&options).expect("no files")
}

#[test]
fn the_first_sentinel_that_knows_is_believed() {
    let knows = false_sentinel("*2\r\n$5\r\nhost1\r\n$4\r\n7001\r\n");
    let knows_not = false_sentinel("*-1\r\n");
    let refuses = false_sentinel("-NOAUTH Authentication required.\r\n");
    let silent = false_sentinel("");
    let directory = directory(&[knows_not, refuses, silent, knows], "password");
    for _ in 0..4 {
        let info = directory.current().expect("one of them knows");
        assert_eq!(ServerAddress::of(&info), ServerAddress::Tcp { host: "host1".to_owned(), port: 7001 });
        let settings = info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("secret"), 3));
    }
}

#[test]
fn no_sentinel_asked_decides_twice_in_a_row() {
    let first = false_sentinel("*2\r\n$5\r\nhost1\r\n$4\r\n7001\r\n");
    let second = false_sentinel("*2\r\n$5\r\nhost2\r\n$4\r\n7002\r\n");
    let directory = directory(&[first, second], "");
    let addresses = [(); 3].map(|()| directory.current().expect("both know").addr().to_string());
    assert_eq!(addresses, ["host1:7001", "host2:7002", "host1:7001"]);
}

#[test]
fn the_majority_is_of_all_sentinels() {
    let first = false_sentinel("*2\r\n$5\r\nhost1\r\n$4\r\n7001\r\n");
    let second = false_sentinel("*2\r\n$5\r\nhost2\r\n$4\r\n7002\r\n");
    let knows_not = false_sentinel("*-1\r\n");
    let check = |ports: &[u16], port: Option<u16>| {
        let expected = port.map(|port| ServerAddress::Tcp { host: "host2".to_owned(), port });
        assert_eq!(directory(ports, "").agreed(), expected);
    };
    check(&[first, second, second], Some(7002));
    check(&[second, second, knows_not], Some(7002));
    check(&[second, knows_not, knows_not], None);
    check(&[first, second], None);
    check(&[first, first, second, second], None);
}

#[test]
fn when_none_knows_each_says_why() {
    let knows_not = false_sentinel("*-1\r\n");
    let silent = false_sentinel("");
    let error = directory(&[knows_not, silent], "").current().expect_err("nobody knows");
    for part in ["`service`", &format!("127.0.0.1:{knows_not} does not know it"), &format!("127.0.0.1:{silent}: ")] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains("secret"), "{error}");
    let impatient = directory(&[silent, silent], "").current_within(Duration::from_millis(20)).expect_err("in vain");
    assert!(impatient.contains("no time left"), "{impatient}");
}

#[test]
fn without_sentinels_the_url_decides() {
    let url = RedisUrl::parse("redis://h:1").expect("a good URL");
    let options = DirectoryOptions {
        login: Login { url, ..Login::default() },
        logins: Logins::default(),
        tls: TlsFiles::default(),
        sentinel_timeout: Duration::ZERO,
        allow_replica: false,
    };
    let directory = Directory::new(&options).expect("no files");
    assert_eq!(directory.current().expect("nobody is asked").addr().to_string(), "h:1");
    assert!(!directory.may_move());
}

/// A file that goes when the test does.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_refused_login_is_read_anew_from_its_files() {
    let scratch = |name: &str| Scratch(env::temp_dir().join(format!("fanfare-login-{}-{name}", process::id())));
    let (url, password) = (scratch("url"), scratch("password"));
    let write = |url_text: &str, password_text: &str| {
        fs::write(&url.0, url_text).expect("it is ours");
        fs::write(&password.0, password_text).expect("it is ours");
    };
    let files = LoginFiles { url: Some(url.0.clone()), sentinel_password: Some(password.0.clone()) };
    let sentinel = SentinelLogin { username: "watch".to_owned(), password: "s1".to_owned() };
    let parse = |text: &str| RedisUrl::parse(text).expect("a good URL");
    let first = Login { url: parse("redis://hub:one@h/3"), sentinel, files };
    let shown = |login: &Login| {
        let password = login.url.password().unwrap_or_default();
        (login.url.username().unwrap_or_default().to_owned(), password.to_owned(), login.sentinel.password.clone())
    };
    let words = |words: [&str; 3]| Some((words[0].to_owned(), words[1].to_owned(), words[2].to_owned()));
    let logins = Logins::default();
    let check = |used: &Login, expected: Option<[&str; 3]>| {
        let renewed = logins.renew(used);
        assert_eq!(renewed.as_deref().map(shown), expected.and_then(words));
        renewed.map_or_else(|| used.clone(), |login| Login::clone(&login))
    };
    write("redis://hub:one@h/3", "s1");
    check(&first, None);
    for bad in ["", "redis://hub:two@other/3", "redis://hub:two@h/4", "rediss://hub:two@h/3", "hub:two"] {
        write(bad, "s2");
        check(&first, None);
        assert_eq!(shown(&logins.current(&first)).1, "one", "{bad}");
    }
    write(" redis://hub:two@h:6379/3\n", "s1\n");
    let second = check(&first, Some(["hub", "two", "s1"]));
    // Whoever still comes with the first one is given the second, and the file is not needed for that.
    fs::remove_file(&url.0).expect("it is ours");
    check(&first, Some(["hub", "two", "s1"]));
    check(&second, None);
    write("redis://bus:three@h/3", "s2");
    let third = check(&second, Some(["bus", "three", "s2"]));
    assert_eq!(shown(&logins.current(&first)), shown(&third));
    // A login that no file holds is replaced from outside alone.
    logins.replace(Login { files: LoginFiles::default(), ..first.clone() });
    check(&third, Some(["hub", "one", "s1"]));
    check(&Login { files: LoginFiles::default(), ..first }, None);
    assert!(!format!("{logins:?}{third:?}").contains("three"));
}
