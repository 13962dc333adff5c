"""Seeds derived from the run's seed by purpose, so that no two draws share or disturb a stream.

Nothing in the package draws from a global random number generator; a user's training loop gets global ones of its own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
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


class GlobalGenerators:
    """The global generators of torch, Python and numpy as a user's code finds them; afterwards they are as before.

    Whoever draws from them draws the same for the same seed, whatever else the process does.

    Args:
        seed: of all of them, in [0, 2**32).

    Examples:
        >>> own = GlobalGenerators(seed=0)
        >>> with own.used():
        ...     first = random.random(), torch.rand(()).item()
        >>> _ = random.random()
        >>> with own.used():
        ...     second = random.random(), torch.rand(()).item()
        >>> again = GlobalGenerators(seed=0)
        >>> with again.used():
        ...     [(random.random(), torch.rand(()).item()) for _ in range(2)] == [first, second]
        True
    """

    def __init__(self, seed: int) -> None:
        before = _global_states()
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it is the global one that a loop may draw from
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        self._states = _global_states()
        _set_global_states(before)

    @contextmanager
    def used(self) -> Iterator[None]:
        """While these stand for the global ones."""
        before = _global_states()
        _set_global_states(self._states)
        try:
            yield
        finally:
            self._states = _global_states()
            _set_global_states(before)

    @staticmethod
    def state_dict() -> dict[str, Any]:
        """The states of those that are used now; plain values and tensors."""
        return _global_states()

    @staticmethod
    def load_state_dict(state: dict[str, Any]) -> None:
        """Let those that are used now go on from what :meth:`state_dict` gave."""
        _set_global_states(state)


def _global_states() -> dict[str, Any]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    begun: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.get_rng_state_all() if begun else []
    own = {"kind": numpy[0], "keys": torch.from_numpy(numpy[1].astype(np.int64)), "others": list(numpy[2:])}
    return {"torch": torch.get_rng_state(), "cuda": cuda, "python": random.getstate(), "numpy": own}


def _set_global_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    numpy = states["numpy"]
    np.random.set_state((numpy["kind"], numpy["keys"].numpy().astype(np.uint32), *numpy["others"]))  # noqa: NPY002
