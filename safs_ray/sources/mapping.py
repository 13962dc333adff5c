"""Decoded images in files that are mapped into memory: a set that is larger than memory, held once on a machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from safs_ray import machine
from safs_ray.config import DataSection, counted, refusal
from safs_ray.data import Array
from safs_ray.sources.images import in_pieces, widened
from safs_ray.sources.part import Part

log = logging.getLogger("safs_ray")

Pixels = npt.NDArray[np.uint8]

PARTS = ("train", "test")
"""The arrays of a set, each a file of numpy's format."""


class Store:
    """Decoded images of sets in a folder of this machine's, each in a folder of its own that is there when it is whole.

    Args:
        folder: of all sets.
        source: as ``data.source`` has it, for messages.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self._source = folder, source
        self._begun = folder / f".{uuid4().hex}.partial"

    def room(self, count: int, *shape: int) -> Pixels:
        """An array (count, …) in a new file of a set that is begun.

        Raises:
            ConfigurationError: the disk has no room for it.
        """
        size, file = count * math.prod(shape), self._begun / f"{uuid4().hex}.npy"
        with self._writing():
            self._begun.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._begun).free
            if size > free:
                raise refusal("data.memory", "map", self._lacking(count, shape, size, free))
            pixels: Pixels = np.lib.format.open_memmap(file, "w+", np.uint8, (count, *shape))
            _reserve(file)
        return pixels

    def _lacking(self, count: int, shape: Sequence[int], size: int, free: int) -> str:
        images = f"{counted(count, 'image')} of {'x'.join(map(str, shape))} of {self._source}"
        takes = f"take {machine.readable(size)} in {self.folder}, where {machine.readable(free)} are free"
        return f"{images} {takes}; data.size=PIXELS makes them smaller, data.limit=COUNT takes fewer"

    def images(self, key: str, part: str) -> Pixels:
        """The images of a part of the set of a key, (N, C, H, W).

        Raises:
            OSError: the set is not there.
            ValueError: it is damaged.
        """
        pixels: Pixels = np.load(self.folder / key / f"{part}.npy", mmap_mode="r")
        return pixels

    def holds(self, key: str, train: int, test: int) -> bool:
        """Whether the set of a key is there, with so many images."""
        try:
            found = [self.images(key, part) for part in PARTS]
        except (OSError, ValueError, EOFError):
            return False
        return all(each.dtype == np.uint8 and each.ndim == 4 for each in found) and [*map(len, found)] == [train, test]

    def make(self, key: str, train: Part, test: Part) -> None:
        """Decode a set, whose parts were given :meth:`room`, unless another process has.

        Raises:
            ConfigurationError: as the images of a part do, or the disk has no room.
        """
        with self._alone(key):
            if self.holds(key, len(train), len(test)):
                return
            _remove(self._begun)  # of a process that was killed
            try:
                self._make(key, train, test)
            finally:
                _remove(self._begun)

    def _make(self, key: str, train: Part, test: Part) -> None:
        many = counted(len(train) + len(test), "image")
        log.warning("data.source=%s: decoding %s into %s", self._source, many, self.folder / key)
        images = [part.images() for part in (train, test)]
        channels = max(part.shape[1] for part in images)
        for name, part in zip(PARTS, images, strict=True):
            whole = self._widened(part, channels)
            whole.flush()  # type: ignore[attr-defined]
            Path(whole.filename).rename(self._begun / f"{name}.npy")  # type: ignore[attr-defined]
        for other in self._begun.iterdir():
            if other.stem not in PARTS:  # what became too narrow
                other.unlink()
        _remove(self.folder / key)  # one that is damaged
        self._begun.rename(self.folder / key)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Tell in one line why the folder cannot be written to."""
        try:
            yield
        except OSError as error:
            reason = f"{self.folder} cannot hold decoded images ({error.strerror or error})"
            raise refusal("data.memory", "map", reason) from None

    def _widened(self, images: Array, channels: int) -> Array:
        if images.shape[1] == channels:
            return images
        wider = self.room(len(images), channels, *images.shape[2:])
        for piece in in_pieces(images):
            wider[piece] = widened(images[piece], channels)
        return wider

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Keep the other processes of this machine from decoding the same set."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{key}.lock").open("w") as lock:
            with suppress(OSError):  # of a file system without locks: there the set may be decoded twice
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._begun = self.folder / f".{key}.partial"
            yield


def fingerprint(section: DataSection, train: Part, test: Part, moments: bool) -> str:
    """32 hexadecimal digits that are equal as long as a source gives the same images, as far as its files tell.

    Args:
        moments: whether the files' places, and when they were last changed, count too, as on one machine they may.
    """
    keys = section.model_dump(mode="json", include={"size", "limit", "alpha", "image_column", "label_column"})
    digest = hashlib.sha256(json.dumps(keys, sort_keys=True).encode())
    for part in (train, test):
        digest.update(np.ascontiguousarray(part.labels, np.int64).tobytes())
        for file in part.files:
            entry = Path(file).stat()
            place = (str(Path(file).absolute()), entry.st_mtime_ns) if moments else (Path(file).name,)
            digest.update(repr((*place, entry.st_size)).encode())
    return digest.hexdigest()[:32]


def _remove(place: Path) -> None:
    """Remove a folder, or a file in its place, as far as that is possible."""
    with suppress(OSError):
        place.unlink() if place.is_file() else shutil.rmtree(place)


def _reserve(file: Path) -> None:
    """Have the disk keep the room: where it ran full later, the process that writes would be killed."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
