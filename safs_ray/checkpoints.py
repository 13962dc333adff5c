"""States of trainings that are under way, so that an interruption costs seconds of them and not hours."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from safs_ray.storage import Folder

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoints:
    """A folder of such states, one file for each training.

    Nothing depends on a file being there: without it, or with one that is damaged, a training begins again and
    ends with the same bits.

    Attributes:
        seconds: between two states of a training. One that takes less time leaves none.
    """

    folder: Folder
    seconds: float = 30.0

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Keep the state of a training in place of an older one."""
        content = io.BytesIO()
        torch.save(state, content)
        self.folder.write(key, hashlib.sha256(content.getbuffer()).digest() + content.getvalue())

    def load(self, key: str) -> dict[str, Any] | None:
        """The latest state of a training; None when there is none, or one that is not what was written."""
        if not self.folder.exists(key):
            return None
        content = self.folder.read(key)
        digest, state = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(state).digest() != digest:
            return None
        return _loaded(state)

    def remove(self, key: str) -> None:
        """Delete the state of a training that is done, if there is one."""
        self.folder.remove(key)

    def clear(self) -> None:
        """Delete all states; their trainings are done or given up."""
        self.folder.delete()


def require_plain(state: dict[str, Any]) -> None:
    """Raise where a state holds more than plain values and tensors, so that nobody could load it.

    Raises:
        Exception: of any kind.
    """
    content = io.BytesIO()
    torch.save(state, content)
    _loaded(content.getvalue())


def _loaded(content: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return state


class Checkpoint:
    """The place of one training's state.

    Its name is found only where there is a state to read or to write: to tell a network from others takes the time of
    reading all of it.

    Args:
        checkpoints: the folder; None where nothing is kept.
        name: gives the training's key.
    """

    def __init__(self, checkpoints: Checkpoints | None, name: Callable[[], str]) -> None:
        self._checkpoints, self._name = checkpoints, name
        self._may_be_there = bool(checkpoints and checkpoints.folder.names())

    @property
    def seconds(self) -> float:
        """Between two states; infinite where none is kept."""
        return self._checkpoints.seconds if self._checkpoints else float("inf")

    def load(self) -> dict[str, Any] | None:
        """The latest state, if there is one."""
        return self._checkpoints.load(self._key) if self._checkpoints and self._may_be_there else None

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, as :meth:`Checkpoints.save`."""
        if self._checkpoints:
            self._checkpoints.save(self._key, state)
            self._may_be_there = True

    def remove(self) -> None:
        """Delete the state of a training that is done, if there is one."""
        if self._checkpoints and self._may_be_there:
            self._checkpoints.remove(self._key)

    @cached_property
    def _key(self) -> str:
        return self._name()
