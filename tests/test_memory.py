from __future__ import annotations

import subprocess
import sys

import pytest

from safs_ray import memory

HELD_AND_GIVEN_BACK = """
import psutil, torch
from safs_ray import memory

resident = lambda: psutil.Process().memory_info().rss
memory.keep()
before = resident()
for _ in range(2):
    blocks = [torch.ones(2**20) for _ in range(128)]  # 512 MB in pieces that the C library keeps
    del blocks
held = resident() - before
memory.give_back()
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
    assert memory.readable(int(size)) == told


def test_some_memory_is_free() -> None:
    assert memory.free() > 0
