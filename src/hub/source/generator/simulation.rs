//! Simulated content of demonstration streams: a machine's load as random walks, users who log in and out, orders, notifications.
//! Values change plausibly, so that a dashboard has something to show.

use rand::{RngExt, rngs::SmallRng};
use serde_json::{Value, json};

/// One simulated event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleEvent {
    /// One of the documented types.
    pub(super) kind: &'static str,
    /// A sentence to display.
    pub(super) message: String,
    /// An object whose members depend on `kind`.
    pub(super) data: Value,
}

/// The state of one stream's simulation.
#[derive(Clone, Debug)]
pub(super) enum Simulation {
    /// Orders, notifications and user activity, mixed.
    General(GeneralFeed),
    /// A machine under load.
    System(MachineLoad),
    /// Users who log in, act, and log out.
    People(UserActivity),
    Notifications(Notifications),
}

impl Simulation {
    /// A new simulation for a stream of this name.
    pub(super) fn of(stream: &str, random: &mut SmallRng) -> Self {
        match stream.strip_prefix("demo-").unwrap_or(stream) {
            "system" => Self::System(MachineLoad::new(random)),
            "user-activity" => Self::People(UserActivity::default()),
            "notifications" => Self::Notifications(Notifications::default()),
            _ => Self::General(GeneralFeed {
                next_order: random.random_range(10_000..20_000),
                activity: UserActivity::default(),
            }),
        }
    }

    pub(super) fn next(&mut self, random: &mut SmallRng) -> SampleEvent {
        match self {
            Self::General(shop) => shop.next(random),
            Self::System(machine) => machine.next(random),
            Self::People(activity) => activity.next(random),
            Self::Notifications(notices) => notices.next(random),
        }
    }
}

/// Above these values, in percent, a machine raises an alert.
const CPU_LIMIT: f64 = 80.0;
const MEMORY_LIMIT: f64 = 85.0;
const DISK_LIMIT: f64 = 90.0;

/// A machine: each value is a random walk that drifts back to its mean.
#[derive(Clone, Debug)]
pub(super) struct MachineLoad {
    cpu: RandomWalk,
    memory: RandomWalk,
    disk: RandomWalk,
    turn: u64,
}

impl MachineLoad {
    fn new(random: &mut SmallRng) -> Self {
        let mut at = |home: f64, step: f64| RandomWalk { value: home + random.random_range(-step..step), home, step };
        Self { cpu: at(58.0, 14.0), memory: at(66.0, 7.0), disk: at(84.0, 3.0), turn: 0 }
    }

    fn next(&mut self, random: &mut SmallRng) -> SampleEvent {
        self.turn += 1;
        let (cpu, memory, disk) = (self.cpu.walk(random), self.memory.walk(random), self.disk.walk(random));
        match self.turn % 5 {
            0 => service_status(random),
            _ if CPU_LIMIT < cpu => alert("High CPU usage detected", "cpu_percent", cpu, CPU_LIMIT),
            _ if MEMORY_LIMIT < memory => alert("High memory usage detected", "memory_percent", memory, MEMORY_LIMIT),
            _ if DISK_LIMIT < disk => alert("Disk space is running low", "disk_percent", disk, DISK_LIMIT),
            _ => SampleEvent {
                kind: "metric_update",
                message: format!("CPU {cpu:.1}%, memory {memory:.1}%, disk {disk:.1}%"),
                data: json!({ "cpu_percent": cpu, "memory_percent": memory, "disk_percent": disk }),
            },
        }
    }
}

fn alert(message: &str, name: &str, value: f64, threshold: f64) -> SampleEvent {
    let severity = if threshold + 8.0 < value { "critical" } else { "warning" };
    let data = json!({ name: value, "threshold": threshold, "severity": severity });
    SampleEvent { kind: "system_alert", message: format!("{message}: {value:.1}%"), data }
}

fn service_status(random: &mut SmallRng) -> SampleEvent {
    let service = pick(&["api", "database", "cache", "queue", "search"], random);
    let (status, latency_ms) = match random.random_range(0..10) {
        0 => ("degraded", random.random_range(250..900)),
        _ => ("healthy", random.random_range(2..60)),
    };
    let data = json!({ "service": service, "status": status, "latency_ms": latency_ms });
    SampleEvent { kind: "data_update", message: format!("Service {service} is {status}"), data }
}

/// A value in percent.
#[derive(Clone, Debug)]
struct RandomWalk {
    value: f64,
    home: f64,
    step: f64,
}

impl RandomWalk {
    /// One step on, to a tenth.
    fn walk(&mut self, random: &mut SmallRng) -> f64 {
        let drift = (self.home - self.value) * 0.1;
        let next = self.value + drift + random.random_range(-self.step..self.step);
        self.value = (next.clamp(1.0, 99.0) * 10.0).round() / 10.0;
        self.value
    }
}

/// Users, and which of them are logged in: nobody logs out who is not.
#[derive(Clone, Debug, Default)]
pub(super) struct UserActivity {
    present: [bool; USERS.len()],
}

const USERS: [&str; 8] = ["u1001", "u1002", "u1003", "u1004", "u1005", "u1006", "u1007", "u1008"];

impl UserActivity {
    fn next(&mut self, random: &mut SmallRng) -> SampleEvent {
        let who = random.random_range(0..USERS.len());
        let (action, message) = match (self.present[who], random.random_range(0..6)) {
            (false, _) => ("login", "User logged in"),
            (true, 0 | 1) => ("logout", "User logged out"),
            (true, 2) => ("update_profile", "User updated the profile"),
            (true, 3) => ("change_permission", "User's permissions changed"),
            (true, _) => ("create_post", "User published a post"),
        };
        self.present[who] = action != "logout";
        let online = self.present.iter().filter(|present| **present).count();
        let data = json!({ "user_id": USERS[who], "action": action, "online": online });
        SampleEvent { kind: "user_action", message: message.to_owned(), data }
    }
}

/// User activity, orders with ascending numbers, and notifications.
#[derive(Clone, Debug)]
pub(super) struct GeneralFeed {
    next_order: u32,
    activity: UserActivity,
}

impl GeneralFeed {
    fn next(&mut self, random: &mut SmallRng) -> SampleEvent {
        match random.random_range(0..5) {
            0 | 1 => self.order(random),
            2 => notice(random),
            _ => self.activity.next(random),
        }
    }

    fn order(&mut self, random: &mut SmallRng) -> SampleEvent {
        self.next_order += 1;
        let (order, item) = (format!("ORD-{}", self.next_order), pick(&["widget-a", "widget-b", "gadget"], random));
        let (quantity, cents) = (random.random_range(1..5_u32), random.random_range(499..9_999_u32));
        let total_amount = f64::from(quantity * cents) / 100.0;
        let data = json!({ "order_id": order, "item": item, "quantity": quantity, "total_amount": total_amount });
        SampleEvent { kind: "data_update", message: format!("Order {order} was placed"), data }
    }
}

/// Notifications, numbered.
#[derive(Clone, Debug, Default)]
pub(super) struct Notifications {
    count: u64,
}

impl Notifications {
    fn next(&mut self, random: &mut SmallRng) -> SampleEvent {
        self.count += 1;
        let mut sample = notice(random);
        sample.data["number"] = self.count.into();
        sample
    }
}

fn notice(random: &mut SmallRng) -> SampleEvent {
    let (message, category) = pick(
        &[
            ("You have a new message", "push"),
            ("A report that you subscribed to is ready", "push"),
            ("Your meeting starts in 15 minutes", "reminder"),
            ("A backup is scheduled for tonight", "reminder"),
            ("Sign-in from a new device", "alert"),
            ("Maintenance window announced", "announcement"),
        ],
        random,
    );
    let priority = pick(&["low", "normal", "high"], random);
    let data = json!({ "category": category, "priority": priority });
    SampleEvent { kind: "notification", message: message.to_owned(), data }
}

fn pick<T: Copy>(choices: &[T], random: &mut SmallRng) -> T {
    choices[random.random_range(0..choices.len())]
}
