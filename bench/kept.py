#!/usr/bin/env python3
"""What a results folder keeps: a table for people, and `runs.jsonl` with all it was made from. `bench/kept.py FOLDER` lists the
entries, `bench/kept.py FOLDER LABEL` prints one.

The first line of `runs.jsonl` is `{"results": …}`: the machine, the command, and the figures that cannot be made anew from the runs.
Each further line is a run, `{"label": …, "report": …}`, or another file of the measurement, `{"label": …, "text": …}`.
"""

import json
import os
import sys

FILE = "runs.jsonl"


def read(folder):
    """What stands in the first line, and the entries that follow, by label, in their order."""
    with open(os.path.join(folder, FILE)) as file:
        lines = [json.loads(line) for line in file]
    results = lines.pop(0)["results"] if lines and "results" in lines[0] else {}
    return results, {entry["label"]: entry for entry in lines}


def write(folder, results, table, text):
    """Takes all files of the folder into the one, behind `results`, and writes `text` as the file `table`. May be called again as
    more runs come: an interrupted measurement leaves what it has."""
    entries = read(folder)[1] if os.path.exists(os.path.join(folder, FILE)) else {}
    names = [name for name in os.listdir(folder) if name not in (FILE, table)]
    found = sorted((read_file(os.path.join(folder, name)) for name in names), key=when)
    entries.update({entry["label"]: entry for entry in found})
    beside = os.path.join(folder, FILE + ".new")
    with open(beside, "w") as file:
        for line in ({"results": results}, *entries.values()):
            file.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")
    os.replace(beside, os.path.join(folder, FILE))
    with open(os.path.join(folder, table), "w") as file:
        file.write(text)
    for name in names:
        os.remove(os.path.join(folder, name))


def read_file(path):
    """A report as a run; any other file as text."""
    name = os.path.basename(path)
    with open(path) as file:
        text = file.read()
    if name.endswith(".json"):
        return {"label": name.removesuffix(".json"), "report": json.loads(text)}
    return {"label": name, "text": text}


def when(entry):
    """Runs in the order in which they were made, and what is no run behind them."""
    return entry["report"]["started_unix_s"] if "report" in entry else float("inf"), entry["label"]


def main():
    folder, *labels = sys.argv[1:]
    entries = read(folder)[1]
    for label in labels:
        entry = entries[label]
        print(entry["text"] if "text" in entry else json.dumps(entry["report"], indent=2, ensure_ascii=False))
    if not labels:
        print("\n".join(entries))


if __name__ == "__main__":
    main()
