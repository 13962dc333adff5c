"""Seeds derived from the run's seed by purpose, so that no two draws share or disturb a stream.

Nothing in the package reads or changes a global random number generator.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, for instance ``derive(seed, "batches", epoch)``.

    Examples:
        >>> derive(0, "batches", 1) == derive(0, "batches", 1) != derive(0, "batches", 2)
        True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
