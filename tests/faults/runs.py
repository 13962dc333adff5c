"""Runs as subprocesses, and what they leave."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safs_ray.search.course import Sweep
from safs_ray.search.evaluation import Evaluation
from safs_ray.search.records import JOURNALS, read_evaluations
from safs_ray.storage import Folder
from safs_ray.tune.journal import Entry, Journal
from tests.command import start

ENDS = 600
"""Seconds within which any tiny run ends."""


def command(*arguments: str, directory: Path | None = None) -> subprocess.Popen[str]:
    """``python -m safs_ray.tune``, which listens to SIGINT even where a shell has put the tests in its background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return start(*arguments, directory=directory)


def finish(*arguments: str, directory: Path | None = None) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it printed."""
    process = command(*arguments, directory=directory)
    output, _ = process.communicate(timeout=ENDS)
    return process.returncode, output


@dataclass(frozen=True)
class Stopped:
    """What became of a run that a signal was sent to.

    Attributes:
        stage: the last line that it had printed.
        seconds: from the signal to its end.
    """

    code: int
    output: str
    stage: str
    seconds: float


def disturbed(number: int, after: int, delay: float, *arguments: str) -> Stopped:
    """Start a run, wait for so many lines of progress and then some seconds, send the signal, wait for the end."""
    process = command(*arguments)
    assert process.stdout is not None
    lines: list[str] = []
    seen = 0
    while seen < after and (line := process.stdout.readline()):
        lines.append(line)
        seen += line[:2].isdigit() and "validation" in line
    time.sleep(delay)
    sent = time.monotonic()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=ENDS)
    seconds = time.monotonic() - sent
    progress = [line for line in lines if line[:2].isdigit()]
    stage = progress[-1][10:45].strip() if progress else "start of the program"
    return Stopped(process.returncode, "".join(lines) + rest, stage, seconds)


Expected = dict[str, Any]
"""What must be equal in two runs: evaluations, trials, winner, table."""


def untimed(run: Path) -> list[Evaluation]:
    """The evaluations of a run without the time that they took."""
    return [replace(evaluation, core_seconds=0.0) for evaluation in read_evaluations(Folder.at(run / "evaluations"))]


def entries(run: Path) -> list[Entry]:
    return Journal(Folder.at(run / JOURNALS), Sweep.SAFS).entries


def outcome(run: Path) -> Expected:
    """What a finished run found."""
    content = json.loads((run / "results.json").read_text())
    return {
        "evaluations": sorted(untimed(run), key=lambda step: (step.trial, step.iteration)),
        "trials": entries(run),
        "assignment": content["assignment"],
        "hyperparameters": content["hyperparameters"],
        "accuracies": [(row["name"], row["validation_accuracy"], row["test_accuracy"]) for row in content["rows"]],
    }


def differing(found: Expected, expected: Expected) -> int:
    """How many evaluations, trials, rows or winners are not the same."""
    count = sum(found[key] != expected[key] for key in ("assignment", "hyperparameters"))
    for key in ("evaluations", "trials", "accuracies"):
        count += abs(len(found[key]) - len(expected[key]))
        count += sum(mine != other for mine, other in zip(found[key], expected[key], strict=False))
    return count


def kept(run: Path) -> tuple[list[Evaluation], list[Entry], dict[str, str]]:
    """What an unfinished run has on storage: evaluations, trials that ended and stages that are complete."""
    files = sorted((run / "networks").rglob("metrics.json"))
    stages = {str(path.parent.relative_to(run)): path.read_text() for path in files}
    ended = [entry for entry in entries(run) if entry.ended] if run.exists() else []
    return untimed(run) if run.exists() else [], ended, stages


def lost(before: tuple[list[Evaluation], list[Entry], dict[str, str]], run: Path) -> int:
    """How much of what was kept is not there any more, or is not the same; a stage made anew counts by its time."""
    after = kept(run)
    evaluations = sum(evaluation not in after[0] for evaluation in before[0])
    trials = sum(entry not in after[1] for entry in before[1])
    return evaluations + trials + sum(after[2].get(stage) != text for stage, text in before[2].items())


@dataclass
class Table:
    """One row for each kind of fault."""

    rows: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)

    def add(self, fault: str, happened: str, lost: int, differing: int) -> None:
        self.rows.setdefault(fault, []).append((happened, lost, differing))

    def markdown(self) -> list[str]:
        lines = ["| fault | moments | lost | differing | what happened |", "|---|---|---|---|---|"]
        for fault, found in self.rows.items():
            happened = "; ".join(dict.fromkeys(each for each, _, _ in found))
            counts = f"{len(found)} | {sum(each for _, each, _ in found)} | {sum(each for _, _, each in found)}"
            lines.append(f"| {fault} | {counts} | {happened} |")
        return lines


def moments(seed: int) -> list[tuple[int, float]]:
    """Random moments at which the sessions of one run are killed: lines of progress, and seconds after them."""
    draws = random.Random(seed)
    return [(draws.choice((0, 1, 2, 3, 4)), draws.uniform(0.0, 6.0 if index == 0 else 1.5)) for index in range(8)]


SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}
