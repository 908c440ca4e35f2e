//! A Redis Cluster: three masters, each with a third of the slots and one replica.

use std::ops::RangeInclusive;

use fanfare_core::protocol::resp::key_slot;
use redis::{Connection, Value};

use super::{
    Folder,
    redis::{HOST, RedisServer, free_port, make_certificate},
    wait_until,
};

/// The slots of each shard.
const RANGES: [RangeInclusive<u16>; 3] = [0..=5460, 5461..=10_922, 10_923..=16_383];

/// How long a node may be silent before the others take it for lost, in milliseconds.
const NODE_TIMEOUT_MS: &str = "1000";

/// Six servers. Those at 0, 1 and 2 are masters at first, those at 3, 4 and 5 their replicas. All end when dropped.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    pub(crate) servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts all of them, and waits until a failover would succeed.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further options for each server.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let servers: Vec<RedisServer> = (0..6).map(|_| start_node(options)).collect();
        let port = servers[0].port().to_string();
        Self::join(servers, &port)
    }

    /// The same with a port for TLS at each server. Also returns the URL of the first, and the folder with `redis.pem`, which a client
    /// has to trust.
    pub(crate) fn start_with_tls() -> (Self, String, Folder) {
        let folder = Folder::new();
        make_certificate(&folder, "redis");
        let [certificate, key] = ["pem", "key"].map(|kind| folder.path(&format!("redis.{kind}")));
        let ports: Vec<String> = (0..6).map(|_| free_port().to_string()).collect();
        let start = |port: &String| {
            let own = ["--tls-port", port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
            let more = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
            // Nodes name the ports to clients by which they reach each other.
            start_node(&[&own[..], &more, &["--tls-cluster", "yes", "--tls-replication", "yes"]].concat())
        };
        let cluster = Self::join(ports.iter().map(start).collect(), &ports[0]);
        (cluster, format!("rediss+cluster://{HOST}:{}", ports[0]), folder)
    }

    /// Makes a cluster of `servers`; the others reach the first at `port`.
    fn join(servers: Vec<RedisServer>, port: &str) -> Self {
        for (index, server) in servers.iter().enumerate() {
            server.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if let Some(range) = RANGES.get(index) {
                let [first, last] = [range.start(), range.end()].map(ToString::to_string);
                server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            }
        }
        let cluster = Self { servers };
        let bus_port = cluster.bus_port(0);
        for server in &cluster.servers[1..] {
            server.command::<()>(&["CLUSTER", "MEET", HOST, port, &bus_port]);
        }
        let is_told = |server: &RedisServer, what: &str| server.command::<String>(&["CLUSTER", "INFO"]).contains(what);
        wait_until("the nodes know each other", || {
            cluster.servers.iter().all(|server| is_told(server, "cluster_known_nodes:6\r")).then_some(())
        });
        for shard in 0..3 {
            let master = cluster.id(shard);
            // Until a node has shaken hands with the master it cannot.
            wait_until("a replica follows", || {
                cluster.try_command(shard + 3, &["CLUSTER", "REPLICATE", &master]).is_some().then_some(())
            });
        }
        cluster.servers[3..].iter().for_each(RedisServer::wait_until_attached);
        wait_until("all agree on all nodes", || {
            cluster.servers.iter().all(|server| is_told(server, "cluster_state:ok\r")).then_some(())?;
            (0..6).all(|index| cluster.replicas_known_at(index) == 3).then_some(())
        });
        cluster
    }

    /// `redis+cluster://…`, with all nodes.
    pub(crate) fn url(&self) -> String {
        let addresses: Vec<String> = (0..6).map(|index| self.address(index)).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// `host:port` of a node.
    pub(crate) fn address(&self, index: usize) -> String {
        format!("{HOST}:{}", self.servers[index].port())
    }

    /// The name of a topic in the shard; `number` tells several apart.
    pub(crate) fn topic_in(shard: usize, number: usize) -> String {
        let names = (0..).map(|name| format!("t{name}"));
        let mut there = names.filter(|name| RANGES[shard].contains(&key_slot(name.as_bytes())));
        there.nth(number).expect("there are many names")
    }

    /// The sharded channels that have subscribers at a node.
    pub(crate) fn channels(&self, index: usize) -> Vec<String> {
        let mut channels: Vec<String> = self.servers[index].command(&["PUBSUB", "SHARDCHANNELS"]);
        channels.retain(|channel| !channel.starts_with("fanfare."));
        channels.sort();
        channels
    }

    /// Whether the node says that it is a master.
    pub(crate) fn is_master(&self, index: usize) -> bool {
        self.servers[index].command::<String>(&["INFO", "replication"]).contains("role:master")
    }

    /// Begins to move a slot: from here on keys that are not there any more are to be found at the other node.
    pub(crate) fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.servers[to].command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        self.servers[from].command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
    }

    /// Moves what keys there are, and the slot.
    pub(crate) fn finish_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, target) = (slot.to_string(), self.id(to));
        loop {
            let keys: Vec<String> = self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let port = self.servers[to].port().to_string();
            let mut words = vec!["MIGRATE", HOST, &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            self.servers[from].command::<()>(&words);
        }
        for index in [to, from] {
            self.servers[index].command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
        }
    }

    /// A connection to a node.
    pub(crate) fn connect(&self, index: usize) -> Connection {
        self.servers[index].connect()
    }

    fn id(&self, index: usize) -> String {
        self.servers[index].command(&["CLUSTER", "MYID"])
    }

    fn bus_port(&self, index: usize) -> String {
        let config: Vec<String> = self.servers[index].command(&["CONFIG", "GET", "cluster-port"]);
        config[1].clone()
    }

    fn try_command(&self, index: usize, words: &[&str]) -> Option<Value> {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connect(index)).ok()
    }

    fn replicas_known_at(&self, index: usize) -> usize {
        let nodes: String = self.servers[index].command(&["CLUSTER", "NODES"]);
        nodes.lines().filter(|line| line.contains("slave")).count()
    }
}

fn start_node(options: &[&str]) -> RedisServer {
    RedisServer::start_among_many(|| {
        let bus_port = free_port().to_string();
        let words =
            ["--cluster-enabled", "yes", "--cluster-port", &bus_port, "--cluster-node-timeout", NODE_TIMEOUT_MS];
        let more = ["--cluster-announce-ip", HOST, "--cluster-require-full-coverage", "no"];
        let replicas = ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
        let all = [&words[..], &more, &replicas, options].concat();
        all.into_iter().map(str::to_owned).collect()
    })
}
