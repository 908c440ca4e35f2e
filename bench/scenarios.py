"""What is measured. Each scenario takes the stage and returns its figures: label → number or spread."""

import contextlib
import os
import subprocess

import figures
import stage

WARMUP = ("--warmup", "3s")


def cpu(report):
    return report["server"]["cpu_us_per_delivery"]


def topic(report, name):
    return next(topic for topic in report["topics"] if topic["topic"] == name)


def p99(report, name="bench", stamp="read"):
    return topic(report, name)[stamp]["p99"]


def lost(reports):
    return sum(topic["faults"]["lost"] for report in reports for topic in report["topics"])


def one_run(theatre, make, label, options, allows, look=None):
    """A run on a fresh server, at which `look` looks afterwards; again, if void for a reason that is not in `allows`. `options`
    may be a function of the server."""
    for _ in range(theatre.arguments.retries + 1):
        with make() as server:
            report = theatre.bench(server, label, *(options(server) if callable(options) else options))
            if look:
                report["seen"] = look(server)
        reasons = [reason for reason in report["void"] if not any(word in reason for word in allows)]
        if not reasons:
            break
        print("   %s: void (%s)" % (label, "; ".join(reasons)), flush=True)
    report["doubts"] = reasons
    report["is_void"] = bool(reasons) and not theatre.arguments.keep_void
    return report


def take_turns(theatre, name, makers, options, allows=(), own_options=None, turns=None):
    """Runs the kinds of server in turn, `--pairs` times: kind → its reports, in order."""
    reports = {kind: [] for kind in makers}
    turns = turns or theatre.arguments.pairs
    for turn in range(turns):
        for kind, make in makers.items():
            label = "%s-%s-%02d" % (name, kind, turn + 1)
            more = (own_options or {}).get(kind, ())
            reports[kind].append(one_run(theatre, make, label, (*options, *more), allows))
        print("   %s, turn %d of %d" % (name, turn + 1, turns), flush=True)
    return reports


def count_void(*lists):
    return sum(bool(report["doubts"]) for reports in lists for report in reports)


def pair(theatre, name, options, **more):
    makers = {"floor": lambda: theatre.floor("--channel", "bench"), "hub": theatre.hub}
    reports = take_turns(theatre, name, makers, options, **more)
    return reports, list(zip(reports["floor"], reports["hub"]))


def channels(kind, *names):
    """The floor is told its channels; the hub subscribes by interest."""
    return [word for name in names for word in ("--channel", name)] if kind == "floor" else []


def idle(theatre):
    """S1: memory per connection that only exists. It hardly varies, so three turns are enough."""
    rows = {}
    turns = min(3, theatre.arguments.pairs)
    for transport in ("sse", "ws"):
        options = ("--transport", transport, "--subscribers", theatre.arguments.connections, "--idle", *WARMUP)
        reports, _ = pair(theatre, "S1-" + transport, options, turns=turns, allows=("other processes", "hypervisor"))
        for kind in ("hub", "floor"):
            sizes = figures.runs(reports[kind], lambda report: report["server"]["pss_bytes_per_connection"])
            rows["%s: %s, PSS bytes per connection" % (transport, kind)] = sizes
        slab = figures.runs(reports["hub"], lambda report: report["machine"]["slab_bytes_per_connection"])
        rows["%s: kernel objects, both ends, bytes" % transport] = slab
        rows["%s: CPU of the hub, µs per connection and second" % transport] = figures.runs(
            reports["hub"], lambda report: report["server"]["cpu_us_per_connection_s"]
        )
    return rows


def broadcast(theatre):
    """S2: one topic to everybody."""
    rows = {}
    for transport in ("ws", "sse"):
        options = ("--transport", transport, "--subscribers", theatre.arguments.connections, "--rate", 8, *WARMUP)
        reports, _ = pair(theatre, "S2-" + transport, options)
        rows.update(broadcast_rows(transport, reports))
    return rows


def broadcast_rows(transport, reports):
    pairs = list(zip(reports["floor"], reports["hub"]))
    rows = {
        transport + ": CPU per delivery, ratio": figures.ratios(pairs, cpu),
        transport + ": p99 of deliveries, ratio": figures.ratios(pairs, p99),
        transport + ": p99 of deliveries in the kernel, ratio": figures.ratios(
            pairs, lambda report: p99(report, stamp="kernel")
        ),
        transport + ": p99 of the last subscriber, ratio": figures.ratios(
            pairs, lambda report: p99(report, stamp="event_last")
        ),
    }
    for kind in reports:
        rows["%s: CPU per delivery of the %s, µs" % (transport, kind)] = figures.runs(reports[kind], cpu)
        rows["%s: p99 of the %s, µs" % (transport, kind)] = figures.runs(reports[kind], p99)
    rows[transport + ": client's CPU per delivery, µs"] = figures.runs(
        reports["hub"], lambda report: report["client"]["fleet_cpu_us_per_delivery"]
    )
    rows[transport + ": lost by the hub; void runs"] = "%d; %d" % (lost(reports["hub"]), count_void(*reports.values()))
    return rows


def beside(theatre):
    """S4: a small topic beside a large one. The small one speaks SSE, so that the hub's own histogram tells it apart."""
    small = ("--topic", "small", "--transport", "sse", "--subscribers", 10, "--rate", 50, *WARMUP)
    large_size = theatre.arguments.connections - 500
    both = ("--topic", "large", "--subscribers", large_size, "--rate", 8, "--second-topic", "small", *WARMUP)
    both += ("--second-subscribers", 10, "--second-rate", 50, "--second-transport", "sse")
    makers = {"floor": theatre.floor, "hub": theatre.hub}
    alone, mixed = {"floor": [], "hub": []}, {"floor": [], "hub": []}
    for turn in range(theatre.arguments.pairs):
        for kind, make in makers.items():
            options = channels(kind, "large", "small")
            label = "S4-%%s-%s-%02d" % (kind, turn + 1)
            alone[kind].append(one_run(theatre, lambda: make(*options), label % "alone", small, ()))
            look = inner_p99 if kind == "hub" else None
            mixed[kind].append(one_run(theatre, lambda: make(*options), label % "mixed", both, (), look))
        print("   S4, turn %d of %d" % (turn + 1, theatre.arguments.pairs), flush=True)
    rows = {}
    for kind in ("hub", "floor"):
        pairs = figures.sound(zip(alone[kind], mixed[kind]))
        for stamp, place in (("read", "at the client"), ("kernel", "in its kernel")):
            added = [p99(both, "small", stamp) - p99(one, "small", stamp) for one, both in pairs]
            rows["%s: p99 added by the large topic, %s, µs" % (kind, place)] = figures.spread(added)
        rows["%s: p99 alone, µs" % kind] = figures.runs(alone[kind], lambda report: p99(report, "small"))
        rows["%s: p99 beside, µs" % kind] = figures.runs(mixed[kind], lambda report: p99(report, "small"))
    rows["hub: p99 accepted to written, µs (its histogram)"] = figures.runs(mixed["hub"], lambda report: report["seen"])
    rows["lost by the hub; void runs"] = "%d; %d" % (
        lost(alone["hub"] + mixed["hub"]),
        count_void(*alone.values(), *mixed.values()),
    )
    return rows


def inner_p99(hub):
    return histogram_p99(hub.metrics(), "fanfare_delivery_seconds", 'transport="sse"')


def histogram_p99(metrics, name, label):
    """In µs, from the cumulative buckets of a Prometheus histogram, linear within the bucket."""
    buckets = []
    for key, count in metrics.items():
        if key.startswith(name + "_bucket{") and label in key:
            bound = key.split('le="')[1].split('"')[0]
            buckets.append((float("inf") if bound == "+Inf" else float(bound), count))
    buckets.sort()
    if not buckets or buckets[-1][1] == 0:
        return None
    wanted, below, bound_below = 0.99 * buckets[-1][1], 0, 0.0
    for bound, count in buckets:
        if wanted <= count:
            share = (wanted - below) / (count - below)
            return 1e6 * (bound_below if bound == float("inf") else bound_below + share * (bound - bound_below))
        below, bound_below = count, bound
    return None


def flood(theatre):
    """S6: more events than can be sent one by one. The floor is behind by seconds, and the client busy: only the server's
    CPU per delivery and the losses count."""
    rows = {}
    for rate in (1000, 4000):
        options = ("--subscribers", 500, "--rate", rate, *WARMUP)
        makers = {
            "floor": lambda: theatre.floor("--channel", "bench"),
            "gather": lambda: theatre.floor("--channel", "bench", "--gather"),
            "hub": theatre.hub,
        }
        # The floor's backlog is not waited for: it would take minutes.
        own = {"floor": ("--patience", "1s")}
        reports = take_turns(theatre, "S6-%d" % rate, makers, options, allows=("client saturated",), own_options=own)
        for other, place in (("floor", "F1"), ("gather", "F2")):
            pairs = list(zip(reports[other], reports["hub"]))
            rows["%d ev/s: CPU per delivery, ratio to %s" % (rate, place)] = figures.ratios(pairs, cpu)
        for kind in ("floor", "gather", "hub"):
            rows["%d ev/s: CPU per delivery of %s, µs" % (rate, kind)] = figures.runs(reports[kind], cpu)
        rows["%d ev/s: p50 of the hub, µs" % rate] = figures.runs(
            reports["hub"], lambda report: topic(report, "bench")["read"]["p50"]
        )
        rows["%d ev/s: p99 of the hub, µs" % rate] = figures.runs(reports["hub"], p99)
        rows["%d ev/s: lost by the hub; void runs" % rate] = "%d; %d" % (lost(reports["hub"]), count_void(reports["hub"]))
    return rows


STALLED = 10


def stalled(theatre):
    """S7: one in a hundred never reads. The log is made long enough that they stay connected."""
    config = os.path.join(theatre.folder, "S7.toml")
    with open(config, "w") as file:
        file.write('[topics]\nhistory = { count = 20000, bytes = "16MiB", age = "5m" }\n')
    make = lambda: theatre.hub("--config", config)
    options = ("--subscribers", 100 * STALLED - STALLED, "--rate", 50, *WARMUP)
    own = {"stalled": ("--stalled", STALLED)}
    reports = take_turns(theatre, "S7", {"all-read": make, "stalled": make}, options, own_options=own)
    pairs = list(zip(reports["all-read"], reports["stalled"]))
    hub = [hub_growth(both) - hub_growth(one) for one, both in figures.sound(pairs)]
    with make() as server, stage.SocketWatch(server, STALLED) as watch:
        # Long enough for more than a receiver's buffer holds: what follows stays at the hub's end.
        theatre.bench(server, "S7-memory", *options, *own["stalled"], "--duration", "40s")
    return {
        "p99 of the others, ratio of stalled to not": figures.ratios(pairs, p99),
        "kernel memory of a stalled connection, hub's end, bytes": watch.server_bytes,
        "kernel memory of a stalled connection, peer's end, bytes": watch.peer_bytes,
        "the hub's growth that they add, bytes": figures.spread(hub),
        "lost by the others; void runs": "%d; %d" % (lost(reports["stalled"]), count_void(*reports.values())),
    }


def hub_growth(report):
    return report["server"]["pss_growth_bytes"]


CROWD = 1000
VISITS_PER_SECOND = 500
VISIT_SECONDS = 0.1


def churn(theatre):
    """S8: connections come and go, SSE and WebSocket in turn, beside a crowd that receives. Each stays for a tenth of a
    second, and the crowd is smaller by as many as are there at a time: with and without them an event has the same
    number of receivers, and what differs is the coming and going."""
    makers = {"floor": lambda: theatre.floor("--channel", "bench"), "hub": theatre.hub}
    visitors = round(VISITS_PER_SECOND * VISIT_SECONDS)
    load = ("--rate", 50, *WARMUP)
    still_options = ("--subscribers", CROWD, *load)
    churn_options = ("--subscribers", CROWD - visitors, *load, "--churn", VISITS_PER_SECOND, "--churn-mixed")
    churn_options += ("--churn-stay", "%dms" % (VISIT_SECONDS * 1000))
    still, churned = {"floor": [], "hub": []}, {"floor": [], "hub": []}
    for turn in range(theatre.arguments.pairs):
        for kind, make in makers.items():
            label = "S8-%%s-%s-%02d" % (kind, turn + 1)
            still[kind].append(one_run(theatre, make, label % "still", still_options, ()))
            churned[kind].append(one_run(theatre, make, label % "churn", churn_options, ()))
        print("   S8, turn %d of %d" % (turn + 1, theatre.arguments.pairs), flush=True)
    rows = {}
    for kind in ("hub", "floor"):
        pairs = list(zip(still[kind], churned[kind]))
        rows["%s: p99 of the others, ratio of churn to none" % kind] = figures.ratios(pairs, p99)
        rows["%s: p99 of the others in the kernel, ratio" % kind] = figures.ratios(
            pairs, lambda report: p99(report, stamp="kernel")
        )
        rows["%s: p99 of the others without, µs" % kind] = figures.runs(still[kind], p99)
        rows["%s: p99 of the others with, µs" % kind] = figures.runs(churned[kind], p99)
        rows["%s: p99 of being let in, µs" % kind] = figures.runs(
            churned[kind], lambda report: report["churn"]["opening"]["p99"]
        )
    rows["visits let in per second"] = figures.runs(churned["hub"], visits_per_second)
    rows["visits failed at the hub"] = sum(report["churn"]["failed"] for report in churned["hub"])
    rows["lost by the hub; void runs"] = "%d; %d" % (
        lost(still["hub"] + churned["hub"]),
        count_void(*still.values(), *churned.values()),
    )
    return rows


def visits_per_second(report):
    """They come during the warm-up too, and half a second before it."""
    warmup_s = float(WARMUP[1].removesuffix("s"))
    return report["churn"]["opening"]["count"] / (report["window_s"] + warmup_s + 0.5)


MISSED = 20


def storm(theatre):
    """S9: all are cut at once, miss some events, and come back for them. One more subscriber stays, so that the hub goes
    on to listen to the topic."""
    config = os.path.join(theatre.folder, "S9.toml")
    with open(config, "w") as file:
        file.write('[topics]\nhistory = { count = 1000, bytes = "4MiB", age = "5m" }\n')
    makers = {
        "floor": lambda: theatre.floor("--channel", "bench", "--record"),
        "hub": lambda: theatre.hub("--config", config),
    }
    options = ("--transport", "sse", "--subscribers", theatre.arguments.connections + 1, "--rate", 4)
    options += ("--warmup", "1s", "--duration", "2s", "--storm", MISSED)
    # The span before the storm only gives everybody an id to come back with: its latencies do not count.
    reports = take_turns(theatre, "S9", makers, options, allows=("client saturated",))
    pairs = list(zip(reports["floor"], reports["hub"]))
    rows = {
        "until the last one had caught up, ratio": figures.ratios(pairs, lambda report: report["storm"]["span_ms"]),
        "CPU of the server for each that came back, ratio": figures.ratios(pairs, cpu_per_return),
    }
    for kind in ("hub", "floor"):
        for label, name in STORM_ROWS.items():
            rows["%s: %s" % (kind, label)] = figures.runs(reports[kind], lambda report: report["storm"][name])
    faults = [topic(report, "bench")["faults"] for report in reports["hub"]]
    rows["lost, repeated by the hub; void runs"] = "%d, %d; %d" % (
        sum(fault["lost"] for fault in faults),
        sum(fault["repeated"] for fault in faults),
        count_void(*reports.values()),
    )
    return rows


STORM_ROWS = {
    "until the last one had caught up, ms": "span_ms",
    "until the last one began to connect, ms": "connecting_ms",
    "CPU of the server for each, µs": "server_cpu_us_per_return",
    "CPU of the server, of a core": "server_cpu_share",
    "CPU of the client, of a core": "client_cpu_share",
    "caught up": "caught_up",
    "found the listener's queue full": "listen_overflows",
}


def cpu_per_return(report):
    return report["storm"]["server_cpu_us_per_return"]


def instructions(_theatre):
    """S13: user instructions per delivery and per stream opened, counted by callgrind."""
    done = subprocess.run(["bench/instructions", "--no-build"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"user instructions per delivery": "not counted: " + done.stderr.strip()}
    rows = (line.rsplit(": ", 1) for line in done.stdout.strip().splitlines())
    return {label: float(number) for label, number in rows}


# Every way to send and receive the hub has; `write` is what wakes a reactor (an eventfd).
SYSCALLS = ("sendto", "sendmsg", "writev", "write", "recvfrom", "read", "epoll_wait", "epoll_pwait", "futex")


def syscalls(theatre):
    """S14: system calls, by the kernel's own tracepoints: those of a run less those of the same run without events."""
    options = ("--subscribers", theatre.arguments.connections, "--rate", 8, *WARMUP)
    rows = {}
    for kind, make in (("floor", theatre.floor), ("hub", theatre.hub)):
        quiet, _ = count_syscalls(theatre, make, kind, "idle", (*options, "--idle"))
        loud, report = count_syscalls(theatre, make, kind, "events", options)
        events = topic(report, "bench")["published"]
        deliveries = events * theatre.arguments.connections
        net = {name: loud[name] - quiet[name] for name in loud}
        rows[kind + ": system calls per delivery"] = round(net.pop("all") / deliveries, 4)
        shares = {name: count / deliveries for name, count in net.items()}
        rows[kind + ": of these"] = ", ".join("%s %.4f" % (name, share) for name, share in shares.items() if 0.0001 < share)
        rows[kind + ": wake-ups per event (writes to an eventfd)"] = round(net["write"] / events, 3)
    return rows


def count_syscalls(theatre, make, kind, what, options):
    """perf begins to count before it starts the client."""
    tracepoints = ",".join(["raw_syscalls:sys_enter"] + ["syscalls:sys_enter_" + name for name in SYSCALLS])
    path = os.path.join(theatre.folder, "S14-%s-%s.csv" % (kind, what))
    with make(*channels(kind, "bench")) as server:
        counter = ("perf", "stat", "-x", ",", "-o", path, "-e", tracepoints, "-p", str(server.process.pid), "--")
        report = theatre.bench(server, "S14-%s-%s" % (kind, what), *options, prefix=counter)
    with open(path) as file:
        rows = [line.split(",") for line in file if "sys_enter" in line]
    counts = {row[2].rsplit("sys_enter", 1)[1].lstrip("_") or "all": int(row[0]) for row in rows}
    return counts, report


def room(theatre):
    """S15: S2 in a Socket.IO room, beside the official server."""
    stage.install_peer("socketio")
    makers = {"floor": lambda: theatre.floor("--channel", "bench"), "hub": theatre.hub, "node": theatre.node}
    options = ("--transport", "socketio", "--subscribers", theatre.arguments.connections, "--rate", 8, *WARMUP)
    reports = take_turns(theatre, "S15", makers, options)
    rows = broadcast_rows("socketio", reports)
    for kind in reports:
        rows["socketio: %s, PSS bytes per connection" % kind] = figures.runs(
            reports[kind], lambda report: report["server"]["pss_bytes_per_connection"]
        )
    rows["socketio: lost by node"] = lost(reports["node"])
    return rows


LOGINS_PER_SECOND = 100
USER, PASSWORD = "bench", "correct horse battery staple"


def sign_in(theatre):
    """S16: people sign in, more than the hub can hash passwords for, beside a crowd that receives. It is the same crowd
    with and without them; only the hub is measured, as the floor knows no passwords."""
    config = configure_users(theatre)
    token = stage.fanfare("token", "--config", config, "--sub", USER, "--subscribe", "bench")
    make = lambda: theatre.hub("--config", config)
    options = ("--subscribers", CROWD, "--rate", 50, "--token", token, *WARMUP)
    logins = ("--login", "%s:%s" % (USER, PASSWORD), "--logins", LOGINS_PER_SECOND)
    own = {"storm": logins, "apart": logins}
    apart = lambda: theatre.hub("--config", config, on_all_cores=True)
    reports = take_turns(theatre, "S16", {"still": make, "storm": make, "apart": apart}, options, own_options=own)
    pairs = list(zip(reports["still"], reports["storm"]))
    pairs_apart = list(zip(reports["still"], reports["apart"]))
    in_kernel = lambda report: p99(report, stamp="kernel")
    rows = {
        "p99 in the kernel, hashing on the other core, ratio": figures.ratios(pairs_apart, in_kernel),
        "p99 in the kernel without, µs": figures.runs(reports["still"], in_kernel),
        "p99 in the kernel, hashing on the other core, µs": figures.runs(reports["apart"], in_kernel),
        "log-ins accepted a run, hashing on the other core": figures.runs(
            reports["apart"], lambda report: report["logins"]["accepted"]
        ),
        "p99 of the streams, ratio of storm to none": figures.ratios(pairs, p99),
        "p99 of the streams in the kernel, ratio": figures.ratios(pairs, lambda report: p99(report, stamp="kernel")),
        "p99 of the streams without, µs": figures.runs(reports["still"], p99),
        "p99 of the streams with, µs": figures.runs(reports["storm"], p99),
        "the hub's share of its core without": figures.runs(reports["still"], server_share),
        "the hub's share of its core with": figures.runs(reports["storm"], server_share),
        "p99 of being answered, µs": figures.runs(reports["storm"], lambda report: report["logins"]["answering"]["p99"]),
    }
    for what in ("accepted", "refused", "turned_away", "failed"):
        rows["log-ins %s a run" % what.replace("_", " ")] = figures.runs(
            reports["storm"], lambda report: report["logins"][what]
        )
    rows["lost by the hub; void runs"] = "%d; %d" % (
        lost(reports["still"] + reports["storm"]),
        count_void(*reports.values()),
    )
    return rows


def server_share(report):
    return report["server"]["cpu_share"]


def configure_users(theatre):
    """A hub with one user, whose password is hashed at the default cost."""
    paths = {name: os.path.join(theatre.private, name) for name in ("secret", "users.toml", "hub.toml")}
    with open(paths["secret"], "w") as file:
        file.write("only for this measurement: nobody else's secret\n")
    digest = stage.fanfare("hash-password", given=PASSWORD + "\n")
    with open(paths["users.toml"], "w") as file:
        file.write('[[user]]\nusername = "%s"\npassword = "%s"\nsubscribe = ["bench"]\n' % (USER, digest))
    with open(paths["hub.toml"], "w") as file:
        file.write('[auth]\nmode = "jwt"\nalgorithms = ["HS256"]\nsecret_file = "%s"\n' % paths["secret"])
        file.write('[users]\nfile = "%s"\n' % paths["users.toml"])
    return paths["hub.toml"]


TOPIC_COUNTS = (1, 2, 8)


def several(theatre):
    """S17: the subscribers of S6 at 1,000 ev/s listen to further topics, which are silent. One, two and eight topics take turns
    on the same build: what counts is CPU per delivery as a ratio to one topic."""
    config = os.path.join(theatre.folder, "S17.toml")
    with open(config, "w") as file:
        file.write('[socketio]\nrecovery = "2m"\n')
    rows = {}
    for transport, listen in (("sse", listen_by_url), ("socketio", listen_by_events)):
        reports = {count: [] for count in TOPIC_COUNTS}
        for turn in range(theatre.arguments.pairs):
            for count in TOPIC_COUNTS:
                options = lambda server: (*listen(server, count), "--subscribers", 500, "--rate", 1000, *WARMUP)
                label = "S17-%s-%d-%02d" % (transport, count, turn + 1)
                make = lambda: theatre.hub("--config", config)
                reports[count].append(one_run(theatre, make, label, options, ("client saturated",)))
            print("   S17, %s, turn %d of %d" % (transport, turn + 1, theatre.arguments.pairs), flush=True)
        for count in TOPIC_COUNTS[1:]:
            pairs = list(zip(reports[1], reports[count]))
            rows["%s: CPU per delivery, ratio of %d topics to one" % (transport, count)] = figures.ratios(pairs, cpu)
        for count in TOPIC_COUNTS:
            rows["%s: CPU per delivery, %d topics, µs" % (transport, count)] = figures.runs(reports[count], cpu)
            rows["%s: p99, %d topics, µs" % (transport, count)] = figures.runs(reports[count], p99)
        every = [report for count in TOPIC_COUNTS for report in reports[count]]
        rows[transport + ": lost by the hub; void runs"] = "%d; %d" % (lost(every), count_void(every))
    return rows


def listen_by_url(server, topics):
    silent = "".join("&topic=silent.%d" % number for number in range(1, topics))
    return ("--transport", "sse", "--subscribe", server.url + "/sse?topic={topic}" + silent)


def listen_by_events(server, topics):
    """Socket.IO over a WebSocket, said word by word. A run is shorter than the interval of the server's pings."""
    url = server.url + "/socket.io/?EIO=4&transport=websocket"
    options = ["--transport", "ws", "--subscribe", url, "--send", "40", "--await", "40{"]
    for name in ["silent.%d" % number for number in range(1, topics)] + ["{topic}"]:
        options += ["--send", '42["subscribe",{"topic":"%s"}]' % name, "--await", "subscribed"]
    return (*options, "--ignore", "0{")


TENANT_SUBSCRIBERS, TENANT_RATE = 10, 200
FLOOD_CONNECTIONS = 8


def tenants(theatre):
    """S18: one tenant publishes 200 events a second for ten subscribers, while another floods publications over its quota. With
    and without the flood take turns on the same build; no Redis takes part."""
    config = os.path.join(theatre.private, "tenants.toml")
    with open(config, "w") as file:
        file.write('[auth]\nmode = "jwt"\nalgorithms = ["HS256"]\nsecret = "only for this measurement: nobody else\'s secret"\n')
    mint = lambda name: stage.fanfare("token", "--config", config, "--sub", name, "--publish", name, "--subscribe", name)
    tokens = {name: mint(name) for name in ("quiet", "flood")}
    options = lambda server: (
        *("--topic", "quiet", "--token", tokens["quiet"], "--publish", server.url),
        *("--publish-header", "Authorization: Bearer " + tokens["quiet"]),
        *("--subscribers", TENANT_SUBSCRIBERS, "--rate", TENANT_RATE, *WARMUP),
    )
    make = lambda: theatre.hub_alone("--config", config)
    beside = lambda: flooded(theatre, make, tokens["flood"])
    reports = {"rest": [], "flood": []}
    for turn in range(theatre.arguments.pairs):
        for kind, make_kind in (("rest", make), ("flood", beside)):
            label = "S18-%s-%02d" % (kind, turn + 1)
            look = lambda server: server.metrics()
            # The flood is another process on the client's core.
            reports[kind].append(one_run(theatre, make_kind, label, options, ("other processes",), look))
        print("   S18, turn %d of %d" % (turn + 1, theatre.arguments.pairs), flush=True)
    # Only the quiet tenant's topic has subscribers, so these histograms are its own. What comes to the hub waits unread for a
    # turn at most.
    inside = {
        "accepted to the last subscriber": "fanfare_publish_to_last_subscriber_seconds",
        "one turn of the reactor": "fanfare_reactor_turn_seconds",
    }
    refused = 'fanfare_quota_refusals_total{rule="default",limit="publish_per_second"}'
    rows = {"publications of the flood refused a run": figures.runs(reports["flood"], lambda it: it["seen"][refused])}
    for what, name in inside.items():
        for kind in reports:
            read = lambda report, name=name: histogram_p99(report["seen"], name, "")
            rows["p99 inside the hub, %s, %s, µs" % (what, kind)] = figures.runs(reports[kind], read)
    for stamp in ("kernel", "read"):
        for kind in reports:
            read = lambda report, stamp=stamp: p99(report, "quiet", stamp)
            rows["p99 due to %s, %s, µs" % (stamp, kind)] = figures.runs(reports[kind], read)
    every = reports["rest"] + reports["flood"]
    rows["lost by the hub; void runs"] = "%d; %d" % (lost(every), count_void(every))
    return rows


@contextlib.contextmanager
def flooded(theatre, make, token):
    """A server to which somebody publishes as fast as it answers."""
    with make() as server:
        flood = stage.start_flood(server.url, token, FLOOD_CONNECTIONS, theatre.arguments.client_core)
        try:
            yield server
        finally:
            stage.end(flood)


ALL = {
    "S1": idle,
    "S2": broadcast,
    "S4": beside,
    "S6": flood,
    "S7": stalled,
    "S8": churn,
    "S9": storm,
    "S13": instructions,
    "S14": syscalls,
    "S15": room,
    "S16": sign_in,
    "S17": several,
    "S18": tenants,
}
