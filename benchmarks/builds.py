"""A training step of this checkout and of another, which take turns.

    git worktree add /tmp/before COMMIT
    python benchmarks/builds.py /tmp/before                                  VGG-16 and ResNet-18
    python benchmarks/builds.py /tmp/before lenet5 --threads 1 --turns 30

Each build runs in a process of its own, with the packages of this Python. The step is that of the build's own
benchmarks/sparse.py: forward, backward and Adam on random images, masks and weights, by what run.execution=auto chooses
with typical costs. A turn is as many steps as take a tenth of a second, so that small networks find their caches as in
training. Times are medians in milliseconds of the wall; memory is what the process holds at most beyond what it held
before its first step. Prints them for every network, allocation, sparsity and number of threads.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent.parent

TURN = 0.1
"""Seconds of a turn, and more where a step takes longer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout")
    parser.add_argument("models", nargs="*", default=["vgg16", "resnet18"])
    parser.add_argument("--allocations", nargs="+", default=["layer", "erk"])
    parser.add_argument("--sparsities", nargs="+", default=["0.99", "0.95", "0.9"])
    parser.add_argument("--operator", default="relu", help="the operator of every site")
    parser.add_argument("--threads", nargs="+", default=["1"])
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    print("| network | allocation | sparsity | threads | other ms | this ms | other / this | other MB | this MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    cells = product(arguments.models, arguments.allocations, arguments.sparsities, arguments.threads)
    for model, allocation, sparsity, threads in cells:
        words = model, allocation, sparsity, arguments.operator, threads
        other, this = compare([Build(each, words) for each in (arguments.other, HERE)], arguments.turns)
        print(
            f"| {model} | {allocation} | {sparsity} | {threads} | {other[0]:.3g} | {this[0]:.3g} | "
            f"{other[0] / this[0]:.2f} | {other[1]:.0f} | {this[1]:.0f} |",
            flush=True,
        )


class Build:
    """A checkout at work in a process of its own."""

    def __init__(self, checkout: Path, words: tuple[str, ...]) -> None:
        paths = {
            "PYTHONPATH": f"{checkout.resolve()}:{checkout.resolve() / 'benchmarks'}",
            "OMP_NUM_THREADS": words[-1],
        }
        program = [sys.executable, "-c", f"import sys; sys.path.append({str(HERE / 'benchmarks')!r}); {STEPS}", *words]
        self._process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **paths},
            cwd=checkout,  # which Python looks through first
        )

    def step(self) -> tuple[float, float]:
        """Milliseconds of a step in a turn, and the megabytes beyond those before the first."""
        assert self._process.stdin
        assert self._process.stdout
        print(file=self._process.stdin, flush=True)
        milliseconds, megabytes = map(float, self._process.stdout.readline().split())
        return milliseconds, megabytes

    def close(self) -> None:
        self._process.communicate()


STEPS = "import builds; builds.run(*sys.argv[1:])"


def compare(builds: list[Build], turns: int) -> list[tuple[float, float]]:
    """Median milliseconds and most megabytes of each build; the first two turns are not timed."""
    measured = [[build.step() for build in builds] for _ in range(2 + turns)][2:]
    for build in builds:
        build.close()
    return [(median(time for time, _ in own), max(size for _, size in own)) for own in zip(*measured, strict=True)]


def run(model: str, allocation: str, sparsity: str, operator: str, threads: str) -> None:
    """Make a step for every line of the standard input, with the build whose path comes first."""
    from safs_ray import machine  # isort: skip  # before torch, which it tells how long its threads look for work
    import sparse as build  # the benchmark of the checkout, whose parts have other names in older ones
    import torch

    from safs_ray.sparse.execution import executable

    torch.set_num_threads(int(threads))
    machine.keep_memory()
    network = build.network_of(model, operator)
    network = network.masked(build.masks(network, allocation, float(sparsity)))
    module: Any = executable(network, "auto", torch.device("cpu"))
    trained = module.cohort if hasattr(module, "cohort") else module.team()
    step, before = build._step(trained, *build.SHAPES[model]), _most_memory()
    for _ in sys.stdin:
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < TURN:
            step()
            steps += 1
        print(1000 * (time.perf_counter() - start) / steps, _most_memory() - before, flush=True)


def _most_memory() -> float:
    """Megabytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
