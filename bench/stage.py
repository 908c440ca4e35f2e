"""The set-up: Redis, the server under measurement and the client, each on its core, each started and ended here."""

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

RELEASE = "target/release"

# Where other servers are installed, outside the repository.
PEERS = "target/peers"

# Room for the floor's backlog when it falls behind: by default Redis drops a subscriber that lags by 32 MiB.
REDIS_OPTIONS = ["--save", "", "--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0", "--bind", "127.0.0.1"]


def build():
    command = ["cargo", "build", "--release", "--bin", "fanfare", "--example", "floor", "--example", "deliveries"]
    subprocess.run(command, check=True)


def install_peer(name):
    """Installs a server that is compared, in the versions that its package-lock.json states."""
    source, folder = os.path.join("bench/peers", name), os.path.join(PEERS, name)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    # None of the packages needs its scripts: what is compiled comes compiled.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def machine():
    """What the figures depend on."""
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo") as file:
        memory_kib = int(file.readline().split()[1])
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
        congestion_control = file.read().strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model.group(1) if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20),
        "kernel": platform.release(),
        "congestion_control": congestion_control,
        "revision": output(["git", "rev-parse", "--short", "HEAD"]),
        "redis": output(["redis-server", "--version"]).split(" sha")[0],
        "node": output(["node", "--version"]) if shutil.which("node") else None,
    }


def results_folder():
    facts = machine()
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", "", facts["cpu"]).lower().split()
    return "bench/results/%s-%s-%dcores" % (facts["date"], "-".join(words[:3]), facts["cores"])


def output(command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stage:
    """Redis for the whole run; a fresh server for each measurement."""

    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder
        # For what is not to be kept with the results.
        self.private_folder = tempfile.TemporaryDirectory()
        self.private = self.private_folder.name
        self.redis_port = free_port()
        self.redis = None

    def __enter__(self):
        command = ["redis-server", "--port", str(self.redis_port)] + REDIS_OPTIONS
        self.redis = start(command, self.arguments.client_core)
        await_port(self.redis_port)
        return self

    def __exit__(self, *_):
        end(self.redis)
        self.private_folder.cleanup()

    def floor(self, *options):
        return Server(self, "floor", [RELEASE + "/examples/floor"], options)

    def hub(self, *options, on_all_cores=False):
        """Its reactor is pinned in any case; with `on_all_cores` what else it does may use the client's core."""
        return Server(self, "hub", self.hub_command(), options, on_all_cores)

    def hub_alone(self, *options):
        """The hub without Redis: events come by HTTP."""
        return Server(self, "hub-http", self.hub_command(), options)

    def hub_command(self):
        command = [RELEASE + "/fanfare", "serve", "--reactors", "1", "--pin=%d" % self.arguments.server_core]
        return command + ["--log-level", "warn"]

    def node(self):
        """The official Socket.IO server; `install_peer("socketio")` comes first."""
        return Server(self, "node", ["node", os.path.join(PEERS, "socketio/server.mjs")], ())

    def bench(self, server, label, *options, prefix=()):
        """One measurement: the client's report, which also lies in the results folder."""
        path = os.path.join(self.folder, label + ".json")
        command = [*prefix, RELEASE + "/fanfare", "bench", *self.reach(server, options)]
        command += ["--server-pid", str(server.process.pid), "--beside-pid", str(self.redis.pid)]
        command += ["--pin", str(self.arguments.client_core)]
        if "--duration" not in options:
            command += ["--duration", "%ds" % self.arguments.seconds]
        command += ["--json", path, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        # 1 with a report: events were lost, which is a result.
        if not os.path.exists(path):
            raise SystemExit("%s\n%s%s" % (" ".join(command), done.stdout, done.stderr))
        with open(path) as file:
            return json.load(file)

    def reach(self, server, _options):
        """Where the server is, and how one publishes to it."""
        return ["--url", server.url, "--publish", self.redis_url()]

    def redis_url(self):
        return "redis://127.0.0.1:%d" % self.redis_port


def fanfare(*arguments, given=None):
    """What a tool of the hub says to `given`."""
    command = [RELEASE + "/fanfare", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit("%s\n%s" % (" ".join(command), done.stderr))
    return done.stdout.strip()


class Server:
    """A server from its start to its end."""

    def __init__(self, theatre, kind, command, options, on_all_cores=False):
        self.kind = kind
        port = free_port()
        self.url = "http://127.0.0.1:%d" % port
        redis = "127.0.0.1:%d" % theatre.redis_port
        command = command + ["--listen", "127.0.0.1:%d" % port]
        if kind != "hub-http":
            command += ["--redis", "redis://" + redis if kind == "hub" else redis]
        command += options
        arguments = theatre.arguments
        cores = [arguments.server_core, arguments.client_core] if on_all_cores else [arguments.server_core]
        self.process = start(command, *cores)
        await_port(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)

    def metrics(self):
        """The hub's counters: name with labels → value."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


class SocketWatch:
    """Watches, once a second, what the kernel holds for the connections of a server that are stuck the most."""

    def __init__(self, server, count):
        self.port = server.url.rsplit(":", 1)[1]
        self.count = count
        self.server_bytes = 0
        self.peer_bytes = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def watch(self):
        while not self.over.wait(1):
            self.server_bytes = max(self.server_bytes, self.mean("sport", column=1))
            self.peer_bytes = max(self.peer_bytes, self.mean("dport", column=0))

    def mean(self, side, column):
        """Of the sockets with the longest queue (column 0: received, 1: to send), memory per socket."""
        lines = output(["ss", "-tmnHO", "state", "established", "%s = :%s" % (side, self.port)]).splitlines()
        rows = sorted((int(line.split()[column]), socket_memory(line)) for line in lines)
        stuck = [memory for queue, memory in rows[-self.count :] if 0 < queue]
        return sum(stuck) // len(stuck) if stuck else 0


def socket_memory(line):
    """skmem:(r<received>,…,w<queued to send>,f<reserved>,…): what the kernel accounts to the socket, in bytes."""
    fields = dict(re.findall(r"([a-z]+)(\d+)", line.split("skmem:(")[1]))
    return sum(int(fields[name]) for name in ("r", "w", "f"))


def start(command, *cores, is_mute=False):
    # The soft limit is what a child inherits; servers raise it themselves if they know how.
    pinned = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec taskset -c %s "$@"' % ",".join(map(str, cores)), "sh"]
    return subprocess.Popen(pinned + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if is_mute else None)


def start_flood(url, token, connections, core):
    """A process that publishes over so many connections without waiting for answers."""
    flood = os.path.join(os.path.dirname(os.path.abspath(__file__)), "publish_flood.py")
    return start([sys.executable, flood, url.removeprefix("http://"), token, str(connections)], core)


def end(process):
    if process is not None and process.poll() is None:
        # No drain: nobody listens any more.
        process.send_signal(signal.SIGKILL)
        process.wait()


def await_port(port, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("nothing listens on port %d" % port)
