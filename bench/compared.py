"""The servers that are compared: how each is installed, started, subscribed to and published to, and what it cannot do."""

import base64
import hashlib
import hmac
import os
import subprocess

import stage

SECRET = b"only for this measurement: nobody else's secret"

# Peers of which nobody measures a scenario or transport, and why: it is printed with the results.
CANNOT = {
    ("hub-http", "socketio"): "its peer takes events from Redis, too",
    ("nchan", "socketio"): "does not speak Socket.IO",
    ("centrifugo", "socketio"): "does not speak Socket.IO",
    ("mercure", "ws"): "speaks SSE only",
    ("mercure", "socketio"): "speaks SSE only",
    ("fastapi", "sse"): "the system it stands for has WebSocket only",
    ("fastapi", "socketio"): "does not speak Socket.IO",
    ("fastapi-queues", "sse"): "as FastAPI",
    ("fastapi-queues", "socketio"): "as FastAPI",
    ("uws", "sse"): "its topics are of WebSockets; SSE would be a server of ours",
    ("uws", "socketio"): "does not speak Socket.IO",
    ("node", "ws"): "speaks Socket.IO only",
    ("node", "sse"): "speaks Socket.IO only",
}


def sign_publisher():
    """A token (HS256) that lets Mercure's publisher publish on every topic."""
    encode = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=")
    signed = encode(b'{"alg":"HS256","typ":"JWT"}') + b"." + encode(b'{"mercure":{"publish":["*"]}}')
    return (signed + b"." + encode(hmac.new(SECRET, signed, hashlib.sha256).digest())).decode()


def folder_of(name):
    return os.path.abspath(os.path.join(stage.PEERS, name))


def install(name):
    """Installs a peer and returns what it says about its versions."""
    if name == "node":
        stage.install_peer("socketio")
        return "socket.io as in bench/peers/socketio/package-lock.json"
    name = name.removesuffix("-queues")
    os.makedirs(folder_of(name), exist_ok=True)
    command = [os.path.abspath("bench/peers/%s/install" % name), folder_of(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit("%s: not installed: %s" % (name, done.stderr.strip()))
    return done.stdout.strip()


def nchan(port, folder, _redis):
    with open("bench/peers/nchan/nginx.conf") as file:
        text = file.read()
    module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
    for name, value in (("MODULE", module), ("FOLDER", folder), ("PORT", str(port))):
        text = text.replace("@%s@" % name, value)
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w") as file:
        file.write(text)
    return ["nginx", "-p", folder, "-c", path], {}


def centrifugo(port, _folder, _redis):
    variables = {"CENTRIFUGO_HTTP_SERVER_ADDRESS": "127.0.0.1", "CENTRIFUGO_HTTP_SERVER_PORT": str(port)}
    return [folder_of("centrifugo") + "/centrifugo", "--config", "bench/peers/centrifugo/config.json"], variables


def mercure(port, _folder, _redis):
    variables = {"ADDR": "127.0.0.1:%d" % port, "PUBLISHER_JWT_KEY": SECRET.decode(), "ALLOW_ANONYMOUS": "1"}
    variables.update({"TRANSPORT_URL": "local://local", "WRITE_TIMEOUT": "0s", "READ_TIMEOUT": "0s"})
    variables.update({"DISPATCH_TIMEOUT": "0s", "HEARTBEAT_INTERVAL": "0s"})
    return [folder_of("mercure") + "/mercure"], variables


def fastapi(port, _folder, redis):
    command = [folder_of("fastapi") + "/venv/bin/python", "-m", "uvicorn", "server:app", "--app-dir", "bench/peers/fastapi"]
    command += ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"]
    command += ["--ws-per-message-deflate", "false", "--log-level", "error", "--no-access-log", "--backlog", "4096"]
    return command, {"REDIS_URL": redis, "PYTHONDONTWRITEBYTECODE": "1"}


def fastapi_queues(port, folder, redis):
    """The same with a queue and a task for each client, which a client that does not read cannot stop."""
    command, variables = fastapi(port, folder, redis)
    return command, {**variables, "FAN_OUT": "queues"}


def uws(port, _folder, _redis):
    return [folder_of("uws") + "/venv/bin/python", "bench/peers/uws/server.py", str(port)], {}


# How subscribers reach a peer: transport → path; and how one publishes: path and the options of the instrument.
CONNECT = "cf_connect=%7B%22subs%22:%7B%22{topic}%22:%7B%7D%7D%7D"
PEERS = {
    "nchan": (nchan, {"ws": "/subscribe/{topic}", "sse": "/subscribe/{topic}"}, "/publish/{topic}", ("--publish-body", "{payload}")),
    "centrifugo": (
        centrifugo,
        {"ws": "/connection/uni_websocket?" + CONNECT, "sse": "/connection/uni_sse?" + CONNECT},
        "/api/publish?{topic}",
        ("--publish-header", "Content-Type: application/json", "--publish-body", '{"channel":"{topic}","data":{payload}}')
        # What it says on connecting, and its pings.
        + ("--ignore", '"connect"', "--ignore", "{}"),
    ),
    "mercure": (
        mercure,
        {"sse": "/.well-known/mercure?topic={topic}"},
        "/.well-known/mercure?{topic}",
        ("--publish-header", "Authorization: Bearer " + sign_publisher())
        + ("--publish-header", "Content-Type: application/x-www-form-urlencoded")
        + ("--publish-body", "topic={topic}&data={payload:form}"),
    ),
    "fastapi": (fastapi, {"ws": "/ws/{topic}"}, None, ()),
    "fastapi-queues": (fastapi_queues, {"ws": "/ws/{topic}"}, None, ()),
    "uws": (uws, {"ws": "/ws/{topic}"}, "/publish/{topic}", ("--publish-body", "{payload}")),
}


# What is measured of a server in a second form: the hub without Redis, taking events by HTTP as its peers do, and FastAPI
# with queues.
PARTS = {"hub-http": ("S2", "S4", "S6", "S7", "S8"), "fastapi-queues": ("S2", "S7")}


def kinds(scenario, transport):
    """Who is measured in a scenario over a transport; floor and hub always."""
    others = [name for name in ["hub-http", *PEERS, "node"] if (name, transport) not in CANNOT]
    others = [name for name in others if scenario in PARTS.get(name, (scenario,))]
    return ["floor", "hub", *others]


class Peer:
    """A peer from its start to its end, as `stage.Server` is for the hub."""

    def __init__(self, theatre, name):
        self.kind = name
        self.make, self.paths, self.publish_path, self.publish_options = PEERS[name]
        port = stage.free_port()
        self.url = "http://127.0.0.1:%d" % port
        self.redis_url = theatre.redis_url()
        folder = os.path.join(theatre.private, "%s-%d" % (name, port))
        os.makedirs(folder, exist_ok=True)
        command, variables = self.make(port, folder, self.redis_url)
        prefix = ["env", *("%s=%s" % pair for pair in variables.items())]
        # Some write a line for each request, wherever to.
        self.outer = stage.start(prefix + command, theatre.arguments.server_core, is_mute=True)
        stage.await_port(port)
        self.process = self.outer if name != "nchan" else Worker(self.outer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not self.outer:
            self.outer.terminate()
            self.outer.wait()
        stage.end(self.outer)

    def reach(self, transport):
        """The instrument's options for this peer, in place of the hub's own."""
        scheme = self.url.replace("http", "ws") if transport == "ws" else self.url
        publish = self.url + self.publish_path if self.publish_path else self.redis_url
        return ["--subscribe", scheme + self.paths[transport], "--publish", publish, *self.publish_options]


class Worker:
    """nginx does the work in a child, so that is the process that is measured."""

    def __init__(self, outer):
        children = []
        while not children and outer.poll() is None:
            with open("/proc/%d/task/%d/children" % (outer.pid, outer.pid)) as file:
                children = file.read().split()
        self.pid = int(children[0])
