//! A Redis master, a replica, and three sentinels that watch them.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use redis::Value;

use super::{
    Folder,
    redis::{HOST, RedisServer, free_port},
    wait_until,
};

/// The sentinels' name of the service.
const SERVICE: &str = "fanfare";

/// How many sentinels must agree.
const QUORUM: usize = 2;

/// A replicated Redis that fails over by itself. All of it ends when dropped.
#[derive(Debug)]
pub(crate) struct SentinelGroup {
    servers: [RedisServer; 2],
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    child: Child,
    port: u16,
    /// It keeps its configuration there.
    _folder: Folder,
}

impl SentinelGroup {
    /// Starts all of it, and waits until a failover would succeed. A master counts as down after a second.
    pub(crate) fn start() -> Self {
        let master = RedisServer::start_with(&["--replica-announce-ip", HOST]);
        let port = master.port().to_string();
        let options = ["--replica-announce-ip", HOST, "--repl-diskless-sync-delay", "0", "--replicaof", HOST, &port];
        let replica = RedisServer::start_with(&options);
        wait_until("the replica follows", || {
            replica.command::<String>(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
        });
        let sentinels = (0..3).map(|_| Sentinel::start(master.port())).collect();
        let group = Self { servers: [master, replica], sentinels };
        wait_until("the sentinels know each other and the replica", || group.is_complete().then_some(()));
        group
    }

    /// `redis+sentinel://…`, with all sentinels.
    pub(crate) fn url(&self) -> String {
        let addresses: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("{HOST}:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", addresses.join(","))
    }

    /// The server that the first sentinel takes for the master.
    pub(crate) fn master(&mut self) -> &mut RedisServer {
        let port = self.master_port().expect("the sentinel knows");
        self.servers.iter_mut().find(|server| server.port() == port).expect("it is one of ours")
    }

    /// The address of the master, according to the first sentinel.
    pub(crate) fn master_port(&self) -> Option<u16> {
        let answer = self.sentinels[0].ask(&["get-master-addr-by-name", SERVICE])?;
        redis::from_redis_value::<(String, u16)>(answer).ok().map(|(_, port)| port)
    }

    fn is_complete(&self) -> bool {
        let count = |sentinel: &Sentinel, what: &str| match sentinel.ask(&[what, SERVICE]) {
            Some(Value::Array(items)) => items.len(),
            _ => 0,
        };
        self.sentinels.iter().all(|sentinel| {
            count(sentinel, "sentinels") == self.sentinels.len() - 1 && count(sentinel, "replicas") == 1
        })
    }
}

impl Sentinel {
    fn start(master_port: u16) -> Self {
        let (port, folder) = (free_port(), Folder::new());
        let path = folder.path("sentinel.conf");
        let lines = [
            format!("port {port}"),
            format!("bind {HOST}"),
            format!("dir {}", folder.path("")),
            format!("sentinel announce-ip {HOST}"),
            format!("sentinel monitor {SERVICE} {HOST} {master_port} {QUORUM}"),
            format!("sentinel down-after-milliseconds {SERVICE} 1000"),
            format!("sentinel failover-timeout {SERVICE} 3000"),
        ];
        fs::write(&path, lines.join("\n") + "\n").expect("the folder is writable");
        let mut command = Command::new("redis-server");
        command.args([&path, "--sentinel"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot run redis-server: {error}; install it: apt-get install redis-server")
        });
        Self { child, port, _folder: folder }
    }

    fn ask(&self, words: &[&str]) -> Option<Value> {
        let client = redis::Client::open(format!("redis://{HOST}:{}", self.port)).expect("the URL is well-formed");
        redis::cmd("SENTINEL").arg(words).query(&mut client.get_connection().ok()?).ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
