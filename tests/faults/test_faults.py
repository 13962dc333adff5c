"""A run that is disturbed ends with the bits of one that is not; what was finished is never lost.

    python -m pytest -m faults

takes about ten minutes of two quiet cores and prints the table of docs/faults.md.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.faults.runs import (
    ENDS,
    SIGNALS,
    Expected,
    Table,
    command,
    differing,
    disturbed,
    entries,
    finish,
    kept,
    lost,
    moments,
    outcome,
    untimed,
)

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_of_the_driver_again_and_again(
    runs: Path, tiny: Path, expected: Expected, table: Table, seed: int
) -> None:
    run = runs / f"killed-{seed}"
    arguments = [str(tiny), f"run.name={run.name}"]
    for after, delay in moments(seed):
        stopped = disturbed(signal.SIGKILL, after, delay, *arguments)
        if stopped.code == 0:
            break
        before = kept(run)
        if (run / "config.yaml").exists():
            arguments = ["--resume", str(run)]
        table.add("kill -9 of the driver", f"at {stopped.stage.split('  ')[0]}", 0, 0)
        missing = lost(before, run)
        assert missing == 0
    code, output = finish(*arguments) if not (run / "results.json").exists() else (0, "")
    assert code == 0, output
    found = outcome(run)
    table.add("kill -9 of the driver", "then resumed to the end", lost(before, run), differing(found, expected))
    assert lost(before, run) == 0
    assert found == expected


@pytest.mark.parametrize("number", SIGNALS, ids=SIGNALS.values())
@pytest.mark.parametrize("after", [0, 4, 16])
def test_an_interruption_is_honest(
    runs: Path, tiny: Path, expected: Expected, table: Table, number: signal.Signals, after: int
) -> None:
    run = runs / f"stopped-{number}-{after}"
    stopped = disturbed(number, after, 0.5 if after else 4.0, str(tiny), f"run.name={run.name}")
    assert stopped.code == 130, stopped.output
    last = stopped.output.splitlines()[-1]
    assert last.startswith("interrupted")
    assert "Traceback" not in stopped.output
    resumed = (run / "config.yaml").exists()
    if resumed:
        assert last.endswith(f" -m safs_ray.tune --resume {run}")
    before = kept(run)
    code, output = finish(*(["--resume", str(run)] if resumed else [str(tiny), f"run.name={run.name}"]))
    assert code == 0, output
    table.add(
        SIGNALS[number],
        f"exit code 130 after {stopped.seconds:.0f} s",
        lost(before, run),
        differing(outcome(run), expected),
    )
    assert outcome(run) == expected
    assert lost(before, run) == 0


def test_a_worker_killed_in_the_middle_of_an_evaluation(
    runs: Path, tiny: Path, expected: Expected, table: Table
) -> None:
    process = command(str(tiny), "run.name=worker")
    assert process.stdout is not None
    output, killed = "", 0
    for line in process.stdout:
        output += line
        if "  step  " in line and killed < 3:
            killed += kill(process.pid, KILLED[killed])
    assert process.wait() == 0, output
    found = outcome(runs / "worker")
    happened = "a trial's, the board's and the queue's process in one run, which went on by itself"
    table.add("kill -9 of workers", happened, 0, differing(found, expected))
    assert killed == 3
    assert found == expected


KILLED = ("Trainable.train", "Board", "QueueActor")
"""What Ray calls the processes that are killed, one after the other: a trial's has this name during a step alone."""

APPEARS = 10
"""Seconds within which a process of such a name appears while a sweep goes on."""


def kill(driver: int, name: str) -> bool:
    """Kill a worker of a run as soon as it has a name; whether it came to have it."""
    until = time.monotonic() + APPEARS
    while time.monotonic() < until:
        for worker in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if worker.cmdline() and name in worker.cmdline()[0]:
                    worker.kill()
                    return True
    return False


def test_a_node_killed(runs: Path, tiny: Path, expected: Expected, table: Table) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    node = cluster.add_node(num_cpus=1)
    try:
        process = command(str(tiny), "run.name=node", f"run.address={cluster.address}")
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if node and "step  3" in line:
                cluster.add_node(num_cpus=1)
                cluster.remove_node(node, allow_graceful=False)
                node = None
        assert process.wait() == 0, output
    finally:
        cluster.shutdown()
    found = outcome(runs / "node")
    table.add("kill -9 of a node", "its trial went on upon another", 0, differing(found, expected))
    assert node is None
    assert found == expected


@pytest.fixture(scope="module")
def halfway(runs: Path, tiny: Path) -> Path:
    """A run that was killed in its second trial."""
    stopped = disturbed(signal.SIGKILL, 11, 0.5, str(tiny), "run.name=halfway")
    assert stopped.code == -signal.SIGKILL
    assert untimed(runs / "halfway")
    return runs / "halfway"


DAMAGED = (
    "networks/dense/network.safetensors", "networks/dense/network.json", "networks/dense/metrics.json",
    "networks/pruned/network.safetensors", "networks/pruned/network.json", "networks/pruned/metrics.json",
    "evaluations/part-00000.parquet", "journals/SAFS.json", "search",
)  # fmt: skip
"""Every file of the run folder that is read when it goes on; and all of Ray's own at once."""


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_truncated_file(runs: Path, halfway: Path, expected: Expected, table: Table, name: str, share: float) -> None:
    run = runs / f"truncated-{name.replace('/', '-')}-{share}"
    shutil.copytree(halfway, run)
    files = [path for path in (run / name).rglob("*") if path.is_file()] if (run / name).is_dir() else [run / name]
    for file in files:
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    before = untimed(run)
    code, output = finish("--resume", str(run))
    assert code == 0, output
    found = outcome(run)
    again = len(untimed(halfway)) - len(before)
    happened = f"{again} evaluations made again" if again else "nothing made again but what it held"
    table.add(f"{name} truncated", happened, lost((before, [], {}), run), differing(found, expected))
    assert found == expected


def test_a_truncated_configuration_is_refused(runs: Path, halfway: Path, table: Table) -> None:
    run = runs / "truncated-configuration"
    shutil.copytree(halfway, run)
    (run / "config.yaml").write_bytes((run / "config.yaml").read_bytes()[:200])
    code, output = finish("--resume", str(run))
    assert code == 2, output
    assert "config.yaml" in output
    assert "Traceback" not in output
    table.add("config.yaml truncated", "refused in one line, exit code 2", lost(kept(halfway), run), 0)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=False)
    if made.returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield
    finally:
        while place.is_mount():
            subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("fault", ["a full disk", "no permission to write"])
def test_a_disk_that_takes_no_more(runs: Path, tiny: Path, expected: Expected, table: Table, fault: str) -> None:
    disk = runs / fault.replace(" ", "-")
    with small_disk(disk, "64m"):
        process = command(str(tiny), f"run.storage={disk}", "run.name=run")
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "step  2" in line:
                if fault == "a full disk":
                    fill(disk / "rest")
                else:
                    refuse_writing(disk)
        code = process.wait()
        assert code == 1, output
        assert "Go on with" in output.splitlines()[-1]
        if fault == "a full disk":
            (disk / "rest").unlink()
        else:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        before = kept(disk / "run")
        code, output = finish("--resume", str(disk / "run"))
        assert code == 0, output
        found = outcome(disk / "run")
        table.add(
            fault, "exit code 1 with the command to go on", lost(before, disk / "run"), differing(found, expected)
        )
        assert found == expected


def refuse_writing(disk: Path) -> None:
    """Mount a disk over itself, to be read only as soon as no process has a file open through this mount to write.

    The disk's first mount is never free of them: a run holds its lock.
    """
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    until = time.monotonic() + ENDS
    while subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=False, capture_output=True).returncode:
        assert time.monotonic() < until, "some process writes all the time"
        time.sleep(0.01)


def fill(path: Path) -> None:
    with path.open("wb") as file:
        while True:
            try:
                os.write(file.fileno(), bytes(4096))
            except OSError:
                return


OWN = """
import pathlib
import torch

def bad(z):
    if pathlib.Path(__file__).with_name("flag").exists():
        {fault}
    return torch.tanh(z) * 1.5
"""


def test_a_candidate_that_diverges(runs: Path, tiny: Path, table: Table, tmp_path: Path) -> None:
    # Only in batches: an operator that is never finite is refused before any work.
    settings = own_operator(tiny, tmp_path, "return z * float('nan') if z.numel() > 9 else z")
    code, output = flagged(tmp_path, *settings, "run.name=diverging")
    assert code == 0, output
    diverged = [step for step in outcome(runs / "diverging")["evaluations"] if step.diverged]
    assert diverged
    assert {step.cost for step in diverged} == {1.0}
    table.add("a candidate diverges to NaN", "it has the worst cost, and the search goes on", 0, 0)


def test_a_trial_that_raises(runs: Path, tiny: Path, table: Table, tmp_path: Path) -> None:
    settings = own_operator(tiny, tmp_path, "raise RuntimeError('no such device')")
    code, output = finish(*settings, "run.name=without", directory=tmp_path)
    assert code == 0, output
    expected = outcome(runs / "without")
    run = runs / "raising"
    code, output = flagged(tmp_path, *settings, f"run.name={run.name}")
    assert code == 1, output
    before = kept(run)
    assert any(not entry.ended for entry in entries(run))
    (tmp_path / "flag").unlink()
    code, output = finish("--resume", str(run), directory=tmp_path)
    assert code == 0, output
    happened = "exit code 1; resumed when its cause was mended"
    table.add("a trial raises", happened, lost(before, run), differing(outcome(run), expected))
    assert outcome(run) == expected


def own_operator(tiny: Path, folder: Path, fault: str) -> tuple[str, ...]:
    """What a run is told of an operator of a user's own, which is faulty while a flag lies beside it."""
    (folder / "own.py").write_text(OWN.format(fault=fault))
    return str(tiny), "search.operators=[own:bad, tanh]", "search.start=random"


def flagged(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command to its end, and put the flag there when the network has been pruned."""
    process = command(*arguments, directory=folder)
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if "pruned  " in line:
            (folder / "flag").touch()
    return process.wait(), output
