"""States of trainings that are under way, so that an interruption costs seconds of them and not hours."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
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
        kept: dict[str, Any] = torch.load(io.BytesIO(state), weights_only=True, map_location="cpu")
        return kept

    def remove(self, key: str) -> None:
        """Delete the state of a training that is done, if there is one."""
        self.folder.remove(key)

    def clear(self) -> None:
        """Delete all states; their trainings are done or given up."""
        self.folder.delete()
