"""What of this machine a process may use: its cores, and its memory, of which the C library keeps some.

A container, or a job of a cluster, sees the whole machine, and is slowed down or killed when it takes more than its
limits, which it can read in files (cgroup v2 and v1).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil

CGROUP, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where groups of processes have their limits, and which groups this process is in."""


def cores() -> int:
    """Cores that this process may use; a part of one counts as one."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.floor(min(count, _granted_cores())))


def free_memory() -> int:
    """Bytes that can be taken without swapping, or being killed."""
    available: int = psutil.virtual_memory().available
    return max(0, math.floor(min(available, _granted_memory())))


def cache_folder() -> Path | None:
    """Where this user's programs keep what they would find again; None where there is no place to write to."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safs_ray"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none to write to
        return None
    return folder


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
    """Cores' worth of CPU time that this process gets; infinite without a limit."""
    return min(_quota(group) for group in _groups("cpu"))


def _quota(group: Path) -> float:
    match _numbers(group / "cpu.max") or _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us"):
        case [quota, period] if quota > 0:  # v1 has -1 for none
            return quota / period
    return math.inf


def _granted_memory() -> float:
    """Bytes that this process has left, pages of files that need not be held included; infinite without a limit."""
    return min(_left(group) for group in _groups("memory"))


def _left(group: Path) -> float:
    for limit, used in ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"):
        match _numbers(group / limit) + _numbers(group / used):
            case [most, taken]:
                inactive = re.findall(r"^(?:total_)?inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
                return most - taken + max(map(int, inactive), default=0)
    return math.inf


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups that this process is in, one within the other."""
    yield from (CGROUP, CGROUP / controller)  # a container sees its own as the outermost
    for line in _text(OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = CGROUP / controller if controllers else CGROUP
            own = root / path.strip("/")
            yield from (group for group in (own, *own.parents) if group.is_relative_to(root))


def _numbers(file: Path) -> list[float]:
    """The numbers in a file of a group's limits, infinite for "max"; none without the file."""
    return [math.inf if word == "max" else float(word) for word in _text(file).split()]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _of_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc, where that is the C library."""
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*arguments)
