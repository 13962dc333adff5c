"""How many trials one board serves: trials whose evaluations sleep, on a cluster of several nodes of this machine.

    python benchmarks/board.py FOLDER [SECONDS]

For 1, 8, 64 and 256 trials at a time, with evaluations that last SECONDS (1 unless told): records per second, what
asking the board and recording take, and how much of the ideal, in which the board takes no time, is reached. With
evaluations of no length at all it says where the board saturates.
"""

from __future__ import annotations

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import ray
from ray.cluster_utils import Cluster

from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.tune.board import NAMESPACE, BoardClient, open_board

NODES = 4
TRIALS = (1, 8, 64, 256)
SITES = 13
"""As VGG-16 has."""


@dataclass(frozen=True)
class Seen:
    """Seconds that each call took."""

    recalls: list[float]
    records: list[float]


class Worker:
    """A node's trials, each a thread: their evaluations cost no computing."""

    def __init__(self, board: str) -> None:
        self._board = board

    @ray.method
    def run(self, trials: list[str], steps: int, seconds: float) -> Seen:
        seen = Seen([], [])
        with ThreadPoolExecutor(len(trials)) as pool:
            for done in [pool.submit(self._trial, trial, steps, seconds, seen) for trial in trials]:
                done.result()
        return seen

    def _trial(self, trial: str, steps: int, seconds: float, seen: Seen) -> None:
        board = BoardClient(self._board, trial)
        for step in range(steps):
            evaluation = evaluated(trial, step)
            begun = time.perf_counter()
            board.recall(evaluation.key)
            asked = time.perf_counter()
            time.sleep(seconds)
            woken = time.perf_counter()
            board.record(evaluation)
            seen.recalls.append(asked - begun)
            seen.records.append(time.perf_counter() - woken)


def evaluated(trial: str, step: int) -> Evaluation:
    return Evaluation(
        Sweep.SAFS, trial, step, "search", f"{trial} {step}", ("logsigmoid",) * SITES, '{"batch_size": 128}' * 5, 80,
        2**62, 0.5, 0.5, 0.5, accepted=True, diverged=False, repeated=False, core_seconds=1.0,
    )  # fmt: skip


def measure(folder: Path, count: int, steps: int, seconds: float) -> str:
    """A row of the table."""
    name = f"board of {count} and {seconds}"
    board = open_board(name, str(folder / str(count)), str(folder / "nothing"))
    ray.get(board.evaluations.remote())
    actor = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Worker)
    workers = [actor.remote(name) for _ in range(min(count, NODES))]
    ray.get([worker.run.remote(["warm"], 1, 0.0) for worker in workers])
    trials = [f"trial-{number}" for number in range(count)]
    begun = time.perf_counter()
    parts = [trials[number :: len(workers)] for number in range(len(workers))]
    seen = ray.get([worker.run.remote(part, steps, seconds) for worker, part in zip(workers, parts, strict=True)])
    took = time.perf_counter() - begun
    recalls = [value for one in seen for value in one.recalls]
    records = [value for one in seen for value in one.records]
    assert len(records) == count * steps
    for each in (board, *workers):
        ray.kill(each)
    slowest = quantiles(records, n=20)[-1]
    return (
        f"| {count} | {seconds:g} | {len(records) / took:.0f} | {1e3 * median(recalls):.0f} | "
        f"{1e3 * median(records):.0f} | {1e3 * slowest:.0f} | {steps * seconds / took:.0%} |"
    )


def main(folder: Path, seconds: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, namespace=NAMESPACE, log_to_driver=False)
    print("| trials | s per evaluation | records per s | recall ms | record ms | slowest 5 % ms | of the ideal |")
    print("|---|---|---|---|---|---|---|")
    for count in TRIALS:
        for length in (seconds, 0.0):
            steps = 20 if length else max(10, 400 // count)
            print(measure(folder / str(length), count, steps, length), flush=True)
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
