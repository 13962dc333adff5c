from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from safs_ray import machine

HELD_AND_GIVEN_BACK = """
import psutil, torch
from safs_ray import machine

resident = lambda: psutil.Process().memory_info().rss
machine.keep_memory()
before = resident()
for _ in range(2):
    blocks = [torch.ones(2**20) for _ in range(128)]  # 512 MB in pieces that the C library keeps
    del blocks
held = resident() - before
machine.give_back_memory()
print(held, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc knows how")
def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    ran = subprocess.run([sys.executable, "-c", HELD_AND_GIVEN_BACK], capture_output=True, text=True, check=True)
    held, left = map(int, ran.stdout.split())
    assert held > 400e6
    assert left < 100e6


@pytest.mark.parametrize(
    ("size", "told"), [(5e5, "0.5 MB"), (9.9e7, "99.0 MB"), (1e8, "0.1 GB"), (1.5e12, "1,500.0 GB")]
)
def test_bytes_are_told_as_a_person_reads_them(size: float, told: str) -> None:
    assert machine.readable(int(size)) == told


def test_there_are_cores_and_memory() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert machine.free_memory() > 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems bind no process to cores")
def test_cores_that_the_process_is_kept_from_do_not_count() -> None:
    only = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})"
    code = f"{only}; from safs_ray import machine; print(machine.cores())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a container finds its limits, on a machine with 64 cores and 10 GB of free memory; empty."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * 10**9))
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"own": "0::/\n", "cpu.max": "300000 100000\n"}, 3),
        ({"own": "0::/job/step\n", "job/cpu.max": "300000 100000\n", "job/step/cpu.max": "max 100000\n"}, 3),
        (
            {
                "own": "7:memory:/other\n3:cpu,cpuacct:/job\n0::/\n",
                "cpu/job/cpu.cfs_quota_us": "300000\n",
                "cpu/job/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({"own": "7:memory:/job\n", "cpu/job/cpu.cfs_quota_us": "1\n", "cpu/job/cpu.cfs_period_us": "1\n"}, 64),
    ],
)
def test_a_container_has_the_cores_that_it_is_granted(container: Path, files: dict[str, str], cores: int) -> None:
    write(container, files)
    assert machine.cores() == cores


STAT = "anon 900000000\ninactive_anon 7\ninactive_file {}\nactive_file 5\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 10 * 10**9),
        ({"memory.max": "max\n", "memory.current": "3000000000\n"}, 10 * 10**9),
        ({"memory.max": "4000000000\n", "memory.current": "1500000000\n"}, 2_500_000_000),
        (
            {
                "memory.max": "4000000000\n",
                "memory.current": "1500000000\n",
                "memory.stat": STAT.format(500_000_000),
            },
            3_000_000_000,
        ),
        ({"memory.max": "1000\n", "memory.current": "1500\n"}, 0),
        ({"own": "0::/job\n", "job/memory.max": "4000000000\n", "job/memory.current": "1000000000\n"}, 3 * 10**9),
        (
            {
                "memory/memory.limit_in_bytes": "4000000000\n",
                "memory/memory.usage_in_bytes": "1000000000\n",
                "memory/memory.stat": STAT.format(1) + "total_inactive_file 250000000\n",
            },
            3_250_000_000,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "1000000000\n",
            },
            10 * 10**9,
        ),
    ],
)
def test_a_container_has_the_memory_that_it_is_granted(container: Path, files: dict[str, str], free: int) -> None:
    write(container, files)
    assert machine.free_memory() == free
