"""The tables of `compare`: every figure, and the summary that COMPARISON.md shows."""

# How each figure is written: what it is multiplied by, and its digits.
FORMS = {
    "memory of a connection, bytes": (1, 0),
    "CPU of a delivery, µs": (1, 2),
    "p50, ms": (1, 2),
    "p99, ms": (1, 2),
    "p99 in the kernel, ms": (1, 2),
    "busy, % of its core": (1, 0),
    "delivered, % of what was due": (1, 1),
}

# In the order of the summary.
NAMES = {
    "floor": "the floor",
    "hub": "**Fanfare**",
    "hub-http": "**Fanfare**, HTTP in",
    "uws": "uWebSockets",
    "nchan": "nchan",
    "node": "Socket.IO",
    "centrifugo": "Centrifugo",
    "mercure": "Mercure",
    "fastapi": "FastAPI",
    "fastapi-queues": "FastAPI, queues",
}


TRANSPORTS = {"ws": "WebSocket", "sse": "SSE", "socketio": "Socket.IO"}


def detailed(results):
    """A table for each scenario, transport and load; the cheapest server first, wherever the hub comes."""
    lines = ["%(date)s, %(cpu)s, %(cores)s cores, Linux %(kernel)s, revision %(revision)s, %(redis)s" % results["machine"]]
    lines += ["", "`%s`. Medians of the runs (least to most)." % results["command"], ""]
    lines += ["* %s: %s" % (NAMES[kind], version.replace("\n", ", ")) for kind, version in results["versions"].items()]
    for title, loads in results["figures"].items():
        for load, kinds in loads.items():
            lines += ["", "## %s, %s" % (title, load), "", *table_of(kinds)]
    lines += ["", "## Not measured", ""] + ["* %s: %s" % pair for pair in results["cannot"].items()]
    lines += ["* %s" % why for why in results["failed"].values()]
    return "\n".join(lines) + "\n"


def table_of(kinds):
    names = [name for name in FORMS if any(name in values for values in kinds.values())]
    rows = ["| | %s | void |" % " | ".join(names), "|---|%s" % ("---:|" * (len(names) + 1))]
    for kind in sorted(kinds, key=lambda kind: median(kinds[kind].get(names[0])) or 0):
        cells = [full(name, kinds[kind].get(name)) for name in names] + [str(kinds[kind]["void runs"])]
        rows.append("| %s | %s |" % (NAMES[kind], " | ".join(cells)))
    return rows


def median(value):
    return value["median"] if value else None


def short(name, value):
    factor, digits = FORMS[name]
    return "–" if value is None else "%.*f" % (digits, value * factor)


def full(name, value):
    if value is None:
        return "–"
    if value["count"] == 1:
        return short(name, value["median"])
    return "%s (%s to %s)" % tuple(short(name, value[key]) for key in ("median", "min", "max"))


# The columns of the summary: heading, scenario, load, figure; with a second load: the ratio of the two.
COLUMNS = (
    ("S1: memory of a connection, bytes", "S1", "idle", None, "memory of a connection, bytes"),
    ("S2: CPU of a delivery, µs", "S2", "run", None, "CPU of a delivery, µs"),
    ("S2: p99, ms", "S2", "run", None, "p99, ms"),
    ("S2 at 1 ev/s: p99, ms", "S2", "slow", None, "p99, ms"),
    ("S4: p99 of the small topic, ms", "S4", "beside", None, "p99, ms"),
    ("S6, 1,000 ev/s: CPU, µs", "S6", "1000", None, "CPU of a delivery, µs"),
    ("delivered, %", "S6", "1000", None, "delivered, % of what was due"),
    ("S6, 4,000 ev/s: CPU, µs", "S6", "4000", None, "CPU of a delivery, µs"),
    ("delivered, %", "S6", "4000", None, "delivered, % of what was due"),
    ("S7: p99 with stalled readers, ms (to that without)", "S7", "stalled", "all-read", "p99, ms"),
    ("S8: p99 with churn, ms (to that without)", "S8", "churn", "still", "p99, ms"),
)


def summary(all_figures):
    """A table for each transport, a row for each server, from one or several results."""
    of_transport = {}
    for figures in all_figures:
        for title, loads in figures.items():
            scenario, transport = title.split()
            for load, kinds in loads.items():
                of_transport.setdefault(transport, {}).setdefault((scenario, load), {}).update(kinds)
    lines = []
    for transport, loads in of_transport.items():
        columns = [column for column in COLUMNS if column[1:3] in loads]
        kinds = [kind for kind in NAMES if any(kind in found for found in loads.values())]
        lines += ["", "| %s | %s |" % (TRANSPORTS[transport], " | ".join(column[0] for column in columns))]
        lines.append("|---|%s" % ("---:|" * len(columns)))
        for kind in kinds:
            lines.append("| %s | %s |" % (NAMES[kind], " | ".join(cell(loads, kind, column) for column in columns)))
    return "\n".join(lines) + "\n"


def cell(loads, kind, column):
    _, scenario, load, other, name = column
    value = median(loads[scenario, load].get(kind, {}).get(name))
    text = short(name, value)
    base = median(loads.get((scenario, other), {}).get(kind, {}).get(name)) if other else None
    return "%s (%.2f)" % (text, value / base) if value and base else text
