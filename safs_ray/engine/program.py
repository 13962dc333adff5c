"""The passes of a network as a program that runs: machine code, tables, and the memory of its values."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from safs_ray.engine.driver import Entry, Shared, driving
from safs_ray.engine.kernels import Call
from safs_ray.engine.layout import Layout
from safs_ray.engine.passes import Foreign, Passes, Places, planes_of
from safs_ray.engine.tables import Loop, Tables
from safs_ray.sparse import native
from safs_ray.sparse.graph import plane_shape

Words = npt.NDArray[np.int64]


class Program:
    """A program in memory of its own, which one call at a time may use.

    Args:
        levels: (channels, 256), what the bytes of images become; None where inputs are numbers.
        threads: that share the channels of every loop.

    Attributes:
        classes: how many logits it gives.

    Raises:
        NotCompilableError: an operator cannot be compiled.
    """

    def __init__(self, found: Passes, levels: Tensor | None, threads: int) -> None:
        self._layout = Layout(found)
        self._tables = Tables(self._layout)
        self._memory = torch.zeros(self._layout.size)
        self._threads, self.classes = threads, found.values[found.logits].channels
        self._barrier, self._process = np.zeros(1, np.int64), 0
        images = found.values[found.passes[0].out]
        calls = np.zeros((threads, len(Call)), np.int64)
        calls[:, Call.MEMORY] = self._memory.data_ptr()
        self._shared = {
            Shared.CALLS: self._tables.address(calls, np.int64),
            Shared.IMAGE_BYTES: images.pixels * images.channels * (4 if levels is None else 1),
            Shared.LOGITS_BYTES: 4 * self.classes,
            Shared.THREADS: threads,
            Shared.BARRIER: int(self._barrier.ctypes.data),
        }
        self._parts = list(self._parts_of(found, levels))

    @property
    def bytes(self) -> int:
        """Of its tables and its memory."""
        return self._tables.bytes + self._memory.nbytes

    def run(self, images: Tensor) -> Tensor:
        """The logits (N, classes) of inputs (N, values), bytes or numbers, whose memory is contiguous."""
        logits = torch.empty(len(images), self.classes)
        if len(self._parts) == 1:
            self._parts[0](images, logits)
            return logits
        for number in range(len(images)):
            for part in self._parts:
                part(images[number : number + 1], logits[number : number + 1])
        return logits

    def _parts_of(self, found: Passes, levels: Tensor | None) -> Iterator[Callable[[Tensor, Tensor], None]]:
        """What torch does, and the machine code between."""
        loops: list[list[Loop]] = []
        for one in found.passes:
            if isinstance(one, Foreign):
                yield self._native(loops)
                yield self._foreign(one)
                loops = []
            else:
                loops.append(list(self._tables.loops(one, levels)))
        yield self._native([*loops, [self._tables.writing(found.logits)]])

    def _native(self, passes: Sequence[Sequence[Loop]]) -> Callable[[Tensor, Tensor], None]:
        """The loops of passes behind each other."""
        rows = [self._entry(loop, loop is loops[-1]) for loops in passes for loop in loops]
        entries = self._tables.address(np.reshape(rows, (-1, len(Entry))), np.int64)
        words = {**self._shared, Shared.ENTRIES: entries, Shared.COUNT: len(rows)}
        program, drive = self._tables.address([words[field] for field in Shared], np.int64), _driver()
        others = range(1, self._threads)

        def run(images: Tensor, logits: Tensor) -> None:
            given = images.data_ptr(), logits.data_ptr(), len(images)
            started = [self._workers().submit(drive, program, thread, *given) for thread in others]
            drive(program, 0, *given)
            for each in started:
                each.result()

        return run

    def _workers(self) -> ThreadPoolExecutor:
        """The other threads: this program's own, for all of them must run at once, and this process's own."""
        if self._process != os.getpid():
            self._process, self._pool = os.getpid(), ThreadPoolExecutor(self._threads - 1)
            self._barrier[0] = 0
        return self._pool

    def _entry(self, loop: Loop, waits: bool) -> list[int]:
        words = {
            Entry.FUNCTION: loop.address,
            Entry.ARGUMENTS: self._tables.address(loop.words, np.int64),
            Entry.CHANNELS: loop.channels,
            Entry.WAITS: int(waits),
        }
        return [words[field] for field in Entry]

    def _foreign(self, foreign: Foreign) -> Callable[[Tensor, Tensor], None]:
        """What torch does with values, read from the memory of the others and written there."""
        out = self._layout.cells[foreign.out]
        taken = [self._places(*each) for each in zip(foreign.inputs, foreign.shapes, strict=False)]
        given = self._places(planes_of(foreign.out, out.channels), (out.channels, out.height, out.width))

        def run(_images: Tensor, _logits: Tensor) -> None:
            found = foreign.run([self._memory[places][None] for places in taken])
            self._memory[out.base : out.base + out.size] = 0
            self._memory[given] = found.reshape(given.shape)

        return run

    def _places(self, planes: Places, shape: tuple[int, ...]) -> Tensor:
        """Where all pixels of planes lie, in the shape of their value."""
        row, column = np.indices(plane_shape(shape)[1:])
        channel = np.repeat(np.arange(len(planes)), row.size)
        read = planes[channel]
        shifts = np.tile(row.ravel(), len(planes)), np.tile(column.ravel(), len(planes))
        pixels = replace(read, row=read.row + shifts[0], column=read.column + shifts[1])
        return torch.from_numpy(self._layout.at(pixels).reshape(shape))


@cache
def _driver() -> Callable[..., Any]:
    address = native.load(driving(), ["drive"])["drive"]
    return cast(Callable[..., Any], ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 5)(address))
