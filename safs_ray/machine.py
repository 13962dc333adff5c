"""What of this machine a process may use: its cores, and its memory, of which the C library keeps some.

A container sees the whole machine, and is slowed down or killed when it takes more than its limits, which it can read
in files (cgroup v2 and v1).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
from functools import cache
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Where a container finds its own limits."""


def cores() -> int:
    """Cores that this process may use; a part of one counts as one."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min(count, _granted_cores())))


def free_memory() -> int:
    """Bytes that can be taken without swapping, or being killed."""
    available: int = psutil.virtual_memory().available
    return max(0, math.floor(min(available, _granted_memory())))


def readable(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


@cache
def keep_memory() -> None:
    """Let the C library keep what is freed: a batch would else be given fresh pages, a third of a sparse step.

    For the whole process; only glibc knows how.
    """
    trim_threshold, mmap_threshold = -1, -3
    _of_glibc("mallopt", trim_threshold, 2**31 - 1)
    _of_glibc("mallopt", mmap_threshold, 32 << 20)


def give_back_memory() -> None:
    """Return to the system what the C library has kept, gigabytes after steps of a large network."""
    _of_glibc("malloc_trim", 0)


def _granted_cores() -> float:
    """Cores' worth of CPU time that a container gets; infinite without a limit."""
    match _numbers("cpu.max") or _numbers("cpu/cpu.cfs_quota_us") + _numbers("cpu/cpu.cfs_period_us"):
        case [quota, period] if quota > 0:  # v1 has -1 for none
            return quota / period
    return math.inf


def _granted_memory() -> float:
    """Bytes that a container has left, pages of files that it need not hold included; infinite without a limit."""
    for folder, limit, used in ("", "max", "current"), ("memory/", "limit_in_bytes", "usage_in_bytes"):
        match _numbers(f"{folder}memory.{limit}") + _numbers(f"{folder}memory.{used}"):
            case [most, taken]:
                inactive = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(f"{folder}memory.stat"), re.MULTILINE)
                return most - taken + max(map(int, inactive), default=0)
    return math.inf


def _numbers(file: str) -> list[float]:
    """The numbers in a file of the container's limits, infinite for "max"; none without the file."""
    return [math.inf if word == "max" else float(word) for word in _text(file).split()]


def _text(file: str) -> str:
    try:
        return (CGROUP / file).read_text()
    except OSError:
        return ""


def _of_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc, where that is the C library."""
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*arguments)
