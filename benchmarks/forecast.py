"""What a run says about time, beside the time that it takes.

    python benchmarks/forecast.py [CONFIG.yaml] [key.path=value …]

runs the command in a folder of its own. It prints the time that was announced, then the time that was said to be left
at several points of the run, each beside the time that it really took. Nothing else should run beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TENTHS = (0.1, 0.25, 0.5, 0.75, 0.9)


def main(words: list[str]) -> None:
    """Run the command and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        own = (f"run.storage={folder}/runs", f"run.events={events}")
        started = time.time()
        subprocess.run([sys.executable, "-m", "safs_ray.tune", *words, *own], check=True)
        ended = time.time()
        told = [json.loads(line) for line in events.read_text().splitlines()]
    begun = next(each for each in told if each.get("event") == "forecast")
    print(f"\nbefore the announcement: {begun['time'] - started:.0f} s")
    _compare("announced", begun["seconds"], "took", ended - begun["time"])
    for part in TENTHS:
        each = _at(told, begun["time"] + part * (ended - begun["time"]))
        _compare(f"after {part:.0%}", each["seconds_left"], "left", ended - each["time"])
    print("\npart                     forecast   took")
    starts = _starts(told, begun["time"], ended)
    for name, seconds in begun["parts"].items():
        print(f"{name:<22} {seconds:8.1f} s {starts.get(name, 0.0):6.1f} s")


def _at(told: list[dict[str, Any]], moment: float) -> dict[str, Any]:
    """The first event after a moment that tells the time left; the last one where none comes after."""
    telling = [each for each in told if each.get("seconds_left") is not None]
    return next((each for each in telling if each["time"] >= moment), telling[-1])


def _starts(told: list[dict[str, Any]], begun: float, ended: float) -> dict[str, float]:
    """How long each part took: from the last news of the part before it to its own last news."""
    last: dict[str, float] = {}
    for each in told:
        if "stage" in each:
            first, *others = each["stage"].split("/")
            last["/".join((first, *others[:1])) if first == "finalists" else first] = each["time"]
        elif "trial" in each and each["event"] in ("step", "ended"):
            last[each["sweep"]] = each["time"]
    durations, before = {}, begun
    for name, moment in sorted(last.items(), key=lambda item: item[1]):
        durations[name], before = moment - before, moment
    return {**durations, "end": ended - before}


def _compare(when: str, said: float, verb: str, true: float) -> None:
    ratio = max(said, true) / max(min(said, true), 1e-9)
    print(f"{when:<12} {said:7.0f} s   {verb} {true:7.0f} s   {ratio:.2f}x too {'much' if said > true else 'little'}")


if __name__ == "__main__":
    main(sys.argv[1:])
