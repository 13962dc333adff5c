"""What Ray and safs_ray take of a sweep's wall time beside the evaluations, and how busy they keep the cores.

    python benchmarks/overhead.py FOLDER                                        two trials at a time, some two minutes
    python benchmarks/overhead.py FOLDER --workers 4 tune_configs/lenet5_mnist.yaml data.folder=MNIST_FOLDER

runs a whole command in FOLDER, which is emptied, and prints a line for each of its sweeps. Without a configuration it
is that of scaling.py with evaluations of about a second. A sweep ends when its winner is known; the trainings of its
finalists count as training. Columns:

    trainings core-s        CPU time of all trainings of the sweep and of its finalists, as recorded
    overhead                1 - that / (workers * wall time): what workers spent on anything but training
    first after s           from the sweep's begin to that of its first evaluation, while processes start and import
    idle at the end s       of workers, once fewer trials were left than workers, beside the finalists' trainings
    overhead without both   the same share without those times, as a long sweep has it
    cores busy              CPU time of the command and all its processes / (workers * wall time)
    CPU beside trainings    the part of that CPU time which is no training; other work on the machine does not add to it
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
from scaling import SETTING, command, events

NAME = "overhead"
EVERY = 0.5
"""Seconds between two looks at the processes."""

AT_ONCE = 0.1
"""Seconds within which a trial reports the steps of one call."""

Samples = list[tuple[float, float]]
"""Points in time, in seconds since 1970, and the CPU time that the processes had taken by then."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("words", nargs="*", metavar="CONFIG.yaml key.path=value", help="as for safs_ray.tune")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time")
    arguments = parser.parse_intermixed_args()
    folder, workers = arguments.folder, arguments.workers
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = [*(arguments.words or (*SETTING, "search.epochs=30")), f"tune.max_concurrent={workers}"]
    driver = subprocess.Popen(command(folder, NAME, words), stdout=subprocess.DEVNULL)
    used = watch(driver)
    if driver.returncode:
        raise SystemExit(driver.returncode)
    told, steps = events(folder, NAME), pq.read_table(folder / NAME / "evaluations").to_pylist()
    columns = ["sweep", "steps", "s each", "workers", "wall s", "trainings core-s", "overhead"]
    columns += ["first after s", "idle at the end s", "overhead without both", "cores busy", "CPU beside trainings"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for sweep in dict.fromkeys(step["sweep"] for step in steps):
        own = [step for step in steps if step["sweep"] == sweep and not step["repeated"]]
        again = core_seconds_of(folder / NAME / "networks/finalists" / sweep)
        print(line(sweep, own, [event for event in told if event.get("sweep") == sweep], again, used, workers))


def watch(driver: subprocess.Popen[bytes]) -> Samples:
    """What the command and the processes under it use until it ends; of those that end, what they had at last."""
    root, used = psutil.Process(driver.pid), dict[psutil.Process, float]()
    samples = [(time.time(), 0.0)]
    while driver.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    used[process] = times.user + times.system
        samples.append((time.time(), sum(used.values())))
        time.sleep(EVERY)
    return samples


def core_seconds_of(finalists: Path) -> float:
    """CPU time of the trainings in a folder of finalists."""
    return sum(float(json.loads(file.read_text())["core_seconds"]) for file in finalists.glob("*/*/metrics.json"))


def line(
    sweep: str, steps: list[dict[str, Any]], told: list[dict[str, Any]], again: float, used: Samples, workers: int
) -> str:
    """What the table says of a sweep.

    Args:
        steps: the evaluations that were trained, and the stretches of fine-tuning.
        told: the sweep's events.
        again: CPU time of the finalists' trainings.
    """
    times = {event["event"]: event["time"] for event in told}
    begin, end = times["sweep"], times["won"]
    seconds = {(step["trial"], step["iteration"]): step["core_seconds"] for step in steps}
    core_seconds, wall = sum(seconds.values()) + again, end - begin
    first = next(event for event in told if event["event"] == "step")
    together = [event for event in told if event["event"] == "step" and event["trial"] == first["trial"]]
    together = [event for event in together if event["time"] < first["time"] + AT_ONCE]
    waited = first["time"] - sum(seconds.get((event["trial"], event["step"] - 1), 0.0) for event in together) - begin
    ends = {event["trial"]: event["time"] for event in told if event["event"] == "step"}
    idle = sum(end - each for each in sorted(ends.values())[-workers:]) - again
    moments, totals = zip(*used, strict=True)
    busy = float(np.diff(np.interp((begin, end), moments, totals))[0])
    return (
        f"| {sweep} | {len(steps)} | {(core_seconds - again) / len(steps):.2f} | {workers} | {wall:.1f} | "
        f"{core_seconds:.1f} | {1 - core_seconds / (workers * wall):.1%} | {waited:.1f} | "
        f"{idle:.1f} | {1 - core_seconds / (workers * (wall - waited) - idle):.1%} | {busy / (workers * wall):.1%} | "
        f"{1 - core_seconds / busy:.1%} |"
    )


if __name__ == "__main__":
    main()
