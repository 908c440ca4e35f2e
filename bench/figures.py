"""Ratios of pairs, their spread, and the table."""

import random
import statistics

# Resamples of the bootstrap, with a fixed seed: the same runs give the same interval.
RESAMPLES = 10_000
SEED = 1


def spread(values):
    """Median, extremes, and the 95 % bootstrap interval of the median."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    generator = random.Random(SEED)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return {
        "median": statistics.median(values),
        "low": medians[int(0.025 * RESAMPLES)],
        "high": medians[int(0.975 * RESAMPLES)],
        "min": min(values),
        "max": max(values),
        "count": len(values),
        "values": values,
    }


def sound(pairs):
    """The pairs of which no run is void."""
    return [pair for pair in pairs if not any(report["is_void"] for report in pair)]


def ratios(pairs, read):
    """Of hub to floor, pair by pair: what the machine does to both does not count."""
    return spread([read(hub) / read(floor) for floor, hub in sound(pairs) if read(floor)])


def runs(reports, read):
    """One figure of each run that is not void."""
    return spread([read(report) for report in reports if not report["is_void"]])


def table(results):
    facts = results["machine"]
    lines = ["%(date)s, %(cpu)s, %(cores)s cores, Linux %(kernel)s, revision %(revision)s" % facts]
    lines += ["The median of the runs (pairs, for a ratio) [95 %% interval] (extremes); %s" % results["command"]]
    for name, rows in results["scenarios"].items():
        lines.append("")
        lines += ["%-4s %-58s %s" % (name, label, describe(value)) for label, value in rows.items()]
    return "\n".join(lines)


def describe(value):
    if value is None:
        return "-"
    if not isinstance(value, dict):
        return str(value)
    form = "%(median).*f [%(low).*f, %(high).*f] (%(min).*f to %(max).*f) of %(count)d"
    digits = 3 if abs(value["median"]) < 100 else 0
    for key in ("median", "low", "high", "min", "max"):
        form = form.replace("%%(%s).*f" % key, "%%(%s).%df" % (key, digits))
    return form % value
