//! Logins and secrets: where they come from, and that none is shown.

use super::*;

#[test]
fn a_password_is_never_shown() {
    let secret = "geheim";
    let url = format!("redis://ann:{secret}@localhost/1");
    let shown = show(None, [].into_iter(), &[flag("redis.url", &url)]).expect("no problems");
    assert!(shown.contains("redis://ann:***@localhost/1"), "{shown}");
    let wrong = format!("[redis]\nurl = \"rediz://ann:{secret}@localhost\"\nurll = \"redis://:{secret}@x\"");
    let error = load_text("secret", &wrong).expect_err("no such scheme").to_string();
    assert!(!error.contains(secret), "{error}");
}

#[test]
fn a_url_from_a_file_beside_the_configuration() {
    let secret = ConfigFile::new("url", "redis://:geheim@localhost/2\n");
    let name = secret.0.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let config = load_text("with-url-file", &format!("[redis]\nurl_file = \"{name}\"")).expect("no problems");
    let redis = config.sources.redis.expect("a Redis");
    assert_eq!(redis.url.to_string(), "redis://:***@localhost:6379/2");
    assert_eq!(redis.always, config.server.default_topics);
    let text = format!("[redis]\nurl = \"redis+sentinel://a/b\"\nsentinel_password_file = \"{name}\"");
    let redis = load_text("with-sentinel-password-file", &text).expect("no problems").sources.redis.expect("a Redis");
    assert_eq!(redis.sentinel_login.password, "redis://:geheim@localhost/2");
}

#[test]
fn an_open_address_needs_clients_that_sign_in_or_a_word_to_the_contrary() {
    let check = |settings: &str, expected: Option<&str>| {
        let text = format!("[server]\nlisten = [\"0.0.0.0:1\"]\n{settings}");
        let outcome = load_text("open", &text).map_err(|error| error.to_string());
        match expected {
            None => assert!(outcome.is_ok(), "{settings}: {outcome:?}"),
            Some(wrong) => {
                assert!(outcome.as_ref().is_err_and(|error| error.contains(wrong)), "{settings}: {outcome:?}")
            }
        }
    };
    check("", Some("auth.mode"));
    check("insecure = true", None);
    check("[auth]\nmode = \"jwt\"", Some("nothing to check clients with"));
    check("[auth]\nmode = \"jwt\"\nsecret = \"0123456789abcdef0123456789abcdef\"", None);
    check("[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"", Some("nobody is asked for it"));
    check("[[api_keys]]\nkey = \"0123456789abcdef\"", Some("nobody is asked for it"));
    check("[auth]\nmode = \"jwt\"\n[[api_keys]]\nkey = \"0123456789abcdef\"\npublish = [\"a.*\"]", None);
}

#[test]
fn secrets_come_from_files_next_to_the_configuration() {
    let secret = ConfigFile::new("jwt.key", "0123456789abcdef0123456789abcdef\n");
    let name = secret.0.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
    let check = |text: &str, expected: Result<(), &str>| {
        let outcome = load_text("secrets", text).map(drop).map_err(|error| error.to_string());
        match (outcome, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(wrong)) if error.contains(wrong) => {}
            (outcome, _) => panic!("{text}: {outcome:?}"),
        }
    };
    let jwt = |rest: &str| format!("[auth]\nmode = \"jwt\"\n{rest}");
    check(&jwt(&format!("secret_file = \"{name}\"")), Ok(()));
    check(&jwt(&format!("secret_file = \"{name}\"\nsecret = \"x\"")), Err("keep one"));
    check(&jwt("secret_file = \"/nowhere\""), Err("cannot read /nowhere"));
    check(&jwt(&format!("[[api_keys]]\nkey_file = \"{name}\"")), Ok(()));
    check(&jwt(&format!("[[api_keys]]\nkey_file = \"{name}\"\nkey = \"x\"")), Err("one of the two"));
    check(&jwt("[[api_keys]]\nname = \"x\""), Err("one of the two"));
    check(&jwt("[[api_keys]]\nkeys = \"x\""), Err("did you mean `key`?"));
    check(&jwt("[users]\nfile = \"/nowhere\""), Err("cannot read /nowhere"));
    check(&jwt("algorithms = [\"none\"]"), Err("none of the algorithms"));
}

#[test]
fn nats_takes_one_login() {
    let secret = ConfigFile::new("nats.secret", "geheim\n");
    let name = secret.0.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
    let check = |text: &str, expected: Result<&str, &str>| {
        let outcome = load_text("nats", &format!("[nats]\nurl = \"nats://h\"\n{text}"));
        let outcome = outcome.map(|config| format!("{:?}", config.sources.nats.expect("a URL").login.auth));
        match (outcome.map_err(|error| error.to_string()), expected) {
            (Ok(found), Ok(login)) if found == login => {}
            (Err(error), Err(wrong)) if error.contains(wrong) && !error.contains("geheim") => {}
            (outcome, _) => panic!("{text}: {outcome:?}"),
        }
    };
    check("", Ok("None"));
    check("user = \"ada\"\npassword = \"geheim\"", Ok("User(\"ada\", ***)"));
    check(&format!("user = \"ada\"\npassword_file = \"{name}\""), Ok("User(\"ada\", ***)"));
    check("token = \"geheim\"", Ok("Token(***)"));
    check(&format!("token_file = \"{name}\""), Ok("Token(***)"));
    check(&format!("nkey_file = \"{name}\""), Ok("Nkey(***)"));
    check(&format!("credentials_file = \"{name}\""), Ok("Credentials(***)"));
    check("password = \"geheim\"", Err("set nats.user"));
    check(&format!("token = \"geheim\"\nnkey_file = \"{name}\""), Err("nats.token is set as well"));
    check(&format!("token = \"geheim\"\ntoken_file = \"{name}\""), Err("keep one"));
    check("nkey_file = \"/nowhere\"", Err("cannot read /nowhere"));
    check("subscribe = [\"a..b\"]", Err("empty token"));
    check("inbox_prefix = \"a.*\"", Err("without wildcards"));
    check("[redis]\nurl = \"redis://h\"", Err("say which of them has the topics"));
    let both = load_text("nats", "[nats]\nurl = \"nats://ada:geheim@h\"\ntoken = \"geheim\"").map(drop);
    assert!(both.is_err_and(|error| error.to_string().contains("keep one")), "a login in the URL and another one");
}

#[test]
fn what_is_shown_has_no_secret_of_sign_in() {
    let text = "[auth]\nmode = \"jwt\"\nsecret = \"geheim-geheim-geheim-geheim-geheim\"\n\
                [[api_keys]]\nname = \"ingest\"\nkey = \"geheim-geheim-geheim\"\npublish = [\"wells.**\"]\n";
    let file = ConfigFile::new("shown-secrets", text);
    let shown = show(Some(&file.0), [].into_iter(), &[]).expect("no problems");
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(shown.contains("[[api_keys]]\nname = \"ingest\"\nkey = \"***\"\n"), "{shown}");
    assert!(!format!("{:?}", load(Some(&file.0), [].into_iter(), &[])).contains("geheim"));
}
