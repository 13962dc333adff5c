"""Real evaluations on one worker and on two: the same search, one trial at a time and two.

    python benchmarks/scaling.py FOLDER [WORKERS]

runs a search of LeNet-5 on scikit-learn's digits with 1, 2, … WORKERS trials at a time (2 unless told) and prints how
long it took, and how much of the ideal is reached. The trials are the same in every run: drawn at random, none stopped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTING = (
    "data.source=digits", "model.name=lenet5", "dense.epochs=10", "pruning.schedule=one shot", "pruning.epochs=0",
    "pruning.allocation=global", "search.steps=6", "search.epochs=60", "finetune.epochs=120",
    "finetune.epochs_per_step=60", "tune.trials=8", "tune.scheduler=none", "tune.searcher=random", "final.folds=1",
    "final.epochs=1", "final.finalists=1", "final.ablations=[]",
)  # fmt: skip


def command(folder: Path, name: str, words: Sequence[str]) -> list[str]:
    """What runs a sweep in FOLDER/NAME and tells its events to FOLDER/NAME.jsonl.

    Args:
        words: a configuration and values that replace its own, as on the command line.
    """
    events = folder / f"{name}.jsonl"
    places = f"run.storage={folder}", f"run.name={name}", f"run.events={events}"
    return [sys.executable, "-m", "safs_ray.tune", *words, *places]


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    """The events that such a sweep told; lines for people alone are none."""
    told = map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines())
    return [line for line in told if "event" in line]


def seconds(folder: Path, workers: int) -> tuple[float, float]:
    """Wall time of the search, and the core-seconds of its evaluations."""
    name = f"workers-{workers}"
    words = [*SETTING, f"tune.max_concurrent={workers}"]
    subprocess.run(command(folder, name, words), check=True, stdout=subprocess.DEVNULL)
    times = {event["event"]: event["time"] for event in events(folder, name)}
    results = json.loads((folder / name / "results.json").read_text())
    return times["won"] - times["sweep"], results["search"]["core_seconds"]


def main(folder: Path, most: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print("| trials at a time | s | core-s of evaluations | speed-up | of the ideal |\n|---|---|---|---|---|")
    first = 0.0
    for workers in range(1, most + 1):
        took, core = seconds(folder, workers)
        first = first or took
        print(
            f"| {workers} | {took:.0f} | {core:.0f} | {first / took:.2f} | {first / took / workers:.0%} |", flush=True
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)
