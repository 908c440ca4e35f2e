//! What happens on a stream: values that wander, people who come and go, orders. It changes as such things do, so that a
//! dashboard in front of it has something to show.

use rand::{RngExt, rngs::SmallRng};
use serde_json::{Value, json};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Happening {
    /// One of the documented types.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) message: String,
    /// For programs.
    pub(super) data: Value,
}

/// What a stream is about, and how things stand there.
#[derive(Clone, Debug)]
pub(super) enum Scene {
    /// A bit of everything.
    General(Shop),
    /// A machine under load.
    System(Machine),
    /// People at work.
    People(Office),
    /// What people are told.
    Notices(Notices),
}

impl Scene {
    /// The scene of a stream of this name, as it is in the beginning.
    pub(super) fn of(stream: &str, chance: &mut SmallRng) -> Self {
        match stream.strip_prefix("demo-").unwrap_or(stream) {
            "system" => Self::System(Machine::new(chance)),
            "user-activity" => Self::People(Office::default()),
            "notifications" => Self::Notices(Notices::default()),
            _ => Self::General(Shop { next_order: chance.random_range(10_000..20_000), office: Office::default() }),
        }
    }

    /// What happens next.
    pub(super) fn next(&mut self, chance: &mut SmallRng) -> Happening {
        match self {
            Self::General(shop) => shop.next(chance),
            Self::System(machine) => machine.next(chance),
            Self::People(office) => office.next(chance),
            Self::Notices(notices) => notices.next(chance),
        }
    }
}

/// From which of its values on a machine complains.
const CPU_LIMIT: f64 = 80.0;
const MEMORY_LIMIT: f64 = 85.0;
const DISK_LIMIT: f64 = 90.0;

/// A machine: each value wanders, and drifts back to where it is at home.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    cpu: Wandering,
    memory: Wandering,
    disk: Wandering,
    turn: u64,
}

impl Machine {
    fn new(chance: &mut SmallRng) -> Self {
        let mut at = |home: f64, step: f64| Wandering { value: home + chance.random_range(-step..step), home, step };
        Self { cpu: at(58.0, 14.0), memory: at(66.0, 7.0), disk: at(84.0, 3.0), turn: 0 }
    }

    fn next(&mut self, chance: &mut SmallRng) -> Happening {
        self.turn += 1;
        let (cpu, memory, disk) = (self.cpu.walk(chance), self.memory.walk(chance), self.disk.walk(chance));
        match self.turn % 5 {
            0 => service_status(chance),
            _ if CPU_LIMIT < cpu => alert("High CPU usage detected", "cpu_percent", cpu, CPU_LIMIT),
            _ if MEMORY_LIMIT < memory => alert("High memory usage detected", "memory_percent", memory, MEMORY_LIMIT),
            _ if DISK_LIMIT < disk => alert("Disk space is running low", "disk_percent", disk, DISK_LIMIT),
            _ => Happening {
                kind: "metric_update",
                message: format!("CPU {cpu:.1}%, memory {memory:.1}%, disk {disk:.1}%"),
                data: json!({ "cpu_percent": cpu, "memory_percent": memory, "disk_percent": disk }),
            },
        }
    }
}

fn alert(message: &str, name: &str, value: f64, threshold: f64) -> Happening {
    let severity = if threshold + 8.0 < value { "critical" } else { "warning" };
    let data = json!({ name: value, "threshold": threshold, "severity": severity });
    Happening { kind: "system_alert", message: format!("{message}: {value:.1}%"), data }
}

fn service_status(chance: &mut SmallRng) -> Happening {
    let service = pick(&["api", "database", "cache", "queue", "search"], chance);
    let (status, latency_ms) = match chance.random_range(0..10) {
        0 => ("degraded", chance.random_range(250..900)),
        _ => ("healthy", chance.random_range(2..60)),
    };
    let data = json!({ "service": service, "status": status, "latency_ms": latency_ms });
    Happening { kind: "data_update", message: format!("Service {service} is {status}"), data }
}

/// A value in percent.
#[derive(Clone, Debug)]
struct Wandering {
    value: f64,
    home: f64,
    step: f64,
}

impl Wandering {
    /// One step on, to a tenth.
    fn walk(&mut self, chance: &mut SmallRng) -> f64 {
        let drift = (self.home - self.value) * 0.1;
        let next = self.value + drift + chance.random_range(-self.step..self.step);
        self.value = (next.clamp(1.0, 99.0) * 10.0).round() / 10.0;
        self.value
    }
}

/// People, by who is signed in: nobody leaves before having come.
#[derive(Clone, Debug, Default)]
pub(super) struct Office {
    present: [bool; USERS.len()],
}

const USERS: [&str; 8] = ["u1001", "u1002", "u1003", "u1004", "u1005", "u1006", "u1007", "u1008"];

impl Office {
    fn next(&mut self, chance: &mut SmallRng) -> Happening {
        let who = chance.random_range(0..USERS.len());
        let (action, message) = match (self.present[who], chance.random_range(0..6)) {
            (false, _) => ("login", "User logged in"),
            (true, 0 | 1) => ("logout", "User logged out"),
            (true, 2) => ("update_profile", "User updated the profile"),
            (true, 3) => ("change_permission", "User's permissions changed"),
            (true, _) => ("create_post", "User published a post"),
        };
        self.present[who] = action != "logout";
        let online = self.present.iter().filter(|present| **present).count();
        let data = json!({ "user_id": USERS[who], "action": action, "online": online });
        Happening { kind: "user_action", message: message.to_owned(), data }
    }
}

/// People and what they order.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    next_order: u32,
    office: Office,
}

impl Shop {
    fn next(&mut self, chance: &mut SmallRng) -> Happening {
        match chance.random_range(0..5) {
            0 | 1 => self.order(chance),
            2 => notice(chance),
            _ => self.office.next(chance),
        }
    }

    fn order(&mut self, chance: &mut SmallRng) -> Happening {
        self.next_order += 1;
        let (order, item) = (format!("ORD-{}", self.next_order), pick(&["widget-a", "widget-b", "gadget"], chance));
        let (quantity, cents) = (chance.random_range(1..5_u32), chance.random_range(499..9_999_u32));
        let total_amount = f64::from(quantity * cents) / 100.0;
        let data = json!({ "order_id": order, "item": item, "quantity": quantity, "total_amount": total_amount });
        Happening { kind: "data_update", message: format!("Order {order} was placed"), data }
    }
}

/// What people are told, each with a number.
#[derive(Clone, Debug, Default)]
pub(super) struct Notices {
    told: u64,
}

impl Notices {
    fn next(&mut self, chance: &mut SmallRng) -> Happening {
        self.told += 1;
        let mut happening = notice(chance);
        happening.data["number"] = self.told.into();
        happening
    }
}

fn notice(chance: &mut SmallRng) -> Happening {
    let (message, category) = pick(
        &[
            ("You have a new message", "push"),
            ("A report that you subscribed to is ready", "push"),
            ("Your meeting starts in 15 minutes", "reminder"),
            ("A backup is scheduled for tonight", "reminder"),
            ("Sign-in from a new device", "alert"),
            ("Maintenance window announced", "announcement"),
        ],
        chance,
    );
    let priority = pick(&["low", "normal", "high"], chance);
    let data = json!({ "category": category, "priority": priority });
    Happening { kind: "notification", message: message.to_owned(), data }
}

fn pick<T: Copy>(choices: &[T], chance: &mut SmallRng) -> T {
    choices[chance.random_range(0..choices.len())]
}
