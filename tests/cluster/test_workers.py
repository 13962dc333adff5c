"""A run on a cluster that was started somewhere else, without the code that the run needs."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("aiohttp", reason="needs the extra cluster")

MINE = """
import sys
from pathlib import Path
import its_own

with open({seen!r}, "a") as file:
    for place in sys.path:
        if Path(place, "mine.py").exists():
            file.write(str(Path(place).resolve()) + "\\n")

def operator(x):
    return its_own.double(x)
"""

KEYS = (
    "data.size=8", "data.limit=160", "data.validation=0.2", "model.name=mlp", "dense.epochs=1", "pruning.epochs=1",
    "search.steps=2", "search.epochs=1", "finetune.epochs=1", "finetune.epochs_per_step=1", "tune.trials=2",
    "tune.grace_period=1", "final.folds=2", "final.epochs=1", "final.ablations=[]",
    "search.operators=[relu,mine:operator]",
)  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    environment: dict[str, str]
    address: str
    dashboard: str

    def command(self, *arguments: str, directory: Path) -> str:
        done = self.attempt(*arguments, directory=directory)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def attempt(self, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=directory, env=self.environment, text=True, timeout=280, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(cluster: Cluster) -> None:
    """Until both the cluster and its dashboard answer."""
    deadline = time.monotonic() + 60
    for place in (cluster.address, cluster.dashboard.removeprefix("http://")):
        host, _, port = place.partition(":")
        while True:
            assert time.monotonic() < deadline, f"nothing answers at {place}"
            with socket.socket() as probe:
                if not probe.connect_ex((host, int(port))):
                    break
            time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, started in the root folder by somebody whose home is empty but for a token."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    port, dashboard = free_port(), free_port()
    environment = {
        "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = Cluster(environment, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
    node = subprocess.Popen(
        [
            "ray", "start", "--head", "--block", "--num-cpus=2", f"--port={port}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir=/tmp/ray-{port}",
        ],
        cwd="/", env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(started)
        yield started
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: two modules of which one imports the other, and says in which places of its path it lies."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE.format(seen=str(tmp_path / "seen")))
    (folder / "its_own.py").write_text("def double(x):\n    return 2 * x\n")
    return folder


def places(project: Path) -> set[str]:
    return set((project.parent / "seen").read_text().split())


def evaluated(run: Path) -> int:
    content = json.loads((run / "results.json").read_text())
    assert content["finished"]
    count: int = content["search"]["evaluations"]
    return count


def test_the_code_of_a_run_reaches_every_worker(cluster: Cluster, project: Path) -> None:
    settings = (*KEYS, f"run.address={cluster.address}", f"run.storage={project.parent}", "run.name=joined")
    cluster.command("python", "-m", "safs_ray.tune", *settings, directory=project)
    assert evaluated(project.parent / "joined") > 0
    others = places(project) - {str(project)}  # which this node's workers can see too
    assert others
    assert all("/py_modules_files/" in place for place in others), others


def test_a_run_as_a_submitted_job(cluster: Cluster, project: Path) -> None:
    settings = (*KEYS, "run.address=auto", f"run.storage={project.parent}", "run.name=submitted")
    submit = (
        "ray", "job", "submit", f"--address={cluster.dashboard}", "--no-wait", "--submission-id=submitted",
        f"--working-dir={project}", "--", "python", "-m", "safs_ray.tune", *settings,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while (done := cluster.attempt(*submit, directory=Path("/"))).returncode and time.monotonic() < deadline:
        assert "No available agent" in done.stdout, (
            done.stdout
        )  # a node that has just started takes jobs some time later
        time.sleep(1)
    # The terminal is free, or lost: the job goes on.
    status = ""
    while "succeeded" not in status and time.monotonic() < deadline:
        time.sleep(2)
        asked = ("ray", "job", "status", f"--address={cluster.dashboard}", "submitted")
        status = cluster.command(*asked, directory=Path("/")).lower()
        assert "failed" not in status, status
    assert evaluated(project.parent / "submitted") > 0
    assert str(project) not in places(project)
