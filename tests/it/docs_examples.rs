//! Every example of the documents is run: all of `docs/*.md`, and the pages of [`MORE_PAGES`].
//!
//! An example is a fenced block. Its tag says how it is run; a block without a tag, or with another one, is an error.
//!
//! | tag | how it is run |
//! |---|---|
//! | `console` | Each line `$ command` by bash (a line that ends in `\` goes on); the lines below it are what it prints, errors included. A command with no lines below must print nothing and succeed. A line `^C` says that the command runs on: the page goes on once its first line has come, all shown lines must have come by the page's end, or before the page gets another hub, and then it is interrupted. |
//! | `v1` | A WebSocket with `fanfare.v1`: `> text` is sent, `< text` is the next message, `< close CODE REASON` the end. `$ command` is run meanwhile and must succeed. A first line `GET /ws?topic=…` opens another target than `/ws`. |
//! | `ws` | The same without a subprotocol: raw WebSocket, or Socket.IO at `GET /socket.io/?EIO=4&transport=websocket`. |
//! | `http` | A request, each line behind `> `, and its response, each line behind `< `. The status and the body must be as shown, and the shown fields among those of the response. Of a response without end only the shown lines are awaited. |
//! | `toml` | A configuration: `fanfare config check` must accept it. If its first line is `# NAME`, the page's commands find it as the file NAME; only `fanfare.toml`, or a block without a name, is checked. |
//! | `json` | Must be JSON. |
//! | `js`, `python` | By Node and Python, with the packages of `scripts/examples`. Comments `// → text` and `# → text` say which lines it prints. Such an example runs on like one with `^C`; one without such a comment must end, and succeed. |
//! | `text` | Not an example, and not run. |
//!
//! **One page is one conversation.** Its blocks share a hub, a folder (where its commands run), and exported variables.
//! A `$NAME` in what is sent by `v1`, `ws` and `http` is such a variable.
//! The address `127.0.0.1:8080` stands for the page's hub, `127.0.0.1:6379` for its Redis. On the line before a block may stand
//!
//! - `<!-- redis -->`: the block is run with a hub on a Redis, another hub than the page's other one;
//! - `<!-- serve FLAGS -->`: from here on the page's hub is a new one with these flags of `fanfare serve`;
//! - `<!-- hub -->`, before a `toml` block: the same, with this configuration;
//! - `<!-- not run: REASON -->`: the block is an example that cannot be run here, whatever its tag.
//!
//! **What differs from run to run** is compared in one way everywhere: `…` stands for anything in a line, and alone for any
//! number of lines; a number of four digits or more, or with a point, for any number; a time in the form of RFC 3339 for any
//! such time. The first part of an id (ten digits or more before a `-`) stands for another one, the same throughout the page, also in
//! commands. All else is literal.
//!
//! `FANFARE_PAGES=protocols cargo test --test it docs_examples` plays only pages whose name contains that word.

mod exchange;
mod page;
mod player;
mod process;
mod shown;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
};

use page::read_blocks;
use player::Player;

/// Pages outside `docs/`, from the root of the repository.
const MORE_PAGES: &[&str] = &["README.md"];

/// All pages with examples, by name.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(root.join("docs")).expect("the documents are there");
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.extend(MORE_PAGES.iter().map(|page| root.join(page)));
    paths.sort();
    paths
}

#[test]
fn every_example_does_what_is_shown() {
    let wanted = env::var("FANFARE_PAGES").unwrap_or_default();
    let chosen: Vec<PathBuf> = pages().into_iter().filter(|path| path.to_string_lossy().contains(&wanted)).collect();
    assert!(!chosen.is_empty(), "no page is called {wanted:?}");
    let failures: Vec<String> = thread::scope(|scope| {
        let players = chosen.iter().map(|path| {
            scope.spawn(move || {
                let text = fs::read_to_string(path).expect("the page is readable");
                play(&text).map_err(|failure| format!("{}:{failure}", path.display()))
            })
        });
        let players: Vec<_> = players.collect();
        players.into_iter().filter_map(|player| player.join().expect("failures are caught").err()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs all examples of a page. The error begins with the line of the block that failed.
fn play(text: &str) -> Result<(), String> {
    let blocks = read_blocks(text)?;
    let mut player = Player::new();
    for block in &blocks {
        let at = |failure| format!("{}: {failure}", block.line);
        caught(|| player.play(block)).map_err(at)?;
    }
    player.finish()
}

/// The helpers of the tests panic if a hub misbehaves.
fn caught(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned())).unwrap_or_else(|| "a panic".to_owned()))
    })
}

/// Plays a page of one block.
fn play_block(tag: &str, lines: &[&str]) -> Result<(), String> {
    play(&format!("# A page\n\n```{tag}\n{}\n```\n", lines.join("\n")))
}

#[test]
fn a_right_example_of_each_kind_passes() {
    let right: [(&str, &[&str]); 9] = [
        ("console", &["$ echo a; echo b >&2", "a", "b", "$ true"]),
        ("console", &["$ echo one; sleep 60", "one", "^C"]),
        ("v1", &["> {\"op\":\"ping\",\"ref\":1}", "< {\"op\":\"pong\",\"ref\":1}"]),
        ("ws", &["GET /ws?topic=t", "$ curl -d '{\"n\":1}' http://127.0.0.1:8080/publish/t > id", "< {\"n\":1}"]),
        ("http", &["> GET /topics/t HTTP/1.1", "> Host: 127.0.0.1:8080", ">", "< HTTP/1.1 404 Not Found", "<", "< …"]),
        ("toml", &["[drain]", "window = \"3s\""]),
        ("json", &["{\"a\":1}"]),
        ("js", &["console.log('http://127.0.0.1:8080')   // → http://127.0.0.1:8080", "setInterval(() => {}, 1000)"]),
        ("python", &["print(1 + 1, flush=True)  # → 2"]),
    ];
    for (tag, lines) in right {
        assert_eq!(play_block(tag, lines), Ok(()), "{tag}: {lines:?}");
    }
}

#[test]
fn a_wrong_example_of_each_kind_fails() {
    let wrong: [(&str, &[&str]); 15] = [
        ("console", &["$ echo a", "b"]),
        ("console", &["$ echo a; echo b", "a"]),
        ("console", &["$ echo a", "a", "b"]),
        ("console", &["$ echo a"]),
        ("console", &["$ false"]),
        ("console", &["$ echo one", "one", "two", "^C"]),
        ("v1", &["> {\"op\":\"ping\",\"ref\":1}", "< {\"op\":\"pong\",\"ref\":2}"]),
        ("http", &["> GET /health HTTP/1.1", "> Host: 127.0.0.1:8080", ">", "< HTTP/1.1 404 Not Found"]),
        ("http", &["> GET /health HTTP/1.1", "> Host: hub", ">", "< HTTP/1.1 200 OK", "< Content-Type: text/plain"]),
        ("http", &["> GET /health HTTP/1.1", "> Host: hub", ">", "< HTTP/1.1 200 OK", "<", "< {}"]),
        ("toml", &["[drain]", "windows = \"3s\""]),
        ("json", &["{\"a\":1"]),
        ("js", &["console.log(1)  // → 2"]),
        ("python", &["raise SystemExit(1)"]),
        ("sh", &["true"]),
    ];
    for (tag, lines) in wrong {
        let failure = play_block(tag, lines).expect_err(&format!("{tag}: {lines:?}"));
        assert!(failure.starts_with("3: "), "it names the line of the block: {failure}");
    }
}

#[test]
fn an_example_that_is_not_run_has_a_reason() {
    let page = |directive: &str| format!("<!-- {directive} -->\n```sh\nfalse\n```\n");
    assert_eq!(play(&page("not run: it fails")), Ok(()));
    for without in ["not run", "not run:", "not run: ", "run"] {
        let failure = play(&page(without)).expect_err(without);
        assert!(failure.starts_with("2: "), "{failure}");
    }
}

#[test]
fn ids_are_the_same_throughout_a_page() {
    let page = |again: &str| {
        let publish = "$ curl -d 1 http://127.0.0.1:8080/publish/t\n{\"id\":\"7710467327018517069-1\",\"topic\":\"t\"}";
        let resume = "> {\"op\":\"subscribe\",\"topic\":\"t\",\"since\":\"7710467327018517069-1\"}";
        let resumed = format!("< {{\"op\":\"subscribed\",\"topic\":\"t\",\"id\":\"{again}\"}}");
        format!("```console\n{publish}\n```\n\n```v1\n{resume}\n{resumed}\n```\n")
    };
    assert_eq!(play(&page("7710467327018517069-1")), Ok(()));
    let other = play(&page("7710467327018517069-2")).expect_err("another event's id");
    assert!(other.starts_with("6: "), "{other}");
    play(&page("8810467327018517069-1")).expect_err("another hub's id");
}

#[test]
fn a_page_goes_on_beside_what_runs_on() {
    let page = |data: &str| {
        let listen =
            "$ curl -N 'http://127.0.0.1:8080/sse?topic=t'\n:\nretry: 3811\nid: 7710467327018517069-1\ndata: 1\n^C";
        let publish = format!("$ curl -d {data} http://127.0.0.1:8080/publish/t\n…");
        format!("```console\n{listen}\n```\n```console\n{publish}\n```\n")
    };
    assert_eq!(play(&page("1")), Ok(()));
    play(&page("2")).expect_err("another payload");
}

#[test]
fn a_page_may_have_another_hub() {
    let page = |mode: &str| {
        let key = "```console\n$ head -c 32 /dev/zero | tr '\\0' k > jwt.key\n```\n";
        let config = format!("<!-- hub -->\n```toml\n[auth]\nmode = \"{mode}\"\nsecret_file = \"jwt.key\"\n```\n");
        let refused = "```http\n> GET /topics HTTP/1.1\n> Host: hub\n>\n< HTTP/1.1 401 Unauthorized\n```\n";
        [key, &config, refused].concat()
    };
    assert_eq!(play(&page("jwt")), Ok(()));
    play(&page("none")).expect_err("the hub asks for no token");
    let with_redis = |directive: &str| {
        format!(
            "{directive}\n```console\n$ redis-cli PUBSUB NUMPAT\n0\n$ curl http://127.0.0.1:8080/ready\n{{…\"redis\"…}}\n```\n"
        )
    };
    assert_eq!(play(&with_redis("<!-- redis -->")), Ok(()));
    play(&with_redis("")).expect_err("a hub without Redis");
    play(&with_redis("<!-- reddis -->")).expect_err("an unknown word");
}
