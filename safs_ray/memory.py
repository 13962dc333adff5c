"""This machine's memory, and what of it the C library keeps."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import psutil


def free() -> int:
    """Bytes that can be taken without swapping."""
    available: int = psutil.virtual_memory().available
    return available


def readable(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


@cache
def keep() -> None:
    """Let the C library keep what is freed: a batch would else be given fresh pages, a third of a sparse step.

    For the whole process; only glibc knows how.
    """
    trim_threshold, mmap_threshold = -1, -3
    _of_glibc("mallopt", trim_threshold, 2**31 - 1)
    _of_glibc("mallopt", mmap_threshold, 32 << 20)


def give_back() -> None:
    """Return to the system what the C library has kept, gigabytes after steps of a large network."""
    _of_glibc("malloc_trim", 0)


def _of_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc, where that is the C library."""
    if sys.platform == "linux" and (function := getattr(ctypes.CDLL(None), name, None)):
        function(*arguments)
