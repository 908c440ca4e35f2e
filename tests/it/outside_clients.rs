//! Clients of other projects: curl, and a WebSocket library of another language.

use crate::support::{
    Folder, conversation::Conversation, hub::Hub, run_program, sse::SseClient, stdout_of, wait_until,
    websocket::WebSocketClient,
};

fn curl(arguments: &[&str]) -> String {
    stdout_of(&run_program("curl", "curl", &[&["--silent", "--show-error", "--max-time", "20"], arguments].concat()))
}

#[test]
fn curl_publishes() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let url = format!("{}/publish/t", hub.url(0));
    let answer = curl(&["--data-binary", "{\"n\": 1}", &url]);
    assert!(answer.contains("\"topic\":\"t\""), "{answer}");
    curl(&["--header", "Event-Type: made", "--data-binary", "two", &url]);
    curl(&["--header", "Transfer-Encoding: chunked", "--data-binary", "three", &url]);
    curl(&["--http1.0", "--data-binary", "four", &url]);
    // For larger bodies curl sends `Expect: 100-continue`.
    curl(&["--header", "Expect: 100-continue", "--data-binary", "five", &url]);
    let received: Vec<(String, String)> = (0..5).map(|_| stream.next()).map(|event| (event.kind, event.data)).collect();
    let expected = [("", "{\"n\": 1}"), ("made", "two"), ("", "three"), ("", "four"), ("", "five")];
    assert_eq!(received, expected.map(|(kind, data)| (kind.to_owned(), data.to_owned())));
    let batch = r#"[{"topic":"t","data":6},{"topic":"t","data":7}]"#;
    curl(&["--data-binary", batch, &format!("{}/publish", hub.url(0))]);
    assert_eq!([stream.next_data(), stream.next_data()], ["6", "7"]);
}

#[test]
fn curl_uploads_a_large_file() {
    let (hub, folder) = (Hub::start(), Folder::new());
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let (file, payload) = (folder.path("payload"), "x".repeat(1 << 20));
    std::fs::write(&file, &payload).expect("the folder is ours");
    curl(&["--data-binary", &format!("@{file}"), &format!("{}/publish/t", hub.url(0))]);
    assert_eq!(stream.next_data(), payload);
    std::fs::write(&file, "x".repeat((1 << 20) + 1)).expect("the folder is ours");
    let status = ["--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary", &format!("@{file}")];
    assert_eq!(curl(&[&status[..], &[&format!("{}/publish/t", hub.url(0))]].concat()), "413");
}

#[test]
fn curl_listens() {
    let hub = Hub::start();
    for version in ["--http1.1", "--http1.0"] {
        let url = format!("{}/sse?topic=t", hub.url(0));
        let listening = Conversation::start("curl", "curl", &["--silent", "--no-buffer", version, "--include", &url]);
        let head: Vec<String> =
            std::iter::from_fn(|| Some(listening.next_line()).filter(|line| !line.is_empty())).collect();
        assert!(head[0].contains(" 200"), "{head:?}");
        assert!(head.iter().any(|line| line == "Content-Type: text/event-stream"), "{head:?}");
        assert_eq!(listening.next_line(), ":", "at once, before any event");
        let retry = listening.next_line();
        assert!(retry.starts_with("retry: "), "{retry}");
        let id = hub.publish("t", "x");
        assert_eq!(
            [listening.next_line(), listening.next_line(), listening.next_line()],
            [&format!("id: {id}"), "data: x", ""]
        );
        drop(listening);
        hub.wait_for_listeners("t", 0);
    }
}

#[test]
fn curl_through_a_unix_socket() {
    let folder = Folder::new();
    let path = folder.path("hub.sock");
    let _hub = Hub::start_with(&["--listen", &format!("unix:{path}")], &[]);
    assert!(curl(&["--unix-socket", &path, "http://hub/health"]).contains("\"status\":\"ok\""));
}

/// Connects by the Python library `websockets`, prints each message, and sends each line of its input.
const PYTHON: &str = r#"
import asyncio, sys, websockets

async def main(url, protocols):
    async with websockets.connect(url, subprotocols=protocols or None, max_size=None) as socket:
        print("open", socket.subprotocol, flush=True)
        async def send():
            while line := await asyncio.to_thread(sys.stdin.readline):
                line = line.rstrip("\n")
                if line == "PING":
                    await (await socket.ping(b"hello"))
                    print("pong", flush=True)
                elif line == "CLOSE":
                    await socket.close()
                elif line == "FRAGMENTS":
                    await socket.send(['{"op":', '"ping",', '"ref":1}'])
                else:
                    await socket.send(line)
        sending = asyncio.create_task(send())
        try:
            async for message in socket:
                print("got", len(message) if len(message) > 1000 else message, flush=True)
        except websockets.ConnectionClosed:
            pass
        print("closed", socket.close_code, socket.close_reason, flush=True)
    sending.cancel()

asyncio.run(main(sys.argv[1], sys.argv[2:]))
"#;

/// Debian's own interpreter, because `python3-websockets` is installed for that one.
fn python(arguments: &[&str]) -> Conversation {
    Conversation::start("/usr/bin/python3", "python3-websockets", &[&["-c", PYTHON], arguments].concat())
}

fn websocket_url(hub: &Hub, target: &str) -> String {
    format!("ws://{}{target}", hub.address())
}

#[test]
fn python_holds_a_raw_socket() {
    let hub = Hub::start();
    let mut socket = python(&[&websocket_url(&hub, "/ws?topic=t")]);
    assert_eq!(socket.next_line(), "open None");
    hub.publish("t", "héllo");
    assert_eq!(socket.next_line(), "got héllo");
    hub.publish("t", "x".repeat(1 << 20));
    assert_eq!(socket.next_line(), "got 1048576");
    socket.say("PING");
    assert_eq!(socket.next_line(), "pong");
    socket.say("CLOSE");
    assert_eq!(socket.next_line(), "closed 1000");
    hub.wait_for_listeners("t", 0);
}

#[test]
fn python_speaks_the_subprotocol() {
    let hub = Hub::start();
    let mut socket = python(&[&websocket_url(&hub, "/ws"), "unheard-of", "fanfare.v1"]);
    assert_eq!(socket.next_line(), "open fanfare.v1");
    socket.say(r#"{"op":"subscribe","topic":"t","ref":1}"#);
    let subscribed = socket.next_line();
    assert!(subscribed.contains("\"op\":\"subscribed\"") && subscribed.contains("\"ref\":1"), "{subscribed}");
    hub.publish("t", "{\"n\":1}");
    let event = socket.next_line();
    assert!(event.contains("\"op\":\"event\"") && event.contains("{\"n\":1}"), "{event}");
    socket.say("FRAGMENTS");
    assert!(socket.next_line().contains("\"op\":\"pong\""));
    let mut other = WebSocketClient::open_v1(&hub, "/ws?topic=u");
    socket.say(r#"{"op":"publish","topic":"u","data":"from python"}"#);
    assert_eq!(other.next_json()["data"], "from python");
    assert!(socket.next_line().contains("\"op\":\"published\""));
    assert!(hub.terminate().success());
    assert!(socket.next_line().starts_with("closed 1012 {\"reconnect_in_ms\":"));
}

#[test]
fn python_gets_the_reason_of_an_error() {
    let hub = Hub::start();
    let mut socket = python(&[&websocket_url(&hub, "/ws"), "fanfare.v1"]);
    assert_eq!(socket.next_line(), "open fanfare.v1");
    socket.say(&"x".repeat(70_000));
    let closed = socket.next_line();
    assert!(closed.starts_with("closed 1009"), "{closed}");
    wait_until("the socket is gone", || (hub.stats()["connections"]["websocket"] == 0).then_some(()));
    assert_eq!(socket.end(), Vec::<String>::new());
}
