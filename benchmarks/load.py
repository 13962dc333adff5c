"""A thousand tiny trials through one driver: time per trial, memory of driver and board, size of the run folder.

    python benchmarks/load.py FOLDER [TRIALS]

runs a sweep of that many trials of two steps on scikit-learn's digits in FOLDER, and prints a line for each tenth of
it. One after the other, so that the time of a trial is what the driver, the board and Tune need beside its training.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from safs_ray.search.course import Sweep
from safs_ray.search.records import JOURNALS
from safs_ray.storage import Folder
from safs_ray.tune.journal import Journal

SETTING: dict[str, dict[str, Any]] = {
    "data": {"source": "digits", "size": 8, "limit": 160},
    "model": {"name": "mlp"},
    "dense": {"epochs": 1},
    "pruning": {"sparsity": 0.9, "epochs": 0},
    "search": {"steps": 1, "epochs": 1},
    "finetune": {"epochs": 1, "epochs_per_step": 1},
    "tune": {"grace_period": 2, "max_concurrent": 1, "searcher": "random"},
    "final": {"folds": 1, "epochs": 1, "ablations": []},
}


def main(folder: Path, trials: int) -> None:
    run = folder / "load"
    folder.mkdir(parents=True, exist_ok=True)
    setting = {**SETTING, "run": {"name": "load", "storage": str(folder)}}
    setting["tune"] = {**SETTING["tune"], "trials": trials}
    (folder / "load.yaml").write_text(yaml.safe_dump(setting))
    command = [sys.executable, "-m", "safs_ray.tune", str(folder / "load.yaml")]
    with (folder / "load.log").open("w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        print("| trials | s per trial | driver MB | board MB | run folder MB | files |\n|---|---|---|---|---|---|")
        watch(driver, run, trials)
    print(f"exit code {driver.wait()}")


def watch(driver: subprocess.Popen[bytes], run: Path, trials: int) -> None:
    """Print a line for each tenth of the trials."""
    last, since = 0, time.monotonic()
    while driver.poll() is None and last < trials:
        time.sleep(0.2)
        ended = sum(entry.ended is not None for entry in Journal(Folder.at(run / JOURNALS), Sweep.SAFS).entries)
        if not last and ended:
            last, since = ended, time.monotonic()
        if ended - last >= trials // 10 or (ended == trials and ended > last):
            seconds = (time.monotonic() - since) / (ended - last)
            files = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
            memory = f"{resident(driver.pid, '')} | {resident(driver.pid, 'ray::Board')}"
            print(f"| {ended} | {seconds:.3f} | {memory} | {sum(files) / 1e6:.1f} | {len(files)} |", flush=True)
            last, since = ended, time.monotonic()


def resident(driver: int, name: str) -> int:
    """Resident memory in MB of the driver, or of a worker of its Ray."""
    process = psutil.Process(driver)
    found = [each for each in process.children(recursive=True) if name and name in "".join(each.cmdline()[:1])]
    size: int = sum(each.memory_info().rss for each in (found if name else [process]))
    return round(size / 1e6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
