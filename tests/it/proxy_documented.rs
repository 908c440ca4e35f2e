//! The nginx configuration and the examples of the ESP platform's document, unchanged, in front of three hubs. Users of the
//! platform need not change anything.

use serde_json::{Value, json};

use crate::support::{
    browser::Page,
    conversation::Conversation,
    example::run_in_node,
    guarded::{Guarded, PASSWORD, USER},
    hub::Hub,
    nginx::Nginx,
    redis::RedisServer,
    run_program, stdout_of, wait_until,
};

const SITE: &str = include_str!("documents/esp_nginx.conf");
const SSE_EXAMPLE: &str = include_str!("documents/esp_sse.js");
const SOCKETIO_EXAMPLE: &str = include_str!("documents/esp_socketio.js");

/// Three hubs that share events through one Redis and accept each other's tokens, behind the document's nginx.
struct Setup {
    nginx: Nginx,
    hubs: [Guarded; 3],
    _redis: RedisServer,
}

impl Setup {
    fn start() -> Self {
        let redis = RedisServer::start();
        let hubs = [(); 3].map(|()| Guarded::start("1h", &["--redis", &redis.url()], &[]));
        let known = ["127.0.0.1:8000;", "127.0.0.1:8001;", "127.0.0.1:8002;"];
        let addresses = hubs.each_ref().map(|guarded| format!("{};", guarded.hub.address()));
        let certificate = [("/path/to/cert.pem", "hub.pem"), ("/path/to/key.pem", "hub.key")];
        let changes = known.into_iter().zip(addresses.iter().map(String::as_str)).chain(certificate);
        let nginx = Nginx::start_site(SITE, &changes.collect::<Vec<_>>());
        Self { nginx, hubs, _redis: redis }
    }

    /// Sends `body` to a route of the platform, as the document does: by curl, through nginx, to any hub.
    #[track_caller]
    fn post(&self, door: &str, token: Option<&str>, body: &Value) -> Value {
        let (certificate, url) = (self.nginx.certificate(), format!("{}{door}", self.nginx.url()));
        let (credentials, body) = (format!("Authorization: Bearer {}", token.unwrap_or_default()), body.to_string());
        let request = ["-X", "POST", &url, "-H", "Content-Type: application/json", "-d", &body, "-H", &credentials];
        let fixed = ["--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--cacert", &certificate];
        let answer = stdout_of(&run_program("curl", "curl", &[&fixed[..], &request[..]].concat()));
        serde_json::from_str(&answer).expect("it answers in JSON")
    }

    /// A token, by the password.
    #[track_caller]
    fn sign_in(&self, name: &str) -> String {
        let granted = self.post("/api/v1/auth/login", None, &json!({ "username": name, "password": PASSWORD }));
        assert_eq!((&granted["token_type"], &granted["expires_in"]), (&json!("Bearer"), &json!(3600)));
        granted["access_token"].as_str().expect("it is a text").to_owned()
    }

    /// What a device sends: telemetry, and then an alert, with data by which the test recognizes them.
    #[track_caller]
    fn ingest(&self) {
        let token = self.sign_in("admin");
        let telemetry = json!({ "well_id": "WELL-001", "flow_rate": 1000.5, "motor_temp": 85.5 });
        self.post("/api/v1/telemetry/ingest", Some(&token), &telemetry);
        let alert = json!({ "well_id": "WELL-001", "type": "high_vibration", "severity": "critical", "message": "!" });
        self.post("/api/v1/alerts", Some(&token), &alert);
    }

    /// The number of subscribers of a well, at each hub.
    fn listeners(&self) -> [u64; 3] {
        self.hubs.each_ref().map(|guarded| guarded.listeners("wells.WELL-001"))
    }

    /// Waits until there are `count` of them.
    #[track_caller]
    fn wait_for_listeners(&self, count: u64) {
        wait_until("as many listen to the well", || (self.listeners().iter().sum::<u64>() == count).then_some(()));
    }

    /// An example of the document's, as printed but for the address and the token.
    fn example(&self, text: &str) -> String {
        text.replace("http://localhost:8000", &self.nginx.url()).replace("YOUR_JWT_TOKEN", &self.sign_in(USER))
    }
}

/// The numbers that `ingest` sends, as an example is given them.
#[track_caller]
fn check_told(dashboard: &Value, notification: &Value) {
    assert_eq!((&dashboard["event"], &dashboard["well_id"]), (&json!("telemetry_update"), &json!("WELL-001")));
    assert_eq!((&dashboard["data"]["flow_rate"], &dashboard["data"]["motor_temp"]), (&json!(1000.5), &json!(85.5)));
    assert_eq!((&notification["event"], &notification["well_id"]), (&json!("alert"), &json!("WELL-001")));
    assert_eq!(notification["alert"]["type"], "high_vibration");
}

/// The same, from the output of an example.
#[track_caller]
fn check_output(running: &Conversation) {
    let [dashboard, notification] = ["dashboard ", "notification "]
        .map(|word| serde_json::from_str(&running.wait_for(word)).expect("the example's surroundings print JSON"));
    check_told(&dashboard, &notification);
}

/// Functions that the examples use and do not define.
const IN_NODE: &str = r#"
    import { EventSource } from "eventsource";
    import { io } from "socket.io-client";
    const tell = word => data => console.log(word, JSON.stringify(data));
    const [updateDashboard, showAlertNotification] = [tell("dashboard"), tell("notification")];
"#;

#[test]
fn the_example_of_a_stream_runs_in_a_browser() {
    let setup = Setup::start();
    let script = r#"
        const tell = word => data => report(word, data);
        const [updateDashboard, showAlertNotification] = [tell("dashboard"), tell("notification")];
    "#;
    let mut page = Page::open(&setup.nginx.url(), &format!("{script}{}", setup.example(SSE_EXAMPLE)));
    setup.wait_for_listeners(1);
    setup.ingest();
    let [dashboard, notification] = [page.next(), page.next()];
    assert_eq!((&dashboard[0], &notification[0]), (&json!("dashboard"), &json!("notification")));
    check_told(&dashboard[1], &notification[1]);
}

#[test]
fn the_example_of_a_stream_runs_in_node() {
    let setup = Setup::start();
    let script = format!("{IN_NODE}{}", setup.example(SSE_EXAMPLE));
    let running = run_in_node(&script, Some(&setup.nginx.certificate()));
    running.wait_for("SSE connection established");
    running.wait_for("Connected: Connected to ESP IoT Platform SSE stream");
    setup.ingest();
    check_output(&running);
}

/// Each client begins with a WebSocket, so it stays at one hub.
#[test]
fn the_example_of_a_socket_runs_in_node() {
    let setup = Setup::start();
    let script = format!("{IN_NODE}{}", setup.example(SOCKETIO_EXAMPLE));
    let running = [(); 3].map(|()| run_in_node(&script, Some(&setup.nginx.certificate())));
    setup.wait_for_listeners(3);
    assert!(1 < setup.listeners().iter().filter(|count| **count != 0).count(), "at several hubs");
    setup.ingest();
    running.iter().for_each(check_output);
}

/// The document's round robin breaks sessions that begin with polling: requests reach hubs that do not know the session.
/// (`scripts/deploy/README.md` has the remedy.)
#[test]
fn a_polling_session_is_known_to_one_hub_only() {
    let hubs = [Hub::start(), Hub::start()];
    let opened = hubs[0].get("/socket.io/?EIO=4&transport=polling").text();
    let handshake: Value = serde_json::from_str(opened.trim_start_matches('0')).expect("a packet of type 0");
    let poll = format!("/socket.io/?EIO=4&transport=polling&sid={}", handshake["sid"].as_str().expect("it has a name"));
    let elsewhere = hubs[1].get(&poll);
    assert_eq!((elsewhere.status, elsewhere.json()), (400, json!({ "code": 1, "message": "Session ID unknown" })));
    assert_eq!(hubs[0].post(&poll, "40").text(), "ok");
    assert!(hubs[0].get(&poll).text().starts_with("40{"));
}
