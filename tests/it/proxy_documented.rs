//! The nginx configuration and the examples that the ESP platform's document prints, as they stand there, in front of
//! three hubs: those who have them change nothing.

use serde_json::{Value, json};

use crate::support::{browser::Page, example::run_in_node, hub::Hub, nginx::Nginx, redis::RedisServer, wait_until};

const SITE: &str = include_str!("documents/esp_nginx.conf");
const SSE_EXAMPLE: &str = include_str!("documents/esp_sse.js");

/// Three hubs that hear of each other's events through one Redis, and the document's nginx.
struct Scene {
    nginx: Nginx,
    hubs: [Hub; 3],
    _redis: RedisServer,
}

impl Scene {
    fn start() -> Self {
        let redis = RedisServer::start();
        let hubs = [(); 3].map(|()| Hub::start_with(&["--redis", &redis.url()], &[]));
        let known = ["127.0.0.1:8000;", "127.0.0.1:8001;", "127.0.0.1:8002;"];
        let addresses = hubs.each_ref().map(|hub| format!("{};", hub.address()));
        let certificate = [("/path/to/cert.pem", "hub.pem"), ("/path/to/key.pem", "hub.key")];
        let changes = known.into_iter().zip(addresses.iter().map(String::as_str)).chain(certificate);
        let nginx = Nginx::start_site(SITE, &changes.collect::<Vec<_>>());
        Self { nginx, hubs, _redis: redis }
    }

    /// Publishes at the hub `index`.
    #[track_caller]
    fn publish(&self, index: usize, target: &str, data: &str) {
        assert_eq!(self.hubs[index].post(&format!("/publish/{target}"), data).status, 200);
    }

    /// Waits until `count` connections listen to `topic`, at whatever hub.
    #[track_caller]
    fn wait_for_listeners(&self, topic: &str, count: u64) {
        wait_until(&format!("{count} listeners of {topic}"), || {
            let listeners: u64 = self.hubs.iter().filter_map(|hub| hub.listeners(topic)).sum();
            (listeners == count).then_some(())
        });
    }

    /// The document's example of an event stream, as printed but for the address and the token.
    fn sse_example(&self) -> String {
        SSE_EXAMPLE.replace("http://localhost:8000", &self.nginx.url()).replace("YOUR_JWT_TOKEN", "any")
    }
}

const TELEMETRY: &str = r#"{"event":"telemetry_update","well_id":"WELL-001","data":{"flow_rate":1000.5}}"#;
const ALERT: &str = r#"{"event":"alert","well_id":"WELL-001","alert":{"type":"high_vibration"}}"#;

#[test]
fn the_example_of_a_stream_runs_in_a_browser() {
    let scene = Scene::start();
    let script = r#"
        const [updateDashboard, showAlertNotification] = ["dashboard", "notification"].map(word => data => report(word, data));
    "#;
    let mut page = Page::open(&scene.nginx.url(), &format!("{script}{}", scene.sse_example()));
    scene.wait_for_listeners("wells.WELL-001", 1);
    for (index, (kind, data, word)) in
        [("telemetry_update", TELEMETRY, "dashboard"), ("alert", ALERT, "notification")].into_iter().enumerate()
    {
        scene.publish(index, &format!("wells.WELL-001?type={kind}"), data);
        page.expect(json!([word, serde_json::from_str::<Value>(data).expect("it is JSON")]));
    }
}

#[test]
fn the_example_of_a_stream_runs_in_node() {
    let scene = Scene::start();
    let script = r#"
        import { EventSource } from "eventsource";
        const tell = word => data => console.log(word, JSON.stringify(data));
        const [updateDashboard, showAlertNotification] = [tell("dashboard"), tell("notification")];
    "#;
    let running = run_in_node(&format!("{script}{}", scene.sse_example()), Some(&scene.nginx.certificate()));
    running.wait_for("SSE connection established");
    running.wait_for("Connected: Connected to Alkhorayef ESP IoT Platform SSE stream");
    scene.publish(1, "wells.WELL-001?type=telemetry_update", TELEMETRY);
    assert_eq!(running.wait_for("dashboard "), TELEMETRY);
    scene.publish(2, "wells.WELL-001?type=alert", ALERT);
    assert_eq!(running.wait_for("notification "), ALERT);
}
