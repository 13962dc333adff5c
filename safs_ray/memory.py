"""This machine's memory."""

from __future__ import annotations

import psutil


def free() -> int:
    """Bytes that can be taken without swapping."""
    available: int = psutil.virtual_memory().available
    return available


def readable(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
