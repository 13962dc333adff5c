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
from pathlib import Path

SETTING = (
    "data.source=digits", "model.name=lenet5", "dense.epochs=10", "pruning.epochs=0", "pruning.allocation=global",
    "search.steps=6", "search.epochs=10", "finetune.epochs=20", "finetune.epochs_per_step=10", "tune.trials=8",
    "tune.scheduler=none", "tune.searcher=random", "final.folds=1", "final.epochs=1", "final.finalists=1",
    "final.ablations=[]",
)  # fmt: skip


def seconds(folder: Path, workers: int) -> tuple[float, float]:
    """Wall time of the search, and the core-seconds of its evaluations."""
    run, events = folder / f"workers-{workers}", folder / f"workers-{workers}.jsonl"
    subprocess.run(
        [
            sys.executable, "-m", "safs_ray.tune", *SETTING, f"run.storage={folder}", f"run.name={run.name}",
            f"run.events={events}", f"tune.max_concurrent={workers}",
        ],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    told = [json.loads(line) for line in events.read_text().splitlines()]
    times = {event["event"]: event["time"] for event in told}
    results = json.loads((run / "results.json").read_text())
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
